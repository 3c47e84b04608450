"""The weights blob: everything that retraining changes (docs/decisions/001-spine-contracts.md).

A header of 48 bytes, then sections, each aligned to 16 bytes, at offsets that the code bakes in.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinyml_compiler.codegen.lowered import Call

MAGIC = b"TMLW"
VERSION = 1
HEADER = struct.Struct("<4sHHII32s")  # magic, version, header, total bytes, reserved, ABI hash
HEADER_BYTES = HEADER.size
ALIGNMENT_BYTES = 16
ABI_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each section starts, by (position of the call, section name), from the blob's start."""

    offsets: Mapping[tuple[int, str], int]
    total_bytes: int


def layout(calls: Sequence[Call]) -> Layout:
    """Place all sections in order. The end is not padded."""
    offsets: dict[tuple[int, str], int] = {}
    end = HEADER_BYTES
    for position, call in enumerate(calls):
        for section in call.sections:
            start = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            offsets[position, section.name] = start
            end = start + len(section.data)
    return Layout(offsets, end)


def blob(calls: Sequence[Call], placed: Layout, abi_hash: bytes) -> bytes:
    """Return the blob; gaps are zero."""
    data = bytearray(placed.total_bytes)
    HEADER.pack_into(data, 0, MAGIC, VERSION, HEADER_BYTES, placed.total_bytes, 0, abi_hash)
    for position, call in enumerate(calls):
        for section in call.sections:
            start = placed.offsets[position, section.name]
            data[start : start + len(section.data)] = section.data
    return bytes(data)
