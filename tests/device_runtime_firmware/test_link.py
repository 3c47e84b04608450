"""Linking against a device class's limits, with whatever toolchain is here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tinyml_compiler import runtime_sources
from tinyml_compiler.elf import read_elf
from tinyml_compiler.errors import (
    ArenaTooLargeError,
    CodeTooLargeError,
    CompileFailedError,
    TargetInvalidError,
    ToolchainMissingError,
)
from tinyml_compiler.link import Linked, build_boot, build_firmware, build_inference_elf
from tinyml_compiler.target import Target
from tinyml_compiler.toolchain import select

MODEL = """
#include "tml/model.h"
static const uint8_t ballast[%(ballast)du] = {1};
static const tml_tensor_io_t io[1] = {{0u, 4u}};
static tml_status_t invoke(const uint8_t *weights, uint8_t *arena) {
  arena[0] = (uint8_t)(arena[0] + ballast[arena[1] %% sizeof ballast] + weights[48]);
  return TML_OK;
}
const tml_model_t tml_model = {
    .abi_hash = {7u}, .arena_bytes = %(arena)du, .weights_bytes = 64u,
    .input_count = 1, .output_count = 1, .inputs = io, .outputs = io, .invoke = invoke};
"""


def a_target(**changes: Any) -> Target:
    """mps2-an386 with little memory; `code`, `boot`, `ram` are sizes."""
    code = changes.pop("code", 65536)
    spec: dict[str, Any] = {
        "cpu": "CortexM4F",
        "board": "mps2-an386",
        "ram": {"address": 0x20000000, "sizeBytes": changes.pop("ram", 32768)},
        "flash": {
            "address": 0x21000000,
            "sizeBytes": 262144,
            "eraseBlockBytes": 4096,
            "writeBlockBytes": 4,
            "boot": {"address": 0, "sizeBytes": changes.pop("boot", 16384)},
            "code": {"primaryOffset": 0, "secondaryOffset": 65536, "sizeBytes": code},
            "weights": {"primaryOffset": 131072, "secondaryOffset": 196608, "sizeBytes": 65536},
        },
    }
    return Target.from_spec("small", spec | changes)


def firmware(target: Target, work: Path, *, ballast: int = 1, arena: int = 16) -> Linked:
    sources = {"model.c": MODEL % {"ballast": ballast, "arena": arena}}
    return build_firmware(target, select(target), sources, ("conv2d",), work)


def test_firmware_runs_in_place_in_its_slot(tmp_path: Path) -> None:
    target = a_target()
    linked = firmware(target, tmp_path, ballast=3000)
    elf = read_elf(linked.elf)
    start = target.flash.code.primary + 0x200

    assert (linked.abi_hash[0], linked.weights_bytes) == (7, 64)
    # The vector table: stack pointer inside of the RAM, reset handler inside of the payload.
    stack, reset = (int.from_bytes(linked.payload[i : i + 4], "little") for i in (0, 4))
    assert target.ram.address < stack <= target.ram.end
    assert start < reset < start + len(linked.payload)
    assert elf.symbol("tml_arena_end").address == target.ram.end
    sizes = linked.sizes
    assert sizes.inference_code + sizes.firmware_code == len(linked.payload)
    assert 3000 < sizes.inference_code < 5000
    assert (sizes.inference_static, sizes.arena) == (0, 16)
    assert "tml_model" in linked.map


@pytest.mark.parametrize("toolchain", ["auto", "ziglang"])
def test_the_same_sources_give_the_same_bytes_in_another_folder(
    toolchain: str, tmp_path: Path
) -> None:
    target = a_target()
    tools = select(target, toolchain)
    sources = {"model.c": MODEL % {"ballast": 1, "arena": 16}}
    folders = (tmp_path / "one", tmp_path / "another" / "place")
    first, second = (build_firmware(target, tools, sources, (), folder) for folder in folders)
    assert first == second
    for place in (str(tmp_path), str(Path.home()), sys.prefix):
        assert place.encode() not in first.elf


def test_code_beyond_its_slot_is_refused_with_the_numbers(tmp_path: Path) -> None:
    with pytest.raises(CodeTooLargeError) as refused:
        firmware(a_target(code=16384), tmp_path, ballast=20000)
    found, limit = _numbers(str(refused.value))
    assert limit == 16384
    assert 20000 < found < 40000


def test_an_arena_beyond_the_ram_is_refused_with_the_numbers(tmp_path: Path) -> None:
    with pytest.raises(ArenaTooLargeError, match=r"arena needs 32768 bytes .* 'small' has 32768"):
        firmware(a_target(), tmp_path, arena=32768)


def test_firmware_that_has_no_room_for_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArenaTooLargeError, match="'small' has 4096: drop the class"):
        firmware(a_target(ram=4096), tmp_path)


def test_a_boot_region_that_is_too_small_is_named(tmp_path: Path) -> None:
    target = a_target(boot=1024)
    with pytest.raises(TargetInvalidError, match=r"flash\.boot .* has 1024: enlarge"):
        build_boot(target, select(target), tmp_path)


@pytest.mark.parametrize("cpu", ["CortexM0Plus", "CortexM4F"])
def test_a_model_alone_is_linked_for_a_class_without_a_board(cpu: str, tmp_path: Path) -> None:
    target = a_target(cpu=cpu, board=None)
    sources = {"model.c": MODEL % {"ballast": 1, "arena": 2000}}
    linked = build_inference_elf(target, select(target), sources, (), tmp_path)
    elf = read_elf(linked.elf)
    assert elf.symbol("tml_inference_done").address % 2 == 1  # Thumb
    assert linked.sizes.inference_code < 1000
    assert len(linked.payload) == linked.sizes.inference_code + linked.sizes.firmware_code


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"board": "mps2"}, "no firmware for board 'mps2'; boards are .*mps2-an386"),
        ({"board": "mps2-an385"}, "board 'mps2-an385' has CortexM3, cpu is CortexM4F"),
    ],
)
def test_a_board_that_does_not_fit_is_named(
    changes: Mapping[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TargetInvalidError, match=message):
        firmware(a_target(**changes), tmp_path)


def test_a_kernel_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    target = a_target()
    with pytest.raises(CompileFailedError, match="'no_such_kernel'"):
        build_firmware(target, select(target), {}, ("no_such_kernel",), tmp_path)


def test_zcbor_of_another_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {**runtime_sources._ZCBOR_FILES, "src/zcbor_common.c": "0" * 64}
    monkeypatch.setattr(runtime_sources, "_ZCBOR_FILES", files)
    with pytest.raises(ToolchainMissingError, match=r"zcbor_common\.c has sha256"):
        runtime_sources.stage(tmp_path)


def test_a_device_runtime_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYML_DEVICE_RUNTIME", str(tmp_path))
    with pytest.raises(ToolchainMissingError, match="TINYML_DEVICE_RUNTIME"):
        runtime_sources.runtime_folder()


def _numbers(message: str) -> tuple[int, int]:
    numbers = [int(word.rstrip(":")) for word in message.split() if word.rstrip(":").isdigit()]
    return numbers[0], numbers[1]
