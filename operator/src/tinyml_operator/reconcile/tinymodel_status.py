"""TinyModel.status: conditions from builds and devices, `Ready` the worst of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tinyml_api.conditions import (
    REASONS,
    ConditionStatus,
    ConditionType,
    Finding,
    Reason,
    find,
    is_true,
    settle,
)
from tinyml_api.gatewaydeployment import DeviceState
from tinyml_api.modelbuild import build_name
from tinyml_api.tinymodel import (
    MAX_CLASSES,
    MAX_FAILURES,
    ClassState,
    ClassStatus,
    DeviceCounts,
    DeviceFailure,
    TinyModelStatus,
)

from tinyml_operator.reconcile import states
from tinyml_operator.reconcile.claims import Selected
from tinyml_operator.reconcile.plan import Emit
from tinyml_operator.reconcile.revision import Build, Observed, Revision, Wanted, covers

YES, NO, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN

# Failed builds that speak of the model itself, not of the class, the store or the Job.
READ_BUT_TOO_LARGE = frozenset(
    {
        Reason.CODE_TOO_LARGE,
        Reason.WEIGHTS_TOO_LARGE,
        Reason.ARENA_TOO_LARGE,
        Reason.BUDGET_EXCEEDED,
    }
)
OF_THE_MODEL = frozenset(
    {
        Reason.SOURCE_UNREACHABLE,
        Reason.SOURCE_NOT_ALLOWED,
        Reason.DIGEST_MISMATCH,
        Reason.MODEL_INVALID,
        Reason.MODEL_NOT_QUANTIZED,
        Reason.CALIBRATION_INVALID,
        Reason.UNSUPPORTED_OPERATOR,
    }
)
# States of the devices that need nothing but the user; nothing of ours is under way.
_AT_REST = frozenset({Reason.NO_DEVICES_SELECTED, Reason.DEVICES_CONTESTED, Reason.SUSPENDED})
# Findings that wait for the user.
_STUCK = frozenset(
    {Reason.DEVICE_CLASS_MISSING, Reason.TOO_MANY_DEVICE_CLASSES, Reason.NO_FIRMWARE}
)


@dataclass(frozen=True, slots=True)
class View:
    """What the status is made of. `taken`: a revision name that an old object still has."""

    observed: Observed
    wanted: Wanted
    revision: Revision | None
    rolled_out: Revision | None
    taken: str


@dataclass(slots=True)
class _Fleet:
    """The devices that this model owns, by class and state."""

    by_class: dict[str, list[DeviceState]] = field(default_factory=dict)
    failures: list[DeviceFailure] = field(default_factory=list)
    contested: dict[str, int] = field(default_factory=dict)  # owner → devices

    @property
    def all(self) -> list[DeviceState]:
        return [state for group in self.by_class.values() for state in group]


def publish(view: View, now: datetime) -> tuple[dict[str, Any], tuple[Emit, ...]]:
    """Return the status to publish and the events of what has changed with it."""
    o = view.observed
    fleet = _fleet(view)
    findings = _findings(view, fleet)
    generation = o.meta.generation
    status = TinyModelStatus(
        observed_generation=generation,
        conditions=settle(o.status.conditions, findings, generation=generation, now=now),
        revision=view.revision.meta.name if view.revision else None,
        rolled_out_revision=view.rolled_out.meta.name if view.rolled_out else None,
        devices=DeviceCounts(**states.count(fleet.all), contested=sum(fleet.contested.values())),
        classes=_classes(view, fleet),
        failures=tuple(sorted(fleet.failures, key=lambda f: (f.gateway, f.device))[:MAX_FAILURES]),
    )
    return states.status_dict(status), _events(o.status, findings)


def _fleet(view: View) -> _Fleet:
    o = view.observed
    fleet = _Fleet()
    for selected in view.wanted.selected:
        if selected.owner != o.meta.name:
            count = len(selected.group.devices)
            fleet.contested[selected.owner] = fleet.contested.get(selected.owner, 0) + count
        else:
            _count_group(view, selected, fleet)
    return fleet


def _count_group(view: View, selected: Selected, fleet: _Fleet) -> None:
    """A device counts by its state if it is given the rolled out revision, else as pending.

    Names of revisions come again after a deletion, and a group may change its class: the build
    tells whether what the device is given is what it shall have.
    """
    group = selected.group
    deployment = view.observed.deployments.get(selected.gateway)
    given = deployment.states(group.name) if deployment else {}
    release = view.rolled_out.spec.release if view.rolled_out else None
    revision = view.rolled_out.meta.name if view.rolled_out else None
    builds = (
        {i.build for i in release.images if i.device_class == group.device_class} if release else ()
    )
    letters = fleet.by_class.setdefault(group.device_class, [])
    told: list[str] = []  # devices that the agent's report is about
    for device in group.devices:
        image, state = given.get(device, (None, DeviceState.PENDING))
        current = image is not None and image.revision == revision and image.build in builds
        letters.append(state if current else DeviceState.PENDING)
        if current:
            told.append(device)
    if deployment is not None:
        fleet.failures += [
            DeviceFailure(selected.gateway, f.device, f.reason, f.message)
            for f in deployment.failures(told)
        ]


def _classes(view: View, fleet: _Fleet) -> tuple[ClassStatus, ...]:
    rows = []
    for name in sorted({*view.wanted.builds, *view.wanted.missing, *fleet.by_class}):
        spec = view.wanted.builds.get(name)
        build_id = build_name(spec.request_digest) if spec else None
        build = view.observed.builds.get(build_id) if build_id else None
        summary = build.status.summary if build else None
        rows.append(
            ClassStatus(
                device_class=name,
                build=build_id,
                state=_state(build) if build_id else None,
                flash_bytes=summary.flash_bytes if summary else None,
                ram_bytes=summary.ram_bytes if summary else None,
                **states.count(fleet.by_class.get(name, [])),
            )
        )
    return tuple(rows[:MAX_CLASSES])


def _state(build: Build | None) -> ClassState:
    if build is None:
        return ClassState.PENDING
    if build.succeeded:
        return ClassState.SUCCEEDED
    if is_true(build.status.conditions, ConditionType.STALLED):
        return ClassState.FAILED
    return ClassState.BUILDING if build.status.job else ClassState.PENDING


def _findings(view: View, fleet: _Fleet) -> tuple[Finding, ...]:
    troubled = _troubled(view)
    specific = (
        _model_valid(view, troubled),
        _compiled(view, troubled),
        _devices_claimed(view, fleet),
        _rolled_out(view, fleet),
    )
    ready = _ready(view, specific)
    out = [*specific, ready]
    stalled = _stalled(view, troubled, specific)
    if stalled is not None:
        out.append(stalled)
    elif ready.status != YES and ready.reason not in _AT_REST:
        out.append(Finding(ConditionType.RECONCILING, YES, ready.reason, ready.message))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class _Trouble:
    build: Build
    reason: Reason
    message: str
    stalled: bool


def _troubled(view: View) -> tuple[_Trouble, ...]:
    """Return the wanted builds whose Ready is False; those that stand still come first."""
    found = []
    for spec in view.wanted.builds.values():
        build = view.observed.builds.get(build_name(spec.request_digest))
        ready = find(build.status.conditions, ConditionType.READY) if build else None
        if build is None or ready is None or ready.status != NO:
            continue
        message = f"device class {build.spec.device_class!r}: {ready.message}"
        stalled = is_true(build.status.conditions, ConditionType.STALLED)
        found.append(_Trouble(build, Reason(ready.reason), message, stalled))
    return tuple(sorted(found, key=lambda t: not t.stalled))


def _model_valid(view: View, troubled: tuple[_Trouble, ...]) -> Finding:
    kind = ConditionType.MODEL_VALID
    bad = next((t for t in troubled if t.reason in OF_THE_MODEL), None)
    if bad is not None:
        return Finding(kind, NO, bad.reason, bad.message)
    read = any(t.reason in READ_BUT_TOO_LARGE for t in troubled)
    if read or any(b.succeeded for b in _builds(view)):
        return Finding(kind, YES, Reason.MODEL_ACCEPTED)
    return Finding(kind, UNKNOWN, Reason.BUILDING, "no build has read the model yet")


def _compiled(view: View, troubled: tuple[_Trouble, ...]) -> Finding:
    kind = ConditionType.COMPILED
    w = view.wanted
    if w.missing:
        names = ", ".join(repr(n) for n in w.missing)
        there = ", ".join(sorted(view.observed.classes)) or "none"
        message = f"DeviceClass {names} does not exist: apply it, or name one of: {there}"
        return Finding(kind, NO, Reason.DEVICE_CLASS_MISSING, message)
    if w.too_many:
        message = (
            f"{len(w.builds)} device classes are asked for, a TinyModel can have {MAX_CLASSES}: "
            "narrow spec.deploy, or spread its devices over several TinyModels"
        )
        return Finding(kind, NO, Reason.TOO_MANY_DEVICE_CLASSES, message)
    if view.taken:
        message = f"TinyModelRevision {view.taken!r} of a deleted TinyModel is still there"
        return Finding(kind, UNKNOWN, Reason.REVISION_NAME_TAKEN, message)
    if not w.builds:
        return Finding(kind, UNKNOWN, Reason.NO_DEVICES_SELECTED, "no device class to build for")
    if troubled:
        message = troubled[0].message
        if view.rolled_out is not None and view.rolled_out != view.revision:
            message += f" ({view.rolled_out.meta.name} stays rolled out)"
        return Finding(kind, NO, troubled[0].reason, message)
    done = sum(b.succeeded for b in _builds(view))
    if done < len(w.builds):
        return Finding(kind, UNKNOWN, Reason.BUILDING, f"{done} of {len(w.builds)} builds are done")
    return Finding(kind, YES, Reason.COMPILED, f"{done} of {done} builds are done")


def _devices_claimed(view: View, fleet: _Fleet) -> Finding:
    kind = ConditionType.DEVICES_CLAIMED
    if view.observed.spec.deploy is None:
        return Finding(kind, YES, Reason.BUILD_ONLY)
    if fleet.contested:
        owned = len(fleet.all)
        lost = sum(fleet.contested.values())
        owners = ", ".join(f"{n} by {name!r}" for name, n in sorted(fleet.contested.items()))
        message = (
            f"{lost} of {owned + lost} selected devices are owned by an older TinyModel: {owners}; "
            "narrow spec.deploy, or delete the older one"
        )
        return Finding(kind, NO, Reason.DEVICES_CONTESTED, message)
    if not fleet.all:
        groups = sum(len(g.spec.device_groups) for g in view.observed.gateways)
        labels = view.observed.spec.deploy.selector.match_labels
        wanted = ", ".join(f"{k}={v}" for k, v in sorted(labels.items()))
        message = (
            f"no device group has {wanted} (looked at {groups} groups of "
            f"{len(view.observed.gateways)} EdgeGateways in namespace "
            f"{view.observed.meta.namespace!r})"
        )
        return Finding(kind, NO, Reason.NO_DEVICES_SELECTED, message)
    return Finding(kind, YES, Reason.DEVICES_CLAIMED, f"{len(fleet.all)} devices")


def _rolled_out(view: View, fleet: _Fleet) -> Finding:
    kind = ConditionType.ROLLED_OUT
    if view.observed.spec.deploy is None:
        return Finding(kind, YES, Reason.BUILD_ONLY)
    if view.rolled_out is None:
        return Finding(kind, UNKNOWN, Reason.BUILDING, "no revision is released yet")
    without = _without_firmware(view, fleet)
    if without:
        return Finding(kind, NO, Reason.NO_FIRMWARE, without)
    counts = states.count(fleet.all)
    name = view.rolled_out.meta.name
    told = f"{counts['running']} of {counts['total']} devices run {name}"
    rest = {k: n for k, n in counts.items() if k not in ("total", "running") and n}
    if rest:
        told += "; " + ", ".join(f"{n} {k}" for k, n in rest.items())
    if counts["failed"]:
        first = min(fleet.failures, key=lambda f: (f.gateway, f.device), default=None)
        if first is not None:
            told += f"; first: {first.gateway}/{first.device}: {first.message or first.reason}"
        return Finding(kind, NO, Reason.DEVICES_FAILED, told)
    if not covers(view.rolled_out, view.wanted):
        return Finding(kind, UNKNOWN, Reason.BUILDING, f"{told}; this spec is not released yet")
    if counts["updating"] or counts["pending"]:
        return Finding(kind, NO, Reason.ROLLING_OUT, told)
    if counts["offline"]:
        return Finding(kind, NO, Reason.DEVICES_OFFLINE, told)
    if not fleet.all:
        return Finding(kind, NO, Reason.NO_DEVICES_SELECTED, "no device to roll out to")
    return Finding(kind, YES, Reason.ROLLED_OUT, told)


def _without_firmware(view: View, fleet: _Fleet) -> str:
    release = view.rolled_out.spec.release if view.rolled_out else None
    images = {i.device_class: i for i in release.images} if release else {}
    for name, letters in sorted(fleet.by_class.items()):
        image = images.get(name)
        if letters and image is not None and not (image.code and image.weights):
            return (
                f"{len(letters)} devices are of class {name!r}, which names no board: set "
                "DeviceClass.spec.board to a firmware port, or take its devices out of spec.deploy"
            )
    return ""


def _ready(view: View, specific: Iterable[Finding]) -> Finding:
    """The worst of the others: the first that is False, else the first that is Unknown."""
    ordered = tuple(specific)
    worst = next((f for f in ordered if f.status == NO), None)
    worst = worst or next((f for f in ordered if f.status == UNKNOWN), None)
    if worst is None:
        last = ordered[-1]
        return Finding(ConditionType.READY, YES, last.reason, last.message or REASONS[last.reason])
    if view.observed.spec.suspend and worst.reason in (Reason.BUILDING, Reason.ROLLING_OUT):
        return Finding(ConditionType.READY, NO, Reason.SUSPENDED)
    return Finding(ConditionType.READY, worst.status, worst.reason, worst.message)


def _stalled(
    view: View, troubled: Iterable[_Trouble], specific: Iterable[Finding]
) -> Finding | None:
    kind = ConditionType.STALLED
    stuck = next((t for t in troubled if t.stalled), None)
    if stuck is not None:
        return Finding(kind, YES, stuck.reason, stuck.message)
    for f in specific:
        if f.reason in _STUCK:
            return Finding(kind, YES, f.reason, f.message)
    return None


def _builds(view: View) -> list[Build]:
    names = [build_name(s.request_digest) for s in view.wanted.builds.values()]
    return [view.observed.builds[n] for n in names if n in view.observed.builds]


_TOLD: Mapping[ConditionType, frozenset[ConditionStatus]] = {
    ConditionType.COMPILED: frozenset({YES, NO}),
    ConditionType.DEVICES_CLAIMED: frozenset({NO}),
    ConditionType.ROLLED_OUT: frozenset({YES, NO}),
}


def _events(before: TinyModelStatus, findings: Iterable[Finding]) -> tuple[Emit, ...]:
    """An event where a condition has come to another status or reason."""
    out = []
    for f in findings:
        old = find(before.conditions, f.type)
        if f.status not in _TOLD.get(f.type, ()) or f.reason is Reason.BUILD_ONLY:
            continue
        if old is None or (old.status, old.reason) != (f.status, f.reason):
            warning = f.status == NO and f.reason is not Reason.ROLLING_OUT
            out.append(Emit(f.reason, f.message or REASONS[f.reason], warning))
    return tuple(out)
