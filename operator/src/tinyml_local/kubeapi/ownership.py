"""Who owns which field, and what does server-side apply make of it?

`managedFields` are kept as Kubernetes keeps them (FieldsV1). Inside, a set of fields is a set
of paths; a path is a tuple of FieldsV1 keys: `f:spec`, `k:{"name":"x"}`, `v:"a"`. Lists of type
map are merged by key, sets by value, all other lists are replaced whole. Source: Kubernetes
documentation, "Server-Side Apply". Everything here is pure.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ApiError, Object, qualified
from .schema import LIST_TYPE, Schema, item_schema, list_key, property_schema, resolve

Path = tuple[str, ...]
Fields = frozenset[Path]

_SYSTEM_METADATA = frozenset(
    {
        *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"),
        *("deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"),
        "generateName",
    }
)


@dataclass(frozen=True, slots=True)
class Owner:
    """One entry of managedFields, without its time."""

    manager: str
    operation: str
    subresource: str
    api_version: str


def apply(
    schema: Schema,
    live: Object,
    config: Object,
    owner: Owner,
    *,
    force: bool,
    plural: str,
    group: str,
) -> tuple[Object, dict[Owner, Fields]]:
    """Return what `live` becomes when `owner` applies `config`, and who owns what then.

    Raises ApiError 409 where another manager owns a field that would change, unless `force`.
    """
    owners = owners_of(live)
    mine = _by_same_manager(owners, owner)
    before = owners.pop(mine, frozenset()) if mine is not None else frozenset()
    wanted = fields_of(schema, config)
    live_values, wanted_values = leaves(schema, live), leaves(schema, config)
    changing = frozenset(p for p, v in wanted_values.items() if live_values.get(p, _ABSENT) != v)
    clashes = {o: changing & fields for o, fields in owners.items() if changing & fields}
    if clashes and not force:
        raise _conflict(clashes, config["metadata"].get("name", ""), plural, group)
    for other, paths in clashes.items():
        owners[other] -= paths
    merged = _merge(schema, live, config)
    kept: set[Path] = set(wanted)
    for fields in owners.values():
        kept |= fields
    _remove(schema, merged, _not_needed(before - wanted, kept), ())
    owners[owner] = wanted
    return merged, {o: f for o, f in owners.items() if f}


def track(schema: Schema, old: Object | None, new: Object, owner: Owner) -> dict[Owner, Fields]:
    """Return who owns what after `owner` wrote `new` over `old` (an update, not an apply)."""
    owners = owners_of(new if old is None else old)
    before = leaves(schema, old) if old is not None else {}
    after = leaves(schema, new)
    changed = frozenset(p for p, v in after.items() if before.get(p, _ABSENT) != v)
    present = fields_of(schema, new) | frozenset(after)
    mine = _by_same_manager(owners, owner)
    so_far = owners.pop(mine, frozenset()) if mine is not None else frozenset()
    result = {o: (f - changed) & present for o, f in owners.items()}
    result[owner] = (so_far & present) | changed
    return {o: f for o, f in result.items() if f}


def owners_of(obj: Object) -> dict[Owner, Fields]:
    """Return the owners that `obj` names in its managedFields."""
    result: dict[Owner, Fields] = {}
    for entry in obj["metadata"].get("managedFields") or ():
        owner = Owner(
            entry.get("manager", ""),
            entry.get("operation", "Update"),
            entry.get("subresource", ""),
            entry.get("apiVersion", ""),
        )
        result[owner] = frozenset(_parse(entry.get("fieldsV1") or {}, ()))
    return result


def managed_fields(
    owners: Mapping[Owner, Fields], previous: Object | None, now: str
) -> list[Object]:
    """Return the managedFields of these owners; an entry that did not change keeps its time."""
    old = owners_of(previous) if previous is not None else {}
    times = {}
    if previous is not None:
        entries = previous["metadata"].get("managedFields") or ()
        times = dict(zip(old, (e.get("time", now) for e in entries), strict=False))
    result = []
    for owner, fields in sorted(owners.items(), key=lambda e: (e[0].operation, e[0].manager)):
        entry: Object = {
            "manager": owner.manager,
            "operation": owner.operation,
            "apiVersion": owner.api_version,
            "time": times[owner] if old.get(owner) == fields else now,
            "fieldsType": "FieldsV1",
            "fieldsV1": _format(fields),
        }
        if owner.subresource:
            entry["subresource"] = owner.subresource
        result.append(entry)
    return result


def fields_of(schema: Schema, obj: Object) -> Fields:
    """Return the fields that applying `obj` claims: leaves, list items, and empty objects."""
    return frozenset(p for p, _, _ in _visit(schema, obj))


def leaves(schema: Schema, obj: Object) -> dict[Path, Any]:
    """Return each leaf's value: scalars, lists that are replaced whole, empty objects."""
    return {p: v for p, v, leaf in _visit(schema, obj) if leaf}


_ABSENT = object()


def _visit(schema: Schema, obj: Object) -> Iterator[tuple[Path, Any, bool]]:
    for key, value in obj.items():
        if key in ("apiVersion", "kind"):
            continue
        if key == "metadata":
            metadata = {k: v for k, v in value.items() if k not in _SYSTEM_METADATA}
            sub = property_schema(schema, "metadata") or {}
            for name, child in metadata.items():
                yield from _visit_value(
                    property_schema(sub, name) or {}, child, ("f:metadata", f"f:{name}")
                )
        else:
            yield from _visit_value(property_schema(schema, key) or {}, value, (f"f:{key}",))


