"""TinyModel: which builds its spec asks for, which revision is released, how its devices stand.

A revision is made when the spec asks for a build that the newest one does not have; it is
released when all of its builds are done, and from then on the composers of gateways give it to
devices. Until then, and if it fails, the former one stays rolled out.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from tinyml_api.conditions import Reason, rfc3339
from tinyml_api.modelbuild import KIND as BUILD_KIND
from tinyml_api.modelbuild import build_name
from tinyml_api.tinymodelrevision import (
    ClassBuild,
    Release,
    ReleasedImage,
    TinyModelRef,
    TinyModelRevisionSpec,
)

from tinyml_operator import manifests
from tinyml_operator.reconcile.plan import Action, Apply, Emit, Plan
from tinyml_operator.reconcile.revision import (
    Observed,
    Pins,
    Revision,
    Wanted,
    covers,
    newest,
    released,
    wanted,
)
from tinyml_operator.reconcile.tinymodel_status import View, publish

NAMESAKE_PATIENCE = timedelta(seconds=30)


def plan(o: Observed, pins: Pins, now: datetime) -> Plan:
    """Return what to do for this model now."""
    if o.meta.deleting:
        return Plan()
    w = wanted(o, pins)
    current = newest(o.meta, o.revisions)
    taken = _taken_name(o, current, now)
    actions: list[Action] = []
    stands = o.spec.suspend or w.missing or w.too_many or taken
    if w.builds and not stands:
        if not covers(current, w):
            current = _next_revision(o, w, current, pins)
            actions.append(Apply(manifests.revision(o.meta, current.spec)))
            actions.append(Emit(Reason.REVISION_CREATED, _announce(current)))
        actions += _missing_builds(o, w)
        release = _release(o, w, current, now)
        if release is not None and current is not None:
            current = replace(current, spec=replace(current.spec, release=release))
            actions.append(Apply(manifests.revision(o.meta, current.spec)))
            name = current.meta.name
            message = f"devices are given {name}" if o.spec.deploy else f"{name} is built"
            actions.append(Emit(Reason.RELEASED, message))
    revisions = tuple(r for r in o.revisions if current is None or r.meta.name != current.meta.name)
    after = replace(o, revisions=(*revisions, current) if current else revisions)
    view = View(after, w, current, released(o.meta, after.revisions), taken)
    published, events = publish(view, now)
    unfinished = [
        (BUILD_KIND, name)
        for name in (build_name(b.request_digest) for b in w.builds.values())
        if name in o.builds and not o.builds[name].succeeded
    ]
    wait_s = 2.0 if taken else None
    return Plan((*actions, *events), published, wait_s, tuple(unfinished))


def _taken_name(o: Observed, current: Revision | None, now: datetime) -> str:
    """Return the next revision's name if an object of a deleted namesake still has it.

    The garbage collector is waited for; what it leaves (`--cascade=orphan`) is passed over then.
    """
    if now - o.meta.created > NAMESAKE_PATIENCE:
        return ""
    number = current.spec.number + 1 if current else 1
    name = manifests.revision_name(o.meta.name, number)
    return name if any(r.meta.name == name for r in o.revisions) else ""


def _next_revision(o: Observed, w: Wanted, current: Revision | None, pins: Pins) -> Revision:
    number = current.spec.number + 1 if current else 1
    others = {r.meta.name for r in o.revisions}
    while manifests.revision_name(o.meta.name, number) in others:
        number += 1
    spec = TinyModelRevisionSpec(
        tiny_model=TinyModelRef(o.meta.name, o.meta.uid),
        number=number,
        spec_hash=w.spec_hash,
        compiler=pins.compiler,
        toolchain=pins.toolchain,
        builds=tuple(
            ClassBuild(name, build_name(b.request_digest)) for name, b in w.builds.items()
        ),
        generation=o.meta.generation,
        version=o.spec.version,
    )
    name = manifests.revision_name(o.meta.name, number)
    meta = replace(o.meta, name=name, uid="", generation=1)
    return Revision(meta, spec)


def _announce(revision: Revision) -> str:
    classes = ", ".join(b.device_class for b in revision.spec.builds)
    return f"{revision.meta.name} builds for {classes}"


def _missing_builds(o: Observed, w: Wanted) -> list[Action]:
    return [
        Apply(manifests.model_build(o.meta.namespace, spec))
        for spec in w.builds.values()
        if build_name(spec.request_digest) not in o.builds
    ]


def _release(o: Observed, w: Wanted, current: Revision | None, now: datetime) -> Release | None:
    """Return the release of the current revision if it is due: all wanted builds are done."""
    if current is None or current.spec.release is not None:
        return None
    images = []
    for name, spec in w.builds.items():
        build = o.builds.get(build_name(spec.request_digest))
        if build is None or not build.succeeded:
            return None
        images.append(ReleasedImage(name, build.meta.name, build.status.code, build.status.weights))
    return Release(rfc3339(now), tuple(images))
