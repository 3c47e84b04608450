"""The status of an object whose pass the Kubernetes API has stopped by refusing a write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tinyml_api.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Finding,
    Reason,
    settle,
)

from tinyml_operator.reconcile.plan import Emit, Object

_OF_THE_PASS = frozenset({ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED})


def refused(obj: Object, message: str, now: datetime) -> tuple[Mapping[str, Any], tuple[Emit, ...]]:
    """Return the status to publish, and the event if this is news.

    `observedGeneration` stays: this generation has not been acted on.
    """
    status = obj.get("status") or {}
    before = tuple(Condition.from_dict(c) for c in status.get("conditions") or ())
    kept = tuple(c for c in before if c.type not in _OF_THE_PASS)
    ready = Finding(ConditionType.READY, ConditionStatus.FALSE, Reason.WRITE_REFUSED, message)
    again = Finding(ConditionType.RECONCILING, ConditionStatus.TRUE, Reason.RETRYING)
    generation = obj["metadata"].get("generation", 0)
    made = settle(before, (ready, again), generation=generation, now=now)
    told = any(c.type == made[0].type and c.message == made[0].message for c in before)
    events = () if told else (Emit(Reason.WRITE_REFUSED, message, warning=True),)
    return {**status, "conditions": [c.to_dict() for c in (*kept, *made)]}, events
