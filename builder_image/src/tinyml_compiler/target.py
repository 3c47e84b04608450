"""What the compiler knows of a device: a row of `CPUS` for its core, and its class's memory map.

Read by the toolchain driver (flags), the linker (memory map) and the verifier (emulators). A new
core is a new row, nothing else. The device class is the content of `DeviceClass.spec`
(docs/decisions/001-spine-contracts.md).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from types import MappingProxyType
from typing import Any, Self

from tinyml_compiler.errors import TargetInvalidError

ADDRESSES_END = 1 << 32
ARENA_ALIGNMENT = 16  # of the start of RAM, so that sizes alone say what fits
SLOT_ALIGNMENT = 256  # of a vector table (Cortex-M0+) and of weights, behind a header of 0x200
WRITE_BLOCK_LIMIT = 64  # TML_FLASH_WRITE_BLOCK_MAX


class Feature(StrEnum):
    """Parts of an instruction set that kernels are chosen by."""

    THUMB = "thumb"
    DSP = "dsp"  # ARMv7E-M SIMD within a register
    FPU = "fpu"  # single precision
    MVE = "mve"  # Helium
    RV32 = "rv32"


@dataclass(frozen=True, slots=True)
class Cpu:
    """One core and how each tool calls it.

    `gcc_triple` is the prefix of the cross tools, empty for the host's own compiler.
    `qemu_machine` and `unicorn_model` (a name in `unicorn.arm_const`, without `UC_CPU_ARM_`) are
    None where the tool has no such core.
    """

    name: str
    gcc_triple: str
    gcc_flags: tuple[str, ...]
    zig_target: str
    zig_mcpu: str
    features: frozenset[Feature]
    pointer_bytes: int = 4
    qemu_system: str | None = None  # program
    qemu_machine: str | None = None
    unicorn_model: str | None = None

    @property
    def is_host(self) -> bool:
        return not self.gcc_triple


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes [address, address + size_bytes)."""

    address: int
    size_bytes: int

    @property
    def end(self) -> int:
        return self.address + self.size_bytes

    def overlaps(self, other: Region) -> bool:
        return self.address < other.end and other.address < self.end


@dataclass(frozen=True, slots=True)
class SlotPair:
    """Two slots of one size; addresses are absolute."""

    primary: int
    secondary: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FlashMap:
    """`code` and `weights` are slots inside of `region`; `boot` may be in another memory."""

    region: Region
    erase_block_bytes: int
    write_block_bytes: int
    boot: Region
    code: SlotPair
    weights: SlotPair


@dataclass(frozen=True, slots=True)
class Target:
    """One device class. `board` names a firmware port; None: no firmware, only the model."""

    name: str
    cpu: Cpu
    board: str | None
    ram: Region
    flash: FlashMap

    @classmethod
    def from_spec(cls, name: str, spec: Mapping[str, Any]) -> Self:
        """Read `DeviceClass.spec`. Raises TargetInvalidError with the field and what it holds."""
        cpu_name = _field(name, spec, "cpu", str)
        cpu = CPUS.get(cpu_name)
        if cpu is None:
            raise TargetInvalidError(
                f"device class {name!r}: cpu is {cpu_name!r}, known are {', '.join(CPUS)}"
            )
        board = spec.get("board")
        if board is not None and not (isinstance(board, str) and board):
            raise TargetInvalidError(f"device class {name!r}: board is {board!r}, not a name")
        ram = _region(name, _field(name, spec, "ram", Mapping), "ram")
        if ram.address % ARENA_ALIGNMENT:
            raise TargetInvalidError(
                f"device class {name!r}: ram.address is {ram.address}, "
                f"not a multiple of {ARENA_ALIGNMENT}"
            )
        flash = _flash(name, _field(name, spec, "flash", Mapping))
        if not cpu.is_host:  # whose boot stage is a program of its own
            _check_boot(name, flash)
        return cls(name=name, cpu=cpu, board=board, ram=ram, flash=flash)


