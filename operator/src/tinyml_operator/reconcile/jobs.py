"""What a build's Jobs and pods say: attempts, verdicts of the builder, pods that wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from tinyml_api.build import EXIT_NEEDS_USER, Outcome, Termination
from tinyml_api.conditions import Reason, parse_time
from tinyml_api.group import ANNOTATION_ATTEMPT, ANNOTATION_SOURCES, ANNOTATION_TRY

from tinyml_operator.manifests import CONTAINER
from tinyml_operator.reconcile.plan import Meta, Object

LAST_WORDS = 300  # characters of a log's end that a condition quotes


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a Job. `exit_code` None: its container has not ended."""

    job: str
    job_uid: str  # empty where the pod names no owner
    created: datetime
    started: bool
    exit_code: int | None
    termination: Termination | None
    trouble: str  # why it waits or was ended, in the kubelet's words; may be empty

    @property
    def is_final(self) -> bool:
        """Whether the builder has said that the user must change something."""
        said = self.termination
        failed = said is not None and said.outcome is Outcome.FAILED
        return failed and self.exit_code == EXIT_NEEDS_USER

    @classmethod
    def of(cls, obj: Object) -> Self:
        status = obj.get("status") or {}
        state = _builder_state(status)
        ended = state.get("terminated")
        waiting = state.get("waiting") or {}
        words = [status.get("reason"), status.get("message")]
        words += [waiting.get("reason"), waiting.get("message")]
        for condition in status.get("conditions") or []:
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                words += [condition.get("reason"), condition.get("message")]
        if ended and ended.get("reason") not in (None, "Completed", "Error"):
            words.append(ended["reason"])
        said = _termination(ended.get("message")) if ended else None
        if ended and said is None:  # the end of its log, by terminationMessagePolicy
            words.append(" ".join((ended.get("message") or "").split())[-LAST_WORDS:])
        return cls(
            job=_job_of(obj),
            job_uid=_owner_uid(obj),
            created=parse_time(obj["metadata"]["creationTimestamp"]),
            started="running" in state or ended is not None,
            exit_code=ended.get("exitCode") if ended else None,
            termination=said,
            trouble=": ".join(w for w in words if w),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt. `failed` is the Job's own reason, e.g. BackoffLimitExceeded."""

    name: str
    uid: str
    object: Object
    attempt: int
    tries: int
    sources: str
    complete: bool
    failed: str | None
    ended_at: datetime | None

    @classmethod
    def of(cls, obj: Object) -> Self:
        meta = Meta.of(obj)
        annotations = obj["metadata"].get("annotations") or {}
        status = obj.get("status") or {}
        conditions = {
            c["type"]: c for c in status.get("conditions") or [] if c.get("status") == "True"
        }
        ended = conditions.get("Failed") or conditions.get("Complete") or {}
        time = ended.get("lastTransitionTime") or status.get("completionTime")
        return cls(
            name=meta.name,
            uid=meta.uid,
            object=obj,
            attempt=_count(annotations.get(ANNOTATION_ATTEMPT)),
            tries=_count(annotations.get(ANNOTATION_TRY)),
            sources=annotations.get(ANNOTATION_SOURCES, ""),
            complete="Complete" in conditions,
            failed=(conditions["Failed"].get("reason") or "Failed")
            if "Failed" in conditions
            else None,
            ended_at=(parse_time(time) if time else meta.created) if ended else None,
        )

    @property
    def active(self) -> bool:
        return not self.complete and self.failed is None

    def pods(self, pods: Iterable[Pod]) -> tuple[Pod, ...]:
        """Return this Job's pods, oldest first; not those of a former Job of the same name."""
        mine = [p for p in pods if p.job == self.name and p.job_uid in ("", self.uid)]
        return tuple(sorted(mine, key=lambda p: p.created))

    def goes_on(self, pods: Iterable[Pod]) -> bool:
        """Whether the Job has begun another pod after one that has given the final verdict."""
        mine = self.pods(pods)
        final = next((n for n, pod in enumerate(mine) if pod.is_final), len(mine))
        return self.active and final + 1 < len(mine)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an attempt failed. `final`: trying the same again does not help."""

    reason: Reason
    message: str
    final: bool


def verdict(job: Job, pods: Iterable[Pod]) -> Verdict | None:
    """Return why the attempt failed, or None while it may still succeed.

    A container that ended with status 1 and a termination message decides at once, even where
    the Job would start another pod.
    """
    mine = job.pods(pods)
    for pod in mine:
        if pod.is_final and pod.termination:
            return Verdict(reason_of(pod.termination), pod.termination.message, final=True)
    if job.failed == "DeadlineExceeded":
        return Verdict(
            Reason.DEADLINE_EXCEEDED, f"job {job.name} ran longer than a build may", final=False
        )
    if job.failed is not None:
        last = mine[-1] if mine else None
        if last and last.termination and last.termination.outcome is Outcome.FAILED:
            said = last.termination
            return Verdict(reason_of(said), said.message, final=False)
        return Verdict(Reason.BUILD_JOB_FAILED, _silence(job, last), final=False)
    if job.complete:
        return Verdict(
            Reason.STORAGE_UNREACHABLE,
            f"job {job.name} is complete, but its result.json is not in the bucket",
            final=False,
        )
    return None


def reason_of(said: Termination) -> Reason:
    """Return the builder's reason; one that this operator does not know is InternalError."""
    try:
        return Reason(said.reason)
    except ValueError:
        return Reason.INTERNAL_ERROR


def _silence(job: Job, pod: Pod | None) -> str:
    found = f"job {job.name} failed ({job.failed})"
    if pod is None:
        return f"{found} and has no pod"
    how = f"exit status {pod.exit_code}" if pod.exit_code is not None else "did not end by itself"
    why = f", {pod.trouble}" if pod.trouble else ""
    return f"{found}: the builder left no message ({how}{why}); see kubectl logs job/{job.name}"


def _builder_state(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state of the builder's container; others may have been put beside it."""
    containers = status.get("containerStatuses") or []
    named = [c for c in containers if c.get("name") == CONTAINER] or containers
    return (named[0].get("state") or {}) if named else {}


def _count(text: str | None) -> int:
    """Return the count of an annotation; anybody may have edited it."""
    return int(text) if text and text.isdecimal() and len(text) < 10 else 1


def _job_of(pod: Object) -> str:
    labels = pod["metadata"].get("labels") or {}
    named = labels.get("job-name") or labels.get("batch.kubernetes.io/job-name")
    if named:
        return str(named)
    owners = pod["metadata"].get("ownerReferences") or []
    return next((str(o["name"]) for o in owners if o.get("kind") == "Job"), "")


def _owner_uid(pod: Object) -> str:
    owners = pod["metadata"].get("ownerReferences") or []
    return next((str(o["uid"]) for o in owners if o.get("kind") == "Job"), "")


def _termination(message: str | None) -> Termination | None:
    try:
        return Termination.from_json(message or "")
    except ValueError:
        return None
