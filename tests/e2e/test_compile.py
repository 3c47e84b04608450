"""A model file in, everything out: the pipeline of a build Job with real tools, on real models.

The oracle, the host and an emulated core agree on every byte, or a build fails; here it is asked
again from outside, on the artifacts alone.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tinyml_api.build import (
    EXIT_DONE,
    EXIT_NEEDS_USER,
    BuildRequest,
    BuildResult,
    Input,
    Outcome,
    QuantizationMode,
    Termination,
    sha256_digest,
)
from tinyml_compiler import __main__ as entry
from tinyml_compiler.elf import read_elf
from tinyml_compiler.images import HEADER_BYTES, read_image
from tinyml_compiler.pipeline import COMPILER
from tinyml_compiler.target import Target
from tinyml_compiler.verify.emulate_qemu import QemuEmulator
from tinyml_compiler.verify.emulate_unicorn import UnicornEmulator
from tinyml_compiler.verify.program import Emulated, Emulator, Placement
from tinyml_compiler.verify.shipped import program_of
from typer.testing import CliRunner

from tests.support.tflite_builder import oracle

MODELS = ("kws_ref_model", "ad01_int8", "vww_96_int8", "pretrainedResnet_quant")
SMALLEST = "ad01_int8"

REPO = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.needs_models


@cache
def model_bytes(name: str) -> bytes:
    return (Path(os.environ["TINYML_MODELS"]) / name).read_bytes()


@cache
def class_spec(name: str) -> dict[str, Any]:
    text = (REPO / "crds" / "catalogue" / f"{name}.yaml").read_text()
    spec: dict[str, Any] = yaml.safe_load(text)["spec"]
    return spec


def a_request(model: Path, device_class: str, **changes: Any) -> BuildRequest:
    fields: dict[str, Any] = {
        "model": Input(str(model), sha256_digest(model.read_bytes())),
        "device_class": device_class,
        "device_class_spec": class_spec(device_class),
        "compiler": COMPILER,
        "toolchain": "auto",
        **changes,
    }
    return BuildRequest(**fields)


@dataclass(frozen=True)
class Done:
    """One finished build: its folder, and what it says."""

    folder: Path
    model: bytes
    report: dict[str, Any]
    result: BuildResult

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def run_job(folder: Path, request: BuildRequest) -> tuple[int, Termination]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "request.json").write_bytes(request.to_json())
    status = entry.main(
        [
            *("--request", str(folder / "request.json"), "--work", str(folder / "work")),
            *("--output", str(folder / "out"), "--termination-log", str(folder / "word")),
        ]
    )
    return status, Termination.from_json((folder / "word").read_bytes())


def finished(folder: Path, model: bytes, request: BuildRequest) -> Done:
    status, last_word = run_job(folder, request)
    assert (status, last_word) == (EXIT_DONE, Termination(Outcome.SUCCEEDED))
    out = folder / "out"
    return Done(
        out,
        model,
        json.loads((out / "report.json").read_bytes()),
        BuildResult.from_dict(json.loads((out / "result.json").read_bytes())),
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Done]:
    """Build a reference model for a class of the catalogue, once."""

    @cache
    def build_once(name: str, device_class: str) -> Done:
        folder = tmp_path_factory.mktemp(f"{name}-{device_class}")
        path = folder / "model.tflite"
        path.write_bytes(model_bytes(f"{name}.tflite"))
        return finished(folder, path.read_bytes(), a_request(path, device_class))

    return build_once


def run_artifacts(
    done: Done, emulator: Emulator, device_class: str, vectors: list[bytes]
) -> Emulated:
    """Run the shipped ELF and weights, knowing no more of them than the artifacts say."""
    report = done.report
    program = program_of(
        read_elf(done.read("firmware.elf")),
        Target.from_spec(device_class, class_spec(device_class)),
        done.read("weights.bin"),
        report["ram_bytes"]["arena"],
    )
    assert emulator.why_not(program) == ""
    places = {
        side: [Placement(each["arena_offset"], each["bytes"]) for each in report[side]]
        for side in ("inputs", "outputs")
    }
    return emulator.run(program, vectors, places["inputs"], places["outputs"])


def random_vector(done: Done, seed: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    shape = done.report["inputs"][0]["shape"]
    values: np.ndarray[Any, np.dtype[np.int8]] = np.random.default_rng(seed).integers(
        -128, 128, shape, dtype=np.int8
    )
    return values


@pytest.mark.parametrize("name", MODELS)
def test_a_reference_model_is_exact_on_the_host_and_on_a_cortex_m4(
    built: Callable[[str, str], Done], name: str
) -> None:
    done = built(name, "mps2-an386")
    report = done.report
    assert report["oracle"]["vectors"] >= 32
    assert report["oracle"]["mismatches"] == 0
    assert report["emulator"]["vectors"] >= 1
    assert report["emulator"]["mismatches"] == 0
    assert report["instructions_per_inference"] > report["macs"]
    assert done.result.summary["mismatches"] == 0
    # Once more, on the other emulator and on vectors that the build did not try.
    vectors = [random_vector(done, seed) for seed in (1, 2)]
    ran = run_artifacts(
        done, UnicornEmulator(counts=False), "mps2-an386", [each.tobytes() for each in vectors]
    )
    expected = tuple(oracle(done.model, each)[0].tobytes() for each in vectors)
    assert ran.outputs == expected
    assert 0 < ran.stack_bytes <= report["firmware"]["stack_reserved_bytes"] // 2


def test_the_artifacts_belong_together(built: Callable[[str, str], Done]) -> None:
    done = built(SMALLEST, "mps2-an386")
    for name, digest in done.result.artifacts.items():
        assert sha256_digest(done.read(name)) == digest, name
    code, weights = read_image(done.read("code.img")), read_image(done.read("weights.img"))
    assert code.device_class == weights.device_class == "mps2-an386"
    assert code.abi_hash == weights.abi_hash == bytes.fromhex(done.report["abi_hash"])
    assert code.abi_hash == done.read("weights.bin")[16:48]
    assert code.payload.startswith(done.read("firmware.bin"))
    assert weights.payload.startswith(done.read("weights.bin"))
    assert done.result.code is not None
    assert done.result.weights is not None
    assert (done.result.code.image_hash, done.result.weights.image_hash) == (
        code.image_hash,
        weights.image_hash,
    )
    assert done.report["flash_bytes"]["weights"] == len(done.read("weights.bin"))
    elf = read_elf(done.read("firmware.elf"))
    slot = Target.from_spec("mps2-an386", class_spec("mps2-an386")).flash.code.primary
    stored = [segment.physical for segment in elf.segments if segment.data]
    assert min(stored) == slot + HEADER_BYTES


@pytest.mark.needs_qemu
def test_both_emulators_count_the_same_instructions(built: Callable[[str, str], Done]) -> None:
    done = built(SMALLEST, "mps2-an386")
    vector = [random_vector(done, 3).tobytes()]
    qemu = run_artifacts(done, QemuEmulator(), "mps2-an386", vector)
    unicorn = run_artifacts(done, UnicornEmulator(), "mps2-an386", vector)
    assert qemu.instructions == unicorn.instructions
    assert qemu.outputs == unicorn.outputs
    assert qemu.stack_bytes == unicorn.stack_bytes


def test_a_build_again_gives_the_same_bytes(
    built: Callable[[str, str], Done], tmp_path: Path
) -> None:
    first = built(SMALLEST, "mps2-an386")
    path = tmp_path / "another-name.bin"
    path.write_bytes(first.model)
    second = finished(tmp_path / "elsewhere", first.model, a_request(path, "mps2-an386"))
    timed = {"report.json", "report.html"}
    assert {n: d for n, d in first.result.artifacts.items() if n not in timed} == {
        n: d for n, d in second.result.artifacts.items() if n not in timed
    }
    without_times = [{**each.report, "stages": None} for each in (first, second)]
    assert without_times[0] == without_times[1]


def test_a_class_without_a_board_gets_the_model_alone(built: Callable[[str, str], Done]) -> None:
    done = built("kws_ref_model", "stm32f405")
    assert done.result.code is None
    assert done.result.weights is None
    assert not (done.folder / "code.img").exists()
    assert done.report["emulator"]["mismatches"] == 0
    assert done.report["instructions_per_inference"] > done.report["macs"]


def test_tinyml_compile_makes_the_same_for_posix(tmp_path: Path) -> None:
    from tinyml_cli.__main__ import app

    model = Path(os.environ["TINYML_MODELS"]) / f"{SMALLEST}.tflite"
    arguments = ["compile", str(model), "--device-class", "posix", "--output", str(tmp_path)]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["oracle"]["mismatches"] == 0
    assert report["instructions_per_inference"] is None
    assert "process of the host" in report["instructions_reason"]
    assert read_image((tmp_path / "code.img").read_bytes()).payload[:4] == b"\x7fELF"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device-class", "nonesuch"], "'nonesuch' is not in the catalogue, which has microbit"),
        (["--device-class", "missing.yaml"], "missing.yaml: No such file"),
        (["--device-class", "posix", "--toolchain", "turboc"], "ToolchainMissing: toolchain"),
        (["--device-class", "posix", "--calibration", "x.npy"], "leave --calibration out"),
        (["--device-class", "microbit"], "WeightsTooLarge: weights image needs"),
    ],
)
def test_tinyml_compile_says_what_is_wrong_in_one_paragraph(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    from tinyml_cli.__main__ import app

    model = Path(os.environ["TINYML_MODELS"]) / f"{SMALLEST}.tflite"
    done = CliRunner().invoke(app, ["compile", str(model), "--output", str(tmp_path), *arguments])
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[: len(data) // 2], "ModelInvalid"),
        (lambda data: b"\xff" * len(data), "ModelInvalid"),
    ],
)
def test_a_damaged_model_ends_the_job_with_a_reason(
    tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(change(model_bytes(f"{SMALLEST}.tflite")))
    status, last_word = run_job(tmp_path, a_request(path, "mps2-an386"))
    assert (status, last_word.reason) == (EXIT_NEEDS_USER, reason)


def test_a_float_model_is_sent_back(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(model_bytes("kws_ref_model_float32.tflite"))
    status, last_word = run_job(tmp_path, a_request(path, "mps2-an386"))
    assert (status, last_word.reason) == (EXIT_NEEDS_USER, "ModelNotQuantized")
    assert "PostTraining" in last_word.message


@pytest.mark.needs_host_cc
def test_the_library_builds_alone_and_computes_the_same(
    built: Callable[[str, str], Done], tmp_path: Path
) -> None:
    done = built("kws_ref_model", "mps2-an386")
    with tarfile.open(fileobj=io.BytesIO(done.read("library.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    source, build = tmp_path / "tinyml-model", tmp_path / "build"
    flags = "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"
    for command in (
        ["cmake", "-S", str(source), "-B", str(build), "-G", "Ninja", flags],
        ["cmake", "--build", str(build)],
    ):
        made = subprocess.run(command, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
    said = subprocess.run([build / "example"], capture_output=True, text=True, check=True).stdout
    zeros = np.zeros(done.report["inputs"][0]["shape"], np.int8)
    assert [int(word) for word in said.split()] == oracle(done.model, zeros)[0].ravel().tolist()


def test_a_keras_model_is_quantized_and_compiled(tmp_path: Path) -> None:
    model, data = tmp_path / "model.h5", tmp_path / "calibration.npy"
    model.write_bytes(model_bytes("pretrainedResnet.h5"))
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    np.save(data, images)
    request = a_request(
        model,
        "mps2-an386",
        quantization=QuantizationMode.POST_TRAINING,
        calibration=Input(str(data), sha256_digest(data.read_bytes())),
        calibration_samples=2,
    )
    done = finished(tmp_path, model.read_bytes(), request)
    assert done.report["quantizer"].startswith("tensorflow ")
    assert done.report["model_sha256"] == sha256_digest(model.read_bytes())
    assert done.report["compiled_sha256"] != done.report["model_sha256"]
    assert done.report["oracle"]["mismatches"] == 0


def test_the_job_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text("{}")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tinyml_compiler", "--request", str(tmp_path / "request.json")),
            *("--work", str(tmp_path / "work"), "--termination-log", str(tmp_path / "word")),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert done.returncode == EXIT_NEEDS_USER
    assert "reason=RequestInvalid" in done.stderr
    assert Termination.from_json((tmp_path / "word").read_bytes()).reason == "RequestInvalid"
