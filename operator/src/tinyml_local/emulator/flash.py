"""The flash file: one device at a time, as large as the board's memory."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from tinyml_local.emulator.boards import EmulatorError

LOCK_TIMEOUT_S = 2.0  # a device that was killed a moment ago may still hold it


def open_flash(path: Path, flash_bytes: int, backing_bytes: int) -> int:
    """Open and lock the file, and make it `backing_bytes` long (sparse). Returns its descriptor.

    Raises EmulatorError where it is not there, shorter than the flash, or another device's.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise EmulatorError(f"cannot open flash file {path}: {error.strerror}") from error
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK or time.monotonic() > deadline:
                raise EmulatorError(
                    f"flash file {path} belongs to another running device: stop that one first"
                ) from error
            time.sleep(0.05)
    size = os.fstat(descriptor).st_size
    if size < flash_bytes:
        raise EmulatorError(
            f"flash file {path} has {size} bytes, the device class's flash has {flash_bytes}: "
            "make it with python -m tinyml_compiler.factory"
        )
    if size < backing_bytes:
        os.ftruncate(descriptor, backing_bytes)
    return descriptor
