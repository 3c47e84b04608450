"""SMP over a line of bytes: mcumgr's console framing, shared by the serial and the stream
transport.

A message is `length, message, CRC16` in base64, cut into lines of at most 127 characters; the
coding itself is the `smp` package's. This module finds the frames among whatever else a line
carries (boot messages, noise), pairs answers with requests by sequence number, and fills the
device's buffer (`os` parameters) with each message. It does not poll: the transports call `deliver`
when bytes arrive.
"""

from __future__ import annotations

import asyncio
import binascii
import struct
from collections.abc import Generator
from typing import Final

from smp import packet
from smp.exceptions import SMPException
from smp.header import Header
from smpclient.transport import SMPTransport, SMPTransportDisconnected

LINE_LENGTH: Final = (
    127  # characters a line: mcumgr's convention, which firmware's line buffers count on
)
LINE_LIMIT: Final = 4096  # bytes without a line end: noise, thrown away
FRAME_OVERHEAD: Final = 4  # length and CRC share the device's buffer with the message
FIRST_MESSAGE_BYTES: Final = 64  # before the device has told the size of its buffer
SEQUENCE_INDEX: Final = 6  # of the SMP header's 8 bytes


class FrameReader:
    """Gives the messages that are complete in the bytes fed so far. What is broken is dropped: the
    sender asks again.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._decoder: Generator[None, bytes, bytes] | None = None

    def feed(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        self._line += data
        while (end := self._line.find(packet.END_DELIMITER)) >= 0:
            line = bytes(self._line[: end + 1])
            del self._line[: end + 1]
            message = self._take_line(line)
            if message is not None and len(message) >= Header.SIZE:
                messages.append(message)
        if len(self._line) > LINE_LIMIT:
            self._line.clear()
        return messages

    def _take_line(self, line: bytes) -> bytes | None:
        start = line.rfind(packet.START_DELIMITER)
        if start >= 0:
            self._decoder = packet.decode()
            next(self._decoder)
        else:
            start = line.rfind(packet.CONTINUE_DELIMITER)
        if start < 0 or self._decoder is None:
            return None
        try:
            self._decoder.send(line[start:].replace(b"\r", b""))
        except StopIteration as done:
            self._decoder = None
            return bytes(done.value)
        except (SMPException, binascii.Error, struct.error):
            self._decoder = None
        return None


class FramedTransport(SMPTransport):
    """What serial line and socket have in common. A subclass connects, writes bytes, and calls
    `deliver` and `lose`.
    """

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._received: asyncio.Queue[bytes | SMPTransportDisconnected] = asyncio.Queue()

    def deliver(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            self._received.put_nowait(message)

    def lose(self, why: str) -> None:
        self._received.put_nowait(SMPTransportDisconnected(why))

    async def write(self, data: bytes) -> None:
        raise NotImplementedError

    async def send(self, data: bytes) -> None:
        await self.write(b"".join(packet.encode(data, LINE_LENGTH)))

    async def receive(self) -> bytes:
        item = await self._received.get()
        if isinstance(item, SMPTransportDisconnected):
            self._received.put_nowait(item)  # stays so for whoever asks next
            raise item
        return item

    async def send_and_receive(self, data: bytes) -> bytes:
        """Return the answer to this very request; a late answer to one that was given up is
        dropped.
        """
        await self.send(data)
        while (answer := await self.receive())[SEQUENCE_INDEX] != data[SEQUENCE_INDEX]:
            pass
        return answer

    @property
    def mtu(self) -> int:
        return self.max_unencoded_size

    @property
    def max_unencoded_size(self) -> int:
        buffer_bytes = self._smp_server_transport_buffer_size
        return FIRST_MESSAGE_BYTES if buffer_bytes is None else buffer_bytes - FRAME_OVERHEAD
