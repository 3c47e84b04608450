"""Which kinds does the local API serve, and how? One `Kind` for each; the built-in ones are a
table here.

CRDs add theirs through `Kinds.add`. A kind's schema decides pruning, defaults, validation and
how lists merge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .builtin_schemas import builtin_schema
from .schema import Schema
from .store import ResourceKey

ALL_VERBS = (*("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"),)


@dataclass(frozen=True)
class Column:
    """A column of a table. `path` is a JSONPath; built-in kinds have cells made by `tables`
    instead.
    """

    name: str
    type: str = "string"
    path: str = ""
    description: str = ""
    format: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Kind:
    """One kind in one version. `model` names the client's model of a built-in kind, empty for a
    CRD's.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_status: bool = False
    has_generation: bool = False
    model: str = ""
    custom_schema: Schema | None = None
    columns: tuple[Column, ...] = ()
    singular_name: str = ""
    selectable: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    storage_version: str = ""

    @property
    def singular(self) -> str:
        return self.singular_name or self.kind.lower()

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List"

    @property
    def key(self) -> ResourceKey:
        return (self.group, self.plural)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def builtin(self) -> bool:
        return bool(self.model)

    @cached_property
    def schema(self) -> Schema:
        """The schema of the whole object: apiVersion, kind and metadata are always declared."""
        if self.model:
            return builtin_schema(self.model)
        schema = dict(self.custom_schema or {"type": "object"})
        meta = builtin_schema("V1ObjectMeta")
        own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": meta}
        schema["properties"] = {**schema.get("properties", {}), **own}
        return schema


class Kinds:
    """All kinds that are served now."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str, str], Kind] = {}
        for kind in _BUILTIN:
            self.add(kind)

    def add(self, kind: Kind) -> None:
        """Serve `kind`, in place of what had its path."""
        self._by_path[kind.group, kind.version, kind.plural] = kind

    def remove(self, resource: ResourceKey) -> None:
        """Serve no version of `resource` any more."""
        for path in [p for p in self._by_path if (p[0], p[2]) == resource]:
            del self._by_path[path]

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._by_path.get((group, version, plural))

    def of(self, resource: ResourceKey) -> Kind | None:
        """Return the kind of `resource` in any of its versions."""
        return next((k for k in self if k.key == resource), None)

    def by_kind(self, api_version: str, kind: str) -> Kind | None:
        return next((k for k in self if (k.api_version, k.kind) == (api_version, kind)), None)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_path.values())

    def versions(self) -> Mapping[tuple[str, str], list[Kind]]:
        """Return the kinds of each (group, version)."""
        result: dict[tuple[str, str], list[Kind]] = {}
        for kind in self:
            result.setdefault((kind.group, kind.version), []).append(kind)
        return result


def _core(kind: str, plural: str, *short: str, **more: Any) -> Kind:
    return Kind("", "v1", kind, plural, short_names=short, **({"model": f"V1{kind}"} | more))


def _rbac(kind: str, plural: str, *, namespaced: bool) -> Kind:
    group = "rbac.authorization.k8s.io"
    return Kind(group, "v1", kind, plural, namespaced=namespaced, model=f"V1{kind}")


def _columns(*columns: str) -> tuple[Column, ...]:
    """Make columns of `Name`, `Count:integer`, and `+Message` for one that only wide output
    shows.
    """
    result = []
    for text in columns:
        name, _, type_ = text.removeprefix("+").partition(":")
        form = "name" if name == "Name" else ""
        wide = int(text.startswith("+"))
        result.append(Column(name, type_ or "string", format=form, priority=wide))
    return tuple(result)


_BUILTIN: tuple[Kind, ...] = (
    _core(
        *("Namespace", "namespaces", "ns"),
        namespaced=False,
        has_status=True,
        columns=_columns("Name", "Status", "Age"),
    ),
    _core("ConfigMap", "configmaps", "cm", columns=_columns("Name", "Data:integer", "Age")),
    _core("Secret", "secrets", columns=_columns("Name", "Type", "Data:integer", "Age")),
    _core(
        *("ServiceAccount", "serviceaccounts", "sa"),
        subresources=("token",),
        columns=_columns("Name", "Secrets:integer", "Age"),
    ),
    _core(
        *("Event", "events", "ev"),
        model="CoreV1Event",
        columns=_columns(
            *("Last Seen", "Type", "Reason", "Object", "+Subobject"),
            *("+Source", "Message", "+First Seen"),
            *("+Count", "+Name"),
        ),
    ),
    _core(
        *("Pod", "pods", "po"),
        categories=("all",),
        has_status=True,
        subresources=("log",),
        columns=_columns("Name", "Ready", "Status", "Restarts:integer", "Age"),
    ),
    Kind(
        *("batch", "v1", "Job", "jobs"),
        categories=("all",),
        has_status=True,
        has_generation=True,
        model="V1Job",
        columns=_columns(
            *("Name", "Status", "Completions", "Duration", "Age", "+Containers"),
            *("+Images", "+Selector"),
        ),
    ),
    Kind(
        *("coordination.k8s.io", "v1", "Lease", "leases"),
        model="V1Lease",
        columns=_columns("Name", "Holder", "Age"),
    ),
    _rbac("Role", "roles", namespaced=True),
    _rbac("RoleBinding", "rolebindings", namespaced=True),
    _rbac("ClusterRole", "clusterroles", namespaced=False),
    _rbac("ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    Kind(
        *("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"),
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        has_status=True,
        has_generation=True,
        model="V1CustomResourceDefinition",
        columns=_columns("Name", "Created At"),
    ),
)


@dataclass(frozen=True)
class Review:
    """A kind that is only ever posted and answered, never stored."""

    group: str
    kind: str
    plural: str
    namespaced: bool = False
    version: str = field(default="v1")


REVIEWS: tuple[Review, ...] = (
    Review("authentication.k8s.io", "TokenReview", "tokenreviews"),
    Review("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews"),
    Review("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    Review("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
    Review("authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews"),
)
