"""`tinyml up`: the local environment until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from tinyml_local.environment import CannotStartError, Environment, Settings
from tinyml_local.samples import local_gateway


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
    api_port: Annotated[int, typer.Option(help="Port of the Kubernetes API.")] = 16550,
    s3_port: Annotated[int, typer.Option(help="Port of the S3 endpoint.")] = 16551,
    operator_port: Annotated[
        int, typer.Option(help="Port of the operator's artifacts, metrics and health.")
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
    console = Console()
    counts = parse_devices(devices)
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
        console.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
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
        if not (name and equals and number.isdigit() and int(number) <= 500):
            raise typer.BadParameter(f"{text!r} is not CLASS=COUNT with a count from 0 to 500")
        counts[name] = int(number)
    return {name: count for name, count in counts.items() if count}


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
        return
    stopping_early = stop.is_set()
    environment = starting.result()
    try:
        if not stopping_early:
            console.print(Panel(_where(environment), title="tinyml up", expand=False))
            console.print("Ctrl-C stops everything.")
        await stop.wait()
        console.print("stopping …")
    finally:
        await environment.__aexit__(None, None, None)
        stopping.cancel()
    console.print("stopped, nothing is left running")


async def _start(console: Console, settings: Settings, counts: dict[str, int]) -> Environment:
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
        )
    )
