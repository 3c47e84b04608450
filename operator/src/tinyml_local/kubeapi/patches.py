"""What does a patch make of an object? JSON merge patch, JSON patch and strategic merge patch as
pure functions.

Sources: RFC 7386, RFC 6902, Kubernetes' strategic-merge-patch documentation. No function
changes its arguments.
"""

from __future__ import annotations

import copy
from typing import Any

from .errors import ApiError, bad_request
from .schema import Schema, item_schema, property_schema, resolve

MERGE_KEY = "x-kubernetes-patch-merge-key"
STRATEGY = "x-kubernetes-patch-strategy"


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` with the merge patch applied: null deletes, objects merge, all else
    replaces.
    """
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """Return `target` after all `operations`. Raises ApiError: 400 for no patch, 422 for one that
    does not fit.
    """
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    result = copy.deepcopy(target)
    for operation in operations:
        if not isinstance(operation, dict) or "op" not in operation or "path" not in operation:
            raise bad_request(f"not a JSON patch operation: {operation!r}")
        result = _operate(result, operation)
    return result


def strategic_merge(schema: Schema, target: Any, patch: Any) -> Any:
    """Return `target` with the strategic merge patch applied; lists merge where `schema` has a
    merge key.
    """
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {k: copy.deepcopy(v) for k, v in patch.items() if k != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    retained = patch.get("$retainKeys")
    if isinstance(retained, list):
        result = {k: v for k, v in result.items() if k in retained}
    for key, value in patch.items():
        if key.startswith("$"):
            _directive(result, key, value)
            continue
        sub = property_schema(schema, key) or {}
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            if value.get("$patch") == "delete":
                result.pop(key, None)
            else:
                result[key] = strategic_merge(sub, result.get(key), value)
        elif isinstance(value, list):
            result[key] = _merge_list(sub, result.get(key) or [], value)
        else:
            result[key] = value
    return result


def _directive(result: dict[str, Any], directive: str, value: Any) -> None:
    name, _, field = directive.partition("/")
    if name == "$deleteFromPrimitiveList" and isinstance(result.get(field), list):
        result[field] = [v for v in result[field] if v not in value]


def _merge_list(schema: Schema, old: list[Any], patch: list[Any]) -> list[Any]:
    schema = resolve(schema)
    if "merge" not in str(schema.get(STRATEGY, "")).split(","):
        return copy.deepcopy([p for p in patch if not _is_replace(p)])
    key = schema.get(MERGE_KEY)
    if key is None:
        return list(old) + [copy.deepcopy(v) for v in patch if v not in old]
    if any(_is_replace(p) for p in patch):
        return copy.deepcopy([p for p in patch if not _is_replace(p)])
    result = list(old)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {item!r} does not contain declared merge key: {key}")
        at = next((i for i, o in enumerate(result) if o.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            result.append(strategic_merge(item_schema(schema), {}, item))
        else:
            result[at] = strategic_merge(item_schema(schema), result[at], item)
    return result


def _is_replace(item: Any) -> bool:
    return isinstance(item, dict) and item.get("$patch") == "replace"


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    op, path = operation["op"], _pointer(operation["path"])
    if op in ("add", "replace", "test") and "value" not in operation:
        raise bad_request(f"JSON patch operation {op!r} needs a value")
    if op == "add":
        return _add(document, path, copy.deepcopy(operation["value"]))
    if op == "remove":
        return _remove(document, path)
    if op == "replace":
        _at(document, path)
        return _add(_remove(document, path), path, copy.deepcopy(operation["value"]))
    if op == "test":
        if not _has(document, path) or _at(document, path) != operation["value"]:
            raise _does_not_fit(f"testing value {operation['path']} failed")
        return document
    if op in ("move", "copy"):
        source = _pointer(operation.get("from", ""))
        value = copy.deepcopy(_at(document, source))
        return _add(_remove(document, source) if op == "move" else document, path, value)
    raise bad_request(f"JSON patch operation {op!r} is not known")


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise bad_request(f"not a JSON pointer: {text!r}")
    return [p.replace("~1", "/").replace("~0", "~") for p in text.split("/")[1:]]


def _has(document: Any, path: list[str]) -> bool:
    try:
        _at(document, path)
    except ApiError:
        return False
    return True


def _at(document: Any, path: list[str]) -> Any:
    for key in path:
        if isinstance(document, dict) and key in document:
            document = document[key]
        elif isinstance(document, list) and key.isdigit() and int(key) < len(document):
            document = document[int(key)]
        else:
            raise _does_not_fit(f"doc is missing path: /{'/'.join(path)}: missing value")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, key = _at(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[key] = value
    elif isinstance(parent, list) and (key == "-" or (key.isdigit() and int(key) <= len(parent))):
        parent.insert(len(parent) if key == "-" else int(key), value)
    else:
        raise _does_not_fit(f"add operation does not apply: no place for /{'/'.join(path)}")
    return document


def _remove(document: Any, path: list[str]) -> Any:
    _at(document, path)
    if not path:
        return None
    parent, key = _at(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        del parent[key]
    else:
        del parent[int(key)]
    return document


def _does_not_fit(why: str) -> ApiError:
    return ApiError(
        422, "Invalid", f"the server rejected our request due to an error in our request: {why}", {}
    )
