"""A device of decision 001 in memory, behind a pty, TCP or UDP: slots, boot rule, SMP, and faults.

It is written from the contract and shares no code with the agent but the libraries' framing; the
real firmware is tested against the same agent elsewhere. `slots` is the flash: it survives
`cut_power`, everything else does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import tty
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import cbor2
from smp import packet
from tinyml_compiler.images import (
    NO_ABI,
    ImageFields,
    ImageInvalidError,
    PackedImage,
    pack_image,
    read_image,
)

CODE, WEIGHTS = 0, 1
PRIMARY, SECONDARY = 0, 1
ABI = bytes(range(32))
SLOT_BYTES = 128 * 1024

_HEADER = struct.Struct("!BBHHBB")
_Answer = dict[str, Any]


class PowerCutError(Exception):
    """Raised by a hook: the device dies at this request, before it is carried out."""


def an_image(
    payload: bytes, *, device_class: str = "posix", abi: bytes = ABI, version: str = "0.1.0"
) -> PackedImage:
    return pack_image(
        payload, slot_bytes=SLOT_BYTES, device_class=device_class, abi_hash=abi, version=version
    )


def factory_image(device_class: str = "posix") -> PackedImage:
    return an_image(b"factory" * 64, device_class=device_class, abi=NO_ABI)


@dataclass
class _Upload:
    image: int
    length: int
    sha: bytes | None
    off: int = 0


@dataclass
class FakeDevice:
    """Set attributes to make it misbehave; read the counters afterwards."""

    device_class: str = "posix"
    hwid: str = "fake-0001"
    buf_size: int = 1024
    input_bytes: int = 64
    online: bool = True
    delay_s: float = 0.0
    drop_every: int = 0  # every n-th request stays without an answer
    corrupt_uploads: int = 0  # so many uploads get one wrong byte
    refuses_pairs: bool = False  # its boot stage takes nothing
    says_match: bool = True  # compares the SHA-256 of an upload when it is complete
    keeps_boots: bool = True  # else `boots` is 0, as from a board without storage
    hook: Callable[[int, int, int], None] | None = None  # (op, group, command)
    slots: dict[tuple[int, int], bytes] = field(default_factory=dict)
    boots: int = 0
    resets: int = 0
    requests: int = 0
    uploads_begun: int = 0
    written: dict[int, int] = field(default_factory=lambda: {CODE: 0, WEIGHTS: 0})
    slot_bytes: int = SLOT_BYTES
    _upload: _Upload | None = None

    def __post_init__(self) -> None:
        self.slots.setdefault((CODE, PRIMARY), factory_image(self.device_class).data)
        self._boot()

    @property
    def running(self) -> tuple[str | None, str | None]:
        return self._hash(CODE, PRIMARY), self._hash(WEIGHTS, PRIMARY)

    def cut_power(self) -> None:
        """Off: only the flash stays."""
        self.online = False
        self._upload = None

    def power_on(self) -> None:
        self._boot()
        self.online = True

    def _boot(self) -> None:
        """Decision 001, "Boot": take valid secondaries if the resulting pair fits together."""
        self.boots += 1
        self._upload = None
        self._input = bytearray()
        self._output = b""
        self._runs = self._errors = 0
        taken = {
            image: fields
            for image in (CODE, WEIGHTS)
            if (fields := self._fields(image, SECONDARY)) is not None
            and fields.device_class == self.device_class
        }
        if not taken or self.refuses_pairs:
            return
        code = taken.get(CODE) or self._fields(CODE, PRIMARY)
        weights = taken.get(WEIGHTS) or self._fields(WEIGHTS, PRIMARY)
        if code is None:
            return
        if code.abi_hash != NO_ABI and (weights is None or weights.abi_hash != code.abi_hash):
            return
        for image in taken:
            self.slots[(image, PRIMARY)] = self.slots.pop((image, SECONDARY))

    def _fields(self, image: int, slot: int) -> ImageFields | None:
        try:
            return read_image(self.slots.get((image, slot), b""))
        except ImageInvalidError:
            return None

    def _hash(self, image: int, slot: int) -> str | None:
        fields = self._fields(image, slot)
        return None if fields is None else fields.image_hash

    def handle(self, message: bytes) -> bytes | None:
        """Return the answer to an SMP message, None where none is given."""
        if not self.online:
            return None
        op_byte, _, _, group, sequence, command = _HEADER.unpack_from(message)
        op, version = op_byte & 7, op_byte & 0x18
        self.requests += 1
        try:
            if self.hook is not None:
                self.hook(op, group, command)
        except PowerCutError:
            self.cut_power()
            return None
        body = self._answer(op, group, command, cbor2.loads(message[_HEADER.size :]))
        if self.drop_every and self.requests % self.drop_every == 0:
            return None
        data = cbor2.dumps(body)
        return _HEADER.pack(op + 1 | version, 0, len(data), group, sequence, command) + data

    def _answer(self, op: int, group: int, command: int, body: _Answer) -> _Answer:
        match (group, command, op):
            case (0, 0, _):
                return {"r": body.get("d", "")}
            case (0, 5, 2):
                self.resets += 1
                self._boot()
                return {}
            case (0, 6, 0):
                return {"buf_size": self.buf_size, "buf_count": 1}
            case (1, 0, 0):
                return {"images": self._image_states()}
            case (1, 1, 2):
                return self._take_chunk(body)
            case (64, _, _):
                return self._tinyml(op, command, body)
        return {"rc": 8}

    def _image_states(self) -> list[_Answer]:
        states: list[_Answer] = []
        for (image, slot), _ in sorted(self.slots.items()):
            fields = self._fields(image, slot)
            if fields is not None:
                active = {"active": True, "confirmed": True} if slot == PRIMARY else {}
                states.append(
                    {
                        "image": image,
                        "slot": slot,
                        "version": fields.version,
                        "hash": bytes.fromhex(fields.image_hash),
                        **active,
                    }
                )
        return states

    def _take_chunk(self, body: _Answer) -> _Answer:
        off = body["off"]
        if off == 0:
            image, length, sha = body.get("image", 0), body["len"], body.get("sha")
            if length > self.slot_bytes:
                return {"err": {"group": 1, "rc": 30}}
            now = self._upload
            same = now is not None and (now.image, now.length, now.sha) == (image, length, sha)
            if sha is None or not same:
                self._upload = _Upload(image, length, sha)
                self.slots[(image, SECONDARY)] = b""
                self.uploads_begun += 1
        upload = self._upload
        if upload is None:
            return {"err": {"group": 1, "rc": 20}}
        data = body["data"] if off == upload.off else b""
        if data:
            self.written[upload.image] += len(data)
            upload.off += len(data)
            if self.corrupt_uploads and upload.off == upload.length:
                self.corrupt_uploads -= 1
                data = data[:-1] + bytes([data[-1] ^ 1])
            self.slots[(upload.image, SECONDARY)] += data
        if self.says_match and upload.sha is not None and upload.off == upload.length:
            match = sha256(self.slots[(upload.image, SECONDARY)]).digest() == upload.sha
            if not match:
                self._upload = None
            return {"off": upload.off, "match": match}
        return {"off": upload.off}

    def _tinyml(self, op: int, command: int, body: _Answer) -> _Answer:
        code = self._fields(CODE, PRIMARY)
        has_model = code is not None and code.abi_hash != NO_ABI
        match (command, op):
            case (0, 0):
                return {
                    "class": self.device_class,
                    "hwid": self.hwid,
                    "abi": code.abi_hash if code is not None else NO_ABI,
                    "model": has_model,
                    "in": self.input_bytes if has_model else 0,
                    "out": 32 if has_model else 0,
                    "arena": 1024 if has_model else 0,
                }
            case (4, 0):
                boots = self.boots if self.keeps_boots else 0
                return {"runs": self._runs, "errors": self._errors, "boots": boots, "stack": 512}
        if not has_model:
            return {"err": {"group": 64, "rc": 1}}
        match (command, op):
            case (1, 2):
                if body["off"] == 0:
                    self._input.clear()
                if body["off"] != len(self._input):
                    return {"err": {"group": 64, "rc": 2}}
                if len(self._input) + len(body["data"]) > self.input_bytes:
                    return {"err": {"group": 64, "rc": 3}}
                self._input += body["data"]
                return {"off": len(self._input)}
            case (2, 2):
                self._runs += 1
                self._output = sha256(self._input).digest()
                return {"ticks": 1234, "hz": 1_000_000}
            case (3, 0):
                off = body["off"]
                part = self._output[off : off + 20]  # more than one answer
                return {"off": off, "data": part, "len": len(self._output)}
        return {"rc": 8}

    @contextlib.asynccontextmanager
    async def on_pty(self) -> AsyncIterator[str]:
        """Serve on a pty; gives the address."""
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        loop = asyncio.get_running_loop()
        line = _Line(self, lambda data: _write_all(master, data))

        def readable() -> None:
            line.feed(os.read(master, 4096))

        loop.add_reader(master, readable)
        try:
            yield f"serial://{os.ttyname(slave)}"
        finally:
            loop.remove_reader(master)
            os.close(master)
            os.close(slave)

    @contextlib.asynccontextmanager
    async def on_tcp(self) -> AsyncIterator[str]:
        done: list[asyncio.Task[Any] | None] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            done.append(asyncio.current_task())
            line = _Line(self, writer.write)
            try:
                while data := await reader.read(4096):
                    line.feed(data)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await asyncio.gather(*(task for task in done if task is not None))

    @contextlib.asynccontextmanager
    async def on_udp(self) -> AsyncIterator[str]:
        device = self

        class Server(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: Any) -> None:
                answer = device.handle(data)
                if answer is not None:
                    self.transport.sendto(answer, addr)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Server, ("127.0.0.1", 0))
        try:
            yield f"udp://127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        finally:
            transport.close()


class _Line:
    """Serial framing of one connection."""

    def __init__(self, device: FakeDevice, write: Callable[[bytes], object]) -> None:
        self._device = device
        self._write = write
        self._buffer = b""
        self._decoder: Any = None

    def feed(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if line.startswith(packet.START_DELIMITER):
                self._decoder = packet.decode()
                next(self._decoder)
            if self._decoder is None:
                continue
            try:
                self._decoder.send(line + b"\n")
            except StopIteration as done:
                self._decoder = None
                self._answer(bytes(done.value))

    def _answer(self, message: bytes) -> None:
        answer = self._device.handle(message)
        if answer is None:
            return
        loop = asyncio.get_running_loop()
        loop.call_later(self._device.delay_s, self._write, b"".join(packet.encode(answer)))


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