def _visit_value(schema: Schema, value: Any, path: Path) -> Iterator[tuple[Path, Any, bool]]:
    atomic = schema.get("x-kubernetes-map-type") == "atomic"
    if isinstance(value, dict) and value and not atomic:
        for key, child in value.items():
            yield from _visit_value(property_schema(schema, key) or {}, child, (*path, f"f:{key}"))
    elif isinstance(value, list) and value and schema.get(LIST_TYPE) in ("map", "set"):
        for item in value:
            at = (*path, _item_key(schema, item))
            if schema[LIST_TYPE] == "set":
                yield at, item, True
            else:
                yield at, None, False
                yield from _visit_value(item_schema(schema), item, at)
    else:
        yield path, value, True


def _item_key(schema: Schema, item: Any) -> str:
    if schema[LIST_TYPE] == "set":
        return "v:" + json.dumps(item, separators=(",", ":"))
    return "k:" + json.dumps(list_key(schema, item), separators=(",", ":"), sort_keys=True)


def _merge(schema: Schema, live: Any, config: Any) -> Any:
    schema = resolve(schema)
    if schema.get("x-kubernetes-map-type") == "atomic":
        return copy.deepcopy(config)
    if isinstance(config, dict) and isinstance(live, dict):
        result = dict(live)
        for key, value in config.items():
            sub = property_schema(schema, key) or {}
            result[key] = _merge(sub, live[key], value) if key in live else copy.deepcopy(value)
        return result
    kind = schema.get(LIST_TYPE)
    if isinstance(config, list) and isinstance(live, list) and kind in ("map", "set"):
        wanted = {_item_key(schema, item): item for item in config}
        result_list = []
        for item in live:
            new = wanted.pop(_item_key(schema, item), _ABSENT)
            merged = item if new is _ABSENT else _merge(item_schema(schema), item, new)
            result_list.append(merged)
        return result_list + [copy.deepcopy(item) for item in wanted.values()]
    return copy.deepcopy(config)


def _not_needed(dropped: Iterable[Path], kept: set[Path]) -> frozenset[Path]:
    """Return the paths of `dropped` that nobody keeps, nor anything below them."""
    prefixes = {p[:i] for p in kept for i in range(1, len(p) + 1)}
    return frozenset(p for p in dropped if p not in prefixes)


def _remove(schema: Schema, value: Any, gone: frozenset[Path], path: Path) -> None:
    """Delete the fields `gone` from `value` in place, and objects that become empty by it."""
    if not gone:
        return
    schema = resolve(schema)
    below = {p[: len(path) + 1] for p in gone}
    if isinstance(value, dict):
        for key in list(value):
            at = (*path, f"f:{key}")
            if at in gone:
                del value[key]
            elif at in below:
                child = value[key] = copy.copy(value[key])
                _remove(property_schema(schema, key) or {}, child, _under(gone, at), at)
                if not child:
                    del value[key]
    elif isinstance(value, list) and schema.get(LIST_TYPE) in ("map", "set"):
        kept = []
        for item in value:
            at = (*path, _item_key(schema, item))
            if at in gone:
                continue
            if at in below:
                item = copy.copy(item)
                _remove(item_schema(schema), item, _under(gone, at), at)
            kept.append(item)
        value[:] = kept


def _under(paths: frozenset[Path], prefix: Path) -> frozenset[Path]:
    return frozenset(p for p in paths if p[: len(prefix)] == prefix)


def _by_same_manager(owners: Mapping[Owner, Fields], owner: Owner) -> Owner | None:
    """Return the entry of the same manager, operation and subresource, whatever its version."""
    for other in owners:
        same = (other.manager, other.operation, other.subresource)
        if same == (owner.manager, owner.operation, owner.subresource):
            return other
    return None


def _parse(tree: Mapping[str, Any], path: Path) -> Iterator[Path]:
    if not tree and path:
        yield path
    for key, sub in tree.items():
        if key == ".":
            yield path
        else:
            yield from _parse(sub, (*path, key))


def _format(fields: Fields) -> Object:
    tree: Object = {}
    for path in sorted(fields):
        node = tree
        for key in path:
            node = node.setdefault(key, {})
    inner = {p[:i] for p in fields for i in range(1, len(p))}
    for path in fields & inner:
        node = tree
        for key in path:
            node = node[key]
        node["."] = {}
    return tree


def _conflict(
    clashes: Mapping[Owner, Iterable[Path]], name: str, plural: str, group: str
) -> ApiError:
    causes, lines = [], []
    for owner, paths in clashes.items():
        who = f'"{owner.manager}"'
        if owner.operation == "Update":
            who += f" using {owner.api_version}"
        for path in sorted(paths):
            field = _dotted(path)
            lines.append(f"conflict with {who}: {field}")
            cause = {"reason": "FieldManagerConflict", "message": f"conflict with {who}"}
            causes.append({**cause, "field": field})
    plural_s = "s" if len(causes) > 1 else ""
    head = f"Apply failed with {len(causes)} conflict{plural_s}: "
    details = {"name": name, "group": group, "kind": qualified(plural, group), "causes": causes}
    return ApiError(409, "Conflict", head + ", ".join(lines), details)


def _dotted(path: Path) -> str:
    parts = []
    for key in path:
        kind, _, rest = key.partition(":")
        if kind == "f":
            parts.append(f".{rest}")
        elif kind == "k":
            keys = ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(rest).items())
            parts.append(f"[{keys}]")
        else:
            parts.append(f"[={rest}]")
    return "".join(parts)
