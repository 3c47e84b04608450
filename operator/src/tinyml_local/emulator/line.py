"""The device's serial line: a pseudo terminal with a link at a stable path."""

from __future__ import annotations

import os
import pty
import tty
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Line:
    """`master` is the device's end, non-blocking. `slave` is held open: else a client that closes
    the terminal would end the line."""

    master: int
    slave: int


def open_line(link: Path) -> Line:
    """Make a raw pseudo terminal and point `link` at it, replacing an older link."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    beside.symlink_to(os.ttyname(slave))
    beside.replace(link)
    return Line(master, slave)
