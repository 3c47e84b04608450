"""A serial line behind a TCP socket (QEMU's `-serial tcp:`, ser2net): the same frames, another
pipe.
"""

from __future__ import annotations

import asyncio

from smpclient.transport import SMPTransportDisconnected

from tinyml_gateway.transport import split_host_port
from tinyml_gateway.transport.framing import FramedTransport

READ_BYTES = 4096
CLOSE_TIMEOUT_S = 1.0


class StreamTransport(FramedTransport):
    """An SMP transport over TCP; `connect` takes `host:port`."""

    def __init__(self) -> None:
        super().__init__()
        self._writer: asyncio.StreamWriter | None = None
        self._pump: asyncio.Task[None] | None = None

    async def connect(self, address: str, timeout_s: float) -> None:
        """Connect. Raises OSError or TimeoutError."""
        host, port = split_host_port(address)
        async with asyncio.timeout(timeout_s):
            reader, self._writer = await asyncio.open_connection(host, port)
        self._pump = asyncio.create_task(self._read(reader), name=f"smp-stream {address}")

    async def disconnect(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
            self._pump = None
        if self._writer is not None:
            self._writer.close()
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._writer.wait_closed()
            except (OSError, TimeoutError):
                pass  # the other end has gone first: nothing is left to close
            self._writer = None

    async def write(self, data: bytes) -> None:
        if self._writer is None:
            raise SMPTransportDisconnected("the socket is closed")
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise SMPTransportDisconnected(f"writing failed: {error}") from error

    async def _read(self, reader: asyncio.StreamReader) -> None:
        why = "end of file"
        try:
            while data := await reader.read(READ_BYTES):
                self.deliver(data)
        except OSError as error:
            why = str(error)
        self.lose(f"the socket was closed at the other end ({why})")
