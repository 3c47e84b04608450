"""Which TinyModel owns which device group: one device, one TinyModel.

Selection looks at the labels of a group and of its gateway, so a whole group has one owner: of
the TinyModels that select it, the oldest (creation time, then name). Used by the composer of a
gateway and by the status of a TinyModel: they must agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tinyml_api.edgegateway import DeviceGroup, EdgeGatewaySpec
from tinyml_api.tinymodel import Deploy, TinyModelSpec

from tinyml_operator.reconcile.plan import Meta


@dataclass(frozen=True, slots=True)
class Claimant:
    """A TinyModel that may select devices."""

    meta: Meta
    spec: TinyModelSpec


@dataclass(frozen=True, slots=True)
class Gateway:
    meta: Meta
    spec: EdgeGatewaySpec


@dataclass(frozen=True, slots=True)
class Selected:
    """A group that a TinyModel selects, and the name of the TinyModel that owns it."""

    gateway: str
    group: DeviceGroup
    owner: str


def selects(deploy: Deploy | None, gateway: Gateway, group: DeviceGroup) -> bool:
    """Whether this `deploy` means that group."""
    if deploy is None:
        return False
    of_gateway = deploy.gateway_selector
    if of_gateway is not None and not of_gateway.matches(gateway.meta.labels):
        return False
    return deploy.selector.matches(group.labels)


def owner_of(
    gateway: Gateway, group: DeviceGroup, claimants: Iterable[Claimant]
) -> Claimant | None:
    """Return the oldest TinyModel that selects the group, or None."""
    return min(
        (c for c in claimants if not c.meta.deleting and selects(c.spec.deploy, gateway, group)),
        key=lambda c: c.meta.age_order,
        default=None,
    )


def selection(
    deploy: Deploy | None, gateways: Iterable[Gateway], claimants: Sequence[Claimant]
) -> tuple[Selected, ...]:
    """Return the groups that `deploy` selects, by gateway and name, with their owners."""
    found = []
    for gateway in sorted(gateways, key=lambda g: g.meta.name):
        if gateway.meta.deleting:
            continue
        for group in gateway.spec.device_groups:
            if selects(deploy, gateway, group):
                owner = owner_of(gateway, group, claimants)
                if owner is not None:
                    found.append(Selected(gateway.meta.name, group, owner.meta.name))
    return tuple(found)
