"""The emulators run a call in a halted machine, count its instructions and measure its stack.

The program is a few instructions written by hand whose count is known: 10 and 2 for each turn of a
loop. It adds 1 to its input byte, and hands on the first byte of the weights.
"""

from __future__ import annotations

import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from tinyml_compiler.target import CPUS, Region
from tinyml_compiler.verify import emulate_qemu, emulate_unicorn
from tinyml_compiler.verify.emulate_qemu import MACHINES, Machine, QemuEmulator
from tinyml_compiler.verify.emulate_unicorn import UnicornEmulator, thumb_instructions
from tinyml_compiler.verify.program import (
    EmulationError,
    Emulator,
    Placement,
    Program,
    Segment,
    stack_used,
)

TURNS = 100
INSTRUCTIONS = 10 + 2 * TURNS
INPUTS = (Placement(0, 1),)
OUTPUTS = (Placement(16, 1), Placement(17, 1))

THUMB = struct.pack(
    "<12H",
    0xB410,  # push {r4}
    0x780A,  # ldrb r2, [r1]
    0x3201,  # adds r2, #1
    0x740A,  # strb r2, [r1, #16]
    0x2300 | TURNS,  # movs r3, #TURNS
    0x3B01,  # subs r3, #1
    0xD1FD,  # bne to the line above
    0x7802,  # ldrb r2, [r0]
    0x744A,  # strb r2, [r1, #17]
    0xBC10,  # pop {r4}
    0x2000,  # movs r0, #0
    0x4770,  # bx lr
)
RV32 = struct.pack(
    "<12I",
    0xFE812E23,  # sw s0, -4(sp)
    0x0005C603,  # lbu a2, 0(a1)
    0x00160613,  # addi a2, a2, 1
    0x00C58823,  # sb a2, 16(a1)
    0x00000693 | TURNS << 20,  # li a3, TURNS
    0xFFF68693,  # addi a3, a3, -1
    0xFE069EE3,  # bnez a3, to the line above
    0x00054603,  # lbu a2, 0(a0)
    0x00C588A3,  # sb a2, 17(a1)
    0xFFC12403,  # lw s0, -4(sp)
    0x00000513,  # li a0, 0
    0x00008067,  # ret
)


def a_program(cpu: str, flash: int, ram: int, code: bytes = THUMB) -> Program:
    return Program(
        cpu=CPUS[cpu],
        memory=(Region(flash, 8192), Region(ram, 8192)),
        segments=(Segment(flash, code), Segment(flash + 4096, bytes([77]))),
        invoke=flash,
        weights=flash + 4096,
        arena=Region(ram, 64),
        stack=Region(ram + 4096, 1024),
    )


def check(emulator: Emulator, program: Program, emulator_name: str) -> None:
    assert emulator.why_not(program) == ""
    done = emulator.run(program, [b"\x01", b"\x80"], INPUTS, OUTPUTS)
    assert done.outputs == (b"\x02\x4d", b"\x81\x4d")
    assert done.instructions == INSTRUCTIONS
    assert done.stack_bytes == 4
    assert done.emulator.startswith(emulator_name)


@pytest.mark.parametrize("cpu", ["CortexM0Plus", "CortexM3", "CortexM4F", "CortexM7", "CortexM33"])
def test_unicorn_runs_each_of_its_cores(cpu: str) -> None:
    check(UnicornEmulator(), a_program(cpu, 0x08000200, 0x20000000), "unicorn-")


def test_unicorn_says_which_cores_it_lacks() -> None:
    program = a_program("CortexM55", 0, 0x20000000)
    assert "no CortexM55" in UnicornEmulator().why_not(program)


@pytest.mark.needs_qemu
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_qemu_runs_each_of_its_machines(machine: Machine) -> None:
    ram = {"virt": 0x80000000}.get(machine.name, 0x20000000)
    flash = {"virt": 0x22000000}.get(machine.name, machine.memory[-1].address)
    if flash == ram:
        flash = machine.memory[0].address
    code = RV32 if machine.name == "virt" else THUMB
    check(QemuEmulator(), a_program(machine.cpu, flash, ram, code), "qemu-")


