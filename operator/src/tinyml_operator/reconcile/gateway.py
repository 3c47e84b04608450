"""EdgeGateway: the one composer of its GatewayDeployment.

The whole deployment is computed anew each time, from all TinyModels of the namespace and the
images that their revisions have released. What belongs to nobody is not in it, so such a device
keeps the firmware that it has. TinyModel reconcilers never write here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from tinyml_api.conditions import (
    ConditionStatus,
    ConditionType,
    Finding,
    Reason,
    find,
    parse_time,
    settle,
)
from tinyml_api.edgegateway import (
    DeviceGroup,
    EdgeGatewayStatus,
    GatewayDeviceCounts,
)
from tinyml_api.gatewaydeployment import (
    DeployedGroup,
    DeployedImage,
    DeviceState,
    GatewayDeploymentSpec,
)

from tinyml_operator import manifests
from tinyml_operator.reconcile import states
from tinyml_operator.reconcile.claims import Claimant, Gateway, owner_of
from tinyml_operator.reconcile.plan import Action, Apply, Emit, Object, Plan
from tinyml_operator.reconcile.revision import Revision, released
from tinyml_operator.reconcile.states import Deployment, status_dict

LEASE_PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Lease:
    """When the agent last said that it lives, and how long that holds."""

    renewed: datetime
    duration_s: int

    @classmethod
    def of(cls, obj: Object) -> Self | None:
        spec = obj.get("spec") or {}
        time = spec.get("renewTime")
        if not time:
            return None
        return cls(parse_time(time), int(spec.get("leaseDurationSeconds") or 0))

    @property
    def ends(self) -> datetime:
        return self.renewed + timedelta(seconds=max(self.duration_s, LEASE_PATIENCE_S))


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything looked at."""

    gateway: Gateway
    status: EdgeGatewayStatus
    models: tuple[Claimant, ...]
    revisions: tuple[Revision, ...]
    deployment: Deployment | None
    known_classes: frozenset[str]
    lease: Lease | None


def image_name(revision: str, build: str) -> str:
    """Return a short name of the pair, the same each time."""
    return "m-" + hashlib.sha256(f"{revision}/{build}".encode()).hexdigest()[:10]


def compose(o: Observed) -> GatewayDeploymentSpec:
    """Return what the gateway's devices shall run."""
    images: dict[str, DeployedImage] = {}
    groups: list[DeployedGroup] = []
    for group in sorted(o.gateway.spec.device_groups, key=lambda g: g.name):
        owner = owner_of(o.gateway, group, o.models)
        if owner is None:
            continue
        kept = _kept(o, owner, group) if owner.spec.suspend else _given(o, owner, group)
        for image, devices in kept:
            images[image.name] = image
            groups.append(DeployedGroup(image.name, group.name, devices))
    ordered = tuple(images[name] for name in sorted(images))
    return GatewayDeploymentSpec(o.gateway.meta.name, ordered, tuple(groups))


def plan(o: Observed, now: datetime) -> Plan:
    """Compose the deployment, and say how the gateway is."""
    if o.gateway.meta.deleting:
        return Plan()
    actions: list[Action] = []
    if not o.gateway.spec.suspend:
        spec = compose(o)
        if o.deployment is None or o.deployment.spec != spec:
            actions.append(Apply(manifests.gateway_deployment(o.gateway.meta, spec)))
    ready = _ready(o, now)
    before = find(o.status.conditions, ConditionType.READY)
    if before is None or (before.status, before.reason) != (ready.status, ready.reason):
        actions.append(Emit(ready.reason, ready.message, ready.status != ConditionStatus.TRUE))
    generation = o.gateway.meta.generation
    status = EdgeGatewayStatus(
        observed_generation=generation,
        conditions=settle(o.status.conditions, (ready,), generation=generation, now=now),
        devices=_counts(o),
    )
    return Plan(tuple(actions), status_dict(status))


