"""Run one emulated device until it is told to stop (SIGTERM, SIGINT).

    python -m tinyml_local.emulator --class-spec FILE --boot boot.elf --flash flash.bin --link PATH

boot.elf and flash.bin come from `python -m tinyml_compiler.factory`. The flash file is the device's
memory: it may be killed at any moment and started again.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tinyml_local.emulator.boards import Board, EmulatorError, board_of, read_spec
from tinyml_local.emulator.flash import open_flash
from tinyml_local.emulator.line import open_line
from tinyml_local.emulator.qemu import qemu_path, run_qemu


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tinyml_local.emulator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--class-spec", required=True, type=Path)
    parser.add_argument("--boot", required=True, type=Path)
    parser.add_argument("--flash", required=True, type=Path)
    parser.add_argument("--link", required=True, type=Path)
    parser.add_argument("--hardware-id", default="", help="posix boards only")
    parser.add_argument("--emulator", choices=("auto", "qemu", "unicorn"), default="auto")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except EmulatorError as error:
        print(f"emulated device: {error}", file=sys.stderr)
        return 1


def choose_emulator(board: Board, wanted: str) -> str:
    """`qemu` where it is installed, else `unicorn`. Raises EmulatorError where there is neither."""
    if wanted != "auto":
        return wanted
    if qemu_path(board) is not None:
        return "qemu"
    if board.unicorn_cpu is not None and importlib.util.find_spec("unicorn") is not None:
        return "unicorn"
    raise EmulatorError(
        f"nothing here can emulate board {board.name!r}; looked for {board.qemu_system} and "
        "PyPI's unicorn: apt-get install qemu-system-arm, or pip install unicorn"
    )


def _run(options: argparse.Namespace) -> int:
    spec = read_spec(options.class_spec)
    if not options.boot.is_file():
        raise EmulatorError(f"no boot stage at {options.boot}")
    if spec.board == "posix":
        _run_posix(options)
    board = board_of(spec)
    emulator = choose_emulator(board, options.emulator)
    flash = open_flash(options.flash, spec.flash.size, board.backing_bytes)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    line = open_line(options.link)
    if emulator == "qemu":
        status = run_qemu(board, options.boot, options.flash, line)
        raise EmulatorError(f"QEMU ended with exit status {status}")
    # Imported where it is needed: QEMU's users need not have it.
    from tinyml_local.emulator.unicorn_board import run_unicorn

    run_unicorn(board, spec, options.boot, flash, line)
    return 0


def _run_posix(options: argparse.Namespace) -> NoReturn:
    """The boot stage is a program of this machine: it becomes this process."""
    command = [str(options.boot), "--flash", str(options.flash), "--link", str(options.link)]
    command += ["--hardware-id", options.hardware_id]
    try:
        os.execv(options.boot, command)
    except OSError as error:
        raise EmulatorError(f"cannot start boot stage {options.boot}: {error}") from error


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
