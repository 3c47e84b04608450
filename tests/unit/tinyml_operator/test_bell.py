"""Whom an event concerns."""

from __future__ import annotations

from typing import Any

from tinyml_operator.bell import Bell


class Ears:
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.full = 0
        self.bell = Bell(lambda key: self.heard.append(str(key)), self._sweep)

    def _sweep(self) -> None:
        self.full += 1

    def take(self) -> list[str]:
        heard, self.heard = sorted(set(self.heard)), []
        return heard


def event(name: str, kind: str = "MODIFIED", generation: int = 1, **rest: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns", "uid": f"u-{name}", "generation": generation}
    metadata |= rest.pop("metadata", {})
    return {"type": kind, "object": {"metadata": metadata, **rest}}


def test_a_model_rings_its_neighbours_when_its_spec_is_new_and_only_itself_for_a_status() -> None:
    ears = Ears()
    everybody = ["EdgeGatewaysOf/ns/", "TinyModel/ns/m", "TinyModelsOf/ns/"]
    ears.bell.tiny_model(event("m"))
    assert ears.take() == everybody
    ears.bell.tiny_model(event("m", status={"x": 1}))
    assert ears.take() == ["TinyModel/ns/m"]
    ears.bell.tiny_model(event("m", generation=2))
    assert ears.take() == everybody
    ears.bell.tiny_model(event("m", "DELETED", generation=2))
    assert ears.take() == everybody


def test_a_build_rings_the_models_of_the_revisions_that_name_it() -> None:
    ears = Ears()
    spec = {"tinyModel": {"name": "m"}, "builds": [{"deviceClass": "c", "build": "mb-1"}]}
    ears.bell.revision(event("m-1", spec=spec))
    assert "TinyModel/ns/m" in ears.take()
    ears.bell.model_build(event("mb-1"))
    assert ears.take() == ["ModelBuild/ns/mb-1", "TinyModel/ns/m"]


def test_a_release_rings_the_gateways() -> None:
    ears = Ears()
    spec = {"tinyModel": {"name": "m"}, "builds": []}
    ears.bell.revision(event("m-1", spec=spec))
    ears.take()
    ears.bell.revision(event("m-1", generation=2, spec=spec))
    assert "EdgeGatewaysOf/ns/" in ears.take()


def test_an_agents_report_rings_its_gateway_and_the_models_that_it_runs() -> None:
    ears = Ears()
    spec = {"images": [{"tinyModel": "a"}, {"tinyModel": "b"}]}
    ears.bell.gateway_deployment(event("site", spec=spec))
    assert ears.take() == ["EdgeGateway/ns/site", "TinyModel/ns/a", "TinyModel/ns/b"]


def test_a_changed_class_concerns_everything_once() -> None:
    ears = Ears()
    ears.bell.device_class(event("c"))
    ears.bell.device_class(event("c"))
    assert (ears.full, ears.take()) == (1, ["Sweep//"])


def test_a_job_or_pod_rings_its_build() -> None:
    ears = Ears()
    labels = {"tinymlaas.dev/build": "mb-1"}
    ears.bell.build_child(event("mb-1-1", metadata={"labels": labels}))
    assert ears.take() == ["ModelBuild/ns/mb-1"]
