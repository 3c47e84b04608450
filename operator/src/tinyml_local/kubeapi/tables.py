"""What does `kubectl get` show? Tables of objects: a kind's columns and one row of cells per
object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from . import jsonpath
from .errors import Object
from .kinds import Column, Kind

_PLAIN = (
    Column("Name", path=".metadata.name", format="name"),
    Column("Age", "date", ".metadata.creationTimestamp"),
)


def table(
    kind: Kind,
    objects: Iterable[Object],
    metadata: Object,
    now: datetime,
    include: str = "Metadata",
) -> Object:
    """Return the Table of `objects`; `include` says what each row carries: None, Metadata or
    Object.
    """
    columns = kind.columns or _PLAIN
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [
            {
                "name": c.name,
                "type": "string" if kind.builtin and c.type == "date" else c.type,
                "format": c.format,
                "description": c.description,
                "priority": c.priority,
            }
            for c in columns
        ],
        "rows": [_row(kind, columns, o, now, include) for o in objects],
    }


def partial(obj: Object) -> Object:
    """Return only the metadata of `obj`."""
    head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {**head, "metadata": obj["metadata"]}


def duration(seconds: float) -> str:
    """Return a duration as kubectl writes it: `45s`, `3m10s`, `5h2m`, `12d`."""
    s = int(seconds)
    if s < 0:
        return "0s" if s > -2 else "<invalid>"
    if s < 120:
        return f"{s}s"
    minutes, hours, days = s // 60, s // 3600, s // 86400
    if minutes < 10:
        return f"{minutes}m{s % 60}s" if s % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"


def age(text: str | None, now: datetime) -> str:
    """Return how long ago the time `text` was."""
    if not text:
        return "<unknown>"
    return duration((now - _time(text)).total_seconds())


def _row(kind: Kind, columns: Iterable[Column], obj: Object, now: datetime, include: str) -> Object:
    cells = _CELLS.get(kind.plural) if kind.builtin else None
    row: Object = {
        "cells": cells(obj, now)
        if cells is not None
        else [_cell(column, obj, now) for column in columns]
    }
    if include == "Object":
        row["object"] = obj
    elif include == "Metadata":
        row["object"] = partial(obj)
    return row


def _cell(column: Column, obj: Object, now: datetime) -> Any:
    found = jsonpath.find(column.path, obj)
    if not found or found[0] is None:
        return None
    value = found[0]
    if column.type == "date":
        return age(value, now) if isinstance(value, str) else "<invalid>"
    if column.type == "string":
        if isinstance(value, bool) or not isinstance(value, str):
            return json.dumps(value, separators=(",", ":"))
        return value
    return value if isinstance(value, (int, float)) else None


def _time(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _created(obj: Object, now: datetime) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _namespace(obj: Object, now: datetime) -> list[Any]:
    return [_name(obj), obj.get("status", {}).get("phase", ""), _created(obj, now)]


def _config_map(obj: Object, now: datetime) -> list[Any]:
    count = len(obj.get("data") or {}) + len(obj.get("binaryData") or {})
    return [_name(obj), count, _created(obj, now)]


def _secret(obj: Object, now: datetime) -> list[Any]:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or {}), _created(obj, now)]


def _service_account(obj: Object, now: datetime) -> list[Any]:
    return [_name(obj), len(obj.get("secrets") or ()), _created(obj, now)]


def _event(obj: Object, now: datetime) -> list[Any]:
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or first or obj["metadata"].get("creationTimestamp")
    target = obj.get("involvedObject") or {}
    source = obj.get("source") or {}
    return [
        age(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{target.get('kind', '').lower()}/{target.get('name', '')}",
        target.get("fieldPath", ""),
        ", ".join(v for v in (source.get("component"), source.get("host")) if v)
        or obj.get("reportingComponent", ""),
        str(obj.get("message", "")).strip(),
        age(first or last, now),
        str(obj.get("count") or 1),
        _name(obj),
    ]


def _pod(obj: Object, now: datetime) -> list[Any]:
    status = obj.get("status") or {}
    states = status.get("containerStatuses") or ()
    shown = status.get("reason") or status.get("phase", "")
    for state in states:
        ended = state.get("state", {}).get("terminated")
        if ended:
            shown = ended.get("reason") or f"ExitCode:{ended.get('exitCode')}"
    if "deletionTimestamp" in obj["metadata"]:
        shown = "Terminating"
    ready = sum(bool(s.get("ready")) for s in states)
    restarts = sum(s.get("restartCount", 0) for s in states)
    total = len(obj["spec"]["containers"])
    return [_name(obj), f"{ready}/{total}", shown, restarts, _created(obj, now)]


def _job(obj: Object, now: datetime) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    true = {c["type"] for c in status.get("conditions") or () if c["status"] == "True"}
    state = next((t for t in ("Complete", "Failed", "Suspended") if t in true), "Running")
    taken = ""
    if status.get("startTime"):
        start = _time(status["startTime"])
        end = _time(status["completionTime"]) if status.get("completionTime") else now
        taken = duration((end - start).total_seconds())
    containers = spec["template"]["spec"]["containers"]
    selector = spec.get("selector", {}).get("matchLabels") or {}
    return [
        _name(obj),
        "Terminating" if "deletionTimestamp" in obj["metadata"] else state,
        f"{status.get('succeeded', 0)}/{spec.get('completions', 1)}",
        taken,
        _created(obj, now),
        ",".join(c["name"] for c in containers),
        ",".join(c.get("image", "") for c in containers),
        ",".join(f"{k}={v}" for k, v in selector.items()),
    ]


def _lease(obj: Object, now: datetime) -> list[Any]:
    return [_name(obj), (obj.get("spec") or {}).get("holderIdentity", ""), _created(obj, now)]


def _crd(obj: Object, _: datetime) -> list[Any]:
    return [_name(obj), obj["metadata"].get("creationTimestamp", "")]


_CELLS: dict[str, Callable[[Object, datetime], list[Any]]] = {
    "namespaces": _namespace,
    "configmaps": _config_map,
    "secrets": _secret,
    "serviceaccounts": _service_account,
    "events": _event,
    "pods": _pod,
    "jobs": _job,
    "leases": _lease,
    "customresourcedefinitions": _crd,
}
