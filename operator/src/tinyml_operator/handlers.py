"""When the operator looks: kopf's watches, each of which only rings the bell.

No handler decides or writes: an event says that something is different now, and the work queue
looks at what is. Event handlers leave no finalizer, annotation or last-seen state on any object,
and they ring for a status that was wiped too (docs/decisions/002-operator-work-queue.md).
"""

from __future__ import annotations

import os
from typing import Any

import kopf
from tinyml_api import deviceclass, edgegateway, gatewaydeployment, modelbuild, tinymodel
from tinyml_api import tinymodelrevision as revision
from tinyml_api.build import canonical_json, sha256_digest
from tinyml_api.group import GROUP, LABEL_BUILD, VERSION

from tinyml_operator.bell import Bell

OF_A_BUILD = {LABEL_BUILD: kopf.PRESENT}


class DigestDiffBase(kopf.AnnotationsDiffBaseStorage):
    """Should a handler ever need a diff: the annotation holds a digest, never the spec."""

    def build(self, *, body: kopf.Body, **_: Any) -> kopf.BodyEssence:
        digest = sha256_digest(canonical_json(dict(body.spec)))
        return kopf.BodyEssence({"spec": {"digest": digest}})


def configure(settings: kopf.OperatorSettings) -> None:
    """Set what must never be inherited from kopf's defaults."""
    settings.persistence.finalizer = f"{GROUP}/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = DigestDiffBase(prefix=GROUP)
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 320
    settings.watching.connect_timeout = 10
    for resource in (("batch", "v1", "jobs"), ("", "v1", "pods")):
        settings.watching.label_selectors[resource] = LABEL_BUILD  # of ours only
    settings.queueing.idle_timeout = 1.0
    settings.execution.max_workers = 4


def registry() -> kopf.OperatorRegistry:
    """Return the handlers below; a registry of our own, so that nothing else joins."""
    made = kopf.OperatorRegistry()
    kopf.on.login(registry=made)(login)
    for plural, handler in (
        (tinymodel.PLURAL, on_tiny_model),
        (revision.PLURAL, on_revision),
        (modelbuild.PLURAL, on_model_build),
        (edgegateway.PLURAL, on_edge_gateway),
        (gatewaydeployment.PLURAL, on_gateway_deployment),
        (deviceclass.PLURAL, on_device_class),
    ):
        kopf.on.event(GROUP, VERSION, plural, registry=made)(handler)
    kopf.on.event("batch", "v1", "jobs", labels=OF_A_BUILD, registry=made)(on_build_child)
    kopf.on.event("", "v1", "pods", labels=OF_A_BUILD, registry=made)(on_build_child)
    return made


def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Use $KUBECONFIG, else the pod's ServiceAccount, else ~/.kube/config."""
    if not os.environ.get("KUBECONFIG"):
        in_pod = kopf.login_with_service_account(**kwargs)
        if in_pod is not None:
            return in_pod
    return kopf.login_with_kubeconfig(**kwargs)


async def on_tiny_model(event: kopf.RawEvent, memo: Any, **_: Any) -> None:
    bell: Bell = memo.bell
    bell.tiny_model(event)


async def on_revision(event: kopf.RawEvent, memo: Any, **_: Any) -> None:
    bell: Bell = memo.bell
    bell.revision(event)


async def on_model_build(event: kopf.RawEvent, memo: Any, **_: Any) -> None:
    bell: Bell = memo.bell
    bell.model_build(event)


async def on_edge_gateway(event: kopf.RawEvent, memo: Any, **_: Any) -> None:
    bell: Bell = memo.bell
    bell.edge_gateway(event)


async def on_gateway_deployment(event: kopf.RawEvent, memo: Any, **_: Any) -> None:
    bell: Bell = memo.bell
    bell.gateway_deployment(event)


async def on_device_class(event: kopf.RawEvent, memo: Any, **_: Any) -> None:
    bell: Bell = memo.bell
    bell.device_class(event)


async def on_build_child(event: kopf.RawEvent, memo: Any, **_: Any) -> None:
    bell: Bell = memo.bell
    bell.build_child(event)
