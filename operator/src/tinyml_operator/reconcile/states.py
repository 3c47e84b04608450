"""What a gateway's agent reports, counted: the one place that reads GatewayDeployment.status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from tinyml_api.gatewaydeployment import (
    DeployedImage,
    DeviceState,
    FailedDevice,
    GatewayDeploymentSpec,
    GatewayDeploymentStatus,
)

from tinyml_operator.reconcile.plan import Meta, Object

COUNTED: Mapping[DeviceState, str] = {
    DeviceState.RUNNING: "running",
    DeviceState.UPDATING: "updating",
    DeviceState.PENDING: "pending",
    DeviceState.OFFLINE: "offline",
    DeviceState.FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A GatewayDeployment as it is."""

    meta: Meta
    spec: GatewayDeploymentSpec
    status: GatewayDeploymentStatus

    @classmethod
    def of(cls, obj: Object) -> Self:
        return cls(
            meta=Meta.of(obj),
            spec=GatewayDeploymentSpec.from_dict(obj["spec"]),
            status=GatewayDeploymentStatus.from_dict(obj.get("status") or {}),
        )

    def image(self, name: str) -> DeployedImage | None:
        return next((i for i in self.spec.images if i.name == name), None)

    def states(self, group: str) -> dict[str, tuple[DeployedImage, DeviceState]]:
        """Return device → (image, state) of a device group.

        A report of an older generation, or one that does not fit the spec, says nothing: pending.
        """
        current = self.status.observed_generation == self.meta.generation
        reported = self.status.groups if current else ()
        found: dict[str, tuple[DeployedImage, DeviceState]] = {}
        for index, wanted in enumerate(self.spec.groups):
            image = self.image(wanted.image)
            if wanted.device_group != group or image is None:
                continue
            report = reported[index] if index < len(reported) else None
            fits = (
                report is not None
                and report.image == wanted.image
                and len(report.states) == len(wanted.devices)
            )
            letters = report.states if report is not None and fits else ""
            for place, device in enumerate(wanted.devices):
                letter = DeviceState(letters[place]) if letters else DeviceState.PENDING
                found[device] = (image, letter)
        return found

    def failures(self, devices: Iterable[str]) -> tuple[FailedDevice, ...]:
        """Return what the agent says of these devices, if it speaks of this very spec."""
        if self.status.observed_generation != self.meta.generation:
            return ()
        wanted = set(devices)
        return tuple(f for f in self.status.failures if f.device in wanted)


def count(states: Iterable[DeviceState]) -> dict[str, int]:
    """Return how many are in which state, and the total, by the names of the status fields."""
    counted = Counter(states)
    return {"total": counted.total()} | {name: counted[state] for state, name in COUNTED.items()}


def status_dict(status: Any) -> dict[str, Any]:
    """Return a status as it is published: empty lists are left out."""
    return {k: v for k, v in status.to_dict().items() if v != []}
