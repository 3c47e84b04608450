"""Whom an event concerns: turns a watch event into rings of the work queue.

Keeps only hints in memory: what was seen last, so that a change of status alone does not ring
the neighbours, and which TinyModels a build is for. A lost hint costs a pass; the sweep rings
what a hint missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tinyml_api import edgegateway, modelbuild, tinymodel, tinymodelrevision
from tinyml_api.group import LABEL_BUILD

from tinyml_operator.shell import GATEWAYS_KIND, MODELS_KIND, SWEEP_KIND
from tinyml_operator.workqueue import Key

Event = Mapping[str, Any]


class Bell:
    """`ring` puts a key into the work queue; `sweep` makes the next sweep a full one."""

    def __init__(self, ring: Callable[[Key], None], sweep: Callable[[], None]) -> None:
        self._ring = ring
        self._sweep = sweep
        self._seen: dict[str, object] = {}
        self._users: dict[tuple[str, str], set[str]] = {}  # (namespace, build) → TinyModels

    def tiny_model(self, event: Event) -> None:
        """A TinyModel looks at itself; what it selects concerns gateways and other TinyModels."""
        key = _key(tinymodel.KIND, event)
        self._ring(key)
        if self._is_news(event):
            self._ring(Key(MODELS_KIND, key.namespace, ""))
            self._ring(Key(GATEWAYS_KIND, key.namespace, ""))

    def revision(self, event: Event) -> None:
        """A release concerns the gateways; a revision that is gone, its TinyModel."""
        key = _key(tinymodelrevision.KIND, event)
        self._ring(key)
        spec = event["object"].get("spec") or {}
        model = (spec.get("tinyModel") or {}).get("name", "")
        for build in spec.get("builds") or ():
            self._users.setdefault((key.namespace, build["build"]), set()).add(model)
            self._ring(Key(modelbuild.KIND, key.namespace, build["build"]))
        self._ring(Key(tinymodel.KIND, key.namespace, model))
        if self._is_news(event):
            self._ring(Key(GATEWAYS_KIND, key.namespace, ""))

    def model_build(self, event: Event) -> None:
        """A build's end concerns the TinyModels that wait for it."""
        key = _key(modelbuild.KIND, event)
        self._ring(key)
        for model in self._users.get((key.namespace, key.name), ()):
            self._ring(Key(tinymodel.KIND, key.namespace, model))
        if event.get("type") == "DELETED":
            self._users.pop((key.namespace, key.name), None)

    def edge_gateway(self, event: Event) -> None:
        """Devices that come or go concern every TinyModel that may select them."""
        key = _key(edgegateway.KIND, event)
        self._ring(key)
        if self._is_news(event):
            self._ring(Key(MODELS_KIND, key.namespace, ""))

    def gateway_deployment(self, event: Event) -> None:
        """What an agent reports concerns its gateway and the TinyModels that it runs."""
        key = _key(edgegateway.KIND, event)  # of the same name
        self._ring(key)
        spec = event["object"].get("spec") or {}
        for image in spec.get("images") or ():
            self._ring(Key(tinymodel.KIND, key.namespace, image["tinyModel"]))

    def device_class(self, event: Event) -> None:
        """A class's content is part of what a build is: everything may be concerned."""
        if self._is_news(event):
            self._sweep()
            self._ring(Key(SWEEP_KIND, "", ""))

    def build_child(self, event: Event) -> None:
        """A Job or a pod of a build."""
        metadata = event["object"]["metadata"]
        build = (metadata.get("labels") or {}).get(LABEL_BUILD, "")
        self._ring(Key(modelbuild.KIND, metadata.get("namespace", ""), build))

    def _is_news(self, event: Event) -> bool:
        """Whether more than the status is different from what was seen last."""
        metadata = event["object"]["metadata"]
        uid = metadata["uid"]
        if event.get("type") == "DELETED":
            self._seen.pop(uid, None)
            return True
        now = (
            metadata.get("generation"),
            metadata.get("labels"),
            metadata.get("deletionTimestamp"),
        )
        if self._seen.get(uid) == now:
            return False
        self._seen[uid] = now
        return True


def _key(kind: str, event: Event) -> Key:
    metadata = event["object"]["metadata"]
    return Key(kind, metadata.get("namespace", ""), metadata["name"])
