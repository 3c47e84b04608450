"""Where objects live: in memory, with one counter of resource versions and a window of past
changes to watch from.

Objects in the store are never changed in place: who writes puts a new one. One event loop uses
a store; nothing here waits. When the process ends, all is gone: this is for trying and for
tests.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from .errors import Object, expired

ResourceKey = tuple[str, str]
"""API group and plural."""
ObjectKey = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""


@dataclass(frozen=True)
class Change:
    """One write. `type` is ADDED, MODIFIED or DELETED; `old` is what was there before."""

    version: int
    resource: ResourceKey
    type: str
    object: Object
    old: Object | None

    @cached_property
    def encoded(self) -> bytes:
        """The object as JSON, made once for all watchers."""
        return json.dumps(self.object, separators=(",", ":")).encode()


class Watch:
    """A subscription to one resource's changes: `get` waits for the next. Close it after use."""

    def __init__(self, store: Store, resource: ResourceKey) -> None:
        self._store = store
        self._resource = resource
        self.queue: asyncio.Queue[Change | None] = asyncio.Queue()
        store._watches.setdefault(resource, set()).add(self)

    def close(self) -> None:
        """Stop listening."""
        self._store._watches.get(self._resource, set()).discard(self)


class Store:
    """All objects, by resource and then by namespace and name."""

    def __init__(self, window: int = 4096) -> None:
        """`window` is how many past changes of each resource a watch can start from."""
        self.version = 1
        self._window = window
        self._objects: dict[ResourceKey, dict[ObjectKey, Object]] = {}
        self._history: dict[ResourceKey, deque[Change]] = {}
        self._forgotten: dict[ResourceKey, int] = {}
        self._watches: dict[ResourceKey, set[Watch]] = {}
        self._listeners: list[Callable[[Change], None]] = []

    def get(self, resource: ResourceKey, key: ObjectKey) -> Object | None:
        """Return the object, or None. It must not be changed."""
        return self._objects.get(resource, {}).get(key)

    def items(self, resource: ResourceKey, namespace: str | None = None) -> list[Object]:
        """Return the objects in order of namespace and name (None: of all namespaces)."""
        found = self._objects.get(resource, {})
        return [o for (ns, _), o in sorted(found.items()) if namespace is None or ns == namespace]

    def everything(self) -> Iterator[tuple[ResourceKey, Object]]:
        """Yield every object there is."""
        for resource, objects in list(self._objects.items()):
            for obj in list(objects.values()):
                yield resource, obj

    def put(self, resource: ResourceKey, key: ObjectKey, obj: Object) -> Object:
        """Store `obj` under the next resource version and tell everybody; return what is stored."""
        old = self.get(resource, key)
        self.version += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        self._objects.setdefault(resource, {})[key] = obj
        self._publish(resource, "ADDED" if old is None else "MODIFIED", obj, old)
        return obj

    def remove(self, resource: ResourceKey, key: ObjectKey) -> Object | None:
        """Remove the object and tell everybody; return its last state."""
        old = self._objects.get(resource, {}).pop(key, None)
        if old is None:
            return None
        self.version += 1
        last = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
        self._publish(resource, "DELETED", last, old)
        return last

    def since(self, resource: ResourceKey, version: int) -> list[Change]:
        """Return the changes after `version`. Raises ApiError 410 if some of them are forgotten."""
        oldest = self._forgotten.get(resource, 0)
        if version < oldest:
            raise expired(version, oldest)
        return [c for c in self._history.get(resource, ()) if c.version > version]

    def watch(self, resource: ResourceKey) -> Watch:
        """Start to collect changes of `resource`."""
        return Watch(self, resource)

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` with every change of anything, at once. It must not write."""
        self._listeners.append(listener)

    def end_watches(self, resource: ResourceKey | None = None) -> None:
        """End the watches of `resource`, or all: their queues get None."""
        for key, watches in self._watches.items():
            if resource in (None, key):
                for watch in watches:
                    watch.queue.put_nowait(None)

    def _publish(self, resource: ResourceKey, type_: str, obj: Object, old: Object | None) -> None:
        change = Change(self.version, resource, type_, obj, old)
        history = self._history.setdefault(resource, deque())
        history.append(change)
        if len(history) > self._window:
            self._forgotten[resource] = history.popleft().version
        for watch in self._watches.get(resource, ()):
            watch.queue.put_nowait(change)
        for listener in self._listeners:
            listener(change)
