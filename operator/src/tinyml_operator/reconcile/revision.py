"""Which builds a TinyModel's spec asks for, and which of its revisions covers them.

A revision is a record: it names the builds, and when they are done, the images. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tinyml_api.build import Budget as RequestBudget
from tinyml_api.build import BuildRequest, Input, QuantizationMode, canonical_json
from tinyml_api.conditions import ConditionType, Reason, find
from tinyml_api.modelbuild import ModelBuildSpec, ModelBuildStatus, build_name
from tinyml_api.tinymodel import MAX_CLASSES, BudgetSpec, TinyModelSpec, TinyModelStatus, digest_of
from tinyml_api.tinymodelrevision import TinyModelRevisionSpec

from tinyml_operator.reconcile.claims import Claimant, Gateway, Selected, selection
from tinyml_operator.reconcile.plan import Meta, Object
from tinyml_operator.reconcile.states import Deployment


@dataclass(frozen=True, slots=True)
class Revision:
    """A TinyModelRevision as it is."""

    meta: Meta
    spec: TinyModelRevisionSpec

    @classmethod
    def of(cls, obj: Object) -> Self:
        return cls(Meta.of(obj), TinyModelRevisionSpec.from_dict(obj["spec"]))


@dataclass(frozen=True, slots=True)
class Build:
    """A ModelBuild as it is."""

    meta: Meta
    spec: ModelBuildSpec
    status: ModelBuildStatus

    @property
    def succeeded(self) -> bool:
        ready = find(self.status.conditions, ConditionType.READY)
        return ready is not None and ready.reason == Reason.BUILT


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything looked at. `classes` is every DeviceClass with the content of its spec."""

    meta: Meta
    spec: TinyModelSpec
    status: TinyModelStatus
    classes: Mapping[str, Mapping[str, Any]]
    gateways: tuple[Gateway, ...]
    models: tuple[Claimant, ...]  # all of the namespace, this one too
    revisions: tuple[Revision, ...]  # whose name begins like this model's; others' are told apart
    builds: Mapping[str, Build]
    deployments: Mapping[str, Deployment]  # by gateway


@dataclass(frozen=True, slots=True)
class Pins:
    """What else decides the bytes of a build."""

    compiler: str
    toolchain: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the spec asks for now: a build for each class, and classes that do not exist."""

    selected: tuple[Selected, ...]
    builds: Mapping[str, ModelBuildSpec]
    missing: tuple[str, ...]
    spec_hash: str

    @property
    def too_many(self) -> bool:
        """Whether there are more classes than a revision has room for."""
        return len(self.builds) > MAX_CLASSES


def wanted(o: Observed, pins: Pins) -> Wanted:
    """Work out the classes that matter and the request for each."""
    selected = selection(o.spec.deploy, o.gateways, o.models)
    mine = {s.group.device_class for s in selected if s.owner == o.meta.name}
    names = sorted(mine | set(o.spec.device_classes))
    builds = {
        name: ModelBuildSpec.of_request(request(o.spec, name, o.classes[name], pins))
        for name in names
        if name in o.classes
    }
    return Wanted(
        selected=selected,
        builds=builds,
        missing=tuple(n for n in names if n not in o.classes),
        spec_hash=spec_hash(o.spec, pins),
    )


def request(
    spec: TinyModelSpec, class_name: str, class_spec: Mapping[str, Any], pins: Pins
) -> BuildRequest:
    """Return the build request of a class, without URLs."""
    calibration = spec.quantization.calibration
    used = calibration if spec.quantization.mode is QuantizationMode.POST_TRAINING else None
    budget = spec.budget or BudgetSpec()
    return BuildRequest(
        model=Input("", digest_of(spec.source.sha256)),
        device_class=class_name,
        device_class_spec=class_spec,
        compiler=pins.compiler,
        toolchain=pins.toolchain,
        format=spec.source.format,
        quantization=spec.quantization.mode,
        calibration=Input("", digest_of(used.sha256)) if used else None,
        calibration_samples=used.samples if used else None,
        budget=RequestBudget(budget.flash_bytes, budget.ram_bytes),
    )


def spec_hash(spec: TinyModelSpec, pins: Pins) -> str:
    """Return the hex digest of what decides all builds of a spec, whatever the class."""
    general = request(spec, "", {}, pins).canonical()
    return hashlib.sha256(canonical_json(general)).hexdigest()


def released(model: Meta, revisions: tuple[Revision, ...]) -> Revision | None:
    """Return the revision whose images the model's devices are given: its newest released one."""
    mine = (
        r
        for r in revisions
        if r.spec.tiny_model.uid == model.uid and r.spec.release is not None and not r.meta.deleting
    )
    return max(mine, key=lambda r: r.spec.number, default=None)


def newest(model: Meta, revisions: tuple[Revision, ...]) -> Revision | None:
    mine = (r for r in revisions if r.spec.tiny_model.uid == model.uid and not r.meta.deleting)
    return max(mine, key=lambda r: r.spec.number, default=None)


def covers(revision: Revision | None, w: Wanted) -> bool:
    """Whether the revision has every build that is wanted."""
    if revision is None or revision.spec.spec_hash != w.spec_hash:
        return False
    built = {b.device_class: b.build for b in revision.spec.builds}
    if revision.spec.release is not None:
        built = {i.device_class: i.build for i in revision.spec.release.images}
    return all(
        built.get(name) == build_name(spec.request_digest) for name, spec in w.builds.items()
    )
