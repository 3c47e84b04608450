"""A decision as `GatewayDeployment.status`: letters and the failures that a person should read.
Pure; called by `agent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tinyml_api.gatewaydeployment import (
    MAX_FAILURES,
    DeviceState,
    FailedDevice,
    GatewayDeploymentStatus,
    GroupStates,
)

from tinyml_gateway.rollout import Decision, Desired, View

MESSAGE_LIMIT = 256  # characters; 50 of them keep the object under 32 KiB

_WORST_FIRST = (
    DeviceState.FAILED,
    DeviceState.OFFLINE,
    DeviceState.PENDING,
    DeviceState.UPDATING,
)
_PENDING = View(DeviceState.PENDING)


def status_of(desired: Desired, decision: Decision) -> GatewayDeploymentStatus:
    """Return the status without its time: what is compared to know whether there is anything to
    say.
    """
    failures = (
        FailedDevice(name, str(view.reason), _short(view.message))
        for state in _WORST_FIRST
        for name, view in decision.views.items()
        if view.state is state and view.reason is not None
    )
    return GatewayDeploymentStatus(
        observed_generation=desired.generation,
        groups=tuple(
            GroupStates(
                group.image,
                "".join(decision.views.get(name, _PENDING).state for name in group.devices),
            )
            for group in desired.groups
        ),
        failures=tuple(failures)[:MAX_FAILURES],
    )


def is_published(status: GatewayDeploymentStatus, deployment: Mapping[str, Any]) -> bool:
    """Whether the object already says this, its time aside."""
    found = dict(deployment.get("status") or {})
    found.pop("lastReportTime", None)
    return GatewayDeploymentStatus.from_dict(found) == status


def timestamp(now: float) -> str:
    """Return Unix time `now` as Kubernetes writes times: whole seconds, UTC."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(now: float) -> str:
    """Return Unix time `now` as a Lease's MicroTime."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _short(message: str) -> str:
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"
