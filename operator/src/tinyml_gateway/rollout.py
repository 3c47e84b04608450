"""What to do with each device now: a pure function of what should be, what was seen, and the time.

`decide(desired, observed, now)` is called by `agent` whenever anything may have changed and at the
time that it names itself. It never waits, asks or remembers: everything it looks at is in its
arguments, so a restarted agent that has its records decides as the one before would have. Each
device is a chain of checks in `_decide_device`; the first that applies wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tinyml_api.gatewaydeployment import DeviceState as State
from tinyml_api.images import ImageFile

from tinyml_gateway.errors import Reason


@dataclass(frozen=True, slots=True)
class Pair:
    """Image hashes in hex, as the device reports them."""

    code: str
    weights: str


@dataclass(frozen=True, slots=True)
class DesiredDevice:
    """What one device should run. `address` is None where the EdgeGateway does not list it."""

    name: str
    group: str
    address: str | None
    device_class: str
    code: ImageFile
    weights: ImageFile

    @property
    def pair(self) -> Pair:
        return Pair(self.code.image_hash, self.weights.image_hash)

    @property
    def target(self) -> str:
        """Changes when anything about this wish does: what was recorded against another target
        counts no more.
        """
        return f"{self.address} {self.device_class} {self.pair.code} {self.pair.weights}"


@dataclass(frozen=True, slots=True)
class DesiredGroup:
    image: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Desired:
    """A GatewayDeployment joined with its EdgeGateway. `devices` is keyed by name."""

    generation: int
    groups: tuple[DesiredGroup, ...]
    devices: Mapping[str, DesiredDevice]
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What a device said of itself at `at` (Unix time). `pair` is None without two running images.

    `waiting` are the images in the secondary slots, which the next reset would take; empty where
    there is none.
    """

    at: float
    address: str
    device_class: str
    pair: Pair | None
    waiting: Pair = Pair("", "")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last attempt on `target` failed, how many have in a row, and when to try again (Unix
    time).
    """

    state: State
    reason: Reason
    message: str
    target: str
    attempts: int
    retry_at: float


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of a device."""

    seen: Seen | None = None
    trouble: Trouble | None = None


class Work(StrEnum):
    PROBE = "probe"
    FLASH = "flash"


