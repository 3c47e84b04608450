"""Streams of changes: what a watch sends, from which version on, through which selector.

A watch begins at a resource version of the past (or with what is there), and never misses or
repeats a change after it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from .errors import ApiError, Object
from .kinds import Kind
from .registry import Registry
from .requests import Form, Listing
from .store import Change, Watch
from .tables import partial, table

BOOKMARK_INTERVAL_S = 30.0
LONGEST_S = 3600.0

_INITIAL_END = {"k8s.io/initial-events-end": "true"}


async def events(
    registry: Registry, kind: Kind, namespace: str, listing: Listing, form: Form
) -> AsyncIterator[bytes]:
    """Yield the lines of a watch until its time is over. Raises nothing: a version too old is an
    ERROR event.
    """
    encode = _encoder(kind, form, registry.clock)
    watch = registry.store.watch(kind.key)
    try:
        try:
            first = _begin(registry, kind, namespace, listing, encode)
        except ApiError as e:
            yield _line("ERROR", json.dumps(e.status()).encode())
            return
        if first:
            yield first
        async for lines in _follow(registry, watch, kind, namespace, listing, encode):
            yield lines
    finally:
        watch.close()


def _begin(
    registry: Registry,
    kind: Kind,
    namespace: str,
    listing: Listing,
    encode: Callable[[str, Object, bytes | None], bytes],
) -> bytes:
    """Return the events that come before any new change."""
    if listing.version in ("", "0") or listing.initial:
        found = registry.store.items(kind.key, namespace or None)
        lines = [encode("ADDED", o, None) for o in found if listing.matches(o)]
        if listing.initial and listing.bookmarks:
            lines.append(_bookmark(kind, registry.store.version, _INITIAL_END))
        return b"".join(lines)
    if not listing.version.isdigit():
        raise ApiError(400, "BadRequest", f"Invalid value: {listing.version!r}: no version")
    past = registry.store.since(kind.key, int(listing.version))
    return b"".join(_visible(c, namespace, listing, encode) for c in past)


async def _follow(
    registry: Registry,
    watch: Watch,
    kind: Kind,
    namespace: str,
    listing: Listing,
    encode: Callable[[str, Object, bytes | None], bytes],
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    end = loop.time() + min(listing.timeout_s or LONGEST_S, LONGEST_S)
    bookmark_at = loop.time() + BOOKMARK_INTERVAL_S
    while (now := loop.time()) < end:
        try:
            async with asyncio.timeout(max(0.0, min(end, bookmark_at) - now)):
                changes = [await watch.queue.get()]
        except TimeoutError:
            if listing.bookmarks:
                yield _bookmark(kind, registry.store.version)
            bookmark_at = loop.time() + BOOKMARK_INTERVAL_S
            continue
        while not watch.queue.empty():
            changes.append(watch.queue.get_nowait())
        lines = b"".join(_visible(c, namespace, listing, encode) for c in changes if c is not None)
        if lines:
            yield lines
        if None in changes:
            return


def _visible(
    change: Change,
    namespace: str,
    listing: Listing,
    encode: Callable[[str, Object, bytes | None], bytes],
) -> bytes:
    """Return the event that this watcher sees of `change`: objects enter and leave by its
    selector.
    """
    if namespace and change.object["metadata"].get("namespace") != namespace:
        return b""
    before = change.old is not None and listing.matches(change.old)
    after = change.type != "DELETED" and listing.matches(change.object)
    if change.type == "DELETED":
        type_ = "DELETED" if before else ""
    elif before:
        type_ = "MODIFIED" if after else "DELETED"
    else:
        type_ = "ADDED" if after else ""
    return encode(type_, change.object, change.encoded) if type_ else b""


def _encoder(
    kind: Kind, form: Form, clock: Callable[[], datetime]
) -> Callable[[str, Object, bytes | None], bytes]:
    def encode(type_: str, obj: Object, encoded: bytes | None) -> bytes:
        if form is Form.TABLE:
            version = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            return _line(type_, json.dumps(table(kind, [obj], version, clock())).encode())
        if form is Form.METADATA:
            return _line(type_, json.dumps(partial(obj)).encode())
        if obj.get("apiVersion") != kind.api_version:
            return _line(type_, json.dumps({**obj, "apiVersion": kind.api_version}).encode())
        return _line(type_, encoded if encoded is not None else json.dumps(obj).encode())

    return encode


def _bookmark(kind: Kind, version: int, annotations: dict[str, str] | None = None) -> bytes:
    meta: Object = {"resourceVersion": str(version), "creationTimestamp": None}
    if annotations:
        meta["annotations"] = annotations
    obj = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
    return _line("BOOKMARK", json.dumps(obj).encode())


def _line(type_: str, obj: bytes) -> bytes:
    return b'{"type":"' + type_.encode() + b'","object":' + obj + b"}\n"
