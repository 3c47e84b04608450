"""TinyModelRevision.status: how far its builds are. Its spec is the record, not written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tinyml_api.conditions import (
    ConditionStatus,
    ConditionType,
    Finding,
    Reason,
    find,
    is_true,
    settle,
)
from tinyml_api.tinymodelrevision import BuildCounts, TinyModelRevisionStatus

from tinyml_operator.reconcile.plan import Plan
from tinyml_operator.reconcile.revision import Build, Revision
from tinyml_operator.reconcile.states import status_dict


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything looked at. `builds` by name, those that are there."""

    revision: Revision
    status: TinyModelRevisionStatus
    builds: Mapping[str, Build]


def plan(o: Observed, now: datetime) -> Plan:
    """Return the status of this revision."""
    if o.revision.meta.deleting:
        return Plan()
    names = [b.build for b in o.revision.spec.builds]
    there = [o.builds[name] for name in names if name in o.builds]
    failed = [b for b in there if is_true(b.status.conditions, ConditionType.STALLED)]
    released = o.revision.spec.release
    done = len(names) if released else sum(b.succeeded for b in there)
    kind = ConditionType.READY
    if released is not None:
        ready = Finding(kind, ConditionStatus.TRUE, Reason.RELEASED)
    elif failed:
        why = find(failed[0].status.conditions, ConditionType.STALLED)
        reason = Reason(why.reason) if why else Reason.BUILD_JOB_FAILED
        message = f"{failed[0].meta.name}: {why.message if why else ''}"
        ready = Finding(kind, ConditionStatus.FALSE, reason, message)
    else:
        told = f"{done} of {len(names)} builds are done"
        ready = Finding(kind, ConditionStatus.UNKNOWN, Reason.BUILDING, told)
    generation = o.revision.meta.generation
    status = TinyModelRevisionStatus(
        observed_generation=generation,
        conditions=settle(o.status.conditions, (ready,), generation=generation, now=now),
        builds=BuildCounts(total=len(names), succeeded=done, failed=len(failed)),
    )
    return Plan(status=status_dict(status))
