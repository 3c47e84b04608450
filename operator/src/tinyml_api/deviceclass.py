"""DeviceClass: one kind of microcontroller. Schema: crds/deviceclass.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tinyml_api.codec import Record

KIND = "DeviceClass"
PLURAL = "deviceclasses"


class CpuName(StrEnum):
    CORTEX_M0_PLUS = "CortexM0Plus"
    CORTEX_M3 = "CortexM3"
    CORTEX_M4F = "CortexM4F"
    CORTEX_M7 = "CortexM7"
    CORTEX_M33 = "CortexM33"
    CORTEX_M55 = "CortexM55"
    RV32IMAC = "RV32IMAC"
    HOST = "Host"


@dataclass(frozen=True, slots=True)
class MemoryRegion(Record):
    """Bytes [address, address + size_bytes)."""

    address: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SlotPair(Record):
    """Two slots of one size; offsets in bytes from the flash's address."""

    primary_offset: int
    secondary_offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Flash(Record):
    """The flash that holds the slots. `boot.address` is absolute: it may be another memory."""

    address: int
    size_bytes: int
    erase_block_bytes: int
    write_block_bytes: int
    boot: MemoryRegion
    code: SlotPair
    weights: SlotPair


@dataclass(frozen=True, slots=True)
class DeviceClassSpec(Record):
    """`board` names a firmware port; None: no firmware, nothing is rolled out."""

    cpu: CpuName
    ram: MemoryRegion
    flash: Flash
    board: str | None = None
