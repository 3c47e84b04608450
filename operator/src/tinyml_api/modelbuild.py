"""ModelBuild: one immutable, content-addressed build. Schema: crds/modelbuild.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tinyml_api import build
from tinyml_api.build import ModelFormat, QuantizationMode
from tinyml_api.codec import Record
from tinyml_api.conditions import Condition
from tinyml_api.images import ImageFile
from tinyml_api.tinymodel import BudgetSpec

KIND = "ModelBuild"
PLURAL = "modelbuilds"

NAME_PREFIX = "mb-"
NAME_DIGITS = 20


def build_name(request_digest: str) -> str:
    """Return the name of the ModelBuild of a request: the same request, the same name."""
    return NAME_PREFIX + request_digest[:NAME_DIGITS]


@dataclass(frozen=True, slots=True)
class ModelFile(Record):
    sha256: str


@dataclass(frozen=True, slots=True)
class CalibrationFile(Record):
    sha256: str
    samples: int


@dataclass(frozen=True, slots=True)
class BuildQuantization(Record):
    mode: QuantizationMode
    calibration: CalibrationFile | None = None


@dataclass(frozen=True, slots=True)
class ModelBuildSpec(Record):
    """The canonical request. Where its files are read from is not here: it changes no byte."""

    request_digest: str
    model: ModelFile
    format: ModelFormat
    quantization: BuildQuantization
    device_class: str
    device_class_spec: Mapping[str, Any]
    compiler: str
    toolchain: str
    budget: BudgetSpec | None = None

    def request(
        self,
        *,
        model_url: str = "",
        calibration_url: str = "",
        uploads: Mapping[str, str] | None = None,
    ) -> build.BuildRequest:
        """Return the request, with these URLs; without them it still has its digest."""
        calibration = self.quantization.calibration
        budget = self.budget or BudgetSpec()
        return build.BuildRequest(
            model=build.Input(url=model_url, sha256=self.model.sha256),
            device_class=self.device_class,
            device_class_spec=self.device_class_spec,
            compiler=self.compiler,
            toolchain=self.toolchain,
            format=self.format,
            quantization=self.quantization.mode,
            calibration=build.Input(url=calibration_url, sha256=calibration.sha256)
            if calibration
            else None,
            calibration_samples=calibration.samples if calibration else None,
            budget=build.Budget(budget.flash_bytes, budget.ram_bytes),
            uploads=uploads or {},
        )

    @classmethod
    def of_request(cls, request: build.BuildRequest) -> Self:
        """Return the spec of a request, its URLs left out."""
        calibration = None
        if request.calibration is not None:
            calibration = CalibrationFile(
                sha256=request.calibration.sha256, samples=request.calibration_samples or 1
            )
        limits = request.budget
        has_budget = limits.flash_bytes is not None or limits.ram_bytes is not None
        return cls(
            request_digest=request.digest(),
            model=ModelFile(request.model.sha256),
            format=request.format,
            quantization=BuildQuantization(request.quantization, calibration),
            device_class=request.device_class,
            device_class_spec=request.device_class_spec,
            compiler=request.compiler,
            toolchain=request.toolchain,
            budget=BudgetSpec(limits.flash_bytes, limits.ram_bytes) if has_budget else None,
        )


@dataclass(frozen=True, slots=True)
class BuildSummary(Record):
    """Whole numbers of the report; bytes, counts."""

    flash_bytes: int | None = None
    ram_bytes: int | None = None
    macs: int | None = None
    instructions_per_inference: int | None = None
    vectors: int | None = None
    mismatches: int | None = None


@dataclass(frozen=True, slots=True)
class ModelBuildStatus(Record):
    """`sources` is a digest of the addresses that the last attempt read."""

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    attempts: int = 0
    job: str | None = None
    sources: str | None = None
    start_time: str | None = None
    completion_time: str | None = None
    code: ImageFile | None = None
    weights: ImageFile | None = None
    report: str | None = None
    summary: BuildSummary | None = None
