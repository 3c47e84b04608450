"""The port through which everything of ours talks to Kubernetes.

`Cluster` has exactly two implementations: `KubernetesCluster` (the real client) and `FakeCluster`
(in memory, for tests). Objects are plain dicts as the API gives them. Errors are those of
`tinyml_kube.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object: API group (empty for core), version, kind, plural, and whether it lives
    in a namespace.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class Ref:
    """The address of one object. `namespace` is None for cluster-scoped kinds."""

    resource: Resource
    namespace: str | None
    name: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`type` is ADDED, MODIFIED or DELETED. A watch begins with an ADDED for each object that
    exists.
    """

    type: str
    object: Object


class Cluster(Protocol):
    async def get(self, ref: Ref) -> Object | None:
        """Return the object, or None where there is none."""

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> Sequence[Object]:
        """Return all objects (None: of all namespaces) with these labels; `name` uses a field
        selector.
        """

    async def create(self, obj: Object) -> Object:
        """Create. Raises AlreadyExistsError."""

    async def apply(self, obj: Object, *, field_manager: str) -> Object:
        """Server-side apply, forced. Applying what is there already changes nothing."""

    async def patch(self, ref: Ref, patch: Mapping[str, Any]) -> Object:
        """Merge-patch the object (not its status). Raises NotFoundError."""

    async def patch_status(
        self,
        ref: Ref,
        status: Mapping[str, Any] | None,
        *,
        resource_version: str | None = None,
    ) -> Object:
        """Merge-patch the status subresource with `{"status": status}`. Raises NotFoundError, and
        ConflictError where the object is another version than `resource_version`.
        """

    async def delete(self, ref: Ref, *, uid: str | None = None) -> None:
        """Delete in the background; nothing happens where it is gone, or where another uid has the
        name.
        """

    def watch(
        self, resource: Resource, namespace: str | None = None, *, name: str | None = None
    ) -> AsyncIterator[WatchEvent]:
        """Yield what is there, then every change, for ever: reconnects and lists anew by itself."""

    async def review_token(self, token: str) -> str | None:
        """Return the user name that `token` belongs to (TokenReview), or None."""

    async def create_token(self, namespace: str, service_account: str, *, seconds: int) -> str:
        """Return a token of that ServiceAccount (TokenRequest). Raises NotFoundError."""
