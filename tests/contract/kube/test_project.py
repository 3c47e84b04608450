"""The project's CRDs, samples and device classes are accepted as they are, strictly read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPO

from .conftest import CRDS
from .kube import Kube, eventually

FOLDER = REPO / "crds"
MANIFESTS = [*sorted(FOLDER.glob("samples/*.yaml")), *sorted(FOLDER.glob("catalogue/*.yaml"))]


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    return (d for d in yaml.safe_load_all(path.read_text()) if d)


@pytest.fixture(scope="session")
def project(kube: Kube) -> Kube:
    """The server with the project's CRDs. They are left there: others may be using them."""
    for path in sorted(FOLDER.glob("*.yaml")):
        for crd in _documents(path):
            name = crd["metadata"]["name"]
            reply = kube.apply(f"{CRDS}/{name}", crd, "contract-suite", force="true")
            assert reply.code in (200, 201), f"{path.name}: {reply.message}"
            spec = crd["spec"]
            version = spec["versions"][0]["name"]
            served = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
            eventually(lambda p=served: kube.request("GET", p).code == 200, f"{name} is served")  # type: ignore[misc]
    return kube


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.stem)
def test_a_manifest_of_the_project_is_accepted(project: Kube, namespace: str, path: Path) -> None:
    for body in _documents(path):
        plural = f"{body['kind'].lower()}s".replace("classs", "classes")
        where = f"/apis/{body['apiVersion']}"
        if plural != "deviceclasses":
            body["metadata"]["namespace"] = namespace
            where += f"/namespaces/{namespace}"
        query = {"fieldValidation": "Strict", "dryRun": "All"}
        body["metadata"]["name"] = f"{body['metadata']['name']}-dry"
        reply = project.request("POST", f"{where}/{plural}", body, **query)
        assert reply.code == 201, reply.message