@dataclass(frozen=True, slots=True)
class Job:
    """Work in hand on a device, begun for `target`."""

    work: Work
    target: str


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """What is known of an artifact: in the cache, being fetched, or in trouble until `retry_at`."""

    present: bool = False
    fetching: bool = False
    reason: Reason | None = None
    message: str = ""
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Observed:
    """A snapshot of everything that a decision looks at, apart from the wish and the time."""

    records: Mapping[str, Record] = field(default_factory=dict)
    jobs: Mapping[str, Job] = field(default_factory=dict)
    artifacts: Mapping[str, ArtifactRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits. Devices that run what they should are looked at every `verify_s`. No wait after a
    failure is longer than `longest_wait_s`: a time beyond it is of a clock that was set back since.
    """

    parallel_flash: int = 4
    parallel_probe: int = 16
    parallel_fetch: int = 2
    verify_s: float = 60.0
    longest_wait_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Probe:
    device: DesiredDevice


@dataclass(frozen=True, slots=True)
class Flash:
    """`afresh`: what waits in the device's secondary slots was refused by it before, upload it
    again.
    """

    device: DesiredDevice
    afresh: bool


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the job on this device: nobody wants its outcome any more."""

    name: str


@dataclass(frozen=True, slots=True)
class Fetch:
    artifact: ImageFile


Action = Probe | Flash | Cancel | Fetch


@dataclass(frozen=True, slots=True)
class View:
    """A device's state for the status, with the reason where it needs a look."""

    state: State
    reason: Reason | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """`wake_at`: when to decide again at the latest (Unix time); None: when something changes."""

    views: Mapping[str, View]
    actions: tuple[Action, ...]
    wake_at: float | None


@dataclass(slots=True)
class _Budget:
    """Places left for new work in this decision."""

    flash: int
    probe: int
    fetch: int
    fetching: set[str]


@dataclass(frozen=True, slots=True)
class _Verdict:
    view: View
    actions: tuple[Action, ...] = ()
    wake_at: float | None = None


def decide(desired: Desired, observed: Observed, now: float, policy: Policy) -> Decision:
    """Return each device's state, what to start or stop, and when to look again.

    Devices that failed less often come first, so that a bad one never holds the others' places.
    """
    works = [job.work for job in observed.jobs.values()]
    fetching = {digest for digest, record in observed.artifacts.items() if record.fetching}
    budget = _Budget(
        flash=policy.parallel_flash - works.count(Work.FLASH),
        probe=policy.parallel_probe - works.count(Work.PROBE),
        fetch=policy.parallel_fetch - len(fetching),
        fetching=fetching,
    )
    views: dict[str, View] = {}
    actions: list[Action] = [Cancel(name) for name in observed.jobs if name not in desired.devices]
    wakes: list[float] = []

    def attempts(device: DesiredDevice) -> int:
        trouble = observed.records.get(device.name, Record()).trouble
        return trouble.attempts if trouble is not None else 0

    for device in sorted(desired.devices.values(), key=attempts):
        verdict = _decide_device(device, desired.suspended, observed, now, policy, budget)
        views[device.name] = verdict.view
        actions += verdict.actions
        if verdict.wake_at is not None:
            wakes.append(verdict.wake_at)
    return Decision(views, tuple(actions), min(wakes, default=None))


def _decide_device(
    device: DesiredDevice,
    suspended: bool,
    observed: Observed,
    now: float,
    policy: Policy,
    budget: _Budget,
) -> _Verdict:
    record = observed.records.get(device.name, Record())
    seen = (
        record.seen if record.seen is not None and record.seen.address == device.address else None
    )
    trouble = (
        record.trouble
        if record.trouble is not None and record.trouble.target == device.target
        else None
    )
    if trouble is not None and trouble.retry_at > now + policy.longest_wait_s:
        trouble = replace(trouble, retry_at=0.0)
    job = observed.jobs.get(device.name)
    resting = _resting(device, seen, trouble)

    if device.address is None:
        return _Verdict(
            View(
                State.FAILED,
                Reason.DEVICE_UNKNOWN,
                f"the EdgeGateway lists no device '{device.name}' in group '{device.group}': "
                "add it there with its address",
            ),
            (Cancel(device.name),) if job is not None else (),
        )
    if job is not None:
        if job.target != device.target:
            return _Verdict(resting, (Cancel(device.name),))
        updating = job.work is Work.FLASH and resting.state is not State.RUNNING
        return _Verdict(View(State.UPDATING) if updating else resting)
    if trouble is not None and now < trouble.retry_at:
        return _Verdict(resting, wake_at=trouble.retry_at)
    fresh = seen is not None and seen.at <= now < seen.at + policy.verify_s
    if seen is None or not fresh or _came_after(trouble, seen):
        return _start_probe(device, resting, budget)
    if seen.device_class != device.device_class or _as_wanted(device, seen):
        return _Verdict(resting, wake_at=seen.at + policy.verify_s)
    if suspended:
        return _Verdict(resting, wake_at=seen.at + policy.verify_s)
    missing = _missing(device, observed)
    if missing:
        return _fetch(missing, resting, observed, now, seen, policy, budget)
    if budget.flash <= 0:
        return _Verdict(resting, wake_at=seen.at + policy.verify_s)
    budget.flash -= 1
    afresh = trouble is not None and trouble.reason is Reason.NOT_ACTIVATED
    running = resting.state is State.RUNNING
    return _Verdict(resting if running else View(State.UPDATING), (Flash(device, afresh),))


def _resting(device: DesiredDevice, seen: Seen | None, trouble: Trouble | None) -> View:
    """Return the state of a device that nothing is done to."""
    if trouble is not None:
        return View(trouble.state, trouble.reason, trouble.message)
    if seen is None:
        return View(State.PENDING)
    if seen.device_class != device.device_class:
        return View(
            State.FAILED,
            Reason.DEVICE_CLASS_MISMATCH,
            f"{device.address} is of device class '{seen.device_class}', the images are for "
            f"'{device.device_class}': nothing was erased; correct the device's group or address",
        )
    return View(State.RUNNING if seen.pair == device.pair else State.PENDING)


def _as_wanted(device: DesiredDevice, seen: Seen) -> bool:
    """It runs the pair, and the next reset would not change that."""
    leftovers = {seen.waiting.code} - {"", device.pair.code}
    leftovers |= {seen.waiting.weights} - {"", device.pair.weights}
    return seen.pair == device.pair and not leftovers


def _came_after(trouble: Trouble | None, seen: Seen) -> bool:
    """After a failure look first: what was seen before it may no longer be so."""
    return trouble is not None and trouble.retry_at > seen.at


def _start_probe(device: DesiredDevice, resting: View, budget: _Budget) -> _Verdict:
    if budget.probe <= 0:
        return _Verdict(resting)  # a finished job is what rings next
    budget.probe -= 1
    return _Verdict(resting, (Probe(device),))


def _missing(device: DesiredDevice, observed: Observed) -> list[ImageFile]:
    artifacts = (device.code, device.weights)
    return [a for a in artifacts if not observed.artifacts.get(a.digest, ArtifactRecord()).present]


def _fetch(
    missing: list[ImageFile],
    resting: View,
    observed: Observed,
    now: float,
    seen: Seen,
    policy: Policy,
    budget: _Budget,
) -> _Verdict:
    """Fetch what is missing, once for all devices; say why where that fails."""
    view = resting
    actions: list[Action] = []
    wakes = [seen.at + policy.verify_s]
    for artifact in missing:
        record = observed.artifacts.get(artifact.digest, ArtifactRecord())
        if record.reason is not None and resting.state is not State.RUNNING:
            broken = record.reason is not Reason.ARTIFACT_UNAVAILABLE
            state = State.FAILED if broken else State.PENDING
            view = View(state, record.reason, record.message)
        if artifact.digest in budget.fetching:
            continue
        if now < record.retry_at <= now + policy.longest_wait_s:
            wakes.append(record.retry_at)
        elif budget.fetch > 0:
            budget.fetch -= 1
            budget.fetching.add(artifact.digest)
            actions.append(Fetch(artifact))
    return _Verdict(view, tuple(actions), min(wakes))
