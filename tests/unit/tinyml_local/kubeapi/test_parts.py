"""The small pure parts: selectors, JSONPath, patches, tables, names."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tinyml_local.kubeapi import jsonpath, patches, tables
from tinyml_local.kubeapi.builtin_schemas import builtin_schema
from tinyml_local.kubeapi.errors import ApiError
from tinyml_local.kubeapi.metadata import generated_name
from tinyml_local.kubeapi.requests import parse_body, parse_target
from tinyml_local.kubeapi.schema import item_schema, property_schema
from tinyml_local.kubeapi.selectors import label_selector

from .harness import NOW, a_registry

DOCUMENT = {
    "spec": {"size": 3, "tags": ["a", "b"], "a.b": 1},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "False"}]
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.size", [3]),
        ("{.spec.size}", [3]),
        (".spec.tags[0]", ["a"]),
        (".spec.tags[-1]", ["b"]),
        (".spec.tags[*]", ["a", "b"]),
        (".spec.tags[7]", []),
        (".spec.none.deeper", []),
        (".spec.a\\.b", [1]),
        (".spec['a.b']", [1]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type!='Ready')].status", ["False"]),
        ('.status.conditions[?(@.type=="None")].status', []),
    ],
)
def test_a_json_path_finds(path: str, found: list[Any]) -> None:
    assert jsonpath.find(path, DOCUMENT) == found


@pytest.mark.parametrize("path", [".a[1:2]", "..a", ".a[?(@.b)]", ".a[(@.length-1)]"])
def test_a_json_path_outside_of_the_subset_is_refused(path: str) -> None:
    with pytest.raises(jsonpath.JsonPathError, match="cannot read"):
        jsonpath.parse(path)


def test_a_selector_that_is_none_is_refused() -> None:
    with pytest.raises(ApiError, match="unable to parse requirement"):
        label_selector("a b")


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": 1}, {"a": None}, {}),
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": {"b": None}}, {"a": {}}),
    ],
)
def test_a_merge_patch_merges(target: Any, patch: Any, result: Any) -> None:
    before = repr(target)
    assert patches.merge_patch(target, patch) == result
    assert repr(target) == before


def test_a_json_patch_does_its_operations_in_order() -> None:
    operations = [
        {"op": "add", "path": "/l/-", "value": 3},
        {"op": "add", "path": "/l/0", "value": 0},
        {"op": "remove", "path": "/l/1"},
        {"op": "replace", "path": "/m/x~1y", "value": 2},
        {"op": "copy", "from": "/m", "path": "/n"},
        {"op": "move", "from": "/l", "path": "/k"},
        {"op": "test", "path": "/k", "value": [0, 2, 3]},
    ]
    result = patches.json_patch({"l": [1, 2], "m": {"x/y": 1}}, operations)
    assert result == {"k": [0, 2, 3], "m": {"x/y": 2}, "n": {"x/y": 2}}


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ({"op": "test", "path": "/a", "value": 2}, 422),
        ({"op": "remove", "path": "/none"}, 422),
        ({"op": "replace", "path": "/none", "value": 1}, 422),
        ({"op": "add", "path": "/none/deep", "value": 1}, 422),
        ({"op": "conquer", "path": "/a"}, 400),
        ({"path": "/a"}, 400),
    ],
)
def test_a_json_patch_that_does_not_fit_is_refused(operation: Any, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        patches.json_patch({"a": 1}, [operation])
    assert caught.value.code == code


def test_a_strategic_merge_knows_the_keys_of_built_in_lists() -> None:
    schema = builtin_schema("V1PodSpec")
    old = {"containers": [{"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}]}]}
    new = [{"name": "a", "env": [{"name": "L", "value": "2"}]}, {"name": "b"}]
    result = patches.strategic_merge(schema, old, {"containers": new})
    assert result["containers"] == [
        {
            "name": "a",
            "image": "x",
            "env": [{"name": "K", "value": "1"}, {"name": "L", "value": "2"}],
        },
        {"name": "b"},
    ]
    gone = patches.strategic_merge(
        schema, result, {"containers": [{"name": "a", "$patch": "delete"}]}
    )
    assert [c["name"] for c in gone["containers"]] == ["b"]


def test_built_in_schemas_know_types_and_requirements() -> None:
    spec = property_schema(builtin_schema("V1Job"), "spec") or {}
    assert spec["required"] == ["template"]
    pod = property_schema(property_schema(spec, "template") or {}, "spec") or {}
    container = item_schema(property_schema(pod, "containers") or {})
    assert container["properties"]["terminationMessagePath"]["type"] == "string"
    assert "Entrypoint array" in container["properties"]["command"]["description"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (190, "3m10s"),
        (3600, "60m"),
        (5 * 3600 + 120, "5h2m"),
        (24 * 3600, "24h"),
        (3 * 86400, "3d"),
        (400 * 86400, "400d"),
    ],
)
def test_durations_are_written_as_kubectl_does(seconds: int, text: str) -> None:
    assert tables.duration(seconds) == text
    assert tables.age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text


def test_generated_names_keep_their_length() -> None:
    assert len(generated_name("x" * 100)) == 63


def test_a_timestamp_in_yaml_stays_a_string() -> None:
    text = b"spec: {since: 2026-11-22T10:00:00Z, day: 2026-11-22}"
    found = parse_body(text, "application/yaml", ("application/yaml",))
    assert found == {"spec": {"since": "2026-11-22T10:00:00Z", "day": "2026-11-22"}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/api/v1/namespaces", ("namespaces", "", "", "")),
        ("/api/v1/namespaces/x", ("namespaces", "", "x", "")),
        ("/api/v1/namespaces/x/status", ("namespaces", "", "x", "status")),
        ("/api/v1/namespaces/x/pods", ("pods", "x", "", "")),
        ("/api/v1/namespaces/x/pods/p/log", ("pods", "x", "p", "log")),
        ("/apis/batch/v1/jobs", ("jobs", "", "", "")),
        ("/apis/batch/v1/namespaces/x/jobs/j", ("jobs", "x", "j", "")),
    ],
)
def test_a_path_names_a_kind(path: str, found: tuple[str, ...]) -> None:
    target = parse_target(a_registry().kinds, path)
    assert (target.kind.plural, target.namespace, target.name, target.sub) == found


@pytest.mark.parametrize(
    "path",
    ["/api/v1/things", "/apis/batch/v1/jobs/j", "/api/v1/namespaces/x/pods/p/exec", "/api/v2"],
)
def test_a_path_that_names_nothing_is_a_404(path: str) -> None:
    with pytest.raises(ApiError, match="could not find the requested resource"):
        parse_target(a_registry().kinds, path)
