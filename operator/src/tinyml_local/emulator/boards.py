"""Which boards can be emulated, and what a device class says about one.

A board is a row; the firmware's side of it is the folder of the same name in
`device_runtime/src/port`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml


class EmulatorError(Exception):
    """A device that cannot run. The text says what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Board:
    """Addresses are those of the real board. `backing` is the memory that a file keeps."""

    name: str
    qemu_system: str
    qemu_machine: str
    unicorn_cpu: str | None  # in `unicorn.arm_const`, without UC_CPU_ARM_; None: unicorn has none
    backing_address: int
    backing_bytes: int
    uart_address: int
    timer_address: int
    clock_hz: int


_MIB = 1 << 20


def _mps2(image: str, unicorn_cpu: str) -> Board:
    return Board(
        name=f"mps2-{image}",
        qemu_system="qemu-system-arm",
        qemu_machine=f"mps2-{image}",
        unicorn_cpu=unicorn_cpu,
        backing_address=0x21000000,
        backing_bytes=16 * _MIB,
        uart_address=0x40004000,
        timer_address=0x40000000,
        clock_hz=25_000_000,
    )


BOARDS: Mapping[str, Board] = MappingProxyType(
    {board.name: board for board in (_mps2("an385", "CORTEX_M3"), _mps2("an386", "CORTEX_M4"))}
)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes [address, address + size)."""

    address: int
    size: int


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """What an emulator needs of `DeviceClass.spec`."""

    board: str
    ram: Memory
    flash: Memory
    boot: Memory


def read_spec(path: Path) -> DeviceSpec:
    """Read a DeviceClass or its spec, YAML or JSON. Raises EmulatorError naming the field."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise EmulatorError(f"cannot read device class {path}: {error}") from error
    if isinstance(content, Mapping) and isinstance(content.get("spec"), Mapping):
        content = content["spec"]
    board = _field(path, content, "board")
    if not isinstance(board, str):
        raise EmulatorError(f"{path}: board is {board!r}, not a name")
    return DeviceSpec(
        board=board,
        ram=_memory(path, content, "ram"),
        flash=_memory(path, content, "flash"),
        boot=_memory(path, content, "flash.boot"),
    )


def board_of(spec: DeviceSpec) -> Board:
    """The board, with the flash inside of its memory. Raises EmulatorError."""
    board = BOARDS.get(spec.board)
    if board is None:
        raise EmulatorError(
            f"board {spec.board!r} cannot be emulated; boards are posix, {', '.join(BOARDS)}"
        )
    end = board.backing_address + board.backing_bytes
    if not board.backing_address <= spec.flash.address <= end - spec.flash.size:
        raise EmulatorError(
            f"flash 0x{spec.flash.address:08x} with {spec.flash.size} bytes is not inside of board "
            f"{board.name!r}'s memory 0x{board.backing_address:08x} to 0x{end:08x}"
        )
    return board


def _field(path: Path, content: object, name: str) -> Any:
    value: Any = content
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise EmulatorError(f"device class {path} has no {name}: an emulated device needs it")
        value = value[key]
    return value


def _memory(path: Path, content: object, name: str) -> Memory:
    numbers = [_field(path, content, f"{name}.{key}") for key in ("address", "sizeBytes")]
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 32:
            raise EmulatorError(f"{path}: {name} has {number!r}, not a number of bytes")
    return Memory(*numbers)
