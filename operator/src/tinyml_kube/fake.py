"""`FakeCluster`: the API server as far as our port shows it, in memory, for tests.

Keeps what callers rely on: uid, resourceVersion and generation, the status subresource separated
both ways, finalizers, owner garbage collection (at once), apply that forgets keys its manager
stops sending, watches. It knows no schemas: defaults and validation are the real server's, or
`tinyml_local`'s.

`hook`, if set, is called with `(verb, ref)` before and, as `after-<verb>`, after each write that
changes something; what it raises reaches the caller. Tests kill reconcilers with it.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tinyml_kube.cluster import Object, Ref, Resource, WatchEvent
from tinyml_kube.errors import AlreadyExistsError, ConflictError, InvalidError, NotFoundError
from tinyml_kube.resources import EVENT, JOB, OURS, POD, SERVICE_ACCOUNT, ref_of, resource_of

Hook = Callable[[str, Ref], None]

_WITH_STATUS = {*OURS, JOB, POD}


class FakeCluster:
    """An in-memory `Cluster`. `now` gives creation times; `writes` counts what changed anything."""

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.hook: Hook | None = None
        self.writes: list[tuple[str, Ref]] = []
        self._now = now
        self._objects: dict[Ref, Object] = {}
        self._applied: dict[tuple[Ref, str], Object] = {}
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self._tokens: dict[str, str] = {}
        self._watchers: list[tuple[Resource, str | None, str | None, asyncio.Queue[WatchEvent]]]
        self._watchers = []

    async def get(self, ref: Ref) -> Object | None:
        found = self._objects.get(ref)
        return copy.deepcopy(found) if found is not None else None

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> Sequence[Object]:
        wanted = (labels or {}).items()
        return [
            copy.deepcopy(obj)
            for ref, obj in sorted(
                self._objects.items(), key=lambda item: (item[0].namespace or "", item[0].name)
            )
            if _matches(ref, resource, namespace, name)
            and wanted <= (obj["metadata"].get("labels") or {}).items()
        ]

    async def create(self, obj: Object) -> Object:
        new = copy.deepcopy(obj)
        metadata = new["metadata"]
        if "name" not in metadata and "generateName" in metadata:
            metadata["name"] = f"{metadata['generateName']}{next(self._uids):05d}"
        ref = ref_of(new)
        _check_scope(ref)
        if ref in self._objects:
            raise AlreadyExistsError(f"{ref.resource.plural} {ref.name!r} already exists")
        if ref.resource in _WITH_STATUS:
            new.pop("status", None)
        return self._store_new("create", ref, new)

    async def apply(self, obj: Object, *, field_manager: str) -> Object:
        wanted = copy.deepcopy(obj)
        wanted.pop("status", None)
        ref = ref_of(wanted)
        _check_scope(ref)
        before = self._objects.get(ref)
        last = self._applied.get((ref, field_manager), {})
        if before is None:
            stored = self._store_new("apply", ref, copy.deepcopy(wanted))
        else:
            merged = _merge(_without(copy.deepcopy(before), last, wanted), wanted)
            stored = self._store_change("apply", ref, before, merged)
        self._applied[(ref, field_manager)] = wanted
        return stored

    async def patch(self, ref: Ref, patch: Mapping[str, Any]) -> Object:
        before = self._require(ref)
        change = copy.deepcopy(dict(patch))
        if ref.resource in _WITH_STATUS:
            change.pop("status", None)
        after = _merge_patch(copy.deepcopy(before), change)
        return self._store_change("patch", ref, before, after)

    async def patch_status(
        self,
        ref: Ref,
        status: Mapping[str, Any] | None,
        *,
        resource_version: str | None = None,
    ) -> Object:
        before = self._require(ref)
        if resource_version not in (None, before["metadata"]["resourceVersion"]):
            raise ConflictError(f"{ref.resource.plural} {ref.name!r} has been modified")
        after = _merge_patch(copy.deepcopy(before), {"status": copy.deepcopy(status)})
        return self._store_change("patch-status", ref, before, after)

    async def delete(self, ref: Ref, *, uid: str | None = None) -> None:
        before = self._objects.get(ref)
        if before is None or (uid is not None and before["metadata"]["uid"] != uid):
            return
        self._call_hook("delete", ref)
        if before["metadata"].get("finalizers"):
            if "deletionTimestamp" not in before["metadata"]:
                before["metadata"]["deletionTimestamp"] = self._time()
                self._touch("MODIFIED", ref, before)
        else:
            self._remove(ref)
        self.writes.append(("delete", ref))
        self._call_hook("after-delete", ref)

    async def watch(
        self, resource: Resource, namespace: str | None = None, *, name: str | None = None
    ) -> AsyncIterator[WatchEvent]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        entry = (resource, namespace, name, queue)
        for obj in await self.list(resource, namespace, name=name):
            queue.put_nowait(WatchEvent("ADDED", obj))
        self._watchers.append(entry)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.remove(entry)

    async def review_token(self, token: str) -> str | None:
        return self._tokens.get(token)

    async def create_token(self, namespace: str, service_account: str, *, seconds: int) -> str:
        self._require(Ref(SERVICE_ACCOUNT, namespace, service_account))
        token = f"token-{next(self._uids)}-{seconds}"
        self._tokens[token] = f"system:serviceaccount:{namespace}:{service_account}"
        return token

    def _require(self, ref: Ref) -> Object:
        found = self._objects.get(ref)
        if found is None:
            raise NotFoundError(f"{ref.resource.plural} {ref.name!r} not found")
        return found

    def _store_new(self, verb: str, ref: Ref, obj: Object) -> Object:
        self._call_hook(verb, ref)
        metadata = obj["metadata"]
        metadata["uid"] = f"uid-{next(self._uids)}"
        metadata["creationTimestamp"] = self._time()
        metadata["generation"] = 1
        self._touch("ADDED", ref, obj)
        self._collect_garbage()  # an owner may be gone already
        return self._done(verb, ref, obj)

    def _store_change(self, verb: str, ref: Ref, before: Object, after: Object) -> Object:
        for key in ("uid", "creationTimestamp", "generation", "resourceVersion"):
            after["metadata"][key] = before["metadata"][key]
        if after == before:
            return copy.deepcopy(before)
        self._call_hook(verb, ref)
        if _without_status(after) != _without_status(before):
            after["metadata"]["generation"] += 1
        self._touch("MODIFIED", ref, after)
        if "deletionTimestamp" in after["metadata"] and not after["metadata"].get("finalizers"):
            self._remove(ref)
        return self._done(verb, ref, after)

    def _done(self, verb: str, ref: Ref, obj: Object) -> Object:
        if ref.resource != EVENT:
            self.writes.append((verb, ref))
        self._call_hook(f"after-{verb}", ref)
        return copy.deepcopy(obj)

    def _call_hook(self, verb: str, ref: Ref) -> None:
        if self.hook is not None:
            self.hook(verb, ref)

    def _touch(self, event: str, ref: Ref, obj: Object) -> None:
        obj["metadata"]["resourceVersion"] = str(next(self._versions))
        self._objects[ref] = obj
        self._notify(event, ref, obj)

    def _remove(self, ref: Ref) -> None:
        obj = self._objects.pop(ref)
        for key in [k for k in self._applied if k[0] == ref]:
            del self._applied[key]
        self._notify("DELETED", ref, obj)
        self._collect_garbage()

    def _collect_garbage(self) -> None:
        uids = {o["metadata"]["uid"] for o in self._objects.values()}
        for ref, obj in list(self._objects.items()):
            owners = obj["metadata"].get("ownerReferences") or []
            if owners and not any(o["uid"] in uids for o in owners) and ref in self._objects:
                if obj["metadata"].get("finalizers"):
                    obj["metadata"].setdefault("deletionTimestamp", self._time())
                else:
                    self._remove(ref)

    def _notify(self, event: str, ref: Ref, obj: Object) -> None:
        for resource, namespace, name, queue in self._watchers:
            if _matches(ref, resource, namespace, name):
                queue.put_nowait(WatchEvent(event, copy.deepcopy(obj)))

    def _time(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _matches(ref: Ref, resource: Resource, namespace: str | None, name: str | None) -> bool:
    return (
        ref.resource == resource
        and (namespace is None or ref.namespace == namespace)
        and (name is None or ref.name == name)
    )


def _check_scope(ref: Ref) -> None:
    if ref.resource.namespaced != (ref.namespace is not None):
        need = "needs" if ref.resource.namespaced else "has no"
        raise InvalidError(f"{ref.resource.kind} {ref.name!r} {need} namespace")


def _without_status(obj: Object) -> Object:
    rest = {k: v for k, v in obj.items() if k not in ("status", "metadata")}
    return rest if resource_of(obj) in _WITH_STATUS else rest | {"status": obj.get("status")}


def _merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = _merge_patch(out.get(key), value)
    return out


def _merge(target: Any, wanted: Any) -> Any:
    """Maps merge, everything else is replaced."""
    if not (isinstance(target, dict) and isinstance(wanted, dict)):
        return wanted
    return target | {k: _merge(target.get(k), v) for k, v in wanted.items()}


def _without(target: Any, last: Any, wanted: Any) -> Any:
    """Drop from `target` what `last` sent and `wanted` does not send any more."""
    if not (isinstance(target, dict) and isinstance(last, dict)):
        return target
    for key, value in last.items():
        if not isinstance(wanted, dict) or key not in wanted:
            target.pop(key, None)
        elif key in target:
            target[key] = _without(target[key], value, wanted[key])
    return target
