"""Python values as C text, and strangers' text as C comments."""

from __future__ import annotations

import re
from collections.abc import Sequence

_COMMENT_UNSAFE = re.compile(r"[^A-Za-z0-9_./;:,()\[\] +=-]")
MAX_NAME_CHARACTERS = 64


def comment_text(text: str) -> str:
    """Return `text` so that it cannot end a comment or start one: names come from files."""
    safe = _COMMENT_UNSAFE.sub("_", text).replace("/*", "/_").replace("//", "/_")
    return safe if len(safe) <= MAX_NAME_CHARACTERS else safe[: MAX_NAME_CHARACTERS - 3] + "..."


def unsigned(value: int) -> str:
    return f"{value}u"


def address(offset: int) -> str:
    return f"0x{offset:x}u"


def dimensions(shape: Sequence[int]) -> str:
    """Return `1x49x10x1`; a scalar is `1`."""
    return "x".join(str(side) for side in shape) or "1"


def byte_rows(data: bytes) -> list[str]:
    """Return the inside of an array of uint8_t, 16 a row."""
    return [
        ", ".join(f"0x{byte:02x}" for byte in data[start : start + 16]) + ","
        for start in range(0, len(data), 16)
    ]


def wrapped(text: str, *, indent: str, width: int = 120) -> list[str]:
    """Return a statement cut after commas into lines, those after the first indented deeper."""
    lines, line = [], indent
    for part in re.split(r"(?<=,) ", text):
        glue = "" if not line.strip() else " "
        if len(line) + len(glue) + len(part) > width and line.strip():
            lines.append(line)
            line, glue = indent + "    ", ""
        line += glue + part
    return [*lines, line]
