"""Which objects does a request mean? Label selectors and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import Object, bad_request

Predicate = Callable[[Object], bool]

_SET = re.compile(r"(?P<key>[^\s!=<>,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)")
_EQUAL = re.compile(r"(?P<key>[^\s!=<>,()]+)\s*(?P<op>==|!=|=)\s*(?P<value>[^\s!=<>,()]*)")
_EXISTS = re.compile(r"(?P<absent>!?)\s*(?P<key>[^\s!=<>,()]+)")
_PARTS = re.compile(r",(?![^()]*\))")

# Field selectors that Kubernetes knows beside metadata.name and metadata.namespace, by resource.
_FIELDS: dict[str, tuple[str, ...]] = {
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "pods": ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase"),
    "secrets": ("type",),
    "namespaces": ("status.phase",),
    "jobs": ("status.successful",),
}


def label_selector(text: str) -> Predicate:
    """Return the test for `text`, such as `a=b,c!=d,e in (f,g),h,!i`. Raises ApiError 400."""
    tests = [_label_test(part.strip()) for part in _PARTS.split(text) if part.strip()]

    def matches(obj: Object) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


def field_selector(text: str, plural: str, extra: tuple[str, ...] = ()) -> Predicate:
    """Return the test for `text`, such as `metadata.name=x`. Raises ApiError 400 for a field that
    is not selectable.
    """
    known = ("metadata.name", "metadata.namespace", *_FIELDS.get(plural, ()), *extra)
    tests: list[tuple[str, bool, str]] = []
    for part in text.split(","):
        if not part.strip():
            continue
        key, op, value = _split_equal(part.strip())
        if key not in known:
            raise bad_request(
                f'Unable to find "{plural}" that match label selector "", field selector "{text}":'
                f" field label not supported: {key}"
            )
        tests.append((key, op != "!=", value))

    def matches(obj: Object) -> bool:
        return all((_field(obj, key) == value) == wanted for key, wanted, value in tests)

    return matches


def _label_test(part: str) -> Callable[[Mapping[str, str]], bool]:
    if m := _SET.fullmatch(part):
        key, values = m["key"], {v.strip() for v in m["values"].split(",")}
        if m["op"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if m := _EQUAL.fullmatch(part):
        key, value = m["key"], m["value"]
        if m["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if m := _EXISTS.fullmatch(part):
        key = m["key"]
        if m["absent"]:
            return lambda labels: key not in labels
        return lambda labels: key in labels
    raise bad_request(f"unable to parse requirement: {part!r} is not a label requirement")


def _split_equal(part: str) -> tuple[str, str, str]:
    for op in ("!=", "==", "="):
        if op in part:
            key, _, value = part.partition(op)
            return key.strip(), op, value.strip()
    raise bad_request(f'invalid selector: "{part}"; can\'t understand "{part}"')


def _field(obj: Object, path: str) -> str:
    if path == "source":
        path = "source.component"
    value: Any = obj
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None else str(value)
