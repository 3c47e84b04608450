"""What a reconciler decides: actions as plain data, the status to publish, when to look again.

Every `plan()` of this package returns a `Plan`; `tinyml_operator.shell` applies it. Applying an
action twice equals applying it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from tinyml_api.conditions import Reason, parse_time

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply this object: what has drifted is repaired."""

    object: Object


@dataclass(frozen=True, slots=True)
class Create:
    """Create this object if it is not there. For Jobs, whose template cannot be changed."""

    object: Object


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the object of this apiVersion, kind, namespace and name, if it has this uid."""

    object: Object


@dataclass(frozen=True, slots=True)
class Emit:
    """Record an Event on the object that is reconciled. `warning`: somebody should look."""

    reason: Reason
    message: str
    warning: bool = False


Action = Apply | Create | Delete | Emit


@dataclass(frozen=True, slots=True)
class Plan:
    """`status` None: leave it alone. `requeue_after_s` None: wait for the next event.

    `ring` names objects (kind, name) of the same namespace that should look again now.
    """

    actions: tuple[Action, ...] = ()
    status: Mapping[str, Any] | None = None
    requeue_after_s: float | None = None
    ring: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Meta:
    """The part of an object's metadata that decisions look at."""

    name: str
    namespace: str
    uid: str
    created: datetime
    generation: int
    labels: Mapping[str, str]
    deleting: bool

    @classmethod
    def of(cls, obj: Object) -> Self:
        m = obj["metadata"]
        return cls(
            name=m["name"],
            namespace=m.get("namespace") or "",
            uid=m["uid"],
            created=parse_time(m["creationTimestamp"]),
            generation=m.get("generation", 0),
            labels=m.get("labels") or {},
            deleting="deletionTimestamp" in m,
        )

    @property
    def age_order(self) -> tuple[datetime, str]:
        """Older first; of two made in the same second, the first by name."""
        return self.created, self.name
