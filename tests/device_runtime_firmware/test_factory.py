"""`python -m tinyml_compiler.factory`: what a new device starts with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tinyml_compiler import factory
from tinyml_compiler.images import NO_ABI, read_image

from tests.device_runtime_firmware.devices import SPECS


def run(tmp_path: Path, name: str, spec: object) -> int:
    path = tmp_path / "class.json"
    path.write_text(json.dumps(spec))
    arguments = ["--class-name", name, "--class-spec", str(path), "--output"]
    return factory.main([*arguments, str(tmp_path / "out")])


def test_flash_holds_the_factory_image_and_nothing_else(tmp_path: Path) -> None:
    assert run(tmp_path, "mps2-an386", {"spec": SPECS["mps2-an386"]}) == 0
    flash = (tmp_path / "out" / "flash.bin").read_bytes()
    image = flash[:262144].rstrip(b"\xff")

    assert len(flash) == 655360
    fields = read_image(image)
    assert (fields.device_class, fields.abi_hash) == ("mps2-an386", NO_ABI)
    assert set(flash[262144:]) == {0xFF}
    assert (tmp_path / "out" / "boot.elf").read_bytes().startswith(b"\x7fELF")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "neither a DeviceClass nor its spec"),
        ({**SPECS["posix"], "board": "toaster"}, "no firmware for board 'toaster'"),
        ({"cpu": "Z80"}, "cpu is 'Z80'"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: object, message: str
) -> None:
    assert run(tmp_path, "strange", spec) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
