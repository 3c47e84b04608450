"""EdgeGateway: a site's gateway and its devices. Schema: crds/edgegateway.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tinyml_api.codec import Record
from tinyml_api.conditions import Condition

KIND = "EdgeGateway"
PLURAL = "edgegateways"

MAX_DEVICES = 500


@dataclass(frozen=True, slots=True)
class DeviceGroup(Record):
    """`devices` maps names to addresses: serial:///dev/…, udp://host:port, tcp://host:port."""

    name: str
    device_class: str
    devices: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EdgeGatewaySpec(Record):
    device_groups: tuple[DeviceGroup, ...]
    suspend: bool = False


@dataclass(frozen=True, slots=True)
class GatewayDeviceCounts(Record):
    """Devices by state; `unassigned`: in no TinyModel's selection."""

    total: int = 0
    running: int = 0
    updating: int = 0
    pending: int = 0
    offline: int = 0
    failed: int = 0
    unassigned: int = 0


@dataclass(frozen=True, slots=True)
class EdgeGatewayStatus(Record):
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    devices: GatewayDeviceCounts | None = None
