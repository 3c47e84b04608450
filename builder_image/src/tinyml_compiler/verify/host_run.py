"""The generated C, built for this machine and run on vectors, as a process of its own.

`device_runtime/src/verify/main.c` is that program; it also checks that nothing is written outside
of the arena, and measures the stack.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinyml_compiler import runtime_sources
from tinyml_compiler.errors import VerificationFailedError
from tinyml_compiler.target import CPUS, Target
from tinyml_compiler.toolchain import Toolchain, Unit, select

TIMEOUT_S = 600.0

_INCLUDES = (".", "include", "model", "src/core", "src/kernels")
_FLAGS = ("-O2", "-pthread")


@dataclass(frozen=True, slots=True)
class HostRun:
    """`outputs` has one entry a vector, its outputs concatenated; the stack is of one run."""

    outputs: tuple[bytes, ...]
    stack_bytes: int
    toolchain: str


def run_on_host(
    target: Target,
    sources: Mapping[str, str],
    kernel_folders: Sequence[str],
    weights: bytes,
    vectors: Sequence[bytes],
    *,
    output_bytes: int,
    work: Path,
) -> HostRun:
    """Build `sources` for this machine and run all vectors; `output_bytes` is of one vector.

    Raises `CompileFailedError`, `ToolchainMissingError`, or `VerificationFailedError` where the
    program fails.
    """
    toolchain = select(replace(target, cpu=CPUS["Host"]))
    program = _build(toolchain, sources, kernel_folders, work)
    request = b"".join(
        (
            struct.pack("<I", len(weights)),
            weights,
            struct.pack("<I", len(vectors)),
            *vectors,
        )
    )
    try:
        done = subprocess.run(
            [program], input=request, capture_output=True, timeout=TIMEOUT_S, cwd=work
        )
    except subprocess.TimeoutExpired as error:
        raise VerificationFailedError(
            f"the generated C did not end within {TIMEOUT_S:.0f} s for {len(vectors)} vectors"
        ) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise VerificationFailedError(
            f"the generated C on this machine ended with status {done.returncode} "
            f"(negative: by a signal): {said or 'it said nothing'}"
        )
    wanted = output_bytes * len(vectors) + 4
    if len(done.stdout) != wanted:
        raise VerificationFailedError(
            f"the generated C wrote {len(done.stdout)} bytes of outputs, not {wanted}"
        )
    return HostRun(
        outputs=tuple(
            done.stdout[at : at + output_bytes] for at in range(0, wanted - 4, output_bytes)
        ),
        stack_bytes=int.from_bytes(done.stdout[-4:], "little"),
        toolchain=toolchain.name,
    )


def _build(
    toolchain: Toolchain, sources: Mapping[str, str], kernel_folders: Sequence[str], work: Path
) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    runtime_sources.stage(work)
    for name, text in sources.items():
        path = work / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    files = ["src/verify/main.c", *(f"model/{n}" for n in sorted(sources) if n.endswith(".c"))]
    for folder in ("src/core", *(f"src/kernels/{name}" for name in sorted(set(kernel_folders)))):
        files += [f"{folder}/{path.name}" for path in sorted((work / folder).glob("*.c"))]
    units = [
        Unit(file, f"objects/{file.replace('/', '_')}.o", _INCLUDES, flags=_FLAGS) for file in files
    ]
    toolchain.compile(units, work)
    toolchain.link([unit.output for unit in units], "verify", work, flags=("-pthread",))
    return work / "verify"
