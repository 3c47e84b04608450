"""An ELF that ships, ready for an emulator: what lies where after start-up, and what to call.

The emulators call `tml_model.invoke` inside of the very ELF that ships; start-up code does not run,
so this module puts initialized data where start-up would have copied it. Read by `emulate_qemu`
and `emulate_unicorn`; must not know either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tinyml_compiler.target import Cpu, Region

STACK_PAINT = 0xA5
RETURN_STUB_BYTES = 32  # at the stack's lowest end: where a call returns to


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes at an address."""

    address: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Program:
    """Addresses are absolute. `stack` is painted but for its lowest `RETURN_STUB_BYTES`; the
    stack pointer starts at its end. `memory` covers all of what is used."""

    cpu: Cpu
    memory: tuple[Region, ...]
    segments: tuple[Segment, ...]
    invoke: int
    weights: int
    arena: Region
    stack: Region

    def painted_stack(self) -> Segment:
        size = self.stack.size_bytes - RETURN_STUB_BYTES
        return Segment(self.stack.address + RETURN_STUB_BYTES, bytes([STACK_PAINT]) * size)


@dataclass(frozen=True, slots=True)
class Placement:
    """Bytes of the arena: of one input or one output."""

    arena_offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Emulated:
    """What came of running vectors. `outputs` has one entry a vector, its outputs concatenated.
    `instructions` is of the first vector, from the call of invoke to its return, if counted."""

    emulator: str
    outputs: tuple[bytes, ...]
    instructions: int | None
    stack_bytes: int


class EmulationError(Exception):
    """The program did not run to its end in the emulator."""


class Emulator(Protocol):
    """`why_not` returns why this emulator cannot run the program, empty if it can."""

    def why_not(self, program: Program) -> str: ...

    def run(
        self,
        program: Program,
        vectors: Sequence[bytes],
        inputs: Sequence[Placement],
        outputs: Sequence[Placement],
    ) -> Emulated: ...


def split(vector: bytes, inputs: Sequence[Placement]) -> tuple[tuple[Placement, bytes], ...]:
    """Return the parts of a vector (all inputs concatenated) with their places."""
    parts = []
    at = 0
    for place in inputs:
        parts.append((place, vector[at : at + place.size_bytes]))
        at += place.size_bytes
    return tuple(parts)


def stack_used(stack: bytes) -> int:
    """Return how many bytes of a painted stack (lowest address first) were ever written."""
    untouched = len(stack) - len(stack.lstrip(bytes([STACK_PAINT])))
    return len(stack) - untouched


def covers(regions: Sequence[Region], wanted: Region) -> bool:
    """Is every byte of `wanted` in one of `regions`?"""
    return any(r.address <= wanted.address and wanted.end <= r.end for r in regions)
