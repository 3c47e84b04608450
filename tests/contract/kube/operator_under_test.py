"""A kopf operator as ours is written: started by `test_kopf` against the server."""

from __future__ import annotations

from typing import Any

import kopf

GROUP = "contract.tinymlaas.dev"


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.persistence.finalizer = f"{GROUP}/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.posting.loggers = False


@kopf.on.create(GROUP, "v1", "widgets")
@kopf.on.update(GROUP, "v1", "widgets")
async def reconcile(body: kopf.Body, spec: kopf.Spec, patch: kopf.Patch, **_: Any) -> None:
    patch.status["seen"] = spec["size"]
    patch.status["conditions"] = [{"type": "Ready", "status": "True"}]
    kopf.info(body, reason="Reconciled", message=f"size is {spec['size']}")


@kopf.on.delete(GROUP, "v1", "widgets")
async def release(body: kopf.Body, **_: Any) -> None:
    kopf.info(body, reason="Released", message="nothing is left")