def _given(
    o: Observed, owner: Claimant, group: DeviceGroup
) -> list[tuple[DeployedImage, tuple[str, ...]]]:
    """Every device of the group gets the image that the owner has released for its class."""
    revision = released(owner.meta, o.revisions)
    if revision is None or revision.spec.release is None:
        return []
    for image in revision.spec.release.images:
        if image.device_class != group.device_class or not (image.code and image.weights):
            continue
        deployed = DeployedImage(
            name=image_name(revision.meta.name, image.build),
            tiny_model=owner.meta.name,
            revision=revision.meta.name,
            build=image.build,
            device_class=image.device_class,
            code=image.code,
            weights=image.weights,
        )
        return [(deployed, tuple(sorted(group.devices)))] if group.devices else []
    return []


def _kept(
    o: Observed, owner: Claimant, group: DeviceGroup
) -> list[tuple[DeployedImage, tuple[str, ...]]]:
    """A suspended owner's devices stay with what they have been given; no device joins."""
    if o.deployment is None:
        return []
    found = []
    for before in o.deployment.spec.groups:
        image = o.deployment.image(before.image)
        if before.device_group != group.name or image is None:
            continue
        if image.tiny_model != owner.meta.name or image.device_class != group.device_class:
            continue
        devices = tuple(d for d in before.devices if d in group.devices)
        if devices:
            found.append((image, devices))
    return found


def _counts(o: Observed) -> GatewayDeviceCounts:
    total = 0
    letters: list[Any] = []
    unassigned = 0
    for group in o.gateway.spec.device_groups:
        total += len(group.devices)
        reported = o.deployment.states(group.name) if o.deployment else {}
        known = [reported[d][1] for d in group.devices if d in reported]
        letters += known
        if owner_of(o.gateway, group, o.models) is None:
            unassigned += len(group.devices)
        else:
            letters += [DeviceState.PENDING] * (len(group.devices) - len(known))
    counts = states.count(letters)
    return GatewayDeviceCounts(**(counts | {"total": total, "unassigned": unassigned}))


def _ready(o: Observed, now: datetime) -> Finding:
    no, yes = ConditionStatus.FALSE, ConditionStatus.TRUE
    ready = ConditionType.READY
    if o.gateway.spec.suspend:
        return Finding(ready, no, Reason.SUSPENDED)
    missing = sorted({g.device_class for g in o.gateway.spec.device_groups} - o.known_classes)
    if missing:
        return Finding(ready, no, Reason.DEVICE_CLASS_MISSING, _missing(missing, o.known_classes))
    if o.lease is None:
        account = manifests.agent_name(o.gateway.meta.name)
        message = f"no Lease {account!r} yet: start the agent of this gateway"
        return Finding(ready, no, Reason.AGENT_NOT_SEEN, message)
    if silent(o.lease, now):
        return Finding(
            ready,
            no,
            Reason.AGENT_SILENT,
            f"the agent last renewed its Lease at {o.lease.renewed:%Y-%m-%dT%H:%M:%SZ}; its "
            "devices run on, updates wait",
        )
    return Finding(ready, yes, Reason.AGENT_CONNECTED)


def _missing(missing: list[str], known: frozenset[str]) -> str:
    names = ", ".join(repr(name) for name in missing)
    there = ", ".join(sorted(known)) or "none"
    return f"deviceGroups name DeviceClass {names}, which does not exist; there are: {there}"


def silent(lease: Lease | None, now: datetime) -> bool:
    return lease is None or lease.ends < now


def is_stale(status: Mapping[str, Any], lease: Lease | None, now: datetime) -> bool:
    """Whether the published status says another thing of the agent than its Lease does."""
    conditions = EdgeGatewayStatus.from_dict(status).conditions
    ready = find(conditions, ConditionType.READY)
    if ready is None:
        return True
    of_agent = {
        Reason.AGENT_CONNECTED.value: lease is not None and not silent(lease, now),
        Reason.AGENT_SILENT.value: lease is not None and silent(lease, now),
        Reason.AGENT_NOT_SEEN.value: lease is None,
    }
    return not of_agent.get(ready.reason, True)
