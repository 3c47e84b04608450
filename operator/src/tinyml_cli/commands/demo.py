"""`tinyml demo`: the whole way once, from training to an answer of the devices."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tinyml_cli.commands.up import Emulator


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Go on running afterwards, until Ctrl-C.")
    ] = False,
    emulator: Annotated[
        Emulator, typer.Option(help="For boards: QEMU where it is installed, else unicorn.")
    ] = Emulator.AUTO,
) -> None:
    """Show the whole way once: train, apply, compile, roll out, and ask the devices.

    Trains a small CNN on scikit-learn's handwritten digits, starts the local environment, applies a
    DeviceClass, an EdgeGateway and a TinyModel, follows build and roll-out, and has the emulated
    devices classify test digits.
    """
    # Takes seconds to import: here, `--help` is quick and Ctrl-C is heard.
    from tinyml_local.demo.run import DemoFailedError
    from tinyml_local.environment import CannotStartError

    console = Console()
    try:
        with tempfile.TemporaryDirectory(prefix="tinyml-demo-") as folder:
            asyncio.run(_interruptible(console, Path(folder), keep, emulator.value))
    except (CannotStartError, DemoFailedError, OSError) as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except asyncio.CancelledError:
        console.print("interrupted: everything is stopped")
        raise typer.Exit(130) from None


async def _interruptible(console: Console, folder: Path, keep: bool, emulator: str) -> None:
    from tinyml_local.demo.run import run_demo

    task = asyncio.create_task(run_demo(console, folder, keep=keep, emulator=emulator))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    await task
