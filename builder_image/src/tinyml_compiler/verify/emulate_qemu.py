"""Run a program on QEMU: each core that has a machine whose memory covers the device class's.

The machine starts halted. Memory is filled by loader devices, registers are set and the call is
made through the gdb stub, over Unix sockets. One instruction is one nanosecond of virtual time
(`-icount shift=0`), and `query-replay` tells the exact number of instructions run so far.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from tinyml_compiler.target import Feature, Region
from tinyml_compiler.verify.gdb import GdbClient, GdbError, QmpClient
from tinyml_compiler.verify.program import (
    Emulated,
    EmulationError,
    Placement,
    Program,
    Segment,
    covers,
    split,
    stack_used,
)

RUN_TIMEOUT_S = 300.0

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of QEMU, its core, and the memory that it has."""

    name: str
    cpu: str
    memory: tuple[Region, ...]
    options: tuple[str, ...] = ()


_MPS2 = (Region(0, 4 * _MIB), Region(0x20000000, 4 * _MIB))

# Memory maps: QEMU 7.2, hw/arm/{mps2,mps2-tz,stm32f405_soc,nrf51_soc}.c and hw/riscv/virt.c.
MACHINES: tuple[Machine, ...] = (
    Machine("mps2-an385", "CortexM3", (*_MPS2, Region(0x21000000, 16 * _MIB))),
    Machine("mps2-an386", "CortexM4F", (*_MPS2, Region(0x21000000, 16 * _MIB))),
    Machine("mps2-an500", "CortexM7", (*_MPS2, Region(0x60000000, 16 * _MIB))),
    Machine(
        "mps3-an547",
        "CortexM55",
        (
            Region(0, _MIB // 2),
            Region(0x01000000, 2 * _MIB),
            Region(0x20000000, _MIB // 2),
            Region(0x21000000, 4 * _MIB),
            Region(0x60000000, 2048 * _MIB),
        ),
    ),
    Machine(
        "netduinoplus2", "CortexM4F", (Region(0x08000000, _MIB), Region(0x20000000, _MIB // 8))
    ),
    Machine("microbit", "CortexM0Plus", (Region(0, _MIB // 4), Region(0x20000000, 16384))),
    Machine(
        "virt",
        "RV32IMAC",
        (Region(0x20000000, 64 * _MIB), Region(0x80000000, 128 * _MIB)),
        options=("-bios", "none"),
    ),
)


@dataclass(frozen=True, slots=True)
class _Registers:
    """Numbers in gdb's remote protocol."""

    argument0: int
    argument1: int
    stack_pointer: int
    return_address: int
    program_counter: int
    thumb_state: int | None = None  # the register with the T bit


_ARM = _Registers(0, 1, 13, 14, 15, thumb_state=25)
_RISCV = _Registers(10, 11, 2, 1, 32)

_XPSR_T = 1 << 24

# ldr r2, [pc, #16]; ldr r3, [r2]; orr r3, #0xF00000; str r3, [r2]; dsb; isb; nop; .word CPACR
_ENABLE_FPU = struct.pack(
    "<10HI",
    *(0x4A04, 0x6813, 0xF443, 0x0370, 0x6013, 0xF3BF, 0x8F4F, 0xF3BF, 0x8F6F, 0xBF00),
    0xE000ED88,
)
_ENABLE_FPU_END = 18  # offset of the nop
_ARM_RETURN = struct.pack("<H", 0xBF00)
_RISCV_RETURN = struct.pack("<I", 0x00000013)


class QemuEmulator:
    """See `program.Emulator`."""

    def why_not(self, program: Program) -> str:
        system = program.cpu.qemu_system
        if system is None:
            return f"QEMU has no {program.cpu.name}"
        if shutil.which(system) is None:
            return f"{system} is not installed"
        if _machine_for(program) is None:
            return f"no machine of {system} has {program.cpu.name} and the memory of this class"
        return ""

    def run(
        self,
        program: Program,
        vectors: Sequence[bytes],
        inputs: Sequence[Placement],
        outputs: Sequence[Placement],
    ) -> Emulated:
        """Run all vectors; count the first. Raises `EmulationError`."""
        machine = _machine_for(program)
        system = program.cpu.qemu_system
        if machine is None or system is None:
            raise EmulationError(self.why_not(program))
        try:
            with _started(system, machine, program) as (gdb, qmp):
                session = _Session(program, gdb, qmp)
                session.enable_fpu()
                results = []
                counts = []
                for vector in vectors:
                    counts.append(session.call(split(vector, inputs)))
                    results.append(
                        b"".join(
                            gdb.read(program.arena.address + p.arena_offset, p.size_bytes)
                            for p in outputs
                        )
                    )
                paint = program.painted_stack()
                stack = gdb.read(paint.address, len(paint.data))
        except (OSError, GdbError) as error:
            raise EmulationError(f"{system} -machine {machine.name}: {error}") from error
        return Emulated(
            emulator=f"qemu-{_version(system)} {machine.name}",
            outputs=tuple(results),
            instructions=counts[0],
            stack_bytes=stack_used(stack),
        )


class _Session:
    """Calls into a halted machine."""

    def __init__(self, program: Program, gdb: GdbClient, qmp: QmpClient) -> None:
        self._program = program
        self._gdb = gdb
        self._qmp = qmp
        self._is_arm = Feature.THUMB in program.cpu.features
        self._registers = _ARM if self._is_arm else _RISCV

    def enable_fpu(self) -> None:
        """Let code use the FPU (and Helium): start-up would have done so."""
        if Feature.FPU not in self._program.cpu.features:
            return
        at = self._program.stack.address
        self._gdb.write(at, _ENABLE_FPU)
        self._go(at, until=at + _ENABLE_FPU_END)

    def call(self, parts: Sequence[tuple[Placement, bytes]]) -> int:
        """Invoke the model on one vector; return the instructions that it took."""
        program, gdb, registers = self._program, self._gdb, self._registers
        for place, data in parts:
            gdb.write(program.arena.address + place.arena_offset, data)
        stop = program.stack.address
        gdb.write(stop, _ARM_RETURN if self._is_arm else _RISCV_RETURN)
        gdb.set_register(registers.argument0, program.weights)
        gdb.set_register(registers.argument1, program.arena.address)
        gdb.set_register(registers.return_address, stop | (1 if self._is_arm else 0))
        before = self._qmp.instructions()
        self._go(program.invoke, until=stop)
        count = self._qmp.instructions() - before
        status = gdb.register(registers.argument0)
        if status:
            raise GdbError(f"invoke returned status {status - (status >> 31 << 32)}")
        return count

    def _go(self, start: int, *, until: int) -> None:
        gdb, registers = self._gdb, self._registers
        if registers.thumb_state is not None:
            gdb.set_register(registers.thumb_state, _XPSR_T)
        gdb.set_register(registers.stack_pointer, self._program.stack.end)
        gdb.set_register(registers.program_counter, start & ~1)
        gdb.set_breakpoint(until)
        gdb.resume()
        at = gdb.register(registers.program_counter)
        gdb.clear_breakpoint(until)
        if at != until:
            raise GdbError(f"stopped at 0x{at:08x}, not at 0x{until:08x}")


def _machine_for(program: Program) -> Machine | None:
    for machine in MACHINES:
        if machine.cpu == program.cpu.name and all(
            covers(machine.memory, region) for region in program.memory
        ):
            return machine
    return None


@contextmanager
def _started(
    system: str, machine: Machine, program: Program
) -> Iterator[tuple[GdbClient, QmpClient]]:
    with tempfile.TemporaryDirectory(prefix="tml-qemu-") as name:
        folder = Path(name)
        command = [
            *(system, "-machine", machine.name, *machine.options, "-S"),
            *("-display", "none", "-nodefaults", "-serial", "null", "-monitor", "none"),
            *("-icount", "shift=0,sleep=off"),
            *("-chardev", "socket,id=gdb,path=gdb,server=on,wait=off", "-gdb", "chardev:gdb"),
            *("-qmp", "unix:qmp,server=on,wait=off"),
        ]
        for index, segment in enumerate((*program.segments, program.painted_stack())):
            command += _loader(folder, f"segment{index}", segment)
        # Relative names and a path by descriptor: a socket's path has at most 107 bytes, and
        # QEMU's options end at a comma, whatever the folder is called.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        near = Path(f"/proc/self/fd/{descriptor}")
        try:
            with (folder / "log").open("wb") as log, _running(command, folder, log) as process:
                qmp = QmpClient(near / "qmp", process, timeout_s=RUN_TIMEOUT_S)
                with qmp, GdbClient(near / "gdb", process, timeout_s=RUN_TIMEOUT_S) as gdb:
                    yield gdb, qmp
        except (OSError, GdbError) as error:
            said = (folder / "log").read_text(errors="replace").strip()[-500:]
            raise GdbError(f"{error}; it said: {said or 'nothing'}") from error
        finally:
            os.close(descriptor)


@contextmanager
def _running(
    command: Sequence[str], folder: Path, log: BinaryIO
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _loader(folder: Path, name: str, segment: Segment) -> list[str]:
    if not segment.data:
        return []
    (folder / name).write_bytes(segment.data)
    return ["-device", f"loader,file={name},addr=0x{segment.address:x},force-raw=on"]


@lru_cache
def _version(system: str) -> str:
    """Return `7.2.22` of "QEMU emulator version 7.2.22 (…)"."""
    text = subprocess.run(
        [system, "--version"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    words = text.split()
    return words[3] if len(words) > 3 else "unknown"
