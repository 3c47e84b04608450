"""ModelBuild: one build, its attempts, its result. `plan` decides; tinyml_operator.shell does.

The artifact store is the memory: where `result.json` is there, the build is done, whatever the
status says. Else the newest Job says how far it is. A lost status costs nothing, a lost Job is
created anew, and a request whose result is there never builds again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from tinyml_api.build import BuildResult, Image
from tinyml_api.conditions import (
    ConditionStatus,
    ConditionType,
    Finding,
    Reason,
    find,
    is_true,
    message_of,
    parse_time,
    rfc3339,
    settle,
)
from tinyml_api.images import ImageFile
from tinyml_api.modelbuild import BuildSummary, ModelBuildSpec, ModelBuildStatus

from tinyml_operator import manifests
from tinyml_operator.reconcile.jobs import Job, Pod, Verdict, verdict
from tinyml_operator.reconcile.plan import (
    Action,
    Apply,
    Create,
    Delete,
    Emit,
    Meta,
    Object,
    Plan,
)
from tinyml_operator.reconcile.states import status_dict
from tinyml_operator.settings import Settings


@dataclass(frozen=True, slots=True)
class Sources:
    """Where one TinyModel says that the files are."""

    model: str
    calibration: str | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """URLs that the builder can read and write without credentials, until `expires`."""

    model_url: str
    calibration_url: str
    uploads: Mapping[str, str]
    expires: datetime


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there are no inputs, or no look into the store. `final`: the manifest must change."""

    reason: Reason
    message: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything looked at. `result` is what the store has; `inputs` only where wanted."""

    meta: Meta
    spec: ModelBuildSpec
    status: ModelBuildStatus
    sources: tuple[Sources, ...]
    result: BuildResult | Problem | None
    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    secret: Object | None = None  # with the request
    request_expires: datetime | None = None
    report: str = ""
    inputs: Inputs | Problem | None = None


class Step(Enum):
    """What comes next for a build."""

    NOTHING = "nothing"
    PUBLISH = "publish the result"
    WAIT_FOR_STORE = "wait for the store"
    WAIT_FOR_SOURCES = "wait for a TinyModel that has the files"
    START = "start an attempt"
    RENEW = "renew the request's URLs"
    WATCH = "watch the Job"
    WAIT_TO_RETRY = "wait to retry"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class Next:
    """`attempt` for START, `job` where one is there, `verdict` where it failed."""

    step: Step
    attempt: manifests.Attempt | None = None
    job: Job | None = None
    verdict: Verdict | None = None
    after_s: float | None = None


def sources_digest(sources: tuple[Sources, ...]) -> str:
    """Return a name of the set of addresses: other addresses are worth another attempt."""
    text = "\n".join(sorted(f"{s.model}\t{s.calibration or ''}" for s in sources))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def next_step(o: Observed, settings: Settings, now: datetime) -> Next:
    """Decide what comes next. Rows are tried in order; the first that fits wins."""
    if o.meta.deleting:
        return Next(Step.NOTHING)
    if isinstance(o.result, BuildResult):
        return Next(Step.PUBLISH)
    job = max(o.jobs, key=lambda j: j.attempt, default=None)
    if isinstance(o.result, Problem):
        return Next(Step.WAIT_FOR_STORE, job=job)
    if job is None:
        return _without_job(o)
    failure = verdict(job, o.pods)
    if failure is not None:
        return _after_failure(o, job, failure, settings, now)
    half_life = timedelta(seconds=settings.url_lifetime_s / 2)
    if o.request_expires is None or o.request_expires - now < half_life:
        return Next(Step.RENEW if o.sources else Step.WATCH, job=job)
    left_s = (o.request_expires - now - half_life).total_seconds()
    return Next(Step.WATCH, job=job, after_s=left_s + 1)


def _without_job(o: Observed) -> Next:
    digest = sources_digest(o.sources)
    if is_true(o.status.conditions, ConditionType.STALLED) and o.status.sources == digest:
        return Next(Step.GIVE_UP)
    if not o.sources:
        return Next(Step.WAIT_FOR_SOURCES)
    # A Job that is gone before it ended is made anew under its own number.
    return Next(Step.START, manifests.Attempt(max(o.status.attempts, 1), 1, digest))


def _after_failure(
    o: Observed, job: Job, failure: Verdict, settings: Settings, now: datetime
) -> Next:
    digest = sources_digest(o.sources)
    if o.sources and job.sources != digest:
        return Next(Step.START, manifests.Attempt(job.attempt + 1, 1, digest), job, failure)
    if failure.final or job.tries >= settings.build_attempts:
        return Next(Step.GIVE_UP, job=job, verdict=failure)
    wait_s = min(settings.retry_first_s * 2 ** (job.tries - 1), settings.retry_most_s)
    since = job.ended_at or now
    left_s = wait_s - (now - since).total_seconds()
    if left_s > 0:
        return Next(Step.WAIT_TO_RETRY, job=job, verdict=failure, after_s=left_s)
    if not o.sources:
        return Next(Step.WAIT_FOR_SOURCES, job=job, verdict=failure)
    attempt = manifests.Attempt(job.attempt + 1, job.tries + 1, digest)
    return Next(Step.START, attempt, job, failure)


def wanted_sources(o: Observed, settings: Settings, now: datetime) -> Sources | None:
    """Return the files that the next step reads, or None: then `Observed.inputs` is not needed.

    Where several TinyModels name the same content at different addresses, attempts take turns.
    """
    following = next_step(o, settings, now)
    if following.step not in (Step.START, Step.RENEW):
        return None
    tries = following.attempt.tries if following.attempt else 1
    if following.job is not None and following.attempt is None:
        tries = following.job.tries
    return o.sources[(tries - 1) % len(o.sources)]


def plan(o: Observed, settings: Settings, now: datetime) -> Plan:
    """Return what to do for this build now."""
    following = next_step(o, settings, now)
    match following.step:
        case Step.NOTHING:
            return Plan()
        case Step.PUBLISH:
            return _publish(o, now)
        case Step.START | Step.RENEW:
            return _start(o, following, settings, now)
        case Step.WATCH:
            return _watch(o, following, now)
        case Step.WAIT_TO_RETRY:
            return _retry_later(o, following, settings, now)
        case Step.GIVE_UP:
            return _give_up(o, following, now)
        case Step.WAIT_FOR_SOURCES:
            return _waiting(o, now)
        case Step.WAIT_FOR_STORE:
            return _without_store(o, settings, now)


def _publish(o: Observed, now: datetime) -> Plan:
    result = o.result
    if not isinstance(result, BuildResult):
        raise TypeError("a result is published where there is one")
    summary = BuildSummary.from_dict(result.summary)
    done = find(o.status.conditions, ConditionType.READY)
    first = done is None or done.status != ConditionStatus.TRUE
    message = (
        f"flash {summary.flash_bytes} bytes, RAM {summary.ram_bytes} bytes, "
        f"{summary.mismatches} mismatches in {summary.vectors} vectors"
    )
    job = max(o.jobs, key=lambda j: j.attempt, default=None)
    known = _of_job(o.status, job, now) if job else o.status
    ended = known.completion_time if first else o.status.completion_time
    status = replace(
        known,
        completion_time=ended or rfc3339(now),
        code=_image(result.code),
        weights=_image(result.weights),
        report=o.report or None,
        summary=summary,
    )
    ready = Finding(ConditionType.READY, ConditionStatus.TRUE, Reason.BUILT, message)
    actions: tuple[Action, ...] = (Emit(Reason.BUILT, message),) if first else ()
    return Plan(actions + _tidy(o), _status(o, status, (ready,), now))


def _start(o: Observed, following: Next, settings: Settings, now: datetime) -> Plan:
    inputs = o.inputs
    if not isinstance(inputs, Inputs):
        if following.attempt is None and _runs(o, following.job):  # it has read the request
            return replace(_watch(o, following, now), requeue_after_s=_patience_s(o, settings, now))
        problem = inputs or Problem(Reason.INTERNAL_ERROR, "inputs were not resolved")
        return _blocked(o, problem, settings, now)
    request = o.spec.request(
        model_url=inputs.model_url,
        calibration_url=inputs.calibration_url,
        uploads=inputs.uploads,
    )
    secret = Apply(manifests.request_secret(o.meta, request, inputs.expires))
    if following.attempt is None:
        renewed = _watch(o, following, now)
        wait_s = (inputs.expires - now).total_seconds() - settings.url_lifetime_s / 2 + 1
        return replace(renewed, actions=(secret,), requeue_after_s=max(wait_s, 1))
    attempt = following.attempt
    job = Create(manifests.build_job(o.meta, attempt, settings))
    message = f"attempt {attempt.number} runs as job {attempt.job_name(o.meta.name)}"
    status = replace(
        o.status,
        attempts=attempt.number,
        job=attempt.job_name(o.meta.name),
        sources=attempt.sources,
        start_time=rfc3339(now),
        completion_time=None,
    )
    return Plan(
        (secret, job, Emit(Reason.BUILDING, message)),
        _status(o, status, _progress(Reason.QUEUED, message), now),
        requeue_after_s=settings.url_lifetime_s / 2,
    )


def _watch(o: Observed, following: Next, now: datetime) -> Plan:
    job = following.job
    if job is None:
        raise TypeError("a Job is watched where there is one")
    mine = job.pods(o.pods)
    running = _runs(o, job)
    trouble = next((p.trouble for p in mine if p.trouble and not p.started), "")
    reason = Reason.BUILDING if running else Reason.QUEUED
    message = f"attempt {job.attempt} runs as job {job.name}" + (f": {trouble}" if trouble else "")
    status = _of_job(o.status, job, now)
    return Plan(
        status=_status(o, status, _progress(reason, message), now),
        requeue_after_s=following.after_s,
    )


def _retry_later(o: Observed, following: Next, settings: Settings, now: datetime) -> Plan:
    job, failure = following.job, following.verdict
    if job is None or failure is None:
        raise TypeError("a retry follows a failed Job")
    message = f"{failure.message}; attempt {job.tries} of {settings.build_attempts} failed"
    ready = Finding(ConditionType.READY, ConditionStatus.FALSE, failure.reason, message)
    again = Finding(
        ConditionType.RECONCILING, ConditionStatus.TRUE, Reason.RETRYING, "another attempt follows"
    )
    status = _of_job(o.status, job, now)
    actions = _emit_once(o, failure.reason, message)
    return Plan(actions, _status(o, status, (ready, again), now), requeue_after_s=following.after_s)


def _give_up(o: Observed, following: Next, now: datetime) -> Plan:
    job, failure = following.job, following.verdict
    if job is None or failure is None:  # its Job is gone; the status still says why
        return Plan(_tidy(o))
    message = failure.message
    if not failure.final:
        message = f"{message}; gave up after {job.tries} attempts: delete this object to try again"
    findings = (
        Finding(ConditionType.READY, ConditionStatus.FALSE, failure.reason, message),
        Finding(ConditionType.STALLED, ConditionStatus.TRUE, failure.reason, message),
    )
    known = (
        o.status.completion_time if is_true(o.status.conditions, ConditionType.STALLED) else None
    )
    status = _of_job(o.status, job, now)
    status = replace(status, completion_time=status.completion_time or known or rfc3339(now))
    actions: tuple[Action, ...] = _emit_once(o, failure.reason, message)
    if job.goes_on(o.pods):  # an API server without podFailurePolicy starts it again
        actions += (Delete(job.object),)
    return Plan(actions + _tidy(o), _status(o, status, findings, now))


def _tidy(o: Observed) -> tuple[Action, ...]:
    """Nobody reads the request any more: its URLs need not lie about until they expire."""
    if o.secret is None or any(j.active for j in o.jobs):
        return ()
    return (Delete(o.secret),)


def _without_store(o: Observed, settings: Settings, now: datetime) -> Plan:
    """What a build has come to holds, whether or not the store answers just now."""
    problem = o.result
    ended = find(o.status.conditions, ConditionType.READY)
    built = ended is not None and ended.reason == Reason.BUILT
    stalled = is_true(o.status.conditions, ConditionType.STALLED)
    away = isinstance(problem, Problem) and problem.reason is Reason.STORAGE_UNREACHABLE
    if away and (built or stalled):
        return Plan(requeue_after_s=settings.retry_most_s)
    return _blocked(o, problem, settings, now)


def _blocked(o: Observed, problem: Any, settings: Settings, now: datetime) -> Plan:
    """The store or the sources cannot be reached: say so, and look again ever more rarely."""
    if not isinstance(problem, Problem):
        raise TypeError("blocked by a problem")
    ready = Finding(ConditionType.READY, ConditionStatus.FALSE, problem.reason, problem.message)
    if problem.final:
        stalled = replace(ready, type=ConditionType.STALLED, status=ConditionStatus.TRUE)
        findings: tuple[Finding, ...] = (ready, stalled)
        wait_s = None
    else:
        again = Finding(
            ConditionType.RECONCILING, ConditionStatus.TRUE, Reason.RETRYING, "it is tried again"
        )
        findings, wait_s = (ready, again), _patience_s(o, settings, now)
    actions = _emit_once(o, problem.reason, problem.message)
    # Not `sources`: a problem of before the attempt must not keep the next one from starting.
    status = replace(o.status, sources=None)
    return Plan(actions, _status(o, status, findings, now), requeue_after_s=wait_s)


def _patience_s(o: Observed, settings: Settings, now: datetime) -> float:
    """Half of the time that it has lasted: a back-off that needs no counter."""
    since = find(o.status.conditions, ConditionType.READY)
    lasted_s = 0.0
    if since is not None and since.status == ConditionStatus.FALSE:
        lasted_s = (now - parse_time(since.last_transition_time)).total_seconds()
    return min(max(lasted_s / 2, settings.retry_first_s), settings.retry_most_s)


def _runs(o: Observed, job: Job | None) -> bool:
    mine = job.pods(o.pods) if job is not None else ()
    return any(p.started and p.exit_code is None for p in mine)


def _waiting(o: Observed, now: datetime) -> Plan:
    message = "no TinyModel asks for this build now, or those that do are suspended"
    ready = Finding(ConditionType.READY, ConditionStatus.UNKNOWN, Reason.QUEUED, message)
    return Plan(_tidy(o), _status(o, o.status, (ready,), now))


def _progress(reason: Reason, message: str) -> tuple[Finding, ...]:
    return (
        Finding(ConditionType.READY, ConditionStatus.UNKNOWN, reason, message),
        Finding(ConditionType.RECONCILING, ConditionStatus.TRUE, reason, message),
    )


def _of_job(status: ModelBuildStatus, job: Job, now: datetime) -> ModelBuildStatus:
    """Return the status with what a Job knows: this is how a lost status comes back."""
    created = job.object["metadata"].get("creationTimestamp") or rfc3339(now)
    return replace(
        status,
        attempts=max(status.attempts, job.attempt),
        job=job.name,
        sources=job.sources or None,
        start_time=created,
        completion_time=rfc3339(job.ended_at) if job.ended_at else None,
    )


def _emit_once(o: Observed, reason: Reason, message: str) -> tuple[Action, ...]:
    before = find(o.status.conditions, ConditionType.READY)
    same = before is not None and before.message == message_of(message)
    if before is not None and before.reason == reason and same:
        return ()
    return (Emit(reason, message, warning=True),)


def _status(
    o: Observed, status: ModelBuildStatus, findings: tuple[Finding, ...], now: datetime
) -> dict[str, Any]:
    generation = o.meta.generation
    conditions = settle(o.status.conditions, findings, generation=generation, now=now)
    return status_dict(replace(status, observed_generation=generation, conditions=conditions))


def _image(image: Image | None) -> ImageFile | None:
    return ImageFile(image.digest, image.image_hash, image.size_bytes) if image else None
