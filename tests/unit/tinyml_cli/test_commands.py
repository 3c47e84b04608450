"""The command line: help that helps, and options that are refused with the reason."""

from __future__ import annotations

import pytest
import typer
from tinyml_cli.__main__ import app
from tinyml_cli.commands.up import parse_devices
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
