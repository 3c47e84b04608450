"""TinyModel: a model and the devices it is for. Schema: crds/tinymodel.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tinyml_api.build import ModelFormat, QuantizationMode
from tinyml_api.codec import Record
from tinyml_api.conditions import Condition

KIND = "TinyModel"
PLURAL = "tinymodels"

MAX_FAILURES = 20
MAX_CLASSES = 32


def digest_of(sha256: str) -> str:
    """Return `sha256:<hex>` of what a user wrote, with or without the prefix."""
    return sha256 if sha256.startswith("sha256:") else f"sha256:{sha256}"


@dataclass(frozen=True, slots=True)
class Source(Record):
    uri: str
    sha256: str
    format: ModelFormat = ModelFormat.AUTO


@dataclass(frozen=True, slots=True)
class Calibration(Record):
    uri: str
    sha256: str
    samples: int = 100


@dataclass(frozen=True, slots=True)
class Quantization(Record):
    mode: QuantizationMode = QuantizationMode.AS_IS
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class BudgetSpec(Record):
    """Limits in bytes that the user sets; None: none."""

    flash_bytes: int | None = None
    ram_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LabelSelector(Record):
    match_labels: Mapping[str, str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(k) == v for k, v in self.match_labels.items())


@dataclass(frozen=True, slots=True)
class Deploy(Record):
    """`selector` looks at device groups, `gateway_selector` at EdgeGateways (None: all)."""

    selector: LabelSelector
    gateway_selector: LabelSelector | None = None


@dataclass(frozen=True, slots=True)
class TinyModelSpec(Record):
    source: Source
    version: str | None = None
    quantization: Quantization = field(default_factory=Quantization)
    budget: BudgetSpec | None = None
    device_classes: tuple[str, ...] = ()
    deploy: Deploy | None = None
    suspend: bool = False


class ClassState(StrEnum):
    """State of a class's build."""

    PENDING = "Pending"
    BUILDING = "Building"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class DeviceCounts(Record):
    """Devices by state; `contested`: selected, but owned by an older TinyModel."""

    total: int = 0
    running: int = 0
    updating: int = 0
    pending: int = 0
    offline: int = 0
    failed: int = 0
    contested: int = 0


@dataclass(frozen=True, slots=True)
class ClassStatus(Record):
    device_class: str
    build: str | None = None
    state: ClassState | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    total: int = 0
    running: int = 0
    updating: int = 0
    pending: int = 0
    offline: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class DeviceFailure(Record):
    gateway: str
    device: str
    reason: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class TinyModelStatus(Record):
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    revision: str | None = None
    rolled_out_revision: str | None = None
    devices: DeviceCounts | None = None
    classes: tuple[ClassStatus, ...] = ()
    failures: tuple[DeviceFailure, ...] = ()
