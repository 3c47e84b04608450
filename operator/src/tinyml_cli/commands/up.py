"""`tinyml up`: the local environment until Ctrl-C.

What takes seconds to import is imported where it is used: `--help` is quick, and Ctrl-C is heard.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from tinyml_local.environment import Environment, Settings


DEVICES_LIMIT = 500  # of one EdgeGateway


class Emulator(StrEnum):
    AUTO = "auto"
    QEMU = "qemu"
    UNICORN = "unicorn"


def default_state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "tinymlaas"


def up(
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Where kubeconfig, logs and devices go; made anew at each start."),
    ] = None,
    api_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the Kubernetes API; 0: any free one.")
    ] = 16550,
    s3_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the S3 endpoint; 0: any free one.")
    ] = 16551,
    operator_port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Port of artifacts, metrics and health; 0: any free one."
        ),
    ] = 16552,
    devices: Annotated[
        list[str],
        typer.Option(
            help="CLASS=COUNT: emulated devices of the sample gateway 'local'; may be repeated. "
            "'none=0' starts without it."
        ),
    ] = ["posix=3", "mps2-an386=1"],  # noqa: B006 - typer reads it once
    emulator: Annotated[
        Emulator, typer.Option(help="For boards: QEMU where it is installed, else unicorn.")
    ] = Emulator.AUTO,
) -> None:
    """Run the whole system on this machine until Ctrl-C: for trying and for tests.

    Starts a local Kubernetes API, an S3 endpoint, the operator, a gateway agent and emulated
    devices, all on 127.0.0.1, and says how to reach them. Apply a TinyModel with kubectl and watch
    it arrive on the devices.
    """
    from tinyml_local.environment import CannotStartError, Settings, load_manifests

    console = Console()
    counts = parse_devices(devices)
    check_classes(counts, load_manifests("catalogue"))
    settings = Settings(
        state_dir=(state_dir or default_state_dir()).absolute(),
        api_port=api_port,
        s3_port=s3_port,
        operator_port=operator_port,
        emulator=emulator.value,
    )
    try:
        asyncio.run(_serve(console, settings, counts))
    except CannotStartError as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        pass


def parse_devices(texts: list[str]) -> dict[str, int]:
    """Return devices a class from `CLASS=COUNT` texts; classes with 0 are left out. Raises
    BadParameter.
    """
    counts: dict[str, int] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        if not (name and equals and number.isdigit() and int(number) <= DEVICES_LIMIT):
            raise typer.BadParameter(
                f"{text!r} is not CLASS=COUNT with a count from 0 to {DEVICES_LIMIT}"
            )
        counts[name] = int(number)
    if sum(counts.values()) > DEVICES_LIMIT:
        raise typer.BadParameter(
            f"{sum(counts.values())} devices in all, one gateway has at most {DEVICES_LIMIT}"
        )
    return {name: count for name, count in counts.items() if count}


def check_classes(counts: Mapping[str, int], catalogue: Iterable[Mapping[str, Any]]) -> None:
    """Raise BadParameter for a class that is not in the catalogue or has no firmware to run."""
    boards = {each["metadata"]["name"]: each["spec"].get("board") for each in catalogue}
    runnable = ", ".join(sorted(name for name, board in boards.items() if board))
    for name in counts:
        if name not in boards:
            raise typer.BadParameter(f"device class {name!r} is not one of {runnable}")
        if not boards[name]:
            raise typer.BadParameter(
                f"device class {name!r} has no firmware port to emulate, these have: {runnable}"
            )


async def _serve(console: Console, settings: Settings, counts: dict[str, int]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    starting = asyncio.create_task(_start(console, settings, counts))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        console.print("interrupted: everything is stopped")
        return
    environment = starting.result()
    try:
        if not stop.is_set():
            # Lines as they are, to be copied: not wrapped, no frame.
            console.print(_where(environment), highlight=False, markup=False, soft_wrap=True)
        await stop.wait()
        console.print("stopping …")
    finally:
        await environment.__aexit__(None, None, None)
        stopping.cancel()
    console.print("stopped, nothing is left running")


async def _start(console: Console, settings: Settings, counts: dict[str, int]) -> Environment:
    from tinyml_local.environment import Environment
    from tinyml_local.samples import local_gateway

    environment = Environment(settings, lambda part: console.print(f"starting {part} …"))
    await environment.__aenter__()
    try:
        if counts:
            await environment.apply(local_gateway(environment.devices_dir, counts))
    except BaseException:
        await environment.__aexit__(None, None, None)
        raise
    return environment


def _where(environment: Environment) -> str:
    storage = environment.storage
    key = storage.credentials()
    return "\n".join(
        (
            f"export KUBECONFIG={environment.kubeconfig}",
            f"S3          {storage.endpoint}  bucket {storage.bucket}  "
            f"key {key['AWS_ACCESS_KEY_ID']} / {key['AWS_SECRET_ACCESS_KEY']}",
            f"metrics     {environment.operator_url}/metrics",
            f"logs        {environment.logs}",
            f"devices     serial://{environment.devices_dir}/<name>",
            "",
            "kubectl get deviceclasses,edgegateways,tinymodels",
            "kubectl explain tinymodel.spec",
            "kubectl apply -f my-tinymodel.yaml",
            "kubectl get tinymodels -w",
            "kubectl describe tinymodel NAME",
            "",
            "Ctrl-C stops everything.",
        )
    )
