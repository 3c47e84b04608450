"""Kubernetes' housekeeping: garbage collection by owner, namespaces, CRDs that go, default
ServiceAccounts.

One task consumes every change of the store and acts through the registry. Level-based enough:
each change names what to look at, the store says how it is now.
"""

from __future__ import annotations

import asyncio
import logging

from .errors import ApiError, Object
from .kinds import Kind
from .registry import (
    CRD_FINALIZER,
    CRD_KEY,
    FOREGROUND,
    NAMESPACE_KEY,
    ORPHAN,
    DeleteOptions,
    Registry,
    WriteOptions,
)
from .store import Change, ResourceKey

logger = logging.getLogger(__name__)

_OPTIONS = WriteOptions(manager="tinyml-local")
_SERVICE_ACCOUNTS: ResourceKey = ("", "serviceaccounts")


class Controllers:
    """The housekeeping of one registry. Start it before the first client comes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store
        self._changes: asyncio.Queue[Change] = asyncio.Queue()
        self._dependents: dict[str, set[tuple[ResourceKey, str, str]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._store.listen(self._note)

    def start(self) -> None:
        """Begin, and make the namespaces that every cluster has."""
        namespaces = self._registry.kinds.of(NAMESPACE_KEY)
        assert namespaces is not None
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            head = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self._registry.create(namespaces, "", head, _OPTIONS)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="controllers")

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _note(self, change: Change) -> None:
        where = (change.resource, *_address(change.object))
        for obj, present in ((change.old, False), (change.object, change.type != "DELETED")):
            for owner in (obj or {}).get("metadata", {}).get("ownerReferences") or ():
                entries = self._dependents.setdefault(owner["uid"], set())
                (entries.add if present else entries.discard)(where)
        self._changes.put_nowait(change)

    async def _run(self) -> None:
        while True:
            change = await self._changes.get()
            try:
                self._handle(change)
            except ApiError as e:
                logger.warning("housekeeping failed of=%s error=%s", _address(change.object), e)
            except Exception:
                logger.exception("housekeeping failed of=%s", _address(change.object))

    def _handle(self, change: Change) -> None:
        meta = change.object["metadata"]
        if change.type == "DELETED":
            self._owner_is_gone(meta["uid"])
        else:
            self._collect_if_orphaned(change)
            if "deletionTimestamp" in meta:
                self._progress_deletion(change.resource, change.object)
            if change.resource == NAMESPACE_KEY and change.type == "ADDED":
                self._add_service_account(meta["name"])
        if change.type == "DELETED":
            self._waiting_may_end(change)
        if change.resource == _SERVICE_ACCOUNTS and change.type == "DELETED":
            self._add_service_account(meta["namespace"])

    # -- owners --------------------------------------------------------------------------------

    def _owner_is_gone(self, uid: str) -> None:
        for where in list(self._dependents.get(uid, ())):
            found = self._find(where)
            if found is not None and not self._has_living_owner(*found):
                self._delete(*found)
        self._dependents.pop(uid, None)

    def _collect_if_orphaned(self, change: Change) -> None:
        """Delete an object that was made, or given owners, when none of its owners was there."""
        if not change.object["metadata"].get("ownerReferences"):
            return
        found = self._find((change.resource, *_address(change.object)))
        if found is not None and not self._has_living_owner(*found):
            self._delete(*found)

    def _has_living_owner(self, kind: Kind, obj: Object) -> bool:
        owners = obj["metadata"].get("ownerReferences") or ()
        return not owners or any(self._owner_lives(kind, obj, owner) for owner in owners)

    def _owner_lives(self, kind: Kind, obj: Object, owner: Object) -> bool:
        owner_kind = self._registry.kinds.by_kind(owner["apiVersion"], owner["kind"])
        if owner_kind is None:
            return True  # Kubernetes waits for a kind that it does not know
        namespace = obj["metadata"].get("namespace", "") if owner_kind.namespaced else ""
        if owner_kind.namespaced and not kind.namespaced:
            return True  # such a reference cannot be resolved: Kubernetes leaves the object alone
        found = self._store.get(owner_kind.key, (namespace, owner["name"]))
        return found is not None and found["metadata"]["uid"] == owner["uid"]

    # -- deletions in progress -----------------------------------------------------------------

    def _progress_deletion(self, resource: ResourceKey, seen: Object) -> None:
        found = self._find((resource, *_address(seen)))
        if found is None or "deletionTimestamp" not in found[1]["metadata"]:
            return
        kind, obj = found
        finalizers = obj["metadata"].get("finalizers") or ()
        if ORPHAN in finalizers:
            self._release_dependents(obj)
            self._registry.drop_finalizer(kind, obj, ORPHAN)
        elif FOREGROUND in finalizers and not self._delete_dependents(obj):
            self._registry.drop_finalizer(kind, obj, FOREGROUND)
        elif resource == NAMESPACE_KEY:
            self._empty_namespace(obj)
        elif resource == CRD_KEY and CRD_FINALIZER in finalizers:
            self._empty_crd(kind, obj)

    def _release_dependents(self, owner: Object) -> None:
        uid = owner["metadata"]["uid"]
        for where in list(self._dependents.get(uid, ())):
            found = self._find(where)
            if found is None:
                continue
            kind, obj = found
            meta = dict(obj["metadata"])
            left = [o for o in meta.get("ownerReferences") or () if o["uid"] != uid]
            meta.pop("ownerReferences", None)
            if left:
                meta["ownerReferences"] = left
            self._store.put(kind.key, _address(obj), {**obj, "metadata": meta})

    def _delete_dependents(self, owner: Object) -> bool:
        """Delete what blocks the owner's deletion; return whether some of it is still there."""
        uid, waiting = owner["metadata"]["uid"], False
        for where in list(self._dependents.get(uid, ())):
            found = self._find(where)
            if found is not None:
                self._delete(*found)
                still = self._find(where)
                owners = still[1]["metadata"].get("ownerReferences") or () if still else ()
                waiting |= any(o["uid"] == uid and o.get("blockOwnerDeletion") for o in owners)
        return waiting

    def _empty_namespace(self, namespace: Object) -> None:
        name = namespace["metadata"]["name"]
        contents = [(r, o) for r, o in self._store.everything() if _address(o)[0] == name]
        for resource, obj in contents:
            found = self._find((resource, *_address(obj)))
            if found is not None and "deletionTimestamp" not in obj["metadata"]:
                self._delete(*found)
        left = any(_address(o)[0] == name for _, o in self._store.everything())
        if not left and not namespace["metadata"].get("finalizers"):
            self._store.remove(NAMESPACE_KEY, ("", name))

    def _empty_crd(self, kind: Kind, crd: Object) -> None:
        resource = (crd["spec"]["group"], crd["spec"]["names"]["plural"])
        for obj in self._store.items(resource):
            found = self._find((resource, *_address(obj)))
            if found is not None and "deletionTimestamp" not in obj["metadata"]:
                self._delete(*found)
        if not self._store.items(resource):
            self._registry.drop_finalizer(kind, crd, CRD_FINALIZER)

    def _waiting_may_end(self, change: Change) -> None:
        """Look again at a namespace, CRD or foreground owner that waited for this object."""
        namespace, _ = _address(change.object)
        parent = self._store.get(NAMESPACE_KEY, ("", namespace))
        if parent is not None:
            self._progress_deletion(NAMESPACE_KEY, parent)
        group, plural = change.resource
        crd = self._store.get(CRD_KEY, ("", f"{plural}.{group}"))
        if crd is not None:
            self._progress_deletion(CRD_KEY, crd)
        for owner in change.object["metadata"].get("ownerReferences") or ():
            kind = self._registry.kinds.by_kind(owner["apiVersion"], owner["kind"])
            if kind is not None:
                at = namespace if kind.namespaced else ""
                found = self._store.get(kind.key, (at, owner["name"]))
                if found is not None:
                    self._progress_deletion(kind.key, found)

    # -- small things --------------------------------------------------------------------------

    def _add_service_account(self, namespace: str) -> None:
        found = self._store.get(NAMESPACE_KEY, ("", namespace))
        if found is None or "deletionTimestamp" in found["metadata"]:
            return
        kind = self._registry.kinds.of(_SERVICE_ACCOUNTS)
        assert kind is not None
        if self._store.get(kind.key, (namespace, "default")) is None:
            head = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            self._registry.create(kind, namespace, head, _OPTIONS)

    def _find(self, where: tuple[ResourceKey, str, str]) -> tuple[Kind, Object] | None:
        resource, namespace, name = where
        kind = self._registry.kinds.of(resource)
        obj = self._store.get(resource, (namespace, name))
        return (kind, obj) if kind is not None and obj is not None else None

    def _delete(self, kind: Kind, obj: Object) -> None:
        namespace, name = _address(obj)
        options = DeleteOptions(policy="Background", uid=obj["metadata"]["uid"])
        try:
            self._registry.delete(kind, namespace, name, options)
        except ApiError as e:
            if e.reason != "NotFound":
                raise


def _address(obj: Object) -> tuple[str, str]:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
