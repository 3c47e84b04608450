"""Carries out what `rollout` decides: sessions with devices and downloads, each a task, each ending
in a record.

Owned by `agent`. A record is what was seen or what went wrong, with the time of the next attempt;
it is in the `Store` before anybody decides on it. Nothing here chooses what to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final, assert_never

from tinyml_api.gatewaydeployment import DeviceState
from tinyml_api.images import ImageFile

from tinyml_gateway.artifacts import Cache, Downloader
from tinyml_gateway.errors import DigestMismatchError, GatewayError, Reason
from tinyml_gateway.image import check_image
from tinyml_gateway.metrics import Metrics
from tinyml_gateway.rollout import (
    Action,
    ArtifactRecord,
    Cancel,
    DesiredDevice,
    Fetch,
    Flash,
    Job,
    Observed,
    Probe,
    Record,
    Seen,
    Trouble,
    Work,
)
from tinyml_gateway.state import Store
from tinyml_gateway.visit import VisitLimits, flash, probe

logger = logging.getLogger(__name__)

BUSY_RETRY_S: Final = 2.0  # the port is held by `tinyml infer` or a person's tool


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait after the n-th failure in a row: doubling from `first_s`, at most `limit_s`,
    ±25 % jitter.
    """

    first_s: float
    limit_s: float

    def wait_s(self, attempts: int, jitter: float) -> float:
        """`jitter` is a random number in [0, 1)."""
        doubled = self.first_s * 2.0 ** min(attempts - 1, 32)
        return min(self.limit_s, doubled) * (0.75 + 0.5 * jitter)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait after each kind of failure."""

    offline: Backoff = Backoff(1.0, 60.0)
    failed: Backoff = Backoff(2.0, 600.0)
    artifact: Backoff = Backoff(1.0, 300.0)
    cluster: Backoff = Backoff(1.0, 30.0)

    @property
    def longest_s(self) -> float:
        return 1.25 * max(b.limit_s for b in (self.offline, self.failed, self.artifact))


class Workshop:
    """The jobs in hand and the records of those done. `ring` is called when something may have
    changed.
    """

    def __init__(
        self,
        store: Store,
        cache: Cache,
        downloader: Downloader,
        metrics: Metrics,
        *,
        ring: Callable[[], None],
        clock: Callable[[], float],
        jitter: Callable[[], float],
        limits: VisitLimits,
        pace: Pace,
    ) -> None:
        self._store = store
        self._cache = cache
        self._downloader = downloader
        self._metrics = metrics
        self._ring = ring
        self._clock = clock
        self._jitter = jitter
        self._limits = limits
        self._pace = pace
        self._records = store.records(clock(), pace.longest_s)
        self._present = cache.digests()
        self._artifact_troubles: dict[str, tuple[int, ArtifactRecord]] = {}
        self._jobs: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._checked: set[tuple[str, str]] = set()

    def observed(self) -> Observed:
        """Return a snapshot of what is known and in hand."""
        artifacts = {digest: ArtifactRecord(present=True) for digest in self._present}
        for digest, (_, record) in self._artifact_troubles.items():
            artifacts[digest] = record
        for digest in self._fetches:
            artifacts[digest] = replace(artifacts.get(digest, ArtifactRecord()), fetching=True)
        return Observed(
            records=dict(self._records),
            jobs={name: job for name, (job, _) in self._jobs.items()},
            artifacts=artifacts,
        )

    def start(self, action: Action) -> None:
        """Begin an action and return at once."""
        match action:
            case Probe(device):
                self._start_job(device, Work.PROBE, self._probe(device))
            case Flash(device, afresh):
                self._start_job(device, Work.FLASH, self._flash(device, afresh))
            case Fetch(artifact):
                task = asyncio.create_task(self._fetch(artifact), name=f"fetch {artifact.digest}")
                self._fetches[artifact.digest] = task
            case Cancel(name):
                self._jobs[name][1].cancel()
            case _:
                assert_never(action)

    def tidy(self, devices: Collection[str], digests: Collection[str]) -> None:
        """Forget devices and artifacts that nothing names any more."""
        for name in [n for n in self._records if n not in devices and n not in self._jobs]:
            del self._records[name]
            self._store.forget(name)
        for digest, task in self._fetches.items():
            if digest not in digests:
                task.cancel()
        for digest in self._cache.prune({*digests, *self._fetches}):
            logger.info("artifact pruned digest=%s", digest)
        self._present &= set(digests)
        for digest in self._artifact_troubles.keys() - set(digests):
            del self._artifact_troubles[digest]

    async def close(self, timeout_s: float) -> None:
        """Stop everything in hand; what was begun is taken up by the next agent."""
        tasks = [task for _, task in self._jobs.values()] + list(self._fetches.values())
        for task in tasks:
            task.cancel()
        if tasks:
            _, slow = await asyncio.wait(tasks, timeout=timeout_s)
            for task in slow:
                logger.warning("job does not end task=%s timeout_s=%g", task.get_name(), timeout_s)

    def _start_job(self, device: DesiredDevice, work: Work, session: object) -> None:
        task = asyncio.create_task(
            self._run_job(device, work, session), name=f"{work} {device.name}"
        )
        self._jobs[device.name] = (Job(work, device.target), task)

    async def _run_job(self, device: DesiredDevice, work: Work, session: object) -> None:
        """Run a session and record its outcome; whatever it raises ends here."""
        before = self._records.get(device.name, Record())
        record: Record | None = None
        outcome = "cancelled"
        try:
            seen: Seen = await session  # type: ignore[misc]
            record, outcome = Record(seen, _still_open(before.trouble, device, seen)), "succeeded"
        except GatewayError as error:
            outcome = "failed"
            record = Record(before.seen, self._trouble(before, device, error.reason, str(error)))
        except Exception as error:  # the outermost loop of a job: a bug must not end the agent
            outcome = "failed"
            logger.exception("job failed unexpectedly device=%s work=%s", device.name, work)
            message = f"{type(error).__name__}: {error}: this is a fault of the agent, see its log"
            record = Record(
                before.seen, self._trouble(before, device, Reason.INTERNAL_ERROR, message)
            )
        finally:
            del self._jobs[device.name]
            if work is Work.FLASH:
                self._metrics.flashes.labels(outcome=outcome).inc()
            if record is not None:
                self._records[device.name] = record
                self._store.put(device.name, record)
            self._ring()

    async def _probe(self, device: DesiredDevice) -> Seen:
        assert device.address is not None, "rollout never probes a device without address"
        return await probe(device.address, self._limits, self._clock)

    async def _flash(self, device: DesiredDevice, afresh: bool) -> Seen:
        code = await self._image(device.code, device.device_class)
        weights = await self._image(device.weights, device.device_class)
        logger.info(
            "flash started device=%s code=%s weights=%s", device.name, *_short_hashes(device)
        )
        begun = self._clock()
        seen = await flash(
            device,
            code,
            weights,
            afresh=afresh,
            limits=self._limits,
            clock=self._clock,
            sent=self._metrics.flashed_bytes.inc,
        )
        seconds = max(0.0, self._clock() - begun)
        self._metrics.flash_seconds.observe(seconds)
        logger.info("flash done device=%s seconds=%.1f", device.name, seconds)
        return seen

    async def _image(self, artifact: ImageFile, device_class: str) -> bytes:
        """Return the bytes of an artifact, verified, and known to be an image for the class."""
        try:
            data = await asyncio.to_thread(self._cache.read, artifact.digest)
            if (artifact.digest, device_class) not in self._checked:
                path = self._cache.path(artifact.digest)
                await asyncio.to_thread(check_image, path, artifact, device_class)
                self._checked.add((artifact.digest, device_class))
        except (DigestMismatchError, OSError) as error:
            self._present.discard(artifact.digest)
            raise DigestMismatchError(str(error)) from error
        return data

    async def _fetch(self, artifact: ImageFile) -> None:
        digest = artifact.digest
        attempts, _ = self._artifact_troubles.get(digest, (0, ArtifactRecord()))
        try:
            came = await self._downloader.fetch(artifact)
            self._metrics.fetched_bytes.inc(came)
            self._present.add(digest)
            self._artifact_troubles.pop(digest, None)
            logger.info("artifact fetched digest=%s bytes=%d", digest, came)
        except GatewayError as error:
            self._artifact_trouble(digest, attempts + 1, error.reason, str(error))
        except Exception as error:  # the outermost loop of a fetch
            logger.exception("fetch failed unexpectedly digest=%s", digest)
            message = f"{digest}: {type(error).__name__}: {error}"
            self._artifact_trouble(digest, attempts + 1, Reason.INTERNAL_ERROR, message)
        finally:
            del self._fetches[digest]
            self._ring()

    def _artifact_trouble(self, digest: str, attempts: int, reason: Reason, message: str) -> None:
        wait_s = self._pace.artifact.wait_s(attempts, self._jitter())
        self._metrics.failures.labels(reason=reason.value).inc()
        logger.warning("fetch failed reason=%s retry_s=%.1f message=%s", reason, wait_s, message)
        record = ArtifactRecord(reason=reason, message=message, retry_at=self._clock() + wait_s)
        self._artifact_troubles[digest] = (attempts, record)

    def _trouble(
        self, before: Record, device: DesiredDevice, reason: Reason, message: str
    ) -> Trouble:
        former = before.trouble
        same = former is not None and former.target == device.target and former.reason is reason
        attempts = former.attempts + 1 if same and former is not None else 1
        if reason is Reason.DEVICE_BUSY:
            runs = before.seen is not None and before.seen.pair == device.pair
            state = DeviceState.RUNNING if runs else DeviceState.PENDING
            wait_s = BUSY_RETRY_S
        elif reason is Reason.DEVICE_OFFLINE:
            state = DeviceState.OFFLINE
            wait_s = self._pace.offline.wait_s(attempts, self._jitter())
        else:
            state = DeviceState.FAILED
            wait_s = self._pace.failed.wait_s(attempts, self._jitter())
        if reason is not Reason.DEVICE_BUSY:
            self._metrics.failures.labels(reason=reason.value).inc()
        return Trouble(state, reason, message, device.target, attempts, self._clock() + wait_s)


def _still_open(trouble: Trouble | None, device: DesiredDevice, seen: Seen) -> Trouble | None:
    """Return the trouble that a look at the device does not settle: it answers, but still runs
    something else.
    """
    if trouble is None or trouble.target != device.target or seen.pair == device.pair:
        return None
    return trouble if trouble.state is DeviceState.FAILED else None


def _short_hashes(device: DesiredDevice) -> tuple[str, str]:
    return device.pair.code[:12], device.pair.weights[:12]
