"""The command line: help that helps, and options that are refused with the reason."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tinyml_cli.__main__ import app
from tinyml_cli.commands.up import check_classes, parse_devices
from typer.testing import CliRunner

WIDE = {"COLUMNS": "200", "TERM": "dumb"}


@pytest.mark.parametrize("verb", ["up", "demo", "compile"])
def test_help_lists_each_verb_and_explains_it(verb: str) -> None:
    listed = CliRunner().invoke(app, ["--help"], env=WIDE)
    assert listed.exit_code == 0
    assert verb in listed.output
    own = CliRunner().invoke(app, [verb, "--help"], env=WIDE)
    assert own.exit_code == 0
    assert "Usage" in own.output


def test_help_keeps_brackets_and_joins_lines() -> None:
    shown = CliRunner().invoke(app, ["compile", "--help"], env=WIDE).output
    assert "float32 inputs [n, …]" in shown
    shown = CliRunner().invoke(app, ["up", "--help"], env=WIDE).output
    assert "a gateway agent and emulated devices" in shown


def test_help_needs_nothing_that_takes_seconds_to_import() -> None:
    heavy = {"tensorflow", "numpy", "kubernetes", "boto3", "aiohttp", "celpy"}
    program = f"import sys, tinyml_cli.__main__; sys.exit(str({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


def test_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output.startswith("tinyml 0.")


def test_devices_are_counted_by_class_and_none_is_none() -> None:
    assert parse_devices(["posix=3", "mps2-an386=1"]) == {"posix": 3, "mps2-an386": 1}
    assert parse_devices(["none=0"]) == {}


@pytest.mark.parametrize("text", ["posix", "posix=", "posix=-1", "=3", "posix=501", "posix=x"])
def test_devices_out_of_form_or_bounds_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="CLASS=COUNT"):
        parse_devices([text])


def test_more_devices_than_a_gateway_has_are_refused() -> None:
    with pytest.raises(typer.BadParameter, match="501 devices in all, one gateway has at most 500"):
        parse_devices(["posix=500", "mps2-an386=1"])


@pytest.mark.parametrize(
    ("name", "message"),
    [("pososix", "is not one of posix"), ("microbit", "no firmware port to emulate.*: posix")],
)
def test_classes_that_cannot_be_emulated_are_refused(name: str, message: str) -> None:
    catalogue = [
        {"metadata": {"name": "posix"}, "spec": {"board": "posix"}},
        {"metadata": {"name": "microbit"}, "spec": {}},
    ]
    check_classes({"posix": 1}, catalogue)
    with pytest.raises(typer.BadParameter, match=message):
        check_classes({name: 1}, catalogue)


@pytest.mark.parametrize("option", ["--api-port", "--s3-port", "--operator-port"])
def test_port_in_use_is_named_with_its_option(option: str, tmp_path: Path) -> None:
    free = {"--api-port": "0", "--s3-port": "0", "--operator-port": "0"}
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        options = [word for pair in (free | {option: port}).items() for word in pair]
        result = CliRunner().invoke(app, ["up", "--state-dir", str(tmp_path / "s"), *options])
    assert result.exit_code == 1
    assert f"port {port} of 127.0.0.1 cannot be had" in result.output
    assert f"another {option}" in result.output


def test_state_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "[bold]"  # no markup
    file.touch()
    ports = ["--api-port", "0", "--s3-port", "0", "--operator-port", "0"]
    result = CliRunner().invoke(app, ["up", "--state-dir", str(file), *ports])
    assert result.exit_code == 1
    assert f"error: {file}: File exists" in result.output
    assert "can be written" in result.output
