"""What a reconciler looks at, read from the cluster and the store: the shell's first step.

Reads are live: a pass decides by what is there now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tinyml_api.build import BuildResult
from tinyml_api.conditions import Reason, parse_time
from tinyml_api.edgegateway import EdgeGatewaySpec, EdgeGatewayStatus
from tinyml_api.group import ANNOTATION_EXPIRES, LABEL_BUILD, LABEL_TINYMODEL
from tinyml_api.modelbuild import ModelBuildSpec, ModelBuildStatus, build_name
from tinyml_api.tinymodel import TinyModelSpec, TinyModelStatus
from tinyml_api.tinymodelrevision import TinyModelRevisionStatus
from tinyml_kube.cluster import Cluster, Object, Ref
from tinyml_kube.resources import (
    DEVICE_CLASS,
    EDGE_GATEWAY,
    GATEWAY_DEPLOYMENT,
    JOB,
    LEASE,
    MODEL_BUILD,
    POD,
    SECRET,
    TINY_MODEL,
    TINY_MODEL_REVISION,
)

from tinyml_operator import manifests
from tinyml_operator.reconcile import gateway, modelbuild, revision, tinymodelrevision
from tinyml_operator.reconcile.claims import Claimant, Gateway
from tinyml_operator.reconcile.jobs import Job, Pod
from tinyml_operator.reconcile.plan import Meta
from tinyml_operator.reconcile.states import Deployment
from tinyml_operator.storage import Storage, StorageError, build_prefix

RESULT_LIMIT = 256 * 1024  # bytes of a result.json


async def tiny_model(cluster: Cluster, obj: Object, pins: revision.Pins) -> revision.Observed:
    """Look at a TinyModel, what it selects, its revisions and the builds that it wants."""
    meta = Meta.of(obj)
    revisions = await cluster.list(
        TINY_MODEL_REVISION, meta.namespace, labels={LABEL_TINYMODEL: meta.name}
    )
    classes = await cluster.list(DEVICE_CLASS)
    deployments = await cluster.list(GATEWAY_DEPLOYMENT, meta.namespace)
    observed = revision.Observed(
        meta=meta,
        spec=TinyModelSpec.from_dict(obj["spec"]),
        status=TinyModelStatus.from_dict(obj.get("status") or {}),
        classes={c["metadata"]["name"]: c["spec"] for c in classes},
        gateways=await _gateways(cluster, meta.namespace),
        models=await _claimants(cluster, meta.namespace),
        revisions=tuple(revision.Revision.of(r) for r in revisions),
        builds={},
        deployments={d["metadata"]["name"]: Deployment.of(d) for d in deployments},
    )
    builds = {}
    for spec in revision.wanted(observed, pins).builds.values():
        name = build_name(spec.request_digest)
        found = await cluster.get(Ref(MODEL_BUILD, meta.namespace, name))
        if found is not None:
            builds[name] = _build(found)
    return replace(observed, builds=builds)


async def edge_gateway(cluster: Cluster, obj: Object) -> gateway.Observed:
    """Look at an EdgeGateway and all that its deployment is composed from."""
    meta = Meta.of(obj)
    deployment = await cluster.get(Ref(GATEWAY_DEPLOYMENT, meta.namespace, meta.name))
    lease = await cluster.get(Ref(LEASE, meta.namespace, manifests.agent_name(meta.name)))
    revisions = await cluster.list(TINY_MODEL_REVISION, meta.namespace)
    classes = await cluster.list(DEVICE_CLASS)
    return gateway.Observed(
        gateway=Gateway(meta, EdgeGatewaySpec.from_dict(obj["spec"])),
        status=EdgeGatewayStatus.from_dict(obj.get("status") or {}),
        models=await _claimants(cluster, meta.namespace),
        revisions=tuple(revision.Revision.of(r) for r in revisions),
        deployment=Deployment.of(deployment) if deployment else None,
        known_classes=frozenset(c["metadata"]["name"] for c in classes),
        lease=gateway.Lease.of(lease) if lease else None,
    )


async def tiny_model_revision(cluster: Cluster, obj: Object) -> tinymodelrevision.Observed:
    """Look at a TinyModelRevision and its builds."""
    found = revision.Revision.of(obj)
    builds = {}
    for wanted in found.spec.builds:
        build = await cluster.get(Ref(MODEL_BUILD, found.meta.namespace, wanted.build))
        if build is not None:
            builds[wanted.build] = _build(build)
    status = TinyModelRevisionStatus.from_dict(obj.get("status") or {})
    return tinymodelrevision.Observed(found, status, builds)


async def model_build(
    cluster: Cluster, storage: Storage, obj: Object, pins: revision.Pins
) -> modelbuild.Observed:
    """Look at a ModelBuild, its result in the store, its Jobs and pods, and who has its files."""
    meta = Meta.of(obj)
    spec = ModelBuildSpec.from_dict(obj["spec"])
    mine = {LABEL_BUILD: meta.name}
    prefix = build_prefix(meta.namespace, spec.request_digest)
    jobs = await cluster.list(JOB, meta.namespace, labels=mine)
    pods = await cluster.list(POD, meta.namespace, labels=mine)
    secret = await cluster.get(Ref(SECRET, meta.namespace, meta.name))
    models = await cluster.list(TINY_MODEL, meta.namespace)
    found = await cluster.get(Ref(DEVICE_CLASS, None, spec.device_class))
    outdated = found is None or found["spec"] != spec.device_class_spec
    return modelbuild.Observed(
        meta=meta,
        spec=spec,
        status=ModelBuildStatus.from_dict(obj.get("status") or {}),
        sources=() if outdated else _sources(spec, models, pins),
        result=await _result(storage, prefix, spec.request_digest),
        jobs=tuple(Job.of(j) for j in jobs if "deletionTimestamp" not in j["metadata"]),
        pods=tuple(Pod.of(p) for p in pods),
        secret=secret,
        request_expires=_expires(secret),
        report=f"s3://{storage.bucket}/{prefix}report.json",
    )


async def _gateways(cluster: Cluster, namespace: str) -> tuple[Gateway, ...]:
    found = await cluster.list(EDGE_GATEWAY, namespace)
    return tuple(Gateway(Meta.of(g), EdgeGatewaySpec.from_dict(g["spec"])) for g in found)


async def _claimants(cluster: Cluster, namespace: str) -> tuple[Claimant, ...]:
    found = await cluster.list(TINY_MODEL, namespace)
    return tuple(Claimant(Meta.of(m), TinyModelSpec.from_dict(m["spec"])) for m in found)


def _build(obj: Object) -> revision.Build:
    return revision.Build(
        meta=Meta.of(obj),
        spec=ModelBuildSpec.from_dict(obj["spec"]),
        status=ModelBuildStatus.from_dict(obj.get("status") or {}),
    )


def _sources(
    spec: ModelBuildSpec, models: Sequence[Object], pins: revision.Pins
) -> tuple[modelbuild.Sources, ...]:
    """Return where TinyModels that ask for this very build have its files, oldest first."""
    found: dict[modelbuild.Sources, None] = {}
    for obj in sorted(models, key=lambda m: Meta.of(m).age_order):
        model = TinyModelSpec.from_dict(obj["spec"])
        asked = revision.request(model, spec.device_class, spec.device_class_spec, pins)
        if model.suspend or Meta.of(obj).deleting or asked.digest() != spec.request_digest:
            continue
        calibration = model.quantization.calibration if asked.calibration is not None else None
        uri = calibration.uri if calibration is not None else None
        found[modelbuild.Sources(model.source.uri, uri)] = None
    return tuple(found)


async def _result(
    storage: Storage, prefix: str, request_digest: str
) -> BuildResult | modelbuild.Problem | None:
    where = f"s3://{storage.bucket}/{prefix}result.json"
    try:
        data = await storage.get(prefix + "result.json", most=RESULT_LIMIT + 1)
    except StorageError as error:
        return modelbuild.Problem(Reason.STORAGE_UNREACHABLE, str(error))
    if data is None:
        return None
    try:
        if len(data) > RESULT_LIMIT:
            raise ValueError(f"it has more than {RESULT_LIMIT} bytes")
        result = BuildResult.from_dict(json.loads(data))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        told = repr(error)[:200]  # the file is a stranger's, and an error may quote it
        return modelbuild.Problem(
            Reason.INTERNAL_ERROR, f"{where} is not a build result ({told}): delete it"
        )
    if result.request_digest != request_digest:
        other = str(result.request_digest)[:80]
        return modelbuild.Problem(
            Reason.INTERNAL_ERROR, f"{where} is the result of request {other!r}: delete it"
        )
    return result


def _expires(secret: Object | None) -> datetime | None:
    annotations: Mapping[str, Any] = (secret or {}).get("metadata", {}).get("annotations") or {}
    try:
        return parse_time(annotations.get(ANNOTATION_EXPIRES, ""))
    except ValueError:
        return None
