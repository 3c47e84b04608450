"""From a linked ELF and its weights to a `Program`, and to the emulator that can run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyml_compiler.elf import Elf
from tinyml_compiler.errors import VerificationFailedError
from tinyml_compiler.images import HEADER_BYTES
from tinyml_compiler.target import Region, SlotPair, Target
from tinyml_compiler.verify.emulate_qemu import QemuEmulator
from tinyml_compiler.verify.emulate_unicorn import UnicornEmulator
from tinyml_compiler.verify.program import (
    Emulated,
    EmulationError,
    Emulator,
    Placement,
    Program,
    Segment,
)

EMULATORS: tuple[Emulator, ...] = (QemuEmulator(), UnicornEmulator())  # the preferred one first

_INVOKE_OFFSET = 52  # of `invoke` in tml_model_t (tml/model.h), 4-byte pointers


@dataclass(frozen=True, slots=True)
class NotEmulated:
    """No emulator can run this program; `reason` says why of each."""

    reason: str


def program_of(elf: Elf, target: Target, weights: bytes, arena_bytes: int) -> Program:
    """Return what an emulator needs to call `tml_model.invoke` of `elf` at the target's addresses.

    Raises `ElfError` where the ELF is not one of `link`'s.
    """
    flash = target.flash
    segments = []
    for segment in elf.segments:
        segments.append(Segment(segment.address, segment.data))
        if segment.physical != segment.address:
            segments.append(Segment(segment.physical, segment.data))
    weights_address = flash.weights.primary + HEADER_BYTES
    segments.append(Segment(weights_address, weights))
    model = elf.symbol("tml_model").address
    stack_start = elf.symbol("tml_stack_start").address
    stack_end = elf.symbol("tml_stack_end").address
    return Program(
        cpu=target.cpu,
        memory=(_slot(flash.code), _slot(flash.weights), target.ram),
        segments=tuple(segment for segment in segments if segment.data),
        invoke=int.from_bytes(elf.read(model + _INVOKE_OFFSET, 4), "little") & ~1,
        weights=weights_address,
        arena=Region(elf.symbol("tml_arena_start").address, arena_bytes),
        stack=Region(stack_start, stack_end - stack_start),
    )


def choose(program: Program, emulators: Sequence[Emulator] = EMULATORS) -> Emulator | NotEmulated:
    """Return the first emulator that can run `program`."""
    reasons = []
    for emulator in emulators:
        reason = emulator.why_not(program)
        if not reason:
            return emulator
        reasons.append(reason)
    return NotEmulated("; ".join(reasons))


def emulate(
    emulator: Emulator,
    program: Program,
    vectors: Sequence[bytes],
    inputs: Sequence[Placement],
    outputs: Sequence[Placement],
) -> Emulated:
    """Run `vectors`. Raises `VerificationFailedError` where the program does not run to its end, or
    uses up its stack."""
    try:
        done = emulator.run(program, vectors, inputs, outputs)
    except EmulationError as error:
        raise VerificationFailedError(
            f"the linked program fails on an emulated core: {error}"
        ) from error
    room = len(program.painted_stack().data)
    if done.stack_bytes >= room:
        raise VerificationFailedError(
            f"an inference writes to all of the {room} bytes of stack that are reserved for it: "
            "this is a fault of the firmware port, please report it with the model"
        )
    return done


def _slot(slots: SlotPair) -> Region:
    return Region(slots.primary, slots.size_bytes)
