"""The comparison that each build must pass: oracle = C on the host = C on an emulated core.

Every vector runs on the host; on the emulated core as many as are cheap, at least one, the
first of them random. Any difference is a `VerificationFailedError`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tinyml_compiler.elf import Elf
from tinyml_compiler.pipeline import CompiledModel, TensorSpec
from tinyml_compiler.report import EmulatedRecord, OracleRecord
from tinyml_compiler.target import Target
from tinyml_compiler.verify import oracle
from tinyml_compiler.verify.compare import require_equal
from tinyml_compiler.verify.host_run import run_on_host
from tinyml_compiler.verify.program import Placement
from tinyml_compiler.verify.shipped import EMULATORS, NotEmulated, choose, emulate, program_of
from tinyml_compiler.verify.vectors import EDGES, InputSpec, make_vectors

EMULATED_ORDER = (len(EDGES), 0, 1, len(EDGES) + 2)  # random, two extremes, near the zero point
EMULATED_MACS = 16_000_000  # about a second in an emulator: fewer vectors for larger models

Timer = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Verified:
    """`stack_bytes` is what one inference used: on the emulated core, else on the host."""

    oracle: OracleRecord
    emulated: EmulatedRecord
    stack_bytes: int


def verify(
    model: bytes,
    compiled: CompiledModel,
    target: Target,
    *,
    elf: Elf | None,
    work: Path,
    timer: Timer,
) -> Verified:
    """Compare; `elf` is the linked program that ships, None where that runs on the host.

    Raises `VerificationFailedError` with counts and the first difference.
    """
    vectors = make_vectors(
        [_input_spec(each) for each in compiled.inputs], seed=hashlib.sha256(model).digest()
    )
    with timer("oracle"):
        expected = oracle.run_oracle(model, vectors, outputs=len(compiled.outputs))
    with timer("verify-host"):
        host = run_on_host(
            target,
            compiled.sources,
            compiled.kernel_sources,
            compiled.weights,
            vectors,
            output_bytes=sum(each.bytes for each in compiled.outputs),
            work=work,
        )
        require_equal(expected, host.outputs, where=f"on this machine ({host.toolchain})")
    record = OracleRecord(oracle.NAME, oracle.oracle_version(), len(vectors), mismatches=0)
    if elf is None:
        reason = "the device is a process of the host, which counts no instructions"
        return Verified(record, EmulatedRecord(None, 0, None, None, reason), host.stack_bytes)
    program = program_of(elf, target, compiled.weights, compiled.arena_bytes)
    emulator = choose(program, EMULATORS)
    if isinstance(emulator, NotEmulated):
        none = EmulatedRecord(None, 0, None, None, emulator.reason)
        return Verified(record, none, host.stack_bytes)
    chosen = _emulated_vectors(compiled.macs)
    with timer("verify-emulated"):
        done = emulate(
            emulator,
            program,
            [vectors[index] for index in chosen],
            _placements(compiled.inputs),
            _placements(compiled.outputs),
        )
        require_equal(
            [expected[index] for index in chosen],
            done.outputs,
            where=f"on an emulated {target.cpu.name} ({done.emulator})",
        )
    emulated = EmulatedRecord(done.emulator, len(chosen), 0, done.instructions, None)
    return Verified(record, emulated, done.stack_bytes)


def _input_spec(tensor: TensorSpec) -> InputSpec:
    elements = 1
    for extent in tensor.shape:
        elements *= extent
    return InputSpec(
        dtype=tensor.dtype,
        elements=elements,
        scale=tensor.scale if tensor.scale is not None else 1 / 128,
        zero_point=tensor.zero_point or 0,
    )


def _placements(tensors: tuple[TensorSpec, ...]) -> tuple[Placement, ...]:
    return tuple(Placement(each.arena_offset, each.bytes) for each in tensors)


def _emulated_vectors(macs: int) -> tuple[int, ...]:
    """Return the numbers of the vectors that the emulated core runs, a random one first."""
    cheap = max(1, min(len(EMULATED_ORDER), EMULATED_MACS // max(macs, 1)))
    return EMULATED_ORDER[:cheap]
