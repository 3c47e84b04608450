"""Two small clients for a halted QEMU: gdb's remote protocol, and QMP for its instruction counter.

Only what `emulate_qemu` needs. Numbers in packets are little-endian, as both our targets are.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

CONNECT_TIMEOUT_S = 20.0

_WRITE_BYTES = 1024  # of QEMU's packet limit of 4096 characters
_READ_BYTES = 1024


class GdbError(Exception):
    """The machine answered something else than was expected, or stopped answering."""


class _Client:
    """A Unix socket of a process that is starting."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes], *, timeout_s: float) -> None:
        self._socket = _connect(path, process)
        self._socket.settimeout(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(65536)
        except TimeoutError as error:
            raise GdbError("no answer in time: the program may not end") from error
        if not data:
            raise GdbError("the emulator closed the connection")
        return data


class GdbClient(_Client):
    """gdb remote protocol: https://sourceware.org/gdb/current/onlinedocs/gdb.html/Packets.html."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes], *, timeout_s: float) -> None:
        super().__init__(path, process, timeout_s=timeout_s)
        self._buffer = b""
        # QEMU sets single registers only for clients that have read the description of its target.
        self._ask("qXfer:features:read:target.xml:0,ffb")

    def read(self, address: int, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            count = min(_READ_BYTES, size - len(data))
            data += self._bytes(self._ask(f"m{address + len(data):x},{count:x}"))
        return bytes(data)

    def write(self, address: int, data: bytes) -> None:
        for at in range(0, len(data), _WRITE_BYTES):
            part = data[at : at + _WRITE_BYTES]
            self._command(f"M{address + at:x},{len(part):x}:{part.hex()}")

    def register(self, number: int) -> int:
        return int.from_bytes(self._bytes(self._ask(f"p{number:x}")), "little")

    def set_register(self, number: int, value: int) -> None:
        self._command(f"P{number:x}={value.to_bytes(4, 'little').hex()}")

    def set_breakpoint(self, address: int) -> None:
        self._command(f"Z0,{address:x},2")

    def clear_breakpoint(self, address: int) -> None:
        self._command(f"z0,{address:x},2")

    def resume(self) -> None:
        """Run until the machine stops."""
        answer = self._ask("c")
        if not answer.startswith("T05"):
            raise GdbError(f"the machine stopped with {answer!r}")

    def _command(self, text: str) -> None:
        answer = self._ask(text)
        if answer != "OK":
            raise GdbError(f"packet {text[:40]!r} was answered by {answer!r}")

    def _ask(self, text: str) -> str:
        body = text.encode()
        self._socket.sendall(b"$%s#%02x" % (body, sum(body) & 0xFF))
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start)
            if start >= 0 and end >= 0 and len(self._buffer) >= end + 3:
                break
            self._buffer += self._receive()
        answer = self._buffer[start + 1 : end].decode()
        self._buffer = self._buffer[end + 3 :]
        self._socket.sendall(b"+")
        return answer

    def _bytes(self, answer: str) -> bytes:
        try:
            return bytes.fromhex(answer)
        except ValueError as error:
            raise GdbError(f"{answer!r} where bytes in hex were expected") from error


class QmpClient(_Client):
    """QEMU machine protocol: one JSON object a line."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes], *, timeout_s: float) -> None:
        super().__init__(path, process, timeout_s=timeout_s)
        self._buffer = b""
        self._line()  # greeting
        self._execute("qmp_capabilities")

    def instructions(self) -> int:
        """Return the number of instructions that the machine has run since it started."""
        return int(self._execute("query-replay")["icount"])

    def _execute(self, command: str) -> Any:
        self._socket.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while True:
            answer = self._line()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise GdbError(f"QMP {command}: {answer['error']}")

    def _line(self) -> Any:
        while b"\n" not in self._buffer:
            self._buffer += self._receive()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)


def _connect(path: Path, process: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError as error:
            connection.close()
            if process.poll() is not None:
                raise GdbError(f"it exited with status {process.returncode}") from error
            if time.monotonic() > deadline:
                raise GdbError(f"it did not open {path.name} in {CONNECT_TIMEOUT_S} s") from error
            time.sleep(0.01)
