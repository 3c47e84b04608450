"""TinyModelRevision: the record of one roll-out. Schema: crds/tinymodelrevision.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from tinyml_api.codec import Record
from tinyml_api.conditions import Condition
from tinyml_api.images import ImageFile

KIND = "TinyModelRevision"
PLURAL = "tinymodelrevisions"


@dataclass(frozen=True, slots=True)
class TinyModelRef(Record):
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class ClassBuild(Record):
    """`build` is the name of a ModelBuild."""

    device_class: str
    build: str


@dataclass(frozen=True, slots=True)
class ReleasedImage(Record):
    """`code` and `weights` are None for a class without a firmware port."""

    device_class: str
    build: str
    code: ImageFile | None = None
    weights: ImageFile | None = None


@dataclass(frozen=True, slots=True)
class Release(Record):
    """Written once, when all builds are done."""

    time: str
    images: tuple[ReleasedImage, ...]


@dataclass(frozen=True, slots=True)
class TinyModelRevisionSpec(Record):
    tiny_model: TinyModelRef
    number: int
    spec_hash: str
    compiler: str
    toolchain: str
    builds: tuple[ClassBuild, ...]
    generation: int | None = None
    version: str | None = None
    release: Release | None = None


@dataclass(frozen=True, slots=True)
class BuildCounts(Record):
    total: int = 0
    succeeded: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class TinyModelRevisionStatus(Record):
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    builds: BuildCounts | None = None
