"""The report has the figures that the API promises, and its page is safe with strangers' names."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

from tinyml_compiler import report_html
from tinyml_compiler.report import (
    EmulatedRecord,
    Firmware,
    FlashBytes,
    ImageSize,
    Layer,
    OracleRecord,
    PlannedBuffer,
    RamBytes,
    Report,
    Stage,
    Tensor,
    summary,
)

HOSTILE = '</title><script>alert("x")</script>&'


def a_report() -> Report:
    return Report(
        model_sha256="sha256:" + "1" * 64,
        compiled_sha256="sha256:" + "2" * 64,
        quantizer="tensorflow 2.21.0",
        device_class="mps2-an386",
        cpu="CortexM4F",
        board="mps2-an386",
        compiler="tinymlaas-0.1.0",
        toolchain="ziglang-0.17.1",
        abi_hash="ab" * 32,
        flash_bytes=FlashBytes(weights=2000, code=1000),
        ram_bytes=RamBytes(arena=400, static=0, stack=100),
        macs=1234,
        oracle=OracleRecord("tflite-micro", "0.dev1", vectors=32, mismatches=0),
        emulated=EmulatedRecord("unicorn-2.1.4", 4, 0, 98765, None),
        firmware=Firmware(9000, 8000, 4096, boot_bytes=3000),
        images={"code": ImageSize(10700, 262144), "weights": ImageSize(2600, 524288)},
        inputs=[Tensor(HOSTILE, "int8", (1, 4, 4, 1), 0.5, -128, 0, 16)],
        outputs=[Tensor("y", "float32", (1, 10), None, None, 16, 40)],
        layers=[Layer(HOSTILE, "conv2d", (1, 2, 2, 8), 1000, "tml_conv2d_s8", 640)],
        buffers=[
            PlannedBuffer((HOSTILE,), 0, 200, -1, 0),
            PlannedBuffer(("y",), 200, 200, 0, 1),
        ],
        arena_lower_bound_bytes=400,
        flash_limit_bytes=786432,
        ram_limit_bytes=262144,
        stages=[Stage("link", 1.23456), Stage("oracle", 0.5)],
    )


def test_the_report_has_every_figure_that_is_promised() -> None:
    told = json.loads(a_report().to_json())
    assert told["model_sha256"] == "sha256:" + "1" * 64
    assert told["device_class"] == "mps2-an386"
    assert told["compiler"] == "tinymlaas-0.1.0"
    assert told["flash_bytes"] == {"total": 3000, "weights": 2000, "code": 1000, "limit": 786432}
    assert told["ram_bytes"] == {
        "total": 500, "arena": 400, "static": 0, "stack": 100, "limit": 262144,
    }  # fmt: skip
    assert told["macs"] == 1234
    assert told["instructions_per_inference"] == 98765
    assert {"name", "version", "vectors", "mismatches"} <= set(told["oracle"])
    assert told["stages"] == [
        {"name": "link", "seconds": 1.2346},
        {"name": "oracle", "seconds": 0.5},
    ]
    assert {"name", "op", "shape", "macs", "kernel"} <= set(told["layers"][0])
    assert told["firmware"]["boot_bytes"] == 3000


def test_instructions_that_cannot_be_counted_are_null_with_the_reason() -> None:
    report = replace(a_report(), emulated=EmulatedRecord(None, 0, None, None, "no emulator"))
    told = report.to_dict()
    assert told["instructions_per_inference"] is None
    assert told["instructions_reason"] == "no emulator"
    assert "instructionsPerInference" not in summary(report)
    assert b"no emulator" in report_html.render(told)


def test_the_summary_holds_whole_numbers_only() -> None:
    assert summary(a_report()) == {
        "flashBytes": 3000,
        "ramBytes": 500,
        "macs": 1234,
        "vectors": 32,
        "mismatches": 0,
        "instructionsPerInference": 98765,
    }


def test_the_page_escapes_names_of_the_model_and_needs_nothing_else() -> None:
    page = report_html.render(a_report().to_dict()).decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert "default-src 'none'" in page


def test_the_memory_plan_is_drawn_to_scale() -> None:
    page = report_html.render(a_report().to_dict()).decode()
    drawing = re.search(r'<svg viewBox="0 0 \d+ \d+" role="img".*?</svg>', page, re.DOTALL)
    assert drawing is not None
    boxes = [
        {name: float(box.get(name, "nan")) for name in ("x", "y", "width", "height")}
        for box in ElementTree.fromstring(drawing[0]).iter("rect")
    ]
    first, second = boxes
    assert first["height"] == second["height"] == 160
    assert first["y"] == second["y"] + second["height"]  # above each other, not overlapping
    assert second["x"] > first["x"]  # born later


def test_a_buffer_of_few_bytes_is_drawn_so_that_it_can_be_seen() -> None:
    buffers = (PlannedBuffer(("a",), 0, 1, 0, 1), PlannedBuffer(("b",), 1, 100_000, 0, 1))
    large = replace(a_report(), buffers=buffers, ram_bytes=RamBytes(100_001, 0, 0))
    heights = re.findall(
        r'<rect x="[^"]+" y="[^"]+" width="[^"]+" height="([^"]+)"',
        (report_html.render(large.to_dict()).decode()),
    )
    assert [float(each) for each in heights] == [3.0, 320.0]


def test_long_names_of_layers_leave_room_for_their_figures() -> None:
    name = "functional_1/activation/Relu;" * 20
    layer = Layer(name, "conv2d", (1, 2), 10, "tml_conv2d_s8", 4)
    page = report_html.render(replace(a_report(), layers=[layer]).to_dict()).decode()
    assert f'<td class="name" title="{name}">' in page
    assert re.search(r"td\.name \{ max-width: \d+rem; overflow: hidden", page)


def test_a_model_without_buffers_and_layers_still_has_a_page() -> None:
    empty = replace(a_report(), buffers=(), layers=(), stages=(), ram_bytes=RamBytes(0, 0, 0))
    assert b"Memory plan" in report_html.render(empty.to_dict())
