"""What does an HTTP request ask for? Paths, bodies, query parameters and Accept headers, read into
plain values.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import yaml

from . import errors, protobuf
from .errors import Object
from .kinds import REVIEWS, Kind, Kinds, Review
from .registry import DeleteOptions, WriteOptions
from .selectors import Predicate, field_selector, label_selector

BODY_TYPES = ("application/json", "application/yaml", protobuf.MEDIA_TYPE)
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


class Form(Enum):
    """How the client wants objects."""

    PLAIN = "plain"
    TABLE = "table"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: a collection if `name` is empty; all namespaces if `namespace` is
    empty.
    """

    kind: Kind | Review
    namespace: str
    name: str
    sub: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The parameters of a list or watch."""

    matches: Predicate
    selective: bool
    limit: int
    after: tuple[str, str] | None
    version: str
    watch: bool
    bookmarks: bool
    initial: bool
    timeout_s: float | None


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a timestamp is a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_target(kinds: Kinds, path: str) -> Target:
    """Return what `path` names. Raises ApiError 404."""
    parts = [p for p in path.split("/") if p]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise errors.no_such_path()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and not (group == "" and rest[2] == "status"):
        namespace, rest = rest[1], rest[2:]
    plural, name, sub = (*rest, "", "")[:3]
    kind = kinds.find(group, version, plural) or next(
        (r for r in REVIEWS if (r.group, r.version, r.plural) == (group, version, plural)), None
    )
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
        raise errors.no_such_path()
    if name and kind.namespaced and not namespace:
        raise errors.no_such_path()
    if sub:
        known = isinstance(kind, Kind) and (
            sub in kind.subresources or (sub == "status" and kind.has_status)
        )
        if not known:
            raise errors.no_such_path()
    return Target(kind, namespace, name, sub)


def parse_body(data: bytes, content_type: str, accepted: tuple[str, ...]) -> Any:
    """Return the body as plain values. A request without Content-Type is read as JSON. Raises
    ApiError 400, 415.
    """
    if content_type not in ("", "application/octet-stream", *accepted):
        raise errors.unsupported_media_type(content_type, accepted)
    if not data.strip():
        return None
    if content_type == protobuf.MEDIA_TYPE:
        return protobuf.decode(data)
    try:
        if content_type.endswith("yaml") and data.lstrip()[:1] not in (b"{", b"["):
            return yaml.load(data, Loader=_Loader)
        return json.loads(data)
    except (ValueError, yaml.YAMLError) as e:
        raise errors.bad_request(f"error decoding the body of the request: {e}") from e


def write_options(query: Mapping[str, str], user_agent: str) -> WriteOptions:
    """Return how the write was asked for. Raises ApiError 400."""
    dry_run = query.get("dryRun", "")
    if dry_run not in ("", "All"):
        raise errors.bad_request(f'Unsupported value: "{dry_run}": supported values: "All"')
    validation = query.get("fieldValidation", "Warn")
    if validation not in ("Ignore", "Warn", "Strict"):
        raise errors.bad_request(
            f'Unsupported value: "{validation}": supported values: "", "Ignore", "Strict", "Warn"'
        )
    return WriteOptions(
        manager=query.get("fieldManager") or user_agent.split("/")[0] or "unknown",
        dry_run=bool(dry_run),
        field_validation=validation,
        force=query.get("force") in ("true", "1"),
    )


def delete_options(query: Mapping[str, str], body: Any) -> DeleteOptions:
    """Return how the deletion was asked for: by the body, else by the query. Raises ApiError
    400.
    """
    if body is not None and not isinstance(body, dict):
        raise errors.bad_request("the body of a deletion is DeleteOptions")
    body = body or {}
    policy = body.get("propagationPolicy") or query.get("propagationPolicy")
    if policy not in (None, "Background", "Foreground", "Orphan"):
        raise errors.bad_request(
            f'Unsupported value: "{policy}": supported values: "Background", "Foreground", "Orphan"'
        )
    if body.get("orphanDependents") is not None:
        policy = "Orphan" if body["orphanDependents"] else "Background"
    preconditions = body.get("preconditions") or {}
    return DeleteOptions(
        policy=policy,
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
        dry_run=bool(body.get("dryRun") or query.get("dryRun")),
    )


def listing(query: Mapping[str, str], kind: Kind, name: str = "") -> Listing:
    """Return the parameters of a list or watch; `name` restricts it to one object. Raises ApiError
    400, 410.
    """
    labels = label_selector(query.get("labelSelector", ""))
    fields = field_selector(query.get("fieldSelector", ""), kind.plural, kind.selectable)

    def matches(obj: Object) -> bool:
        if name and obj["metadata"]["name"] != name:
            return False
        return labels(obj) and fields(obj)

    return Listing(
        matches=matches,
        selective=bool(query.get("labelSelector") or query.get("fieldSelector") or name),
        limit=_number(query, "limit"),
        after=_continue(query.get("continue", "")),
        version=query.get("resourceVersion", ""),
        watch=query.get("watch", "") in ("true", "1"),
        bookmarks=query.get("allowWatchBookmarks", "") in ("true", "1"),
        initial=query.get("sendInitialEvents", "") in ("true", "1"),
        timeout_s=_number(query, "timeoutSeconds") or None,
    )


def continue_token(key: tuple[str, str], version: str) -> str:
    """Return the token with which a list goes on after `key`."""
    return base64.urlsafe_b64encode(json.dumps([*key, version]).encode()).decode()


def continued_version(token: str) -> str:
    """Return the resource version of the list's first page."""
    return str(_decoded(token)[2])


def form(accept: str) -> Form:
    """Return what the Accept header prefers."""
    for part in accept.split(","):
        if "as=Table" in part:
            return Form.TABLE
        if "as=PartialObjectMetadata" in part:
            return Form.METADATA
        if re.match(r"\s*(application/json|\*/\*|application/\*)", part):
            return Form.PLAIN
    return Form.PLAIN


def _number(query: Mapping[str, str], key: str) -> int:
    text = query.get(key, "") or "0"
    if not re.fullmatch(r"\d{1,12}", text):
        raise errors.bad_request(f"{key} is {text!r}, it must be a whole number")
    return int(text)


def _continue(token: str) -> tuple[str, str] | None:
    if not token:
        return None
    namespace, name, _ = _decoded(token)
    return (namespace, name)


def _decoded(token: str) -> list[str]:
    try:
        found = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, binascii.Error) as e:
        raise errors.bad_request(f"continue key is not valid: {e}") from e
    if not isinstance(found, list) or len(found) != 3:
        raise errors.bad_request("continue key is not valid: it is not one of this API")
    return [str(f) for f in found]
