"""Device classes become targets; what is no device class is refused by field."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from tinyml_compiler.errors import TargetInvalidError
from tinyml_compiler.target import CPUS, Feature, Target

from tests.support.host_model import SPEC


def test_slots_are_absolute() -> None:
    target = Target.from_spec("c", SPEC)
    assert target.flash.code.primary == 0x21000000
    assert target.flash.weights.secondary == 0x21000000 + 1048576
    assert target.flash.boot.address == 0
    assert target.ram.end == 0x20000000 + 262144


def test_a_class_without_a_board_has_no_port() -> None:
    assert Target.from_spec("c", {k: v for k, v in SPEC.items() if k != "board"}).board is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cpu", "Z80", "cpu is 'Z80', known are CortexM0Plus, "),
        ("cpu", None, "cpu is None, not a str"),
        ("board", 3, "board is 3, not a name"),
        ("ram", None, "ram is None, not a mapping"),
        ("ram.sizeBytes", 0, "ram.sizeBytes is 0, not in 1.."),
        ("flash.address", -1, "flash.address is -1, not in 0.."),
        (
            "flash.code.sizeBytes",
            4097,
            "flash.code has 4097, not a multiple of eraseBlockBytes 4096",
        ),
        (
            "flash.weights.secondaryOffset",
            2093056,
            "flash.weights ends at 2617344, flash has 2097152",
        ),
        ("flash.writeBlockBytes", 3, "writeBlockBytes is 3, not a power of two up to 64"),
        ("flash.writeBlockBytes", 128, "writeBlockBytes is 128, not a power of two up to 64"),
        ("flash.eraseBlockBytes", 6, "eraseBlockBytes is 6, not a multiple of writeBlockBytes 4"),
        ("flash.address", 0xFFFFF000, "flash ends at 4297060352, addresses end at 4294967296"),
        ("ram.address", 0xFFFFFFF0, "ram ends at 4295229424, addresses end at 4294967296"),
        ("ram.address", 0x20000008, "ram.address is 536870920, not a multiple of 16"),
        (
            "flash.address",
            0x21000080,
            "flash.code's first slot is at 553648256, not a multiple of 256",
        ),
        (
            "flash.weights.primaryOffset",
            258048,
            "flash.code and flash.weights have slots that overlap: 553648128+262144 "
            "and 553906176+524288",
        ),
        (
            "flash.code.secondaryOffset",
            0,
            "flash.code and flash.code have slots that overlap",
        ),
        (
            "flash.boot.address",
            0x21080000,
            "flash.boot and flash.weights overlap",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_it_holds(path: str, value: Any, message: str) -> None:
    spec: Any = deepcopy(dict(SPEC))
    place = spec
    *parents, last = path.split(".")
    for key in parents:
        place = place[key]
    place[last] = value
    with pytest.raises(TargetInvalidError) as caught:
        Target.from_spec("c", spec)
    assert "device class 'c': " in str(caught.value)
    assert message in str(caught.value)


def test_every_core_but_the_host_is_cross_compiled() -> None:
    assert [name for name, cpu in CPUS.items() if cpu.is_host] == ["Host"]
    assert all(name == cpu.name for name, cpu in CPUS.items())


@pytest.mark.parametrize("name", ["CortexM4F", "CortexM7", "CortexM33", "CortexM55"])
def test_floats_travel_in_registers_where_there_is_an_fpu(name: str) -> None:
    cpu = CPUS[name]
    assert Feature.FPU in cpu.features
    assert "-mfloat-abi=hard" in cpu.gcc_flags
    assert cpu.zig_target.endswith("eabihf")
