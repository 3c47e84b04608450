"""Run a program on PyPI's unicorn: Arm Cortex-M without Helium, in any memory map.

Used where QEMU is not installed. Instructions are counted per block of code, whose number of
instructions is decoded once; a Thumb instruction has 4 bytes if the five highest bits of its first
halfword are 0b11101 or more (Arm v7-M manual, A5.1), else 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from tinyml_compiler.target import Feature
from tinyml_compiler.verify.program import (
    Emulated,
    EmulationError,
    Placement,
    Program,
    split,
    stack_used,
)

# unicorn says that it is typed, but is not: its names are Any here.
unicorn: Any = import_module("unicorn")
arm_const: Any = import_module("unicorn.arm_const")

NAME = f"unicorn-{unicorn.__version__}"

RUN_TIMEOUT_US = 300_000_000

_PAGE_BYTES = 4096
_THUMB = 1
_CPACR_FPU = 0xF << 20
_FPEXC_ENABLE = 1 << 30


class UnicornEmulator:
    """See `program.Emulator`. Without `counts` it is ten times as fast."""

    def __init__(self, *, counts: bool = True) -> None:
        self._counts = counts

    def why_not(self, program: Program) -> str:
        if program.cpu.unicorn_model is None:
            return f"{NAME} has no {program.cpu.name}"
        return ""

    def run(
        self,
        program: Program,
        vectors: Sequence[bytes],
        inputs: Sequence[Placement],
        outputs: Sequence[Placement],
    ) -> Emulated:
        """Run all vectors; count the first. Raises `EmulationError`."""
        machine = _machine(program)
        counter = _BlockCounter()
        hook = machine.hook_add(unicorn.UC_HOOK_BLOCK, counter.block) if self._counts else None
        results = []
        for vector in vectors:
            for place, data in split(vector, inputs):
                machine.mem_write(program.arena.address + place.arena_offset, data)
            _call(machine, program)
            if hook is not None:
                machine.hook_del(hook)
                hook = None
            results.append(
                b"".join(
                    bytes(machine.mem_read(program.arena.address + p.arena_offset, p.size_bytes))
                    for p in outputs
                )
            )
        paint = program.painted_stack()
        return Emulated(
            emulator=NAME,
            outputs=tuple(results),
            instructions=counter.instructions if self._counts else None,
            stack_bytes=stack_used(bytes(machine.mem_read(paint.address, len(paint.data)))),
        )


class _BlockCounter:
    """Adds up the instructions of each block that runs."""

    def __init__(self) -> None:
        self.instructions = 0
        self._known: dict[tuple[int, int], int] = {}

    def block(self, machine: Any, address: int, size: int, _: object) -> None:
        known = self._known.get((address, size))
        if known is None:
            known = thumb_instructions(bytes(machine.mem_read(address, size)))
            self._known[address, size] = known
        self.instructions += known


def thumb_instructions(code: bytes) -> int:
    """Return the number of Thumb instructions in `code`."""
    count = at = 0
    while at < len(code):
        at += 4 if code[at + 1] >> 3 >= 0b11101 else 2
        count += 1
    return count


def _machine(program: Program) -> Any:
    machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
    # UC_MODE_MCLASS would make it a Cortex-M33, whatever the model.
    machine.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{program.cpu.unicorn_model}"))
    pages: set[int] = set()
    for region in program.memory:
        first, last = region.address // _PAGE_BYTES, (region.end - 1) // _PAGE_BYTES
        pages.update(range(first, last + 1))
    for first, count in _runs(sorted(pages)):
        machine.mem_map(first * _PAGE_BYTES, count * _PAGE_BYTES)
    for segment in (*program.segments, program.painted_stack()):
        machine.mem_write(segment.address, segment.data)
    if Feature.FPU in program.cpu.features:
        machine.reg_write(arm_const.UC_ARM_REG_C1_C0_2, _CPACR_FPU)
        machine.reg_write(arm_const.UC_ARM_REG_FPEXC, _FPEXC_ENABLE)
    return machine


def _runs(pages: Sequence[int]) -> list[tuple[int, int]]:
    """Return `(first, count)` of each run of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for page in pages:
        if runs and sum(runs[-1]) == page:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((page, 1))
    return runs


def _call(machine: Any, program: Program) -> None:
    stop = program.stack.address
    machine.reg_write(arm_const.UC_ARM_REG_R0, program.weights)
    machine.reg_write(arm_const.UC_ARM_REG_R1, program.arena.address)
    machine.reg_write(arm_const.UC_ARM_REG_SP, program.stack.end)
    machine.reg_write(arm_const.UC_ARM_REG_LR, stop | _THUMB)
    try:
        machine.emu_start(program.invoke | _THUMB, stop, timeout=RUN_TIMEOUT_US)
    except unicorn.UcError as error:
        at = machine.reg_read(arm_const.UC_ARM_REG_PC)
        raise EmulationError(f"{NAME}: {error} at 0x{at:08x}") from error
    at = machine.reg_read(arm_const.UC_ARM_REG_PC)
    if at != stop:
        seconds = RUN_TIMEOUT_US // 1_000_000
        raise EmulationError(f"{NAME}: no end within {seconds} s, stopped at 0x{at:08x}")
    status = machine.reg_read(arm_const.UC_ARM_REG_R0)
    if status:
        raise EmulationError(f"{NAME}: invoke returned status {status - (status >> 31 << 32)}")
