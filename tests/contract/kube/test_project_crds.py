"""The project's own kinds on an API server: samples are taken, manifests out of bounds are refused
with the field, the value and the limit.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tinyml_kube.resources import OURS

from tests.conftest import REPO

from .kube import Kube, eventually

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
BASE = "/apis/tinymlaas.dev/v1alpha1"
PLURALS = {r.kind: r.plural for r in OURS}
Object = dict[str, Any]


@pytest.fixture(scope="module")
def space(server: Kube) -> Iterator[str]:
    """A namespace on a server that has the project's CRDs."""
    for path in sorted((REPO / "crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        name = crd["metadata"]["name"]
        reply = server.apply(f"{CRDS}/{name}", crd, "tests", force="true")
        assert reply.code in (200, 201), reply.message
    for plural in PLURALS.values():
        served = f"{BASE}/{plural}"
        eventually(lambda p=served: server.request("GET", p).code == 200, f"{plural} are served")
    name = f"crds-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    server.create("/api/v1/namespaces", body)
    yield name
    server.delete(f"/api/v1/namespaces/{name}")


def sample(name: str) -> Object:
    loaded: Object = yaml.safe_load((REPO / "crds" / "samples" / f"{name}.yaml").read_text())
    return loaded


def collection(obj: Object, space: str) -> str:
    plural = PLURALS[obj["kind"]]
    return (
        f"{BASE}/{plural}"
        if obj["kind"] == "DeviceClass"
        else (f"{BASE}/namespaces/{space}/{plural}")
    )


def manifests() -> list[Path]:
    return sorted(
        (*(REPO / "crds/samples").glob("*.yaml"), *(REPO / "crds/catalogue").glob("*.yaml"))
    )


@pytest.mark.parametrize("path", manifests(), ids=lambda p: p.stem)
def test_samples_and_catalogue_are_taken_without_unknown_fields(
    server: Kube, space: str, path: Path
) -> None:
    obj = yaml.safe_load(path.read_text())
    obj["metadata"]["name"] = f"{obj['metadata']['name'][:20]}-{uuid.uuid4().hex[:6]}"
    reply = server.request(
        "POST", collection(obj, space), obj, dryRun="All", fieldValidation="Strict"
    )
    assert reply.code == 201, reply.message


def test_defaults_are_written_by_the_server(server: Kube, space: str) -> None:
    obj = sample("tinymodel-minimal")
    made = server.create(collection(obj, space), obj, dryRun="All")
    assert made["spec"]["source"]["format"] == "Auto"
    assert made["spec"]["quantization"] == {"mode": "AsIs"}
    assert made["spec"]["suspend"] is False


def devices(count: int, prefix: str = "d") -> dict[str, str]:
    return {f"{prefix}-{i}": "serial:///dev/x" for i in range(count)}


def change(name: str, edit: Callable[[Object], Any]) -> Callable[[], Object]:
    def make() -> Object:
        obj = copy.deepcopy(sample(name))
        edit(obj)
        return obj

    return make


def group(name: str, members: dict[str, str]) -> Object:
    return {"name": name, "deviceClass": "posix", "devices": members}


def groups(*made: Object) -> Callable[[Object], Any]:
    return lambda obj: obj["spec"].update(deviceGroups=list(made))


REFUSED: dict[str, tuple[Callable[[], Object], tuple[str, ...]]] = {
    "sha256": (
        change("tinymodel-minimal", lambda o: o["spec"]["source"].update(sha256="abc")),
        ("spec.source.sha256", '"abc"', "[0-9a-f]{64}"),
    ),
    "uri": (
        change("tinymodel-minimal", lambda o: o["spec"]["source"].update(uri="ftp://x/y")),
        ("spec.source.uri", '"ftp://x/y"'),
    ),
    "format": (
        change("tinymodel-minimal", lambda o: o["spec"]["source"].update(format="Pickle")),
        ("spec.source.format", '"Pickle"', '"TFLite"'),
    ),
    "no target": (
        change("tinymodel-minimal", lambda o: o["spec"].pop("deviceClasses")),
        ("set deviceClasses, deploy or both",),
    ),
    "no calibration": (
        change(
            "tinymodel-minimal", lambda o: o["spec"].update(quantization={"mode": "PostTraining"})
        ),
        ("calibration is required where mode is PostTraining",),
    ),
    "budget": (
        change("tinymodel-minimal", lambda o: o["spec"].update(budget={"flashBytes": 0})),
        ("spec.budget.flashBytes", "0", "greater than or equal to 1"),
    ),
    "empty selector": (
        change(
            "tinymodel-full", lambda o: o["spec"]["deploy"].update(selector={"matchLabels": {}})
        ),
        ("spec.deploy.selector.matchLabels",),
    ),
    "long name": (
        change("tinymodel-minimal", lambda o: o["metadata"].update(name="n" * 51)),
        ("at most 50 characters",),
    ),
    "device address": (
        change("edgegateway-minimal", groups(group("g", {"d": "http://x"}))),
        ("spec.deviceGroups[0].devices.d", '"http://x"'),
    ),
    "device name": (
        change("edgegateway-minimal", groups(group("g", {"D_1": "serial:///dev/x"}))),
        ("a device name has at most 32",),
    ),
    "too many devices": (
        change(
            "edgegateway-minimal",
            groups(group("a", devices(300, "a")), group("b", devices(201, "b"))),
        ),
        ("at most 500 devices",),
    ),
    "device twice": (
        change("edgegateway-minimal", groups(group("a", devices(2)), group("b", devices(1)))),
        ("one deviceGroup only",),
    ),
    "slot not whole blocks": (
        change("deviceclass-minimal", lambda o: o["spec"]["flash"]["code"].update(sizeBytes=98305)),
        ("multiples of eraseBlockBytes",),
    ),
    "slots overlap": (
        change(
            "deviceclass-minimal",
            lambda o: o["spec"]["flash"]["code"].update(secondaryOffset=65536),
        ),
        ("must not overlap",),
    ),
    "slot beyond the flash": (
        change(
            "deviceclass-minimal",
            lambda o: o["spec"]["flash"]["weights"].update(secondaryOffset=487424),
        ),
        ("must not pass flash.sizeBytes",),
    ),
    "cpu": (
        change("deviceclass-minimal", lambda o: o["spec"].update(cpu="Z80")),
        ("spec.cpu", '"Z80"', '"CortexM3"'),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_manifest_out_of_bounds_is_refused_with_field_value_and_limit(
    server: Kube, space: str, case: str
) -> None:
    make, told = REFUSED[case]
    obj = make()
    if obj["kind"] == "DeviceClass":
        obj["metadata"]["name"] = f"class-{uuid.uuid4().hex[:8]}"
    reply = server.request("POST", collection(obj, space), obj, dryRun="All")
    assert reply.code == 422
    assert [words for words in told if words not in reply.message] == [], reply.message


def test_a_build_cannot_be_changed(server: Kube, space: str) -> None:
    obj = sample("modelbuild-minimal")
    made = server.create(collection(obj, space), obj)
    path = f"{collection(obj, space)}/{made['metadata']['name']}"
    reply = server.request(
        "PATCH",
        path,
        {"spec": {"toolchain": "other"}},
        content_type="application/merge-patch+json",
    )
    assert (reply.code, "a build is immutable" in reply.message) == (422, True)


def test_a_revision_is_released_once_and_otherwise_never_changed(server: Kube, space: str) -> None:
    obj = sample("tinymodelrevision-full")
    release = obj["spec"].pop("release")
    made = server.create(collection(obj, space), obj)
    path = f"{collection(obj, space)}/{made['metadata']['name']}"

    def patch(spec: Object) -> tuple[int, str]:
        reply = server.request(
            "PATCH", path, {"spec": spec}, content_type="application/merge-patch+json"
        )
        return reply.code, reply.message

    code, message = patch({"number": 4})
    assert (code, "number is immutable" in message) == (422, True)
    assert patch({"release": release})[0] == 200
    code, message = patch({"release": None})
    assert (code, "release is written once" in message) == (422, True)
