"""What is in an ELF file: segments, sections, symbols. Just as much as linking and emulation need.

Reads files that our own linkers made, 32 and 64 bit, little-endian; anything else is an ElfError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

PT_LOAD = 1
SHT_SYMTAB, SHT_NOBITS = 2, 8
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
STT_OBJECT, STT_FUNC = 1, 2

_HEADERS = {1: struct.Struct("<16xHHIIIIIHHHHHH"), 2: struct.Struct("<16xHHIQQQIHHHHHH")}
_SEGMENTS = {1: struct.Struct("<IIIIIIII"), 2: struct.Struct("<IIQQQQQQ")}
_SECTIONS = {1: struct.Struct("<IIIIIIIIII"), 2: struct.Struct("<IIQQQQIIQQ")}
_SYMBOLS = {1: struct.Struct("<IIIBBH"), 2: struct.Struct("<IBBHQQ")}


class ElfError(ValueError):
    """Not an ELF file as our linkers make them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part that is loaded; `physical` is where it is stored, `address` where it runs."""

    address: int
    physical: int
    data: bytes
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int

    @property
    def is_loaded(self) -> bool:
        """Does it take bytes in memory while the program runs?"""
        return bool(self.flags & SHF_ALLOC)

    @property
    def is_stored(self) -> bool:
        """Does it take bytes in the file (or the flash)?"""
        return self.is_loaded and self.kind != SHT_NOBITS


@dataclass(frozen=True, slots=True)
class Symbol:
    """`section` is an index into the sections, 0 for undefined ones."""

    name: str
    address: int
    size: int
    kind: int
    section: int


@dataclass(frozen=True, slots=True)
class Elf:
    """An executable or an object file."""

    entry: int
    pointer_bytes: int
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]

    def symbol(self, name: str) -> Symbol:
        """The defined symbol of this name, or ElfError."""
        for symbol in self.symbols:
            if symbol.name == name and symbol.section:
                return symbol
        raise ElfError(f"the ELF file defines no symbol {name!r}")

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at an address at run time; bytes that are not in the file are zero."""
        for segment in self.segments:
            start = address - segment.address
            if start >= 0 and start + size <= segment.memory_bytes:
                return segment.data[start : start + size].ljust(size, b"\0")
        raise ElfError(f"the ELF file has nothing at 0x{address:08x}")


def read_elf(data: bytes) -> Elf:
    """Parse `data`. Raises ElfError."""
    if len(data) < 52 or data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] != 1:
        raise ElfError(f"not a little-endian ELF file: it begins with {data[:6].hex()}")
    try:
        return _read(data, data[4])
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ElfError(f"the ELF file of {len(data)} bytes is cut off: {error}") from error


def strip(data: bytes) -> bytes:
    """Return an executable without sections and symbols: all that starting it needs."""
    bits = data[4]
    header = _HEADERS[bits]
    fields = list(header.unpack_from(data))
    segments = _SEGMENTS[bits].iter_unpack(_table(data, fields[4], fields[8], fields[9]))
    ends = [_segment_place(bits, row)[0] + _segment_place(bits, row)[1] for row in segments]
    fields[5] = fields[11] = fields[12] = 0
    stripped = bytearray(data[: max([header.size, fields[4] + fields[8] * fields[9], *ends])])
    stripped[: header.size] = data[:16] + header.pack(*fields)[16:]
    return bytes(stripped)


def without_debug(data: bytes) -> bytes:
    """Return an executable without debug information, which names folders of whoever built it.

    What is loaded stays where it is; sections keep their numbers, those of debugging become empty.
    """
    elf, bits = read_elf(data), data[4]
    header, table = _HEADERS[bits], _SECTIONS[bits]
    fields = list(header.unpack_from(data))
    ends = [header.size, fields[4] + fields[8] * fields[9]]
    ends += [s.offset + s.size for s in elf.sections if s.is_stored]
    content = bytearray(data[: max(ends)])
    rows = []
    for section, row in zip(
        elf.sections,
        table.iter_unpack(_table(data, fields[5], fields[10], fields[11])),
        strict=True,
    ):
        if section.name.startswith(".debug"):
            row = (0,) * len(row)
        elif section.size and not section.is_loaded:
            content += bytes(-len(content) % 8)
            at = len(content)
            content += data[section.offset : section.offset + section.size]
            row = (*row[:4], at, *row[5:])
        rows.append(table.pack(*row))
    content += bytes(-len(content) % 8)
    fields[5] = len(content)
    content += b"".join(rows)
    content[: header.size] = data[:16] + header.pack(*fields)[16:]
    return bytes(content)


def _read(data: bytes, bits: int) -> Elf:
    header = _HEADERS[bits].unpack_from(data)
    entry, program_at, section_at = header[3], header[4], header[5]
    program_size, program_count, section_size, section_count, names = header[8:13]
    sections = tuple(_sections(data, bits, section_at, section_size, section_count, names))
    segments = tuple(_segments(data, bits, program_at, program_size, program_count))
    symbols: tuple[Symbol, ...] = ()
    for section in sections:
        if section.kind == SHT_SYMTAB:
            symbols = tuple(_symbols(data, bits, section, sections[section.link]))
    return Elf(entry, 4 if bits == 1 else 8, segments, sections, symbols)


def _table(data: bytes, offset: int, size: int, count: int) -> bytes:
    if offset + size * count > len(data):
        raise ElfError(f"a table ends at {offset + size * count}, the file has {len(data)} bytes")
    return data[offset : offset + size * count]


def _segment_place(bits: int, row: tuple[int, ...]) -> tuple[int, int]:
    """Offset and size in the file."""
    return (row[1], row[4]) if bits == 1 else (row[2], row[5])


def _segments(data: bytes, bits: int, offset: int, size: int, count: int) -> Iterator[Segment]:
    for row in _SEGMENTS[bits].iter_unpack(_table(data, offset, size, count)):
        if row[0] != PT_LOAD:
            continue
        start, stored = _segment_place(bits, row)
        address, physical, memory = (
            (row[2], row[3], row[5]) if bits == 1 else (row[3], row[4], row[6])
        )
        yield Segment(address, physical, data[start : start + stored], memory)


def _sections(
    data: bytes, bits: int, offset: int, size: int, count: int, names: int
) -> Iterator[Section]:
    rows = list(_SECTIONS[bits].iter_unpack(_table(data, offset, size, count)))
    plain = [Section("", r[1], r[2], r[3], r[4], r[5], r[6]) for r in rows]
    for row, section in zip(rows, plain, strict=True):
        yield replace(section, name=_name(data, plain[names], row[0]))


def _symbols(data: bytes, bits: int, table: Section, names: Section) -> Iterator[Symbol]:
    for row in _SYMBOLS[bits].iter_unpack(data[table.offset : table.offset + table.size]):
        if bits == 1:
            name, address, size, info, _, section = row
        else:
            name, info, _, section, address, size = row
        if name:
            yield Symbol(_name(data, names, name), address, size, info & 15, section)


def _name(data: bytes, names: Section, at: int) -> str:
    start = names.offset + at
    return data[start : data.index(b"\0", start)].decode()
