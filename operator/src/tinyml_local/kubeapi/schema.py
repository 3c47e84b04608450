"""Does an object fit a structural schema? Pruning, defaulting and validation, in Kubernetes'
words.

A schema is a plain dict in the form of a CRD's `openAPIV3Schema`. A `$ref` of the form
`#/components/schemas/X` is looked up in `components`: built-in kinds use that, CRDs never do.
CEL rules are not evaluated here (see `cel`). Source: Kubernetes API documentation, "Specifying
a structural schema".
"""

from __future__ import annotations

import base64
import binascii
import copy
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import re2  # type: ignore[import-untyped]

from .errors import (
    FieldError,
    duplicate,
    invalid_value,
    required,
    shown,
    unsupported,
    wrong_type,
)

Schema = dict[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
LIST_TYPE = "x-kubernetes-list-type"
LIST_KEYS = "x-kubernetes-list-map-keys"

components: dict[str, Schema] = {}
"""Named schemas of the built-in kinds, filled by `builtin_schemas`."""

_REF = "#/components/schemas/"


def resolve(schema: Schema) -> Schema:
    """Return what `schema` refers to, or itself."""
    while "$ref" in schema:
        schema = components[schema["$ref"].removeprefix(_REF)]
    return schema


def property_schema(schema: Schema, key: str) -> Schema | None:
    """Return the schema of field `key` of an object of `schema`; None if it declares none."""
    schema = resolve(schema)
    declared = schema.get("properties", {}).get(key)
    if declared is not None:
        return resolve(declared)
    extra = schema.get("additionalProperties")
    return resolve(extra) if isinstance(extra, dict) else None


def item_schema(schema: Schema) -> Schema:
    """Return the schema of the items of a list of `schema` (empty if undeclared)."""
    items = resolve(schema).get("items")
    return resolve(items) if isinstance(items, dict) else {}


def prune(schema: Schema, value: Any, path: str = "") -> list[str]:
    """Remove undeclared fields from `value` in place and return their paths."""
    return list(_prune(resolve(schema), value, path, remove=True))


def undeclared(schema: Schema, value: Any, path: str = "") -> list[str]:
    """Return the paths that `prune` would remove."""
    return list(_prune(resolve(schema), value, path, remove=False))


def apply_defaults(schema: Schema, value: Any) -> None:
    """Drop nulls where the schema does not allow them, then fill in defaults, in place."""
    schema = resolve(schema)
    if isinstance(value, dict):
        for key in list(value):
            sub = property_schema(schema, key)
            if sub is not None and value[key] is None and sub and not _takes_null(sub):
                del value[key]
        for key, raw in schema.get("properties", {}).items():
            sub = resolve(raw)
            if key not in value and "default" in sub:
                value[key] = copy.deepcopy(sub["default"])
        for key, child in value.items():
            sub = property_schema(schema, key)
            if sub is not None:
                apply_defaults(sub, child)
    elif isinstance(value, list):
        items = item_schema(schema)
        if items:
            for child in value:
                apply_defaults(items, child)


def validate(schema: Schema, value: Any, path: str = "") -> list[FieldError]:
    """Return everything about `value` that `schema` does not allow."""
    return list(_validate(resolve(schema), value, path))


def join(path: str, key: str) -> str:
    """Return the path of field `key` under `path`."""
    if re.fullmatch(r"[A-Za-z0-9_$-]+", key):
        return f"{path}.{key}" if path else key
    return f"{path}[{key}]"


def type_name(value: Any) -> str:
    """Return the JSON type of `value` as messages name it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"


def _takes_null(schema: Schema) -> bool:
    return bool(schema.get("nullable")) or (not schema.get("type") and bool(schema.get(PRESERVE)))


def _prune(schema: Schema, value: Any, path: str, *, remove: bool) -> Iterator[str]:
    if isinstance(value, dict):
        keep = bool(schema.get(PRESERVE))
        if schema.get("x-kubernetes-embedded-resource"):
            properties = {"apiVersion": {}, "kind": {}, "metadata": {PRESERVE: True}}
            schema = {**schema, "properties": properties | schema.get("properties", {})}
        if schema.get("additionalProperties") is True:
            keep = True
        for key in list(value):
            sub = property_schema(schema, key)
            if sub is not None:
                yield from _prune(sub, value[key], join(path, key), remove=remove)
            elif not keep:
                yield join(path, key)
                if remove:
                    del value[key]
    elif isinstance(value, list):
        items = item_schema(schema)
        if items or not schema.get(PRESERVE):
            for i, child in enumerate(value):
                yield from _prune(items, child, f"{path}[{i}]", remove=remove)


def _validate(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    if value is None and _takes_null(schema):
        return
    problem = _type_problem(schema, value, path)
    if problem is not None:
        yield problem
        return
    choices = schema.get("enum")
    if choices is not None and not any(_same(value, c) for c in choices):
        yield unsupported(path, value, choices)
    if isinstance(value, str):
        yield from _validate_string(schema, value, path)
    elif isinstance(value, bool) or value is None:
        pass
    elif isinstance(value, (int, float)):
        yield from _validate_number(schema, value, path)
    elif isinstance(value, list):
        yield from _validate_list(schema, value, path)
    elif isinstance(value, dict):
        yield from _validate_object(schema, value, path)
    yield from _validate_junctors(schema, value, path)


def _type_problem(schema: Schema, value: Any, path: str) -> FieldError | None:
    found = type_name(value)
    if schema.get(INT_OR_STRING):
        return None if found in ("integer", "string") else wrong_type(path, found, "integer,string")
    expected = schema.get("type")
    if not expected or expected == found:
        return None
    if expected == "number" and found == "integer":
        return None
    if expected == "integer" and isinstance(value, float) and value.is_integer():
        return None
    return wrong_type(path, found, expected)


def _validate_string(schema: Schema, value: str, path: str) -> Iterator[FieldError]:
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if longest is not None and len(value) > longest:
        yield FieldError(
            "FieldValueTooLong", path, f"Too long: may not be more than {longest} bytes"
        )
    if shortest is not None and len(value) < shortest:
        yield invalid_value(path, value, f"{path} in body should be at least {shortest} chars long")
    pattern = schema.get("pattern")
    if pattern is not None and compiled(pattern).search(value) is None:
        yield invalid_value(path, value, f"{path} in body should match '{pattern}'")
    form = schema.get("format")
    check = _FORMATS.get(form) if form else None
    if check is not None and not check(value):
        detail = f"Invalid value: {shown(value)}: {path} in body must be of type {form}"
        yield FieldError("FieldValueTypeInvalid", path, f"{detail}: {shown(value)}")


def _validate_number(schema: Schema, value: float, path: str) -> Iterator[FieldError]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if high is not None and (value > high or (value == high and schema.get("exclusiveMaximum"))):
        bound = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield invalid_value(path, value, f"{path} in body should be {bound} {high}")
    if low is not None and (value < low or (value == low and schema.get("exclusiveMinimum"))):
        bound = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield invalid_value(path, value, f"{path} in body should be {bound} {low}")
    step = schema.get("multipleOf")
    if step is not None and value % step != 0:
        yield invalid_value(path, value, f"{path} in body should be a multiple of {step}")
    bits = {"int32": 31, "int64": 63}.get(schema.get("format", ""))
    if bits is not None and not -(2**bits) <= value < 2**bits:
        yield invalid_value(path, value, f"{path} in body must be of type {schema['format']}")


def _validate_list(schema: Schema, value: list[Any], path: str) -> Iterator[FieldError]:
    most, least = schema.get("maxItems"), schema.get("minItems")
    if most is not None and len(value) > most:
        yield _too_many(path, len(value), most)
    if least is not None and len(value) < least:
        yield invalid_value(path, len(value), f"{path} in body should have at least {least} items")
    items = item_schema(schema)
    for i, child in enumerate(value):
        yield from _validate(items, child, f"{path}[{i}]")
    yield from _validate_uniqueness(schema, value, path)


def _validate_uniqueness(schema: Schema, value: list[Any], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    kind = schema.get(LIST_TYPE)
    if kind not in ("set", "map") and not schema.get("uniqueItems"):
        return
    for i, child in enumerate(value):
        key = list_key(schema, child) if kind == "map" else child
        text = shown(key)
        if text in seen:
            yield duplicate(f"{path}[{i}]", key)
        seen.add(text)


def list_key(schema: Schema, item: Any) -> dict[str, Any]:
    """Return the fields that identify `item` in a list of type map, with defaults for the absent
    ones.
    """
    if not isinstance(item, dict):
        return {}
    fields = item_schema(schema).get("properties", {})
    key: dict[str, Any] = {}
    for name in sorted(resolve(schema)[LIST_KEYS]):
        if name in item:
            key[name] = item[name]
        elif "default" in fields.get(name, {}):
            key[name] = fields[name]["default"]
    return key


def _validate_object(schema: Schema, value: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    for name in schema.get("required", ()):
        if name not in value:
            yield required(join(path, name))
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if most is not None and len(value) > most:
        yield _too_many(path, len(value), most)
    if least is not None and len(value) < least:
        yield invalid_value(
            path, len(value), f"{path} in body should have at least {least} properties"
        )
    for name, child in value.items():
        sub = property_schema(schema, name)
        if sub is not None:
            yield from _validate(sub, child, join(path, name))


def _validate_junctors(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    for part in schema.get("allOf", ()):
        yield from _validate(part, value, path)
    if "anyOf" in schema and not any(not list(_validate(p, value, path)) for p in schema["anyOf"]):
        yield FieldError(
            "FieldValueInvalid",
            path,
            f'Invalid value: "": "{path}" must validate at least one schema (anyOf)',
        )
    if "oneOf" in schema:
        valid = sum(not list(_validate(p, value, path)) for p in schema["oneOf"])
        if valid != 1:
            count = "none valid" if valid == 0 else f"{valid} valid alternatives"
            yield FieldError(
                "FieldValueInvalid",
                "",
                f'Invalid value: "": "{path}" must validate one and only one schema (oneOf).'
                f" Found {count}",
            )
    if "not" in schema and not list(_validate(schema["not"], value, path)):
        yield FieldError(
            "FieldValueInvalid",
            path,
            f'Invalid value: "": "{path}" must not validate the schema (not)',
        )


def _too_many(path: str, found: int, most: int) -> FieldError:
    return FieldError(
        "FieldValueTooMany", path, f"Too many: {found}: must have at most {most} items"
    )


def _same(value: Any, choice: Any) -> bool:
    return isinstance(value, bool) == isinstance(choice, bool) and bool(value == choice)


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """Return the compiled RE2 pattern (Go's syntax). Raises `re2.error`."""
    return re2.compile(pattern)


def _parses(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(r"[+-]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


def _is_date_time(text: str) -> bool:
    if _DATE_TIME.fullmatch(text) is None:
        return False
    return _parses(datetime.fromisoformat)(re.sub(r"\.\d+", "", text.upper()))


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _is_date_time,
    "date": _parses(date.fromisoformat),
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)),
    "duration": lambda text: _DURATION.fullmatch(text) is not None,
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
    "hostname": lambda text: _HOSTNAME.fullmatch(text) is not None,
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": _parses(lambda text: ipaddress.ip_network(text, strict=False)),
    "uri": lambda text: bool(urlsplit(text).scheme or text.startswith("/")),
}
