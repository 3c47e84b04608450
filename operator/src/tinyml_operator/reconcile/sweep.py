"""What is due without an event: the process-wide sweep, and the census that the metrics show.

Timers on each object would cost a finalizer and a body in memory each. One sweep looks at all and
rings what has a reason: not ready, a Lease that ran out, a status that is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tinyml_api import edgegateway, modelbuild, tinymodel, tinymodelrevision
from tinyml_api.conditions import ConditionStatus, ConditionType

from tinyml_operator.manifests import agent_name
from tinyml_operator.reconcile.gateway import Lease, is_stale
from tinyml_operator.reconcile.plan import Object
from tinyml_operator.reconcile.states import COUNTED, Deployment


@dataclass(frozen=True, slots=True)
class Observed:
    """All objects of the operator's namespaces."""

    models: tuple[Object, ...]
    revisions: tuple[Object, ...]
    builds: tuple[Object, ...]
    gateways: tuple[Object, ...]
    deployments: tuple[Object, ...]
    leases: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Census:
    """Counts for the metrics, by label; every label of a closed set is there."""

    models: Mapping[str, int]
    gateways: Mapping[str, int]
    devices: Mapping[str, int]


def due(o: Observed, now: datetime, *, full: bool) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, namespace, name) of what to look at; `full`: of everything."""
    for kind, objects in (
        (tinymodel.KIND, o.models),
        (tinymodelrevision.KIND, o.revisions),
        (modelbuild.KIND, o.builds),
    ):
        for obj in objects:
            if full or _unfinished(obj):
                yield kind, *_address(obj)
    leases = {_address(lease): lease for lease in o.leases}
    for obj in o.gateways:
        namespace, name = _address(obj)
        lease = leases.get((namespace, agent_name(name)))
        status = obj.get("status") or {}
        if full or is_stale(status, Lease.of(lease) if lease else None, now):
            yield edgegateway.KIND, namespace, name


def census(o: Observed) -> Census:
    """Count models by Ready, gateways by reason of Ready, devices by state."""
    models = Counter({status.value: 0 for status in ConditionStatus})
    models.update(_ready(m).get("status", ConditionStatus.UNKNOWN.value) for m in o.models)
    gateways = Counter(_ready(g).get("reason", "NotYetKnown") for g in o.gateways)
    devices = Counter(dict.fromkeys(COUNTED.values(), 0))
    for obj in o.deployments:
        deployment = Deployment.of(obj)
        for group in deployment.spec.groups:
            letters = deployment.states(group.device_group)
            devices.update(COUNTED[letters[d][1]] for d in group.devices)
    return Census(dict(models), dict(gateways), dict(devices))


def _unfinished(obj: Object) -> bool:
    current = (obj.get("status") or {}).get("observedGeneration")
    if current != obj["metadata"].get("generation"):
        return True
    return bool(_ready(obj).get("status") != ConditionStatus.TRUE)


def _ready(obj: Object) -> Mapping[str, Any]:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == ConditionType.READY), {})


def _address(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]