@pytest.mark.needs_qemu
def test_qemu_refuses_a_memory_map_that_no_machine_has() -> None:
    program = a_program("CortexM4F", 0x70000000, 0x20000000)
    assert "no machine" in QemuEmulator().why_not(program)


def test_qemu_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    program = a_program("CortexM4F", 0x21000200, 0x20000000)
    assert "qemu-system-arm is not installed" in QemuEmulator().why_not(program)


FAILING = struct.pack("<3H", 0x2000, 0x3801, 0x4770)  # return -1
WILD = struct.pack("<2H", 0x2000, 0x6800)  # read address 0, which is not there in unicorn


def test_a_status_of_the_model_is_an_error() -> None:
    program = a_program("CortexM4F", 0x08000000, 0x20000000, FAILING)
    with pytest.raises(EmulationError, match="invoke returned status -1"):
        UnicornEmulator().run(program, [b"\0"], INPUTS, OUTPUTS)


def test_a_wild_read_is_an_error_with_its_place() -> None:
    program = a_program("CortexM4F", 0x08000000, 0x20000000, WILD)
    with pytest.raises(EmulationError, match=r"READ_UNMAPPED.* at 0x08000002"):
        UnicornEmulator().run(program, [b"\0"], INPUTS, OUTPUTS)


ENDLESS = struct.pack("<H", 0xE7FE)  # branch to itself


def test_a_program_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulate_unicorn, "RUN_TIMEOUT_US", 100_000)
    program = a_program("CortexM4F", 0x08000000, 0x20000000, ENDLESS)
    with pytest.raises(EmulationError, match=r"no end within .* stopped at 0x08000000"):
        UnicornEmulator().run(program, [b"\0"], INPUTS, OUTPUTS)


@pytest.mark.needs_qemu
def test_a_program_that_does_not_end_is_stopped_in_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulate_qemu, "RUN_TIMEOUT_S", 0.5)
    program = a_program("CortexM4F", 0x21000000, 0x20000000, ENDLESS)
    with pytest.raises(EmulationError, match="no answer in time"):
        QemuEmulator().run(program, [b"\0"], INPUTS, OUTPUTS)


@pytest.mark.needs_qemu
def test_qemu_works_in_a_folder_with_a_long_name_and_a_comma(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / ("long," * 30)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    check(QemuEmulator(), a_program("CortexM4F", 0x21000000, 0x20000000), "qemu-")


@pytest.mark.needs_qemu
def test_a_status_of_the_model_is_an_error_in_qemu() -> None:
    program = a_program("CortexM4F", 0x21000000, 0x20000000, FAILING)
    with pytest.raises(EmulationError, match="invoke returned status -1"):
        QemuEmulator().run(program, [b"\0"], INPUTS, OUTPUTS)


def test_thumb_instructions_of_both_lengths_are_counted() -> None:
    assert thumb_instructions(struct.pack("<4H", 0x4A04, 0xF443, 0x0370, 0xBF00)) == 3


def test_stack_use_is_what_lies_above_the_untouched_paint() -> None:
    assert stack_used(bytes([0xA5] * 10)) == 0
    assert stack_used(bytes([0xA5, 0xA5, 1, 0xA5])) == 2


def test_memory_of_a_program_may_share_a_page() -> None:
    program = a_program("CortexM4F", 0x20000000, 0x20000200)
    program = replace(
        program,
        memory=(Region(0x20000000, 0x1100), Region(0x20000200 + 0xF00, 0x2000)),
    )
    done = UnicornEmulator().run(program, [b"\x05"], INPUTS, OUTPUTS)
    assert done.outputs == (b"\x06\x4d",)
