"""Reading ELF files: what is in them, and files that are cut off."""

from __future__ import annotations

import struct

import pytest
from tinyml_compiler.elf import STT_FUNC, ElfError, read_elf, strip, without_debug

CODE = b"\x01\x02\x03\x04"


def an_elf() -> bytes:
    """One segment at 0x1000 (stored at 0x8000, 8 bytes in memory), one symbol `main` in .text."""
    names = b"\0.text\0.symtab\0.strtab\0"
    strings = b"\0main\0"
    symbols = bytes(16) + struct.pack("<IIIBBH", 1, 0x1000, 4, STT_FUNC, 0, 1)
    code_at = 52 + 32
    symbols_at = code_at + len(CODE)
    strings_at = symbols_at + len(symbols)
    names_at = strings_at + len(strings)
    sections_at = names_at + len(names)
    header = struct.pack(
        "<4sBBB9xHHIIIIIHHHHHH",
        *(b"\x7fELF", 1, 1, 1, 2, 40, 1, 0x1000, 52, sections_at, 0, 52, 32, 1, 40, 4, 3),
    )
    segment = struct.pack("<IIIIIIII", 1, code_at, 0x1000, 0x8000, len(CODE), 8, 5, 4)
    sections = b"".join(
        struct.pack("<IIIIIIIIII", *row)
        for row in (
            (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
            (1, 1, 6, 0x1000, code_at, len(CODE), 0, 0, 4, 0),
            (7, 2, 0, 0, symbols_at, len(symbols), 3, 1, 4, 16),
            (15, 3, 0, 0, strings_at, len(strings), 0, 0, 1, 0),
        )
    )
    # The section names are looked up in the table of index 3: both tables are one.
    return _with_names(
        header + segment + CODE + symbols + strings + names + sections, strings_at, names_at
    )


def _with_names(data: bytes, strings_at: int, names_at: int) -> bytes:
    """Make section 3 cover both string tables, with names relative to its start."""
    shift = names_at - strings_at
    sections_at = struct.unpack_from("<I", data, 32)[0]
    out = bytearray(data)
    for index, name in ((1, 1), (2, 7), (3, 15)):
        struct.pack_into("<I", out, sections_at + 40 * index, name + shift)
    struct.pack_into("<I", out, sections_at + 40 * 3 + 20, sections_at - strings_at)
    return bytes(out)


def test_segments_sections_and_symbols_are_read() -> None:
    elf = read_elf(an_elf())
    assert (elf.entry, elf.pointer_bytes) == (0x1000, 4)
    assert elf.segments[0].data == CODE
    assert (elf.segments[0].address, elf.segments[0].physical) == (0x1000, 0x8000)
    assert [section.name for section in elf.sections] == ["", ".text", ".symtab", ".strtab"]
    assert elf.symbol("main").size == 4


def test_memory_beyond_the_file_is_zero() -> None:
    elf = read_elf(an_elf())
    assert elf.read(0x1002, 6) == b"\x03\x04\0\0\0\0"
    with pytest.raises(ElfError, match="0x00001009"):
        elf.read(0x1009, 1)


def test_a_symbol_that_is_not_there_is_named() -> None:
    with pytest.raises(ElfError, match="'tml_model'"):
        read_elf(an_elf()).symbol("tml_model")


def test_stripping_keeps_the_segments_alone() -> None:
    stripped = read_elf(strip(an_elf()))
    assert stripped.segments == read_elf(an_elf()).segments
    assert (stripped.sections, stripped.symbols) == ((), ())


def test_debug_information_goes_and_all_else_stays() -> None:
    whole, debugged = an_elf(), an_elf().replace(b".text\0", b".debug")  # the name of section 1
    kept, gone = read_elf(without_debug(whole)), read_elf(without_debug(debugged))
    assert (kept.segments, kept.symbols) == (read_elf(whole).segments, read_elf(whole).symbols)
    assert [section.name for section in kept.sections] == ["", ".text", ".symtab", ".strtab"]
    assert kept.sections[1] == read_elf(whole).sections[1]
    assert gone.sections[1].size == 0
    assert gone.symbols == kept.symbols


def test_a_file_that_is_cut_off_or_of_another_kind_is_refused() -> None:
    whole = an_elf()
    for damaged in (
        b"",
        b"MZ" + whole[2:],
        whole[:40],
        whole[:-30],
        whole[:5] + b"\x02" + whole[6:],
    ):
        with pytest.raises(ElfError):
            read_elf(damaged)
