"""Serial ports and ptys, by the event loop and not by polling: smpclient's own transport sleeps 5
ms per answer.

The port is locked (flock) while it is open, so that `tinyml infer` and the agent take turns on one
device.
"""

from __future__ import annotations

import asyncio
import errno
import os

from serial import Serial, SerialException  # type: ignore[import-untyped]
from smpclient.transport import SMPTransportDisconnected

from tinyml_gateway.errors import DeviceBusyError
from tinyml_gateway.transport.framing import FramedTransport

BAUD = 115200
LOCK_RETRY_S = 0.05
READ_BYTES = 4096


class SerialTransport(FramedTransport):
    """An SMP transport over a local serial port; `connect` takes its path."""

    def __init__(self) -> None:
        super().__init__()
        self._port: Serial = None
        self._fd = -1

    async def connect(self, address: str, timeout_s: float) -> None:
        """Open and lock. Raises `DeviceBusyError` if the lock is not free in time, OSError if it
        cannot be opened.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            try:
                # A port on a broken USB hub may block in open(): that is a thread's problem, not
                # the loop's.
                self._port = await asyncio.to_thread(_open, address)
                break
            except SerialException as error:
                if error.errno not in (errno.EAGAIN, errno.EBUSY):
                    raise
                if loop.time() >= deadline:
                    raise DeviceBusyError(
                        f"port {address} is held by another process for more than {timeout_s:g} s"
                    ) from error
            await asyncio.sleep(LOCK_RETRY_S)
        self._fd = self._port.fileno()
        loop.add_reader(self._fd, self._readable)

    async def disconnect(self) -> None:
        self._forget_fd()
        if self._port is not None:
            self._port.close()
            self._port = None

    async def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if self._fd < 0:
                raise SMPTransportDisconnected("the port is closed")
            try:
                written = os.write(self._fd, rest)
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                raise SMPTransportDisconnected(f"writing failed: {error.strerror}") from error
            else:
                rest = rest[written:]

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        fd = self._fd
        loop.add_writer(fd, _set, ready)
        try:
            await ready
        finally:
            loop.remove_writer(fd)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            data, why = b"", error.strerror
        else:
            why = "end of file"
        if data:
            self.deliver(data)
        else:
            self._forget_fd()
            self.lose(f"the port was closed at the other end ({why})")

    def _forget_fd(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._fd = -1


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _open(path: str) -> Serial:
    port = Serial(port=path, baudrate=BAUD, timeout=0, write_timeout=0, exclusive=True)
    port.reset_input_buffer()
    return port
