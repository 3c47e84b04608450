"""GatewayDeployment: which device runs which images. Schema: crds/gatewaydeployment.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tinyml_api.codec import Record
from tinyml_api.images import ImageFile

KIND = "GatewayDeployment"
PLURAL = "gatewaydeployments"

MAX_FAILURES = 50


class DeviceState(StrEnum):
    """The letter of a device in `status.groups[].states`."""

    RUNNING = "R"
    UPDATING = "U"
    PENDING = "P"
    OFFLINE = "O"
    FAILED = "F"


@dataclass(frozen=True, slots=True)
class DeployedImage(Record):
    name: str
    tiny_model: str
    revision: str
    build: str
    device_class: str
    code: ImageFile
    weights: ImageFile


@dataclass(frozen=True, slots=True)
class DeployedGroup(Record):
    """`image` names an entry of the spec's images."""

    image: str
    device_group: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GatewayDeploymentSpec(Record):
    gateway: str
    images: tuple[DeployedImage, ...] = ()
    groups: tuple[DeployedGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupStates(Record):
    """One letter of DeviceState a device, in the order of the spec's group."""

    image: str
    states: str


@dataclass(frozen=True, slots=True)
class FailedDevice(Record):
    device: str
    reason: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayDeploymentStatus(Record):
    """Written by the agent alone."""

    observed_generation: int | None = None
    last_report_time: str | None = None
    groups: tuple[GroupStates, ...] = ()
    failures: tuple[FailedDevice, ...] = ()
