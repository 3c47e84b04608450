"""What does a JSONPath of a printer column point at? The subset that CRDs use.

`.a.b`, `.a['b']`, `.a[0]`, `.a[-1]`, `.a[*]`, `.a[?(@.type=="Ready")].status`, and `\\.` in a name.
Anything else is refused when the CRD is created.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Step = Callable[[Any], Iterator[Any]]

_FIELD = re.compile(r"\.((?:[^.\[\]\\]|\\.)+)")
_QUOTED = re.compile(r"\[(['\"])(.*?)\1\]")
_INDEX = re.compile(r"\[(-?\d+)\]")
_ALL = re.compile(r"\[\*\]|\.\*")
_FILTER = re.compile(
    r"\[\?\(\s*@((?:\.[A-Za-z0-9_-]+)+)\s*(==|!=)\s*('[^']*'|\"[^\"]*\"|-?\d+|true|false)\s*\)\]"
)


class JsonPathError(ValueError):
    """A path outside of the subset."""


@lru_cache(maxsize=512)
def parse(text: str) -> tuple[Step, ...]:
    """Return the steps of a path. Raises JsonPathError."""
    rest = text.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    steps: list[Step] = []
    at = 0
    while at < len(rest):
        for pattern, make in _STEPS:
            match = pattern.match(rest, at)
            if match:
                steps.append(make(match))
                at = match.end()
                break
        else:
            raise JsonPathError(f"cannot read {rest[at:]!r}: see the supported forms in jsonpath")
    return tuple(steps)


def find(text: str, document: Any) -> list[Any]:
    """Return all that `text` points at in `document`."""
    found = [document]
    for step in parse(text):
        found = [result for value in found for result in step(value)]
    return found


def _field(match: re.Match[str]) -> Step:
    return _key(re.sub(r"\\(.)", r"\1", match[1]))


def _key(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _index(match: re.Match[str]) -> Step:
    index = int(match[1])

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _all(_: re.Match[str]) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()

    return step


def _filter(match: re.Match[str]) -> Step:
    names = match[1].removeprefix(".").split(".")
    literal = match[3]
    wanted = literal[1:-1] if literal[0] in "'\"" else json.loads(literal)
    equal = match[2] == "=="

    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else ():
            field = item
            for name in names:
                field = field.get(name) if isinstance(field, dict) else None
            if (field == wanted) == equal:
                yield item

    return step


_STEPS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Step]], ...] = (
    (_ALL, _all),
    (_FIELD, _field),
    (_QUOTED, lambda m: _key(m[2])),
    (_INDEX, _index),
    (_FILTER, _filter),
)
