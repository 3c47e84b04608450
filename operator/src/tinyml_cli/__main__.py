"""The `tinyml` command: one typer application, one module a verb in `commands/`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from tinyml_cli.commands.compile import compile_model
from tinyml_cli.commands.demo import demo
from tinyml_cli.commands.up import up

app = typer.Typer(
    name="tinyml",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Machine learning on fleets of microcontrollers, run with Kubernetes.",
    epilog="Start with **tinyml demo**: the whole way once, in under three minutes.",
)
app.command(name="up")(up)
app.command(name="demo")(demo)
app.command(name="compile")(compile_model)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tinyml {version('tinymlaas')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    app()


if __name__ == "__main__":
    main()
