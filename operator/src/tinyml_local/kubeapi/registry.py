"""Every read and write of an object goes through here: what the HTTP server and the controllers
call.

The pipeline of a write: form (names, unknown fields) → what no writer may change → defaults →
validation → ownership → store. Semantics follow Kubernetes' API conventions. All methods are
synchronous: one write is never torn by another.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from . import builtins, cel, crds, errors, ownership
from .errors import ApiError, FieldError, Object
from .kinds import Kind, Kinds
from .metadata import KEPT, check_metadata, check_new_finalizers, generated_name, timestamp
from .schema import apply_defaults, prune, undeclared, validate
from .store import Change, ObjectKey, Store

CRD_KEY = ("apiextensions.k8s.io", "customresourcedefinitions")
CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
NAMESPACE_KEY = ("", "namespaces")
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@dataclass(frozen=True)
class WriteOptions:
    """How a write was asked for. `warnings` collects what the reply's headers shall say."""

    manager: str = "unknown"
    dry_run: bool = False
    field_validation: str = "Ignore"
    force: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DeleteOptions:
    """How a deletion was asked for; `policy` is Background, Foreground, Orphan or None (the kind's
    own).
    """

    policy: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


class Registry:
    """The objects of one API, with all rules for writing them."""

    def __init__(
        self, store: Store, kinds: Kinds, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.store = store
        self.kinds = kinds
        self.clock = clock
        store.listen(self._serve_crd)

    def now(self) -> str:
        """Return the time as metadata writes it."""
        return timestamp(self.clock())

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return the object. Raises ApiError 404."""
        found = self.store.get(kind.key, (namespace, name))
        if found is None:
            raise errors.not_found(kind.group, kind.plural, name)
        return self.presented(kind, found)

    def presented(self, kind: Kind, obj: Object) -> Object:
        """Return `obj` as the version of `kind` shows it."""
        if obj.get("apiVersion") == kind.api_version:
            return obj
        return {**obj, "apiVersion": kind.api_version}

    def create(self, kind: Kind, namespace: str, obj: Object, options: WriteOptions) -> Object:
        """Create. Raises ApiError (400, 403, 404, 409, 422)."""
        new = self._checked_form(kind, namespace, None, obj)
        return self._create(kind, namespace, new, options, None)

    def replace(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        obj: Object,
        options: WriteOptions,
        sub: str = "",
    ) -> Object:
        """Replace the object, or its status if `sub` is `status`. Raises ApiError (400, 404, 409,
        422).
        """
        new = self._checked_form(kind, namespace, name, obj)
        old = self.get(kind, namespace, name)
        if not kind.builtin and not new["metadata"].get("resourceVersion"):
            complaint = errors.invalid_value(
                "metadata.resourceVersion", 0, "must be specified for an update"
            )
            raise errors.invalid(kind.kind, kind.group, name, [complaint])
        return self._update(kind, old, new, options, sub, None)

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Callable[[Object], Any],
        options: WriteOptions,
        sub: str = "",
    ) -> Object:
        """Replace the object by `change` of it. Raises ApiError (400, 404, 409, 422)."""
        old = self.get(kind, namespace, name)
        patched = change(old)
        if not isinstance(patched, dict) or not isinstance(patched.get("metadata"), dict):
            raise errors.bad_request("the patch does not leave an object with metadata")
        new = self._checked_form(kind, namespace, name, patched)
        return self._update(kind, old, new, options, sub, None)

    def apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        config: Object,
        options: WriteOptions,
        sub: str = "",
    ) -> tuple[Object, bool]:
        """Server-side apply; return the object and whether it is new. Raises ApiError (400, 404,
        409, 422).
        """
        config = self._checked_form(kind, namespace, name, config)
        if config["metadata"].get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        self._refuse_undeclared(kind, config, namespace)
        if kind.builtin:
            config = builtins.fill(kind, config, config)
            config["metadata"].get("labels", {}).pop("kubernetes.io/metadata.name", None)
        if kind.has_status:
            keep = ("apiVersion", "kind", "metadata")
            config = (
                {k: v for k, v in config.items() if k in keep or k == "status"}
                if sub
                else {k: v for k, v in config.items() if k != "status"}
            )
        owner = ownership.Owner(options.manager, "Apply", sub, kind.api_version)
        live = self.store.get(kind.key, (namespace, name))
        if live is None:
            if sub:
                raise errors.not_found(kind.group, kind.plural, name)
            owners = {owner: ownership.fields_of(kind.schema, config)}
            return self._create(kind, namespace, config, options, owners), True
        live = self.presented(kind, live)
        merged, owners = ownership.apply(
            *(kind.schema, live, config, owner),
            force=options.force,
            plural=kind.plural,
            group=kind.group,
        )
        version = config["metadata"].get("resourceVersion")
        merged["metadata"] = {**merged["metadata"], "resourceVersion": version}
        return self._update(kind, live, merged, options, sub, owners), False

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> Object:
        """Delete or mark for deletion; return the last state. Raises ApiError (404, 409)."""
        old = self.get(kind, namespace, name)
        meta = old["metadata"]
        for wanted, found, what in (
            (options.uid, meta["uid"], "UID"),
            (options.resource_version, meta["resourceVersion"], "ResourceVersion"),
        ):
            if wanted is not None and wanted != found:
                why = (
                    f"the {what} in the precondition ({wanted}) does not match the {what} in record"
                    f" ({found}). The object might have been deleted and then recreated"
                )
                raise errors.conflict(kind.group, kind.plural, name, why)
        if options.dry_run:
            return old
        finalizers = [f for f in meta.get("finalizers") or () if f not in (FOREGROUND, ORPHAN)]
        policy = options.policy or ("Orphan" if kind.plural == "jobs" else "Background")
        extra = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(policy)
        if extra is not None and (extra == FOREGROUND or self._has_dependents(meta["uid"])):
            finalizers.append(extra)
        if kind.key == CRD_KEY and CRD_FINALIZER not in finalizers:
            finalizers.append(CRD_FINALIZER)
        if not finalizers and kind.key != NAMESPACE_KEY:
            last = self.store.remove(kind.key, (namespace, name))
            return last if last is not None else old
        new_meta = {**meta, "finalizers": finalizers}
        if not finalizers:
            del new_meta["finalizers"]
        if "deletionTimestamp" not in meta:
            new_meta |= {"deletionTimestamp": self.now(), "deletionGracePeriodSeconds": 0}
            if kind.has_generation:
                new_meta["generation"] = meta.get("generation", 1) + 1
        new = {**old, "metadata": new_meta}
        if kind.key == NAMESPACE_KEY:
            new["status"] = {**new.get("status", {}), "phase": "Terminating"}
        return old if new == old else self.store.put(kind.key, (namespace, name), new)

    def write_status(self, kind: Kind, obj: Object, status: Object) -> Object | None:
        """Store a new status for `obj` as a controller of this API; None if the object is gone."""
        key = _key(obj)
        live = self.store.get(kind.key, key)
        if live is None or live["metadata"]["uid"] != obj["metadata"]["uid"]:
            return None
        if live.get("status") == status:
            return live
        return self.store.put(kind.key, key, {**live, "status": status})

    def drop_finalizer(self, kind: Kind, obj: Object, finalizer: str) -> None:
        """Take `finalizer` from the object, and remove the object if it waited for nothing else."""
        key = _key(obj)
        live = self.store.get(kind.key, key)
        if live is None:
            return
        left = [f for f in live["metadata"].get("finalizers") or () if f != finalizer]
        meta = {**live["metadata"], "finalizers": left}
        if not left:
            del meta["finalizers"]
        if not left and "deletionTimestamp" in meta and kind.key != NAMESPACE_KEY:
            self.store.remove(kind.key, key)
        else:
            self.store.put(kind.key, key, {**live, "metadata": meta})

    def _checked_form(self, kind: Kind, namespace: str, name: str | None, obj: Any) -> Object:
        """Return a copy of `obj` that agrees with the request's path. Raises ApiError 400."""
        if not isinstance(obj, dict):
            raise errors.bad_request("the body of the request is no object")
        found = (obj.get("apiVersion", kind.api_version), obj.get("kind", kind.kind))
        if found != (kind.api_version, kind.kind):
            raise errors.bad_request(
                f"{found[1]} in version {found[0]!r} cannot be handled as a {kind.kind} in"
                f" {kind.api_version!r}: apiVersion and kind do not match the request's path"
            )
        metadata = obj.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise errors.bad_request("metadata is no object")
        metadata = {k: v for k, v in (metadata or {}).items() if v is not None}
        metadata.pop("selfLink", None)
        metadata.pop("clusterName", None)
        if name is not None and metadata.setdefault("name", name) != name:
            raise errors.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL"
                f" ({name})"
            )
        if not kind.namespaced:
            metadata.pop("namespace", None)
        elif metadata.setdefault("namespace", namespace) != namespace:
            raise errors.bad_request(
                f"the namespace of the provided object ({metadata['namespace']}) does not match the"
                f" namespace sent on the request ({namespace})"
            )
        head = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        rest = {k: v for k, v in obj.items() if k not in head}
        return {**head, **copy.deepcopy(rest)}

    def _create(
        self,
        kind: Kind,
        namespace: str,
        new: Object,
        options: WriteOptions,
        owners: Mapping[ownership.Owner, ownership.Fields] | None,
    ) -> Object:
        self._check_namespace(kind, namespace, new)
        meta = {k: v for k, v in new["metadata"].items() if k not in KEPT}
        if meta.pop("resourceVersion", ""):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = generated_name(meta["generateName"])
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": self.now()}
        if kind.has_generation:
            meta["generation"] = 1
        new["metadata"] = meta
        if kind.has_status:
            new.pop("status", None)
        new = self._validated(kind, new, None, options)
        key = (namespace, meta["name"])
        if self.store.get(kind.key, key) is not None:
            raise errors.already_exists(kind.group, kind.plural, meta["name"])
        if owners is None:
            owner = ownership.Owner(options.manager, "Update", "", kind.api_version)
            owners = ownership.track(kind.schema, None, _unmanaged(new), owner)
        new["metadata"]["managedFields"] = ownership.managed_fields(owners, None, self.now())
        if options.dry_run:
            return new
        if kind.key == CRD_KEY:
            new = crds.established(new, self.now())
        return self.store.put(kind.key, key, self._for_storage(kind, new))

    def _update(
        self,
        kind: Kind,
        old: Object,
        new: Object,
        options: WriteOptions,
        sub: str,
        owners: Mapping[ownership.Owner, ownership.Fields] | None,
    ) -> Object:
        meta, before = new["metadata"], old["metadata"]
        name = before["name"]
        if meta.get("uid") not in (None, "", before["uid"]):
            why = (
                f"Precondition failed: UID in precondition: {meta['uid']},"
                f" UID in object meta: {before['uid']}"
            )
            raise errors.conflict(kind.group, kind.plural, name, why)
        if meta.get("resourceVersion") not in (None, "", before["resourceVersion"]):
            raise errors.modified(kind.group, kind.plural, name)
        new["metadata"] = self._kept_metadata(meta, before, sub)
        if sub:
            new = {**old, "metadata": new["metadata"], "status": new.get("status")}
            if new["status"] is None:
                del new["status"]
            new = copy.deepcopy(new)
        elif kind.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = copy.deepcopy(old["status"])
        new = self._validated(kind, new, old, options)
        if _spec_of(kind, new) != _spec_of(kind, old) and kind.has_generation:
            new["metadata"]["generation"] = before.get("generation", 1) + 1
        if owners is None and _plain(new) == _plain(old):
            return old
        if owners is None:
            owner = ownership.Owner(options.manager, "Update", sub, kind.api_version)
            owners = ownership.track(kind.schema, old, new, owner)
        if _plain(new) == _plain(old) and dict(owners) == ownership.owners_of(old):
            return old
        new["metadata"]["managedFields"] = ownership.managed_fields(owners, old, self.now())
        if options.dry_run:
            new["metadata"]["resourceVersion"] = before["resourceVersion"]
            return new
        key = _key(old)
        finished = "deletionTimestamp" in before and not new["metadata"].get("finalizers")
        if finished and kind.key != NAMESPACE_KEY:
            self.store.put(kind.key, key, self._for_storage(kind, new))
            return self.store.remove(kind.key, key) or new
        if kind.key == CRD_KEY and not sub:
            new = crds.established(new, self.now())
        stored = self.store.put(kind.key, key, self._for_storage(kind, new))
        return self.presented(kind, stored)

    def _kept_metadata(self, meta: Object, before: Object, sub: str) -> Object:
        if sub:  # a status writer changes no metadata
            return {k: v for k, v in before.items() if k not in ("resourceVersion",)}
        kept = {k: before[k] for k in KEPT if k in before}
        dropped = (*KEPT, "resourceVersion", "managedFields")
        new = {k: v for k, v in meta.items() if k not in dropped} | kept
        if "generateName" in before:
            new["generateName"] = before["generateName"]
        if "managedFields" in before:
            new["managedFields"] = before["managedFields"]
        return new

    def _validated(
        self, kind: Kind, new: Object, old: Object | None, options: WriteOptions
    ) -> Object:
        """Return `new` pruned, defaulted and found valid. Raises ApiError (400, 422)."""
        name = new["metadata"].get("name", "")
        self._prune(kind, new, options)
        new["metadata"] = copy.deepcopy(new["metadata"])
        apply_defaults(kind.schema, new)
        new = builtins.fill(kind, new, old)
        if kind.key == CRD_KEY:
            new = crds.with_defaults(new)
        found = validate(kind.schema, new)
        if kind.builtin:
            types = [e for e in found if e.cause == "FieldValueTypeInvalid"]
            if types:
                raise errors.bad_request(
                    f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                    + "; ".join(str(e) for e in types)
                )
        found += check_metadata(kind, new["metadata"])
        if old is not None:
            found += check_new_finalizers(old["metadata"], new["metadata"])
        blocking = [e for e in found if e.cause not in _RULES_STILL_RUN]
        if blocking and not kind.builtin and cel.has_rules(kind.schema):
            found.append(_RULES_NOT_CHECKED)
        elif not blocking:
            found += cel.broken_rules(kind.schema, new, old)
        if not found:
            found += builtins.check(kind, new, old)
        if not found and kind.key == CRD_KEY:
            found += crds.check_crd(new, list(self.kinds))
        if found:
            raise errors.invalid(kind.kind, kind.group, name, found)
        return new

    def _prune(self, kind: Kind, new: Object, options: WriteOptions) -> None:
        unknown = prune(kind.schema, new)
        if not unknown or options.field_validation == "Ignore":
            return
        said = [f'unknown field "{path}"' for path in sorted(unknown)]
        if options.field_validation == "Strict":
            raise errors.bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}:'
                f" strict decoding error: {', '.join(said)}"
            )
        options.warnings.extend(said)

    def _refuse_undeclared(self, kind: Kind, config: Object, namespace: str) -> None:
        unknown = undeclared(kind.schema, config)
        if unknown:
            lines = "".join(f"\n  .{path}: field not declared in schema" for path in unknown)
            where = f"{namespace}/{config['metadata']['name']}"
            raise ApiError(
                500,
                "InternalError",
                f"failed to create typed patch object ({where}; {kind.api_version},"
                f" Kind={kind.kind}): errors:{lines}",
            )

    def _check_namespace(self, kind: Kind, namespace: str, new: Object) -> None:
        if not kind.namespaced:
            return
        found = self.store.get(NAMESPACE_KEY, ("", namespace))
        if found is None:
            raise errors.not_found("", "namespaces", namespace)
        if "deletionTimestamp" in found["metadata"]:
            name = new["metadata"].get("name", "")
            why = (
                f"unable to create new content in namespace {namespace}"
                " because it is being terminated"
            )
            raise errors.forbidden(kind.group, kind.plural, name, why)

    def _for_storage(self, kind: Kind, obj: Object) -> Object:
        if kind.storage_version and kind.storage_version != kind.version:
            return {**obj, "apiVersion": f"{kind.group}/{kind.storage_version}"}
        return obj

    def _has_dependents(self, uid: str) -> bool:
        return any(
            owner.get("uid") == uid
            for _, obj in self.store.everything()
            for owner in obj["metadata"].get("ownerReferences") or ()
        )

    def _serve_crd(self, change: Change) -> None:
        """Serve what CRDs say, from the moment they are stored."""
        if change.resource != CRD_KEY:
            return
        spec = change.object["spec"]
        resource = (spec["group"], spec["names"]["plural"])
        self.kinds.remove(resource)
        if change.type != "DELETED":
            for kind in crds.kinds_of(change.object):
                self.kinds.add(kind)
        else:
            self.store.end_watches(resource)


_RULES_STILL_RUN = frozenset({"FieldValueInvalid", "FieldValueDuplicate", "FieldValueForbidden"})
_RULES_NOT_CHECKED = FieldError(
    "FieldValueInvalid",
    "",
    "Invalid value: null: some validation rules were not checked because the object was invalid;"
    " correct the existing errors to complete validation",
)


def _key(obj: Object) -> ObjectKey:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _plain(obj: Object) -> Object:
    """Return what makes a write a change: all but resourceVersion and managedFields."""
    meta = {
        k: v for k, v in obj["metadata"].items() if k not in ("resourceVersion", "managedFields")
    }
    return {**obj, "metadata": meta}


def _unmanaged(obj: Object) -> Object:
    meta = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    return {**obj, "metadata": meta}


def _spec_of(kind: Kind, obj: Object) -> Object:
    """Return the part whose change bumps the generation."""
    left_out = {"apiVersion", "kind", "metadata"} | ({"status"} if kind.has_status else set())
    return {k: v for k, v in obj.items() if k not in left_out}
