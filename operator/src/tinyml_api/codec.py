"""How our dataclasses become Kubernetes' JSON and back: snake_case fields, camelCase keys.

`Record` gives a frozen dataclass `from_dict` and `to_dict`. The API server has validated what
`from_dict` reads, so it parses and does not validate again: unknown keys are ignored, absent keys
take the field's default, a required key that is absent raises KeyError.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self, Union, get_args, get_origin, get_type_hints


def camel_case(name: str) -> str:
    """Return `flash_bytes` as `flashBytes`."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class Record:
    """Base of this package's dataclasses. None and absent are the same; None is not written."""

    __slots__ = ()

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        values: dict[str, Any] = {}
        for field, key, hint in _fields(cls):
            if raw.get(key) is not None:
                values[field.name] = _decode(hint, raw[key])
            elif _is_required(field):
                raise KeyError(f"{cls.__name__}: {key} is required")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for field, key, _ in _fields(type(self)):
            value = getattr(self, field.name)
            if value is not None:
                out[key] = _encode(value)
        return out


_Field = tuple[dataclasses.Field[Any], str, Any]  # field, key, type
_known: dict[type, tuple[_Field, ...]] = {}  # type hints are slow to resolve


def _fields(cls: Any) -> tuple[_Field, ...]:
    if cls not in _known:
        hints = get_type_hints(cls)
        _known[cls] = tuple((f, camel_case(f.name), hints[f.name]) for f in dataclasses.fields(cls))
    return _known[cls]


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _decode(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        (inner,) = (a for a in get_args(hint) if a is not type(None))
        return _decode(inner, value)
    if origin is tuple:
        return tuple(_decode(get_args(hint)[0], v) for v in value)
    if origin is not None and issubclass(origin, Mapping):
        inner = get_args(hint)[1]
        return {k: _decode(inner, v) for k, v in value.items()}
    if isinstance(hint, type) and (issubclass(hint, Record | StrEnum)):
        return hint.from_dict(value) if issubclass(hint, Record) else hint(value)
    return value


def _encode(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _encode(v) for k, v in value.items()}
    return value
