"""A device in QEMU: its board's memory is the flash file, its UART is carried to the line."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tinyml_local.emulator.boards import Board, EmulatorError
from tinyml_local.emulator.line import Line

_CHUNK_BYTES = 4096
_HELD_BYTES = 1 << 16  # nobody reads the line: what is older than this is dropped
_PR_SET_PDEATHSIG = 1


def qemu_path(board: Board) -> str | None:
    """QEMU's program for this board, None where it is not installed."""
    return shutil.which(board.qemu_system)


def run_qemu(board: Board, boot: Path, flash: Path, line: Line) -> int:
    """Run until QEMU ends; returns its exit status. The caller's SIGTERM handler ends both."""
    program = qemu_path(board)
    if program is None:
        raise EmulatorError(
            f"{board.qemu_system} is not installed: apt-get install qemu-system-arm"
        )
    if "," in str(flash) or "," in str(boot):
        raise EmulatorError(f"QEMU cannot take a comma in a path: {flash}, {boot}")
    ours, theirs = socket.socketpair()
    memory = f"{board.backing_bytes // (1 << 20)}M"
    backend = f"memory-backend-file,id=flash,size={memory},mem-path={flash},share=on"
    command = [program, "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"]
    command += ["-machine", f"{board.qemu_machine},memory-backend=flash", "-m", memory]
    command += ["-object", backend, "-kernel", str(boot), "-net", "none"]
    command += ["-chardev", f"socket,id=line,fd={theirs.fileno()}", "-serial", "chardev:line"]
    with subprocess.Popen(  # dies with this process, however that ends
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        preexec_fn=_die_with_parent,  # this process has one thread
    ) as qemu:
        theirs.close()
        ours.setblocking(False)
        try:
            _carry(ours, line)
        except ConnectionError:
            pass  # it ended with bytes on their way: as good as closing its end
        finally:
            qemu.kill()
    return qemu.returncode


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _carry(qemu: socket.socket, line: Line) -> None:
    """Copy both ways until QEMU closes its end."""
    ours = qemu.fileno()
    to_line = bytearray()
    to_qemu = bytearray()
    while True:
        reading = [ours, line.master] if len(to_qemu) < _HELD_BYTES else [ours]
        writing = ([ours] if to_qemu else []) + ([line.master] if to_line else [])
        readable, writable, _ = select.select(reading, writing, [])
        if ours in readable:
            data = qemu.recv(_CHUNK_BYTES)
            if not data:
                return
            to_line += data
            del to_line[:-_HELD_BYTES]
        if line.master in readable:
            to_qemu += os.read(line.master, _CHUNK_BYTES)
        if ours in writable:
            del to_qemu[: qemu.send(to_qemu)]
        if line.master in writable:
            del to_line[: os.write(line.master, to_line)]
