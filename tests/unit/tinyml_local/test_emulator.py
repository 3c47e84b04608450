"""Emulated devices: what is refused, the line, the flash file. Running ones: other tests."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
import termios
from pathlib import Path
from typing import Any

import pytest
from tinyml_local.emulator import unicorn_board
from tinyml_local.emulator.__main__ import choose_emulator, main
from tinyml_local.emulator.boards import BOARDS, EmulatorError, board_of, read_spec
from tinyml_local.emulator.flash import open_flash
from tinyml_local.emulator.line import open_line

SPEC: dict[str, Any] = {
    "cpu": "CortexM4F",
    "board": "mps2-an386",
    "ram": {"address": 0x20000000, "sizeBytes": 65536},
    "flash": {
        "address": 0x21000000,
        "sizeBytes": 8192,
        "boot": {"address": 0, "sizeBytes": 16384},
    },
}
AN386 = BOARDS["mps2-an386"]


def spec_file(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "class.json"
    path.write_text(json.dumps(content))
    return path


def test_a_device_class_or_its_spec_alone_is_read(tmp_path: Path) -> None:
    plain = read_spec(spec_file(tmp_path, SPEC))
    whole = read_spec(spec_file(tmp_path, {"kind": "DeviceClass", "spec": SPEC}))
    assert plain == whole
    assert (plain.board, plain.flash.address, plain.boot.size) == ("mps2-an386", 0x21000000, 16384)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "has no board"),
        (SPEC | {"board": 7}, "board is 7"),
        ({k: v for k, v in SPEC.items() if k != "ram"}, r"has no ram\.address"),
        (SPEC | {"ram": {"address": "low", "sizeBytes": 1}}, "ram has 'low'"),
        (SPEC | {"flash": {"address": 0, "sizeBytes": 4096}}, r"has no flash\.boot"),
    ],
)
def test_a_spec_that_lacks_something_is_refused_by_field(
    tmp_path: Path, content: object, message: str
) -> None:
    with pytest.raises(EmulatorError, match=message):
        read_spec(spec_file(tmp_path, content))


def test_a_board_that_cannot_be_emulated_is_named_with_those_that_can(tmp_path: Path) -> None:
    spec = read_spec(spec_file(tmp_path, SPEC | {"board": "toaster"}))
    with pytest.raises(EmulatorError, match=r"'toaster' .* posix, mps2-an385, mps2-an386"):
        board_of(spec)


def test_flash_outside_of_the_boards_memory_is_refused(tmp_path: Path) -> None:
    flash = SPEC["flash"] | {"address": 0x08000000}
    spec = read_spec(spec_file(tmp_path, SPEC | {"flash": flash}))
    with pytest.raises(EmulatorError, match=r"0x08000000 .* 0x21000000 to 0x22000000"):
        board_of(spec)


def test_qemu_is_taken_where_it_is_else_unicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert choose_emulator(AN386, "auto") == "qemu"
    assert choose_emulator(AN386, "unicorn") == "unicorn"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert choose_emulator(AN386, "auto") == "unicorn"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmulatorError, match="qemu-system-arm and PyPI's unicorn"):
        choose_emulator(AN386, "auto")


def test_the_line_is_raw_at_its_link_and_outlives_its_clients(tmp_path: Path) -> None:
    link = tmp_path / "line"
    link.symlink_to("/nowhere")  # what a killed device leaves
    line = open_line(link)
    for text in (b"\x03one\r\n", b"\x04two\r\n"):
        client = os.open(link, os.O_RDWR | os.O_NOCTTY)
        os.write(client, text)
        os.close(client)
        assert os.read(line.master, 100) == text
    assert not termios.tcgetattr(line.slave)[3] & termios.ECHO
    os.close(line.master)
    os.close(line.slave)


def test_a_flash_file_is_one_devices_and_grows_to_the_boards_memory(tmp_path: Path) -> None:
    path = tmp_path / "flash.bin"
    path.write_bytes(b"\xff" * 8192)
    first = open_flash(path, 8192, 1 << 20)
    assert path.stat().st_size == 1 << 20
    with pytest.raises(EmulatorError, match="belongs to another running device"):
        open_flash(path, 8192, 1 << 20)
    os.close(first)
    os.close(open_flash(path, 8192, 1 << 20))


def test_a_flash_file_that_is_missing_or_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmulatorError, match="No such file"):
        open_flash(tmp_path / "none", 8192, 8192)
    short = tmp_path / "short"
    short.write_bytes(b"\xff" * 100)
    with pytest.raises(
        EmulatorError, match=r"has 100 bytes.* has 8192: .*tinyml_compiler\.factory"
    ):
        open_flash(short, 8192, 8192)


def test_what_is_wrong_is_one_sentence_and_exit_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--class-spec", str(spec_file(tmp_path, SPEC)), "--boot", str(tmp_path / "none")]
    arguments += ["--flash", str(tmp_path / "f"), "--link", str(tmp_path / "l")]
    assert main(arguments) == 1
    assert capsys.readouterr().err == f"emulated device: no boot stage at {tmp_path / 'none'}\n"


def an_elf(address: int, code: bytes) -> bytes:
    header = struct.pack(
        "<4sBBB9xHHIIIIIHHHHHH",
        *(b"\x7fELF", 1, 1, 1, 2, 40, 1, address, 52, 0, 0, 52, 32, 1, 0, 0, 0),
    )
    return header + struct.pack("<IIIIIIII", 1, 84, address, address, len(code), 0, 5, 4) + code


def test_the_unicorn_board_refuses_a_boot_stage_for_another_machine_or_place(
    tmp_path: Path,
) -> None:
    spec = read_spec(spec_file(tmp_path, SPEC))
    path = tmp_path / "flash.bin"
    path.write_bytes(b"\xff" * 8192)
    line = open_line(tmp_path / "line")
    flash = open_flash(path, 8192, 8192)
    with pytest.raises(EmulatorError, match="not a 32-bit ELF file"):
        unicorn_board.UnicornBoard(AN386, spec, b"\x7fELF\x02\x01" + bytes(99), flash, line)
    stray = unicorn_board.UnicornBoard(AN386, spec, an_elf(0x9000, b"abcd"), flash, line)
    with pytest.raises(EmulatorError, match=r"4 bytes at 0x00009000, outside of flash\.boot"):
        stray.run()
    for descriptor in (flash, line.master, line.slave):
        os.close(descriptor)


def test_a_core_that_runs_astray_is_reported_with_its_place(tmp_path: Path) -> None:
    spec = read_spec(spec_file(tmp_path, SPEC))
    path = tmp_path / "flash.bin"
    path.write_bytes(b"\xff" * 8192)
    line = open_line(tmp_path / "line")
    flash = open_flash(path, 8192, 8192)
    # Stack, reset handler, then: ldr r0, [pc, #0]; ldr r0, [r0]; and an address with nothing at it.
    code = struct.pack("<IIHHI", 0x20010000, 9, 0x4800, 0x6800, 0x70000000)
    board = unicorn_board.UnicornBoard(AN386, spec, an_elf(0, code), flash, line)
    with pytest.raises(EmulatorError, match="the core stopped at 0x0000000a"):
        board.run()
    for descriptor in (flash, line.master, line.slave):
        os.close(descriptor)
