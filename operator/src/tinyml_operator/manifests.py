"""The objects that the operator makes, as the API takes them. Pure; names are deterministic.

Who owns what: a TinyModel its revisions, a ModelBuild its Secret and Jobs, an EdgeGateway its
GatewayDeployment. A ModelBuild has no owner: TinyModels share it, and it is the build cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tinyml_api import gatewaydeployment, modelbuild, tinymodel, tinymodelrevision
from tinyml_api.build import BuildRequest
from tinyml_api.conditions import rfc3339
from tinyml_api.edgegateway import KIND as GATEWAY_KIND
from tinyml_api.group import (
    ANNOTATION_ATTEMPT,
    ANNOTATION_EXPIRES,
    ANNOTATION_SOURCES,
    ANNOTATION_TRY,
    API_VERSION,
    LABEL_BUILD,
    LABEL_DEVICE_CLASS,
    LABEL_GATEWAY,
    LABEL_TINYMODEL,
    gateway_account,
)

from tinyml_operator.reconcile.plan import Meta
from tinyml_operator.settings import Settings

REQUEST_KEY = "request.json"
REQUEST_DIR = "/build/request"
WORK_DIR = "/build/work"
TERMINATION_LOG = "/dev/termination-log"
CONTAINER = "builder"
WORK_SIZE = "8Gi"
BACKOFF_LIMIT = 2  # pods that one Job starts anew by itself; the operator's attempts come on top

_MANAGED_BY = {"app.kubernetes.io/managed-by": "tinyml-operator"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which Job this is. `number` counts Jobs of the build, `tries` those on the same sources."""

    number: int
    tries: int
    sources: str

    def job_name(self, build: str) -> str:
        return f"{build}-{self.number}"


def owner(kind: str, meta: Meta) -> dict[str, Any]:
    """Return an owner reference of the controller `meta`."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def revision(model: Meta, spec: tinymodelrevision.TinyModelRevisionSpec) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": tinymodelrevision.KIND,
        "metadata": {
            "name": revision_name(model.name, spec.number),
            "namespace": model.namespace,
            "labels": {**_MANAGED_BY, LABEL_TINYMODEL: model.name},
            "ownerReferences": [owner(tinymodel.KIND, model)],
        },
        "spec": spec.to_dict(),
    }


def agent_name(gateway: str) -> str:
    """Return the name of the Lease and of the ServiceAccount of a gateway's agent."""
    return gateway_account(gateway)


def revision_name(model: str, number: int) -> str:
    return f"{model}-{number}"


def model_build(namespace: str, spec: modelbuild.ModelBuildSpec) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": modelbuild.KIND,
        "metadata": {
            "name": modelbuild.build_name(spec.request_digest),
            "namespace": namespace,
            "labels": {**_MANAGED_BY, LABEL_DEVICE_CLASS: spec.device_class},
        },
        "spec": spec.to_dict(),
    }


def gateway_deployment(
    gateway: Meta, spec: gatewaydeployment.GatewayDeploymentSpec
) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": gatewaydeployment.KIND,
        "metadata": {
            "name": gateway.name,
            "namespace": gateway.namespace,
            "labels": {**_MANAGED_BY, LABEL_GATEWAY: gateway.name},
            "ownerReferences": [owner(GATEWAY_KIND, gateway)],
        },
        "spec": spec.to_dict(),
    }


def request_secret(build: Meta, request: BuildRequest, expires: datetime) -> dict[str, Any]:
    """Return the Secret with the request: its presigned URLs are good until `expires`."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": build.name,
            "namespace": build.namespace,
            "labels": {**_MANAGED_BY, LABEL_BUILD: build.name},
            "annotations": {ANNOTATION_EXPIRES: rfc3339(expires)},
            "ownerReferences": [owner(modelbuild.KIND, build)],
        },
        "type": "Opaque",
        "stringData": {REQUEST_KEY: request.to_json().decode()},
    }


def build_job(build: Meta, attempt: Attempt, settings: Settings) -> dict[str, Any]:
    """Return the Job of an attempt: no credentials, no privileges, a read-only root."""
    labels = {**_MANAGED_BY, LABEL_BUILD: build.name}
    annotations = {
        ANNOTATION_ATTEMPT: str(attempt.number),
        ANNOTATION_TRY: str(attempt.tries),
        ANNOTATION_SOURCES: attempt.sources,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": attempt.job_name(build.name),
            "namespace": build.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner(modelbuild.KIND, build)],
        },
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "activeDeadlineSeconds": settings.build_deadline_s,
            "ttlSecondsAfterFinished": settings.job_ttl_s,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": CONTAINER,
                            "operator": "In",
                            "values": [1],
                        },
                    },
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]
            },
            "template": {
                "metadata": {"labels": labels},
                "spec": _pod(build.name, settings),
            },
        },
    }


def _pod(secret: str, settings: Settings) -> dict[str, Any]:
    limits = {"cpu": settings.builder_cpu, "memory": settings.builder_memory}
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": settings.builder_image,
                "command": [
                    *settings.builder_command,
                    "--request",
                    f"{REQUEST_DIR}/{REQUEST_KEY}",
                    "--work",
                    WORK_DIR,
                    "--termination-log",
                    TERMINATION_LOG,
                ],
                "env": [
                    {"name": "HOME", "value": WORK_DIR},
                    {"name": "TMPDIR", "value": WORK_DIR},
                ],
                "terminationMessagePath": TERMINATION_LOG,
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": limits},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "request", "mountPath": REQUEST_DIR, "readOnly": True},
                    {"name": "work", "mountPath": WORK_DIR},
                ],
            }
        ],
        "volumes": [
            {"name": "request", "secret": {"secretName": secret}},
            {"name": "work", "emptyDir": {"sizeLimit": WORK_SIZE}},
        ],
    }


def event(
    regarding: Mapping[str, Any], name: str, *, reason: str, message: str, kind: str, now: datetime
) -> dict[str, Any]:
    """Return a core/v1 Event on `regarding`; `kind` is Normal or Warning."""
    metadata = regarding["metadata"]
    namespace = metadata.get("namespace") or "default"
    time = rfc3339(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": regarding["apiVersion"],
            "kind": regarding["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message[:1024],
        "source": {"component": "tinyml-operator"},
        "reportingComponent": "tinyml-operator",
        "reportingInstance": "tinyml-operator",
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
