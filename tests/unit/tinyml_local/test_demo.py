"""What the demo prints of the system's messages is what they are."""

from __future__ import annotations

import io

from rich.console import Console
from tinyml_local.demo.run import Steps


def test_messages_of_the_system_are_no_markup() -> None:
    out = io.StringIO()
    Steps(Console(file=out, width=200)).say("ModelValid: layer 'a[/b]' has shape [n, 3]")
    assert "layer 'a[/b]' has shape [n, 3]" in out.getvalue()