def _cortex_m(
    name: str,
    core: str,
    *,
    features: frozenset[Feature] = frozenset(),
    fpu: str | None = None,
    zig_mcpu: str | None = None,
    qemu_machine: str | None = None,
    unicorn_model: str | None = None,
) -> Cpu:
    """`fpu` None: soft float; "auto": what -mcpu has; else gcc's name of the FPU."""
    gcc_flags = [f"-mcpu={core}", "-mthumb"]
    if fpu is None:
        gcc_flags.append("-mfloat-abi=soft")
    else:
        gcc_flags += ["-mfloat-abi=hard", f"-mfpu={fpu}"]
    return Cpu(
        name=name,
        gcc_triple="arm-none-eabi",
        gcc_flags=tuple(gcc_flags),
        zig_target="thumb-freestanding-eabi" + ("hf" if fpu else ""),
        zig_mcpu=zig_mcpu or core.replace("-", "_"),
        features=features | {Feature.THUMB} | ({Feature.FPU} if fpu else set()),
        qemu_system="qemu-system-arm" if qemu_machine else None,
        qemu_machine=qemu_machine,
        unicorn_model=unicorn_model,
    )


def _host() -> Cpu:
    """The machine that builds: static executables against musl if zig builds them."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    return Cpu(
        name="Host",
        gcc_triple="",
        gcc_flags=(),
        zig_target=f"{machine}-linux-musl",
        zig_mcpu="baseline",
        features=frozenset(),
        pointer_bytes=8,
    )


_DSP = frozenset({Feature.DSP})

_ROWS: tuple[Cpu, ...] = (
    _cortex_m("CortexM0Plus", "cortex-m0plus", qemu_machine="microbit", unicorn_model="CORTEX_M0"),
    _cortex_m("CortexM3", "cortex-m3", qemu_machine="mps2-an385", unicorn_model="CORTEX_M3"),
    # zig's cortex_m4, _m7, _m33 and _m55 leave out what these parts have: it is added by name.
    _cortex_m(
        "CortexM4F",
        "cortex-m4",
        features=_DSP,
        fpu="fpv4-sp-d16",
        zig_mcpu="cortex_m4+vfp4d16sp",
        qemu_machine="mps2-an386",
        unicorn_model="CORTEX_M4",
    ),
    _cortex_m(
        "CortexM7",
        "cortex-m7",
        features=_DSP,
        fpu="fpv5-sp-d16",
        zig_mcpu="cortex_m7+fp_armv8d16sp",
        qemu_machine="mps2-an500",
        unicorn_model="CORTEX_M7",
    ),
    _cortex_m(
        "CortexM33",
        "cortex-m33",
        features=_DSP,
        fpu="fpv5-sp-d16",
        zig_mcpu="cortex_m33+dsp+fp_armv8d16sp",
        qemu_machine="mps2-an505",
        unicorn_model="CORTEX_M33",
    ),
    _cortex_m(
        "CortexM55",
        "cortex-m55",
        features=_DSP | {Feature.MVE},
        fpu="auto",
        zig_mcpu="cortex_m55+mve+mve_fp",
        qemu_machine="mps3-an547",
    ),
    Cpu(
        name="RV32IMAC",
        gcc_triple="riscv64-unknown-elf",
        gcc_flags=("-march=rv32imac_zicsr", "-mabi=ilp32", "-mcmodel=medany"),
        zig_target="riscv32-freestanding-none",
        zig_mcpu="generic_rv32+m+a+c",
        features=frozenset({Feature.RV32}),
        qemu_system="qemu-system-riscv32",
        qemu_machine="virt",
    ),
    _host(),
)

CPUS: Mapping[str, Cpu] = MappingProxyType({row.name: row for row in _ROWS})


def _field(name: str, spec: Mapping[str, Any], path: str, kind: type) -> Any:
    value: Any = spec
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TargetInvalidError(
            f"device class {name!r}: {path} is {value!r}, not a {kind.__name__.lower()}"
        )
    return value


def _bytes(name: str, spec: Mapping[str, Any], path: str, field: str, minimum: int = 0) -> int:
    value: int = _field(name, spec, field, int)
    if not minimum <= value < 1 << 32:
        raise TargetInvalidError(
            f"device class {name!r}: {path}.{field} is {value}, not in {minimum}..{(1 << 32) - 1}"
        )
    return value


def _region(name: str, spec: Mapping[str, Any], path: str) -> Region:
    region = Region(
        address=_bytes(name, spec, path, "address"),
        size_bytes=_bytes(name, spec, path, "sizeBytes", minimum=1),
    )
    if region.end > ADDRESSES_END:
        raise TargetInvalidError(
            f"device class {name!r}: {path} ends at {region.end}, addresses end at {ADDRESSES_END}"
        )
    return region


def _flash(name: str, spec: Mapping[str, Any]) -> FlashMap:
    region = _region(name, spec, "flash")
    erase = _bytes(name, spec, "flash", "eraseBlockBytes", minimum=1)
    write = _bytes(name, spec, "flash", "writeBlockBytes", minimum=1)
    if write > WRITE_BLOCK_LIMIT or write & (write - 1):
        raise TargetInvalidError(
            f"device class {name!r}: flash.writeBlockBytes is {write}, "
            f"not a power of two up to {WRITE_BLOCK_LIMIT}"
        )
    if erase % write:
        raise TargetInvalidError(
            f"device class {name!r}: flash.eraseBlockBytes is {erase}, "
            f"not a multiple of writeBlockBytes {write}"
        )
    flash = FlashMap(
        region=region,
        erase_block_bytes=erase,
        write_block_bytes=write,
        boot=_region(name, _field(name, spec, "boot", Mapping), "flash.boot"),
        code=_slots(name, spec, "code", region, erase),
        weights=_slots(name, spec, "weights", region, erase),
    )
    _check_places(name, flash)
    return flash


def _slot_regions(flash: FlashMap) -> list[tuple[str, Region]]:
    return [
        (path, Region(start, pair.size_bytes))
        for path, pair in (("flash.code", flash.code), ("flash.weights", flash.weights))
        for start in (pair.primary, pair.secondary)
    ]


def _check_places(name: str, flash: FlashMap) -> None:
    """No slots overlap; vector table and weights lie where a core can use them in place."""
    for path, pair in (("flash.code", flash.code), ("flash.weights", flash.weights)):
        if pair.primary % SLOT_ALIGNMENT:
            raise TargetInvalidError(
                f"device class {name!r}: {path}'s first slot is at {pair.primary}, "
                f"not a multiple of {SLOT_ALIGNMENT}"
            )
    for (one_path, one), (two_path, two) in combinations(_slot_regions(flash), 2):
        if one.overlaps(two):
            raise TargetInvalidError(
                f"device class {name!r}: {one_path} and {two_path} have slots that overlap: "
                f"{one.address}+{one.size_bytes} and {two.address}+{two.size_bytes}"
            )


def _check_boot(name: str, flash: FlashMap) -> None:
    for path, slot in _slot_regions(flash):
        if flash.boot.overlaps(slot):
            raise TargetInvalidError(
                f"device class {name!r}: flash.boot and {path} overlap: {flash.boot.address}"
                f"+{flash.boot.size_bytes} and {slot.address}+{slot.size_bytes}"
            )


def _slots(name: str, flash: Mapping[str, Any], which: str, region: Region, erase: int) -> SlotPair:
    spec, path = _field(name, flash, which, Mapping), f"flash.{which}"
    offsets = [_bytes(name, spec, path, field) for field in ("primaryOffset", "secondaryOffset")]
    size = _bytes(name, spec, path, "sizeBytes", minimum=1)
    for value in (*offsets, size):
        if value % erase:
            raise TargetInvalidError(
                f"device class {name!r}: {path} has {value}, "
                f"not a multiple of eraseBlockBytes {erase}"
            )
    for offset in offsets:
        if offset + size > region.size_bytes:
            raise TargetInvalidError(
                f"device class {name!r}: {path} ends at {offset + size}, "
                f"flash has {region.size_bytes} bytes"
            )
    return SlotPair(region.address + offsets[0], region.address + offsets[1], size)
