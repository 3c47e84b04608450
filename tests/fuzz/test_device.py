"""The device's C under libFuzzer, AddressSanitizer and UBSan: slots, line and messages."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from smp import packet
from tinyml_compiler import runtime_sources
from tinyml_compiler.images import NO_ABI, pack_image

RUNS = int(os.environ.get("TINYML_FUZZ_RUNS", "8000"))  # some seconds
SLOT = 4096
READ, WRITE = 0, 2
OS, IMAGE, TINYML = 0, 1, 64
SOURCES = (
    "src/boot/flash.c",
    "src/boot/image.c",
    "src/boot/sha256.c",
    "src/boot/update.c",
    "src/core/tml_model.c",
    "src/firmware/smp_image.c",
    "src/firmware/smp_model.c",
    "src/firmware/smp_serial.c",
    "src/firmware/smp_server.c",
)
WORDS = ('"off"', '"len"', '"image"', '"data"', '"sha"', '"\\xbf"', '"\\xff"', '"\\x08\\x69"')


def an_image(fill: int, abi: bytes) -> bytes:
    return pack_image(
        bytes([fill]) * 50, slot_bytes=SLOT, device_class="unit-class", abi_hash=abi
    ).data


def requests() -> Iterator[tuple[int, int, int, dict[str, Any]]]:
    image = an_image(1, b"a" * 32)
    sha = hashlib.sha256(image).digest()
    yield READ, OS, 0, {"d": "hello"}
    yield READ, OS, 6, {}
    yield READ, IMAGE, 0, {}
    yield WRITE, IMAGE, 1, {"image": 1, "off": 0, "len": len(image), "sha": sha, "data": image[:64]}
    yield WRITE, IMAGE, 1, {"off": 64, "data": image[64:]}
    yield WRITE, IMAGE, 0, {"hash": b"x" * 32, "confirm": True}
    yield WRITE, IMAGE, 5, {"slot": 1}
    yield READ, TINYML, 0, {}
    yield WRITE, TINYML, 1, {"off": 0, "data": bytes(range(12))}
    yield WRITE, TINYML, 2, {}
    yield READ, TINYML, 3, {"off": 0}
    yield READ, TINYML, 4, {}
    yield WRITE, OS, 5, {}


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", kind, len(value)) + value


def a_lying_image(name: bytes, beyond: int) -> bytes:
    """Of a right hash, for a class of any name; its last TLV ends `beyond` bytes after the slot."""
    protected = tlv(0xA0, name) + tlv(0xA1, b"a" * 32)
    protected = struct.pack("<HH", 0x6908, 4 + len(protected)) + protected
    header = struct.pack("<IIHHII", 0x96F3B83D, 0, 0x200, len(protected), 50, 0)
    hashed = header.ljust(0x200, b"\0") + bytes(50) + protected
    digest = tlv(0x10, hashlib.sha256(hashed).digest())
    rest = SLOT + beyond - len(hashed) - 4 - len(digest) - 4
    area = struct.pack("<HH", 0x6907, 4 + len(digest) + 4 + rest) + digest
    return hashed + area + struct.pack("<HH", 0x50, rest)


def slots() -> Iterator[bytes]:
    whole = [an_image(fill, abi) for fill, abi in enumerate((NO_ABI, b"a" * 32) * 2)]
    yield b"".join(image.ljust(SLOT, b"\xff") for image in whole)
    for name in (b"unit-class", b"x" * 64, b"x" * 65, b"x" * 300):
        for beyond in (-1, 0, 1, 400):
            yield a_lying_image(name, beyond).ljust(SLOT, b"\xff") * 4


def seeds() -> Iterator[bytes]:
    for flash in slots():
        yield b"\0\2\3" + flash
        yield b"\1\5\0" + flash
    line = messages = b""
    for op, group, command, body in requests():
        data = cbor2.dumps(body)
        header = struct.pack(">BBHHBB", 8 | op, 0, len(data), group, 1, command)
        line += b"".join(packet.encode(header + data))
        number = (OS, IMAGE, TINYML).index(group)
        message = struct.pack(">BBBH", 8 | op, number, command, len(data)) + data
        messages += message
        yield b"\3\2\3" + message
    yield b"\2\2\3" + line
    for size in (2030, 2036, 2037, 2040, 2043, 2044, 2045, 2100, 5000):  # about the buffer's size
        yield b"\2\2\3" + b"".join(packet.encode(bytes(size)))
    yield b"\4\5\0" + messages
    upload = struct.pack(">BBBHHH", 0, 0x2F, 1, 0, 600, 512)
    inputs = struct.pack(">BBBHHH", 1, 0x21, 0, 0, 0, 12) + struct.pack(">BBBHHH", 3, *[0] * 5)
    for size in (1, 88, 89, 1000):
        yield b"\5\2\3" + upload + struct.pack(">BBBHHH", 0, 0x21, 0, 512, 0, size)
    for offset, size in ((0, 13), (8, 5), (12, 1), (13, 0)):
        yield b"\5\2\3" + inputs[:9] + struct.pack(">BBBHHH", 1, 0x21, 0, offset, 0, size)
    for offset in (0, 7, 8, 9):
        yield b"\5\2\3" + inputs + struct.pack(">BBBHHH", 2, 1, 0, offset, 0, 0)


@pytest.mark.needs_clang
def test_no_slot_line_or_message_breaks_the_device(tmp_path: Path) -> None:
    runtime_sources.stage(tmp_path)
    program, corpus = tmp_path / "fuzz", tmp_path / "corpus"
    flags = ["-g", "-O1", "-std=c11", "-fno-sanitize-recover=all"]
    flags += ["-fsanitize=fuzzer,address,undefined", "-DZCBOR_PRINT_FUNC(...)=(void)0", "-w"]
    includes = ["-Iinclude", "-Izcbor/include", "-Isrc/firmware"]
    sources = [str(Path(__file__).with_name("fuzz_device.c")), *SOURCES]
    sources += runtime_sources.zcbor_sources()
    command = ["clang", *flags, *includes, *sources, "-o", str(program)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / str(number)).write_bytes(seed)
    (tmp_path / "words").write_text("\n".join(WORDS) + "\n")

    done = subprocess.run(
        [program, corpus, f"-runs={RUNS}", "-seed=1", "-max_len=17000", "-dict=words"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60 + RUNS / 50,
    )

    assert done.returncode == 0, done.stderr[-4000:]
