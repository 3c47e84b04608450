"""The few protobuf bodies that kubectl sends: `create namespace`, `secret`, `configmap`,
`token`, `auth can-i`.

kubectl talks JSON for everything that comes from a file, and protobuf for these. Only the
fields listed here are read; any other field that has a value makes the request fail by
number: nothing is dropped in silence. Source: the numbers are those of Kubernetes'
generated.proto files; the frame is runtime.Unknown.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

from .errors import ApiError, Object

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

Reader = Callable[[bytes | int], Any]
Fields = dict[int, tuple[str, Reader]]

_MAGIC = b"k8s\x00"


def decode(data: bytes) -> Object:
    """Return the object in a protobuf body. Raises ApiError 400, 415."""
    if not data.startswith(_MAGIC):
        raise ApiError(400, "BadRequest", "the body is not framed as Kubernetes frames protobuf")
    head: Object = {}
    raw = b""
    try:
        for number, value in _fields(data[len(_MAGIC) :]):
            if number == 1 and isinstance(value, bytes):
                head = _message({1: ("apiVersion", _text), 2: ("kind", _text)})(value)
            elif number == 2 and isinstance(value, bytes):
                raw = value
        kind = str(head.get("kind", ""))
        if kind not in _KINDS:
            raise ApiError(
                415,
                "UnsupportedMediaType",
                f"the local API reads no protobuf of kind {kind!r}, only of"
                f" {', '.join(sorted(_KINDS))}: write a manifest and use kubectl apply -f",
            )
        return {**head, **_message(_KINDS[kind])(raw)}
    except (IndexError, UnicodeDecodeError) as e:
        raise ApiError(400, "BadRequest", f"the protobuf body cannot be read: {e}") from e


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield number and value of each field: bytes, or an integer. Raises IndexError on a cut."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise IndexError("a field is longer than the body")
            yield number, data[at : at + size]
            at += size
        else:
            raise IndexError(f"wire type {wire} is not used by Kubernetes")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def _message(fields: Fields) -> Callable[[bytes | int], Object]:
    """Return a reader of messages with these fields. Empty strings and messages are no values."""

    def read(data: bytes | int) -> Object:
        result: Object = {}
        for number, value in _fields(_bytes(data)):
            if number not in fields:
                if _has_value(value):
                    raise ApiError(
                        415,
                        "UnsupportedMediaType",
                        f"the local API does not read field {number} of a protobuf body:"
                        " write a manifest and use kubectl apply -f",
                    )
                continue
            name, reader = fields[number]
            found = reader(value)
            if isinstance(found, dict) and isinstance(result.get(name), dict):
                result[name] |= found
            elif isinstance(found, list):
                result.setdefault(name, []).extend(found)
            elif found not in ("", {}, 0):
                result[name] = found
        return result

    return read


def _has_value(value: bytes | int) -> bool:
    """Return whether a field is set: generated code writes empty messages, and zeros inside
    them.
    """
    if isinstance(value, int):
        return value != 0
    try:
        return any(_has_value(inner) for _, inner in _fields(value))
    except IndexError:
        return True


def _bytes(value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise IndexError("a number where bytes are expected")
    return value


def _text(value: bytes | int) -> str:
    return _bytes(value).decode()


def _base64(value: bytes | int) -> str:
    return base64.b64encode(_bytes(value)).decode()


def _texts(value: bytes | int) -> list[str]:
    return [_text(value)]


def _number(value: bytes | int) -> int:
    return int(value) if isinstance(value, int) else 0


def _flag(value: bytes | int) -> bool:
    return bool(value)


def _nothing(_: bytes | int) -> str:
    return ""


def _entries(reader: Reader) -> Callable[[bytes | int], Object]:
    """Return a reader of one entry of a map; entries add up."""

    def read(value: bytes | int) -> Object:
        parts = dict(_fields(_bytes(value)))
        return {_text(parts.get(1, b"")): reader(parts.get(2, b""))}

    return read


_META: Fields = {
    1: ("name", _text),
    2: ("generateName", _text),
    3: ("namespace", _text),
    5: ("uid", _text),
    6: ("resourceVersion", _text),
    8: ("creationTimestamp", _nothing),
    11: ("labels", _entries(_text)),
    12: ("annotations", _entries(_text)),
}
_HEAD: Fields = {1: ("metadata", _message(_META))}
_RESOURCE: Fields = {
    n: (name, _text)
    for n, name in enumerate(
        ("namespace", "verb", "group", "version", "resource", "subresource", "name"), 1
    )
}
_PATH: Fields = {1: ("path", _text), 2: ("verb", _text)}
_TOKEN_SPEC: Fields = {1: ("audiences", _texts), 4: ("expirationSeconds", _number)}
_ACCESS_SPEC: Fields = {
    1: ("resourceAttributes", _message(_RESOURCE)),
    2: ("nonResourceAttributes", _message(_PATH)),
}
_RULES_SPEC: Fields = {1: ("namespace", _text)}
_KINDS: dict[str, Fields] = {
    "Namespace": _HEAD,
    "ServiceAccount": _HEAD,
    "ConfigMap": {
        **_HEAD,
        2: ("data", _entries(_text)),
        3: ("binaryData", _entries(_base64)),
        4: ("immutable", _flag),
    },
    "Secret": {
        **_HEAD,
        2: ("data", _entries(_base64)),
        3: ("type", _text),
        4: ("stringData", _entries(_text)),
        5: ("immutable", _flag),
    },
    "TokenRequest": {**_HEAD, 2: ("spec", _message(_TOKEN_SPEC))},
    "SelfSubjectReview": _HEAD,
    "SelfSubjectAccessReview": {**_HEAD, 2: ("spec", _message(_ACCESS_SPEC))},
    "SelfSubjectRulesReview": {**_HEAD, 2: ("spec", _message(_RULES_SPEC))},
}
