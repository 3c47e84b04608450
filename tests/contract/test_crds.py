"""The CRDs' YAML is the source of truth: tinyml_api says the same, field by field."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
import yaml
from tinyml_api import (
    deviceclass,
    edgegateway,
    gatewaydeployment,
    modelbuild,
    tinymodel,
    tinymodelrevision,
)
from tinyml_api.codec import Record, camel_case
from tinyml_api.group import GROUP, VERSION
from tinyml_kube.resources import OURS

from tests.conftest import REPO

CRDS = REPO / "crds"
KINDS: dict[str, tuple[str, type[Record], type[Record] | None]] = {
    "TinyModel": (tinymodel.PLURAL, tinymodel.TinyModelSpec, tinymodel.TinyModelStatus),
    "DeviceClass": (deviceclass.PLURAL, deviceclass.DeviceClassSpec, None),
    "EdgeGateway": (
        edgegateway.PLURAL,
        edgegateway.EdgeGatewaySpec,
        edgegateway.EdgeGatewayStatus,
    ),
    "TinyModelRevision": (
        tinymodelrevision.PLURAL,
        tinymodelrevision.TinyModelRevisionSpec,
        tinymodelrevision.TinyModelRevisionStatus,
    ),
    "ModelBuild": (modelbuild.PLURAL, modelbuild.ModelBuildSpec, modelbuild.ModelBuildStatus),
    "GatewayDeployment": (
        gatewaydeployment.PLURAL,
        gatewaydeployment.GatewayDeploymentSpec,
        gatewaydeployment.GatewayDeploymentStatus,
    ),
}


def crd(kind: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CRDS / f"{kind.lower()}.yaml").read_text())
    return loaded


def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def differences(cls: type[Record], node: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield where the dataclass and the schema disagree."""
    hints = get_type_hints(cls)
    fields = {camel_case(f.name): f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    properties = node.get("properties", {})
    for name in sorted(fields.keys() ^ properties.keys()):
        yield f"{path}.{name}: only in {'tinyml_api' if name in fields else 'the CRD'}"
    required = set(node.get("required", ()))
    for name in sorted(fields.keys() & properties.keys()):
        field, sub, where = fields[name], properties[name], f"{path}.{name}"
        has_default = field.default is not dataclasses.MISSING
        is_required = not has_default and field.default_factory is dataclasses.MISSING
        if is_required != (name in required):
            yield f"{where}: required in one of the two only"
        if "default" in sub and has_default and _plain(field.default) != sub["default"]:
            yield f"{where}: default {field.default!r}, in the CRD {sub['default']!r}"
        yield from _of_type(hints[field.name], sub, where)


def _of_type(hint: Any, node: Mapping[str, Any], where: str) -> Iterator[str]:
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (a for a in get_args(hint) if a is not type(None))
    origin, kind = get_origin(hint), node.get("type")
    if origin is tuple:
        if kind != "array":
            yield f"{where}: tuple, in the CRD {kind}"
        else:
            yield from _of_type(get_args(hint)[0], node["items"], where + "[]")
    elif origin is not None and issubclass(origin, Mapping):
        if kind != "object":
            yield f"{where}: mapping, in the CRD {kind}"
    elif isinstance(hint, type) and issubclass(hint, Record):
        yield from differences(hint, node, where)
    elif isinstance(hint, type) and issubclass(hint, StrEnum):
        values = [member.value for member in hint]
        if node.get("enum") != values:
            yield f"{where}: {values}, in the CRD {node.get('enum')}"
    elif {str: "string", int: "integer", bool: "boolean"}.get(hint) != kind:
        yield f"{where}: {hint}, in the CRD {kind}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def nodes(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, node
    for name, sub in node.get("properties", {}).items():
        yield from nodes(sub, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], path + "[]")
    if isinstance(node.get("additionalProperties"), Mapping):
        yield from nodes(node["additionalProperties"], path + "{}")


@pytest.mark.parametrize("kind", KINDS)
def test_the_dataclasses_say_what_the_crd_says(kind: str) -> None:
    _, spec, status = KINDS[kind]
    properties = schema(kind)["properties"]
    found = list(differences(spec, properties["spec"], "spec"))
    if status is None:
        assert "status" not in properties
    else:
        found += differences(status, properties["status"], "status")
    assert found == []


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_columns_are_as_our_conventions_say(kind: str) -> None:
    spec = crd(kind)["spec"]
    plural = KINDS[kind][0]
    assert crd(kind)["metadata"]["name"] == f"{plural}.{GROUP}"
    names = spec["names"]
    assert (names["kind"], names["plural"], names["categories"]) == (kind, plural, ["tinyml"])
    assert len(names["shortNames"]) == 1
    (version,) = spec["versions"]
    assert version["name"] == VERSION
    assert version["additionalPrinterColumns"]
    resource = next(r for r in OURS if r.kind == kind)
    assert (resource.plural, resource.namespaced) == (plural, spec["scope"] == "Namespaced")


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_bounded_and_described(kind: str) -> None:
    found = []
    for path, node in nodes(schema(kind)["properties"]["spec"], "spec"):
        kind_of = node.get("type")
        if kind_of == "string" and not ({"maxLength", "enum", "format"} & node.keys()):
            found.append(f"{path}: no maxLength")
        if kind_of == "array" and "maxItems" not in node:
            found.append(f"{path}: no maxItems")
        if kind_of == "integer" and not {"minimum", "maximum"} <= node.keys():
            found.append(f"{path}: no bounds")
        if "additionalProperties" in node and "maxProperties" not in node:
            found.append(f"{path}: no maxProperties")
        if not path.endswith(("[]", "{}")) and not node.get("description"):
            found.append(f"{path}: no description")
        if node.get("x-kubernetes-preserve-unknown-fields"):
            found.append(f"{path}: preserves unknown fields")
    assert found == []


def test_a_build_pins_the_whole_device_class() -> None:
    of_class = schema("DeviceClass")["properties"]["spec"]
    assert schema("ModelBuild")["properties"]["spec"]["properties"]["deviceClassSpec"] == of_class


def manifests() -> list[Path]:
    return sorted((*(CRDS / "samples").glob("*.yaml"), *(CRDS / "catalogue").glob("*.yaml")))


def test_there_are_samples_of_every_kind_and_the_catalogue_is_whole() -> None:
    names = {p.name for p in manifests()}
    assert {f"{k.lower()}-{s}.yaml" for k in KINDS for s in ("minimal", "full")} <= names
    classes = ("stm32f405", "mps2-an386", "mps2-an385", "mps3-an547", "microbit", "rv32-virt")
    assert {f"{c}.yaml" for c in (*classes, "posix")} <= names


@pytest.mark.parametrize("path", manifests(), ids=lambda p: p.name)
def test_manifests_are_read_and_written_alike(path: Path) -> None:
    obj = yaml.safe_load(path.read_text())
    spec = KINDS[obj["kind"]][1].from_dict(obj["spec"])
    written = spec.to_dict()
    assert type(spec).from_dict(written) == spec
    assert_within(obj["spec"], written, "spec")


def assert_within(part: Any, whole: Any, path: str) -> None:
    """Everything of `part` is in `whole`, which may have defaults besides."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            assert key in whole, f"{path}.{key} is lost"
            assert_within(value, whole[key], f"{path}.{key}")
    elif isinstance(part, list):
        assert len(part) == len(whole), path
        for index, value in enumerate(part):
            assert_within(value, whole[index], f"{path}[{index}]")
    else:
        assert part == whole, path
