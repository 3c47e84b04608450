"""The agent: watches its two objects, decides, works, reports, and says that it is alive.

Run by `__main__`, and by tests in-process. It holds nothing that may not be lost: the wish is in
the cluster (and, for days without one, in the `Store`), what is known of devices is in the `Store`,
artifacts are in the `Cache`. Each turn of `_decide_forever` looks at all of it anew, so an event is
only an alarm.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tinyml_api.gatewaydeployment import GatewayDeploymentStatus
from tinyml_kube.cluster import Cluster, Object, Ref, Resource
from tinyml_kube.errors import ClusterError, NotFoundError
from tinyml_kube.resources import EDGE_GATEWAY, GATEWAY_DEPLOYMENT, LEASE

from tinyml_gateway.artifacts import Cache, Downloader
from tinyml_gateway.desired import read_desired
from tinyml_gateway.metrics import Metrics
from tinyml_gateway.report import is_published, micro_timestamp, status_of, timestamp
from tinyml_gateway.rollout import Desired, Policy, View, decide
from tinyml_gateway.state import Store
from tinyml_gateway.visit import VisitLimits
from tinyml_gateway.workshop import Pace, Workshop

logger = logging.getLogger(__name__)

LEASE_PERIOD_S: Final = 20.0
LEASE_DURATION_S: Final = 60
CLUSTER_TIMEOUT_S: Final = 10.0
LONGEST_SLEEP_S: Final = 60.0  # a clock that was set is noticed within this
STOP_JOBS_S: Final = 2.5  # together at most the 5 s that SIGTERM gives
STOP_REPORT_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Options:
    """What a site may choose."""

    policy: Policy = field(default_factory=Policy)
    limits: VisitLimits = field(default_factory=VisitLimits)
    pace: Pace = field(default_factory=Pace)
    report_interval_s: float = 10.0


class Agent:
    """The agent of EdgeGateway `name` in `namespace`. `clock` is Unix time, `jitter` random in [0,
    1).
    """

    def __init__(
        self,
        name: str,
        namespace: str,
        *,
        cluster: Cluster,
        store: Store,
        cache: Cache,
        downloader: Downloader,
        metrics: Metrics,
        options: Options = Options(),
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._namespace = namespace
        self._cluster = cluster
        self._store = store
        self._metrics = metrics
        self._options = options
        self._clock = clock
        self._jitter = jitter
        self._changed = asyncio.Event()
        self._report_due = asyncio.Event()
        self._objects: dict[Resource, Object | None] = {
            resource: store.wish(resource.kind) for resource in (EDGE_GATEWAY, GATEWAY_DEPLOYMENT)
        }
        self._told_by_cluster: set[Resource] = set()
        self._status: GatewayDeploymentStatus | None = None
        self._views: Mapping[str, View] = {}
        self._workshop = Workshop(
            store,
            cache,
            downloader,
            metrics,
            ring=self._changed.set,
            clock=clock,
            jitter=jitter,
            limits=options.limits,
            pace=options.pace,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then put everything down within 5 s."""
        logger.info("agent started gateway=%s namespace=%s", self._name, self._namespace)
        loops: list[Awaitable[None]] = [
            self._watch_forever(EDGE_GATEWAY),
            self._watch_forever(GATEWAY_DEPLOYMENT),
            self._decide_forever(),
            self._report_forever(),
            self._renew_forever(),
        ]
        tasks = [asyncio.ensure_future(loop) for loop in loops]
        stopping = asyncio.ensure_future(stop.wait())
        try:
            # The loops never end by themselves: one that does has found a fault, which must be
            # seen.
            await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            await self._workshop.close(STOP_JOBS_S)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        await self._report_last()
        logger.info("agent stopped gateway=%s", self._name)

    def _ref(self, resource: Resource) -> Ref:
        return Ref(resource, self._namespace, self._name)

    async def _watch_forever(self, resource: Resource) -> None:
        """Keep `_objects[resource]` what the cluster says, through every interruption."""

        async def follow() -> None:
            self._take(resource, await self._cluster.get(self._ref(resource)))
            async for event in self._cluster.watch(resource, self._namespace, name=self._name):
                failures.clear()
                self._take(resource, None if event.type == "DELETED" else event.object)

        failures: list[None] = []
        while True:
            try:
                await follow()
            except ClusterError as error:
                failures.append(None)
                wait_s = self._options.pace.cluster.wait_s(len(failures), self._jitter())
                logger.warning(
                    "watch interrupted kind=%s retry_s=%.1f error=%s", resource.kind, wait_s, error
                )
                await asyncio.sleep(wait_s)

    def _take(self, resource: Resource, obj: Object | None) -> None:
        before = self._objects[resource]
        self._objects[resource] = obj
        self._told_by_cluster.add(resource)
        if _wish(before) != _wish(obj):
            self._store.put_wish(resource.kind, _wish(obj))
            logger.info("wish changed kind=%s generation=%s", resource.kind, _generation(obj))
        self._changed.set()
        self._report_due.set()

    async def _decide_forever(self) -> None:
        tidied: Desired | None = None
        while True:
            self._changed.clear()
            desired = self._desired()
            if desired != tidied and len(self._told_by_cluster) == len(self._objects):
                digests = {f.digest for d in desired.devices.values() for f in (d.code, d.weights)}
                self._workshop.tidy(desired.devices.keys(), digests)
                tidied = desired
            now = self._clock()
            decision = decide(desired, self._workshop.observed(), now, self._options.policy)
            self._log_changes(decision.views)
            self._views = decision.views
            self._metrics.set_devices(view.state for view in decision.views.values())
            self._status = status_of(desired, decision)
            self._report_due.set()
            for action in decision.actions:
                self._workshop.start(action)
            wait_s = LONGEST_SLEEP_S
            if decision.wake_at is not None:
                wait_s = min(wait_s, max(0.05, decision.wake_at - now))
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _desired(self) -> Desired:
        return read_desired(self._objects[GATEWAY_DEPLOYMENT], self._objects[EDGE_GATEWAY])

    def _log_changes(self, views: Mapping[str, View]) -> None:
        for name, view in views.items():
            before = self._views.get(name)
            if before is None or before.state is not view.state or before.reason is not view.reason:
                level = logging.INFO if view.reason is None else logging.WARNING
                logger.log(
                    level,
                    "device state device=%s state=%s reason=%s message=%s",
                    name,
                    view.state.name.capitalize(),
                    view.reason or "-",
                    view.message or "-",
                )

    async def _report_forever(self) -> None:
        """Write the status when it says something new, at most once per report interval."""
        failures = 0
        while True:
            await self._report_due.wait()
            self._report_due.clear()
            if not self._has_news():
                continue
            try:
                await self._report()
                failures = 0
                wait_s = self._options.report_interval_s
            except ClusterError as error:
                failures += 1
                wait_s = max(
                    self._options.report_interval_s,
                    self._options.pace.cluster.wait_s(failures, self._jitter()),
                )
                logger.warning("report failed retry_s=%.1f error=%s", wait_s, error)
            self._report_due.set()
            await asyncio.sleep(wait_s)

    def _has_news(self) -> bool:
        deployment = self._objects[GATEWAY_DEPLOYMENT]
        return (
            deployment is not None
            and self._status is not None
            and GATEWAY_DEPLOYMENT in self._told_by_cluster
            and not is_published(self._status, deployment)
        )

    async def _report(self) -> None:
        status = self._status
        assert status is not None, "only called with news"
        body = {**status.to_dict(), "lastReportTime": timestamp(self._clock())}
        try:
            async with asyncio.timeout(CLUSTER_TIMEOUT_S):
                written = await self._cluster.patch_status(self._ref(GATEWAY_DEPLOYMENT), body)
        except NotFoundError:
            return  # deleted just now: the watch says so too
        except TimeoutError as error:
            raise ClusterError(f"no answer within {CLUSTER_TIMEOUT_S:g} s") from error
        self._metrics.status_writes.inc()
        current = self._objects[GATEWAY_DEPLOYMENT]
        if current is not None and _generation(written) == _generation(current):
            self._objects[GATEWAY_DEPLOYMENT] = written

    async def _report_last(self) -> None:
        """Say what is known before leaving, if that is quickly done."""
        if not self._has_news():
            return
        try:
            async with asyncio.timeout(STOP_REPORT_S):
                await self._report()
        except (ClusterError, TimeoutError) as error:
            logger.warning("last report failed error=%s", error)

    async def _renew_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(CLUSTER_TIMEOUT_S):
                    await self._renew()
            except (ClusterError, TimeoutError) as error:
                logger.warning("lease not renewed error=%s", error or "no answer in time")
            await asyncio.sleep(LEASE_PERIOD_S)

    async def _renew(self) -> None:
        name = f"tinyml-gateway-{self._name}"
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_DURATION_S,
            "renewTime": micro_timestamp(self._clock()),
        }
        try:
            await self._cluster.patch(Ref(LEASE, self._namespace, name), {"spec": spec})
        except NotFoundError:
            lease: dict[str, Any] = {
                "apiVersion": LEASE.api_version,
                "kind": LEASE.kind,
                "metadata": {"name": name, "namespace": self._namespace},
                "spec": {**spec, "acquireTime": spec["renewTime"]},
            }
            await self._cluster.create(lease)


def _wish(obj: Object | None) -> dict[str, Any] | None:
    """Return the part of an object that is kept over a restart."""
    if obj is None:
        return None
    return {"metadata": {"generation": _generation(obj)}, "spec": obj["spec"]}


def _generation(obj: Object | None) -> int | None:
    return None if obj is None else obj["metadata"].get("generation")
