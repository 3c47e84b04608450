"""The one place that acts: gather → plan → apply → publish, for one object at a time.

Each pass looks at what is; that is why a pass that dies anywhere is repaired by the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, assert_never

from tinyml_api import edgegateway, modelbuild, tinymodel
from tinyml_api.build import canonical_json
from tinyml_api.conditions import REASONS, ConditionType, Reason, message_of, rfc3339
from tinyml_kube.cluster import Cluster, Object, Ref
from tinyml_kube.errors import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from tinyml_kube.resources import (
    EDGE_GATEWAY,
    EVENT,
    GATEWAY_DEPLOYMENT,
    LEASE,
    MODEL_BUILD,
    TINY_MODEL,
    TINY_MODEL_REVISION,
    ref_of,
)

from tinyml_operator import gather, manifests
from tinyml_operator.inputs import inputs_of
from tinyml_operator.metrics import Metrics
from tinyml_operator.reconcile import gateway as plan_gateway
from tinyml_operator.reconcile import modelbuild as plan_build
from tinyml_operator.reconcile import sweep
from tinyml_operator.reconcile import tinymodel as plan_model
from tinyml_operator.reconcile import tinymodelrevision as plan_revision
from tinyml_operator.reconcile.plan import Action, Apply, Create, Delete, Emit, Plan
from tinyml_operator.reconcile.refusal import refused
from tinyml_operator.reconcile.revision import Pins
from tinyml_operator.settings import Settings
from tinyml_operator.storage import Storage
from tinyml_operator.workqueue import Key

FIELD_MANAGER = "tinyml-operator"
REVISION_KIND = TINY_MODEL_REVISION.kind
SWEEP_KIND = "Sweep"  # not a kind of object: every object that may be due
MODELS_KIND = "TinyModelsOf"  # every TinyModel of a namespace
GATEWAYS_KIND = "EdgeGatewaysOf"  # every EdgeGateway of a namespace
FULL_SWEEP_EVERY = 10
LOOK_AGAIN_S = 0.2

log = logging.getLogger(__name__)

_RESOURCES = {
    tinymodel.KIND: TINY_MODEL,
    edgegateway.KIND: EDGE_GATEWAY,
    modelbuild.KIND: MODEL_BUILD,
    REVISION_KIND: TINY_MODEL_REVISION,
}


class Shell:
    """Reconciles one key after another. `ring` is called for keys that should follow."""

    def __init__(
        self,
        cluster: Cluster,
        storage: Storage,
        settings: Settings,
        *,
        metrics: Metrics | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.ring: Callable[[Key], None] = lambda _: None
        self._cluster = cluster
        self._storage = storage
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._now = now
        self._pins = Pins(settings.compiler, settings.toolchain)
        self._sweeps = 0

    def sweep_fully(self) -> None:
        """Make the next sweep look at everything."""
        self._sweeps = 0

    async def reconcile(self, key: Key) -> float | None:
        """Bring one object on; return seconds after which to look again, or None."""
        start = asyncio.get_running_loop().time()
        outcome = "error"
        try:
            after_s = await self._dispatch(key)
            outcome = "done" if after_s is None else "again"
            return after_s
        finally:
            took_s = asyncio.get_running_loop().time() - start
            self._metrics.passes.labels(key.kind, outcome).observe(took_s)

    async def _dispatch(self, key: Key) -> float | None:
        if key.kind == SWEEP_KIND:
            return await self._sweep()
        if key.kind in (MODELS_KIND, GATEWAYS_KIND):
            resource = TINY_MODEL if key.kind == MODELS_KIND else EDGE_GATEWAY
            for found in await self._cluster.list(resource, key.namespace):
                self.ring(Key(resource.kind, key.namespace, found["metadata"]["name"]))
            return None
        obj = await self._cluster.get(Ref(_RESOURCES[key.kind], key.namespace, key.name))
        if obj is None:
            return None
        plan = await self._plan(key.kind, obj)
        try:
            await self._carry_out(obj, plan)
        except ConflictError:  # it has changed while it was looked at
            return LOOK_AGAIN_S
        for kind, name in plan.ring:
            self.ring(Key(kind, key.namespace, name))
        return plan.requeue_after_s

    async def _plan(self, kind: str, obj: Object) -> Plan:
        now = self._now()
        if kind == tinymodel.KIND:
            model = await gather.tiny_model(self._cluster, obj, self._pins)
            return plan_model.plan(model, self._pins, now)
        if kind == edgegateway.KIND:
            return plan_gateway.plan(await gather.edge_gateway(self._cluster, obj), now)
        if kind == REVISION_KIND:
            return plan_revision.plan(await gather.tiny_model_revision(self._cluster, obj), now)
        build = await gather.model_build(self._cluster, self._storage, obj, self._pins)
        sources = plan_build.wanted_sources(build, self._settings, now)
        if sources is not None:
            inputs = await inputs_of(
                self._cluster, self._storage, self._settings, build, sources, now
            )
            build = replace(build, inputs=inputs)
        plan = plan_build.plan(build, self._settings, now)
        self._count_build(plan)
        return plan

    async def _carry_out(self, obj: Object, plan: Plan) -> None:
        try:
            for action in plan.actions:
                await self._apply(obj, action)
        except (InvalidError, ForbiddenError) as error:
            status, events = refused(obj, str(error), self._now())
            for event in events:
                await self._emit(obj, event)
            await self._publish(obj, status)
            raise
        if plan.status is not None:
            await self._publish(obj, plan.status)

    async def _publish(self, obj: Object, status: Mapping[str, Any]) -> None:
        """Write the status, if it is another, on the very version that it was made from."""
        patch = merge_diff(obj.get("status") or {}, status)
        if not patch:
            return
        version = obj["metadata"]["resourceVersion"]
        try:
            await self._cluster.patch_status(ref_of(obj), patch, resource_version=version)
        except NotFoundError:
            log.debug("status not published, object is gone key=%s", obj["metadata"]["name"])

    async def _apply(self, obj: Object, action: Action) -> None:
        match action:
            case Apply():
                await self._cluster.apply(dict(action.object), field_manager=FIELD_MANAGER)
            case Create():
                try:
                    await self._cluster.create(dict(action.object))
                except AlreadyExistsError:
                    return
                self._metrics.attempts.inc()
            case Delete():
                there = dict(action.object)
                await self._cluster.delete(ref_of(there), uid=there["metadata"]["uid"])
            case Emit():
                await self._emit(obj, action)
                return
            case _:
                assert_never(action)
        log.info(
            "%s kind=%s name=%s for=%s",
            type(action).__name__.lower(),
            action.object["kind"],
            action.object["metadata"]["name"],
            obj["metadata"]["name"],
        )

    async def _emit(self, obj: Object, emit: Emit) -> None:
        """Record an event; the same event on the same generation only counts up.

        Events help people and decide nothing: one that cannot be written stops nothing.
        """
        try:
            await self._record(obj, emit)
        except ClusterError as error:
            log.warning("event not written name=%s error=%s", obj["metadata"]["name"], error)

    async def _record(self, obj: Object, emit: Emit) -> None:
        now = self._now()
        metadata = obj["metadata"]
        message = message_of(emit.message or REASONS[emit.reason])
        same = [metadata["uid"], metadata.get("generation", 0), emit.reason, message]
        name = f"{metadata['name']}.{hashlib.sha256(canonical_json(same)).hexdigest()[:16]}"
        kind = "Warning" if emit.warning else "Normal"
        event = manifests.event(obj, name, reason=emit.reason, message=message, kind=kind, now=now)
        log.info(
            "event kind=%s name=%s reason=%s message=%s",
            obj["kind"],
            metadata["name"],
            emit.reason.value,
            message,
        )
        try:
            await self._cluster.create(event)
        except AlreadyExistsError:
            ref = Ref(EVENT, event["metadata"]["namespace"], name)
            found = await self._cluster.get(ref)
            if found is not None:
                count = int(found.get("count") or 1) + 1
                await self._cluster.patch(ref, {"count": count, "lastTimestamp": rfc3339(now)})

    def _count_build(self, plan: Plan) -> None:
        """Count a build when the plan tells of its end: the event of the end comes once."""
        conditions = (plan.status or {}).get("conditions", [])
        ended = any(c["type"] == ConditionType.STALLED for c in conditions)
        for action in plan.actions:
            if isinstance(action, Emit) and (ended or action.reason is Reason.BUILT):
                self._metrics.builds.labels(action.reason.value).inc()

    async def _sweep(self) -> float:
        """Ring what is due without an event, and count what the metrics show."""
        full = self._sweeps % FULL_SWEEP_EVERY == 0
        self._sweeps += 1
        spaces: tuple[str | None, ...] = self._settings.namespaces or (None,)
        for space in spaces:
            observed = sweep.Observed(
                models=tuple(await self._cluster.list(TINY_MODEL, space)),
                revisions=tuple(await self._cluster.list(TINY_MODEL_REVISION, space)),
                builds=tuple(await self._cluster.list(MODEL_BUILD, space)),
                gateways=tuple(await self._cluster.list(EDGE_GATEWAY, space)),
                deployments=tuple(await self._cluster.list(GATEWAY_DEPLOYMENT, space)),
                leases=tuple(await self._cluster.list(LEASE, space)),
            )
            for kind, namespace, name in sweep.due(observed, self._now(), full=full):
                self.ring(Key(kind, namespace, name))
            self._show(sweep.census(observed))
        return self._settings.sweep_s

    def _show(self, census: sweep.Census) -> None:
        for gauge, counts in (
            (self._metrics.models, census.models),
            (self._metrics.gateways, census.gateways),
            (self._metrics.devices, census.devices),
        ):
            for label, count in counts.items():
                gauge.labels(label).set(count)


def merge_diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that leads from `before` to `after`; empty where they are equal."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if old == value and key in before:
            continue
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            patch[key] = merge_diff(old, value)
        else:
            patch[key] = value
    return patch
