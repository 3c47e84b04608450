"""A device in PyPI's `unicorn`, for machines without QEMU: a core, a UART, a timer and reset.

Unicorn emulates the core alone. This board adds what the firmware touches: flash (the file,
mapped), RAM that resets keep, and registers. Waiting (WFI) ends `emu_start`: then the line is
waited for.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import struct
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from tinyml_local.emulator.boards import Board, DeviceSpec, EmulatorError, Memory
from tinyml_local.emulator.line import Line

# unicorn says that it is typed, but is not: its names are Any here.
unicorn: Any = import_module("unicorn")
arm_const: Any = import_module("unicorn.arm_const")

_PAGE_BYTES = 4096
_SYSTEM_CONTROL = 0xE000E000
_AIRCR, _AIRCR_RESET = 0xD0C, 0x05FA0004
_UART_DATA, _UART_STATE = 0x0, 0x4
_STATE_RECEIVED = 2
_TIMER_VALUE, _TIMER_RELOAD = 0x4, 0x8
_NOWHERE = 0xFFFFFFFE  # an address that is never reached
_SEND_TIMEOUT_S = 1.0
_PT_LOAD = 1


class UnicornBoard:
    """One device. Memory is owned here and handed to each new core, so that a reset keeps it."""

    def __init__(self, board: Board, spec: DeviceSpec, boot: bytes, flash: int, line: Line) -> None:
        if board.unicorn_cpu is None:
            raise EmulatorError(f"unicorn has no core for board {board.name!r}: install QEMU")
        self._board = board
        self._spec = spec
        self._boot = _segments(boot)
        self._line = line
        self._flash = mmap.mmap(flash, _pages(spec.flash.size))
        self._ram = mmap.mmap(-1, _pages(spec.ram.size))
        self._rom = mmap.mmap(-1, _pages(spec.boot.size))
        self._received = bytearray()
        self._unsent = bytearray()
        self._registers: dict[int, int] = {}
        self._timer_start_s = 0.0
        self._reset_wanted = False

    def run(self) -> None:
        """Run for ever: each turn is one life from reset to reset."""
        while True:
            self._live()
            self._send()

    def _live(self) -> None:
        self._reset_wanted = False
        self._registers.clear()
        core = self._new_core()
        stack, start = struct.unpack_from("<II", self._rom, 0)
        core.reg_write(arm_const.UC_ARM_REG_SP, stack)
        while not self._reset_wanted:
            try:
                core.emu_start(start | 1, _NOWHERE)
            except unicorn.UcError as error:
                at = core.reg_read(arm_const.UC_ARM_REG_PC)
                raise EmulatorError(f"the core stopped at 0x{at:08x}: {error}") from error
            start = core.reg_read(arm_const.UC_ARM_REG_PC)
            if not self._reset_wanted:
                self._send()
                select.select([self._line.master], [], [])

    def _new_core(self) -> Any:
        core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
        core.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{self._board.unicorn_cpu}"))
        for memory, owner in (
            (self._spec.boot, self._rom),
            (self._spec.ram, self._ram),
            (self._spec.flash, self._flash),
        ):
            _map(core, memory, owner)
        for address, data in self._boot:
            at = address - self._spec.boot.address
            if data and not 0 <= at <= self._spec.boot.size - len(data):
                raise EmulatorError(
                    f"boot stage has {len(data)} bytes at 0x{address:08x}, outside of flash.boot"
                )
            self._rom[at : at + len(data)] = data
        core.mmio_map(
            _SYSTEM_CONTROL, _PAGE_BYTES, self._read_system, None, self._write_system, None
        )
        core.mmio_map(
            self._board.uart_address, _PAGE_BYTES, self._read_uart, None, self._write_uart, None
        )
        core.mmio_map(
            self._board.timer_address, _PAGE_BYTES, self._read_timer, None, self._write_timer, None
        )
        # The core comes up with its FPU off, and unicorn does not see the firmware's own CPACR.
        core.reg_write(arm_const.UC_ARM_REG_C1_C0_2, 0xF << 20)
        core.reg_write(arm_const.UC_ARM_REG_FPEXC, 1 << 30)
        return core

    def _read_system(self, _core: Any, offset: int, _size: int, _data: Any) -> int:
        return self._registers.get(offset, 0)

    def _write_system(self, core: Any, offset: int, _size: int, value: int, _data: Any) -> None:
        self._registers[offset] = value
        if offset == _AIRCR and value == _AIRCR_RESET:
            self._reset_wanted = True
            core.emu_stop()

    def _read_uart(self, _core: Any, offset: int, _size: int, _data: Any) -> int:
        if offset == _UART_STATE:
            return _STATE_RECEIVED if self._received or self._receive() else 0
        if offset == _UART_DATA:
            return self._received.pop(0) if self._received or self._receive() else 0
        return 0

    def _write_uart(self, _core: Any, offset: int, _size: int, value: int, _data: Any) -> None:
        if offset == _UART_DATA:
            self._unsent.append(value & 0xFF)
            if value == 0x0A:
                self._send()

    def _read_timer(self, _core: Any, offset: int, _size: int, _data: Any) -> int:
        if offset != _TIMER_VALUE:
            return 0
        elapsed = int((time.monotonic() - self._timer_start_s) * self._board.clock_hz)
        return 0xFFFFFFFF - elapsed & 0xFFFFFFFF

    def _write_timer(self, _core: Any, offset: int, _size: int, _value: int, _data: Any) -> None:
        if offset == _TIMER_RELOAD:
            self._timer_start_s = time.monotonic()

    def _receive(self) -> bool:
        try:
            self._received += os.read(self._line.master, 4096)
        except BlockingIOError:
            return False
        return bool(self._received)

    def _send(self) -> None:
        """A client that does not read does not stop the device: what it misses is dropped."""
        while self._unsent:
            _, writable, _ = select.select([], [self._line.master], [], _SEND_TIMEOUT_S)
            if not writable:
                self._unsent.clear()
                return
            del self._unsent[: os.write(self._line.master, self._unsent)]


def run_unicorn(board: Board, spec: DeviceSpec, boot: Path, flash: int, line: Line) -> None:
    """Run a device until the process ends. `flash` is the open flash file."""
    UnicornBoard(board, spec, boot.read_bytes(), flash, line).run()


def _pages(size: int) -> int:
    return -(-size // _PAGE_BYTES) * _PAGE_BYTES


def _map(core: Any, memory: Memory, owner: mmap.mmap) -> None:
    if memory.address % _PAGE_BYTES:
        raise EmulatorError(f"memory at 0x{memory.address:08x} is not aligned to {_PAGE_BYTES}")
    address = ctypes.addressof(ctypes.c_char.from_buffer(owner))
    core.mem_map_ptr(memory.address, len(owner), unicorn.UC_PROT_ALL, address)


def _segments(elf: bytes) -> list[tuple[int, bytes]]:
    """Where each stored part of a 32-bit little-endian executable goes."""
    if elf[:6] != b"\x7fELF\x01\x01":
        raise EmulatorError("the boot stage is not a 32-bit ELF file: was it made for this board?")
    offset, size, count = struct.unpack_from("<28xI10xHH", elf)
    parts = []
    for at in range(offset, offset + size * count, size):
        kind, start, _, physical, stored = struct.unpack_from("<IIIII", elf, at)
        if kind == _PT_LOAD and stored:
            parts.append((physical, elf[start : start + stored]))
    return parts
