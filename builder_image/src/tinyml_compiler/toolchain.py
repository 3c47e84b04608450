"""Which C compilers are on this machine, and how one of them is called.

gcc's cross compilers are taken where they are installed, else clang as PyPI's `ziglang` carries it.
A `Toolchain` is called with relative paths in one folder, so that equal sources give equal bytes
wherever that folder is. Called by `link` and `verify`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tinyml_compiler.errors import CompileFailedError, ToolchainMissingError
from tinyml_compiler.target import Cpu, Target

COMPILE_TIMEOUT_S = 300.0  # zig's first link for a CPU builds its runtime library
PARALLEL_COMPILES = 2
_ERROR_LINES = 40

_COMMON_FLAGS = (
    "-std=c11",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-common",
    "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables",
    "-fno-ident",
)
_BARE_FLAGS = ("-ffreestanding",)
# Against zig's defaults: sanitizers without optimisation, and debug information. That of zig's own
# libraries goes after linking (elf.without_debug).
_ZIG_FLAGS = ("-fno-sanitize=undefined", "-g0")
_LINK_FLAGS = ("-Wl,--gc-sections", "-Wl,--build-id=none")

_INSTALL = {
    "arm-none-eabi": "apt-get install gcc-arm-none-eabi",
    "riscv64-unknown-elf": "apt-get install gcc-riscv64-unknown-elf",
    "": "apt-get install gcc libc6-dev",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One C file to compile: path and includes relative to the folder of the build."""

    source: str
    output: str
    includes: tuple[str, ...] = ()
    defines: tuple[tuple[str, str], ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A C compiler for one CPU. `name` with its version is part of what a build depends on."""

    name: str
    cpu: Cpu
    command: tuple[str, ...]
    is_zig: bool

    def compile(self, units: Sequence[Unit], folder: Path) -> None:
        """Compile each unit. Raises CompileFailedError with what the compiler says."""
        for unit in units:
            (folder / unit.output).parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max_workers=PARALLEL_COMPILES) as pool:
            # list() lets the first error through.
            list(pool.map(lambda unit: self._compile_one(unit, folder), units))

    def link(
        self,
        objects: Sequence[str],
        output: str,
        folder: Path,
        *,
        script: str | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        """Link an executable: with `script` for bare metal, without it a static one for the host.

        Raises LinkFailedError with what the linker says.
        """
        command = [*self.command, *self._cpu_flags(), *_LINK_FLAGS, *flags]
        if script is None:
            command += ["-static"]
        else:
            command += ["-L.", f"-Wl,-T,{script}", "-Wl,--entry=tml_on_reset"]
            # zig adds its own runtime library only where the standard libraries are wanted.
            command += [] if self.is_zig else ["-nostdlib", "-Wl,--no-warn-rwx-segments"]
        command += [*objects, *([] if script is None or self.is_zig else ["-lgcc"]), "-o", output]
        result = self._run(command, folder)
        if result.returncode != 0:
            raise LinkFailedError(self.name, output, result.stderr)

    def _compile_one(self, unit: Unit, folder: Path) -> None:
        command = [
            *self.command,
            *self._cpu_flags(),
            *_COMMON_FLAGS,
            *(() if self.cpu.is_host else _BARE_FLAGS),
            *(_ZIG_FLAGS if self.is_zig else ()),
            *unit.flags,
            *(f"-I{include}" for include in unit.includes),
            *(f"-D{name}={value}" for name, value in unit.defines),
            "-c",
            unit.source,
            "-o",
            unit.output,
        ]
        result = self._run(command, folder)
        if result.returncode != 0:
            raise CompileFailedError(
                f"{self.name} refused {unit.source} (exit status {result.returncode}):\n"
                + _first_lines(result.stderr)
            )

    def _cpu_flags(self) -> tuple[str, ...]:
        if self.is_zig:
            return ("-target", self.cpu.zig_target, f"-mcpu={self.cpu.zig_mcpu}")
        return self.cpu.gcc_flags

    def _run(self, command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                list(command),
                cwd=folder,
                env=_environment(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMPILE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CompileFailedError(
                f"{self.name} did not finish within {COMPILE_TIMEOUT_S:.0f} s: {command[-1]}"
            ) from error
        except OSError as error:
            raise CompileFailedError(f"cannot start {self.name}: {error}") from error


class LinkFailedError(CompileFailedError):
    """The linker refused; `output` is all it said, for callers that know what an overflow means."""

    def __init__(self, toolchain: str, program: str, output: str) -> None:
        self.output = output
        super().__init__(f"{toolchain} cannot link {program}:\n{_first_lines(output)}")


def available(target: Target) -> tuple[Toolchain, ...]:
    """All toolchains of this machine that compile for the target's CPU, the preferred one first.

    For the host that is zig: a static program against musl has 50 KB, against glibc 800 KB.
    """
    found = (_gcc(target.cpu), _zig(target.cpu))
    found = found[::-1] if target.cpu.is_host else found
    return tuple(toolchain for toolchain in found if toolchain is not None)


def select(target: Target, pinned: str = "auto") -> Toolchain:
    """The preferred toolchain, or the one that `pinned` names: `ziglang`, or `ziglang-0.17.1`.

    Raises ToolchainMissingError saying what was looked for and how to install it.
    """
    found = available(target)
    for toolchain in found:
        kind = toolchain.name.rpartition("-")[0]
        if pinned in ("auto", toolchain.name, kind):
            return toolchain
    wanted = "a C compiler" if pinned == "auto" else f"toolchain {pinned!r}"
    here = ", ".join(toolchain.name for toolchain in found) or "none"
    raise ToolchainMissingError(
        f"{wanted} for CPU {target.cpu.name} of device class {target.name!r} is not installed; "
        f"looked for {_gcc_program(target.cpu)} and PyPI's ziglang, found {here}: "
        f"pip install ziglang, or {_INSTALL[target.cpu.gcc_triple]}"
    )


def _gcc_program(cpu: Cpu) -> str:
    return f"{cpu.gcc_triple}-gcc" if cpu.gcc_triple else "gcc"


def _gcc(cpu: Cpu) -> Toolchain | None:
    program = _gcc_program(cpu)
    path = shutil.which(program)
    if path is None:
        return None
    version = _output_of(path, "-dumpfullversion")
    # Without its static library the host's compiler cannot make an image that runs by itself.
    if version is None or (cpu.is_host and not _has_static_libc(path)):
        return None
    return Toolchain(f"{program}-{version}", cpu, (path,), is_zig=False)


def _has_static_libc(gcc: str) -> bool:
    return os.path.isabs(_output_of(gcc, "-print-file-name=libc.a") or "")


def _zig(cpu: Cpu) -> Toolchain | None:
    if importlib.util.find_spec("ziglang") is None:
        return None
    version = importlib.metadata.version("ziglang")
    command = (sys.executable, "-m", "ziglang", "cc")
    return Toolchain(f"ziglang-{version}", cpu, command, is_zig=True)


@functools.cache
def _output_of(*command: str) -> str | None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def _environment() -> Mapping[str, str]:
    """The caller's, with nothing that would change what the compilers write."""
    dropped = {"C_INCLUDE_PATH", "CPATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH"}
    environment = {k: v for k, v in os.environ.items() if k not in dropped}
    environment |= {"LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
    environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(_cache_folder() / "tinyml" / "zig"))
    environment.setdefault("ZIG_LOCAL_CACHE_DIR", environment["ZIG_GLOBAL_CACHE_DIR"])
    return environment


def _cache_folder() -> Path:
    """Where this user's programs keep what they can make again.

    The home of the user's account goes before HOME: a Job's HOME is its own work folder, and zig's
    runtime libraries take 10 to 20 seconds a CPU to build.
    """
    if "XDG_CACHE_HOME" in os.environ:
        return Path(os.environ["XDG_CACHE_HOME"])
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container's user that has no account
        home = Path("/nonexistent")
    return (home if os.access(home, os.W_OK) else Path(os.path.expanduser("~"))) / ".cache"


def _first_lines(text: str) -> str:
    lines = text.strip().splitlines()
    more = [f"… and {len(lines) - _ERROR_LINES} more lines"] if len(lines) > _ERROR_LINES else []
    return "\n".join(lines[:_ERROR_LINES] + more)
