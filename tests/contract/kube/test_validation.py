"""A schema is enforced: defaults, pruning, bounds, CEL rules, strict fields; and a CRD must be
one.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from .kube import MERGE_PATCH, Kube, eventually, widget, widgets

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "maximum": (
        {"size": 99},
        "spec.size: Invalid value: 99: spec.size in body should be less than or equal to 10",
    ),
    "minimum": (
        {"size": 0},
        "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
    ),
    "exclusive maximum": (
        {"below": 5},
        "spec.below: Invalid value: 5: spec.below in body should be less than 5",
    ),
    "multiple": (
        {"even": 3},
        "spec.even: Invalid value: 3: spec.even in body should be a multiple of 2",
    ),
    "enum": (
        {"color": "green"},
        'spec.color: Unsupported value: "green": supported values: "red", "blue"',
    ),
    "pattern": (
        {"note": "ABC"},
        "spec.note: Invalid value: \"ABC\": spec.note in body should match '^[a-z]*$'",
    ),
    "max length": ({"code": "abcdef"}, "spec.code: Too long: may not be more than 5 bytes"),
    "min length": (
        {"code": "ab"},
        'spec.code: Invalid value: "ab": spec.code in body should be at least 3 chars long',
    ),
    "format": (
        {"since": "today"},
        'spec.since: Invalid value: "today": spec.since in body must be of type date-time: "today"',
    ),
    "type": (
        {"size": "big"},
        'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"',
    ),
    "int or string": (
        {"port": []},
        'spec.port: Invalid value: "array": spec.port in body must be of type integer,string',
    ),
    "required": ({"parts": [{"count": 1}]}, "spec.parts[0].name: Required value"),
    "max items": (
        {"tags": ["a", "b", "c", "d"]},
        "spec.tags: Too many: 4: must have at most 3 items",
    ),
    "max properties": (
        {"limits": {"a": 1, "b": 2, "c": 3, "d": 4}},
        "spec.limits: Too many: 4: must have at most 3 items",
    ),
    "type of a map's values": (
        {"limits": {"a": "x"}},
        'spec.limits.a: Invalid value: "string": spec.limits.a in body must be of type integer',
    ),
    "set": ({"tags": ["a", "b", "a"]}, 'spec.tags[2]: Duplicate value: "a"'),
    "map list": (
        {"parts": [{"name": "p"}, {"name": "p", "count": 2}]},
        'spec.parts[1]: Duplicate value: {"name":"p"}',
    ),
    "one of, none": ({"choice": {}}, '"spec.choice" must validate one and only one schema (oneOf)'),
    "one of, both": (
        {"choice": {"left": "a", "right": "b"}},
        '"spec.choice" must validate one and only one schema (oneOf). Found 2 valid alternatives',
    ),
    "rule": ({"low": 3, "high": 2}, "spec: Invalid value: low is above high"),
    "rule over a list": (
        {"parts": [{"name": "p", "count": 10}]},
        "spec: Invalid value: a part has a count of 10 or more",
    ),
    "rule with string functions": (
        {"path": "/a/"},
        'spec.path: Invalid value: "/a/": path must be absolute',
    ),
    "rule with a message expression": (
        {"code": "abc", "tags": ["b"]},
        "spec: Invalid value: code must be one of the tags",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_schema_forbids_is_refused(kube: Kube, namespace: str, case: str) -> None:
    spec, message = CASES[case]
    reply = kube.request("POST", widgets(namespace), widget("a", **spec))
    assert (reply.code, reply.body["reason"]) == (422, "Invalid")
    assert message in reply.message
    assert reply.message.startswith('Widget.contract.tinymlaas.dev "a" is invalid: ')
    causes = [f"{c['field']}: {c['message']}" for c in reply.body["details"]["causes"]]
    assert any(message in cause for cause in causes)
    assert kube.is_gone(widgets(namespace, "a"))


def test_everything_that_is_wrong_is_named_at_once(kube: Kube, namespace: str) -> None:
    bad = widget("a", size=99, color="green", tags=["a", "a"])
    reply = kube.request("POST", widgets(namespace), bad)
    fields = {c["field"] for c in reply.body["details"]["causes"]}
    assert fields >= {"spec.size", "spec.color", "spec.tags[1]"}


def test_what_the_schema_allows_is_kept(kube: Kube, namespace: str) -> None:
    spec = {
        "size": 10,
        "color": "blue",
        "note": "abc",
        "code": "abc",
        "even": 4,
        "below": 4,
        "since": "2026-11-22T10:00:00Z",
        "port": "http",
        "free": {"any": {"thing": [1, "two", None]}},
        "tags": ["abc", "b"],
        "parts": [{"name": "p", "count": 9}, {"name": "q", "count": 1}],
        "limits": {"a.b/c": 1},
        "choice": {"left": "x"},
        "low": 1,
        "high": 1,
        "path": "/a/b",
    }
    assert kube.create(widgets(namespace), widget("a", **spec))["spec"] == spec


def test_defaults_are_filled_in_everywhere(kube: Kube, namespace: str) -> None:
    found = kube.create(widgets(namespace), widget("a", parts=[{"name": "p"}]))
    assert found["spec"] == {"size": 1, "color": "red", "parts": [{"name": "p", "count": 1}]}
    patched = kube.merge(
        widgets(namespace, "a"), {"spec": {"color": None, "parts": [{"name": "q"}]}}
    )
    assert patched["spec"]["color"] == "red"
    assert patched["spec"]["parts"] == [{"name": "q", "count": 1}]


def test_a_null_where_none_is_allowed_is_no_value(kube: Kube, namespace: str) -> None:
    found = kube.create(widgets(namespace), widget("a", color=None, note=None, optional=None))
    assert found["spec"] == {"size": 1, "color": "red", "optional": None}
    reply = kube.request("POST", widgets(namespace), widget("b", size=None))
    assert "spec.size: Required value" in reply.message


def test_unknown_fields_are_pruned(kube: Kube, namespace: str) -> None:
    body = widget("a", bogus=1, parts=[{"name": "p", "wrong": 1}]) | {"extra": 1}
    found = kube.create(widgets(namespace), body, fieldValidation="Ignore")
    assert "extra" not in found
    assert found["spec"] == {"size": 1, "color": "red", "parts": [{"name": "p", "count": 1}]}


def test_unknown_fields_are_refused_if_asked_to(kube: Kube, namespace: str) -> None:
    body = widget("a", bogus=1, parts=[{"name": "p", "wrong": 1}])
    reply = kube.request("POST", widgets(namespace), body, fieldValidation="Strict")
    assert (reply.code, reply.body["reason"]) == (400, "BadRequest")
    assert 'unknown field "spec.bogus", unknown field "spec.parts[0].wrong"' in reply.message


def test_unknown_fields_are_warned_of(kube: Kube, namespace: str) -> None:
    reply = kube.request("POST", widgets(namespace), widget("a", bogus=1), fieldValidation="Warn")
    assert reply.code == 201
    assert 'unknown field \\"spec.bogus\\"' in reply.headers["Warning"]


def test_a_rule_about_the_old_value_holds_on_updates(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    kube.create(widgets(namespace), widget("a", frozen="x", parts=[{"name": "p", "serial": "1"}]))
    kube.merge(path, {"spec": {"frozen": "x", "size": 2}})

    def refusal(patch: dict[str, Any]) -> str:
        reply = kube.request("PATCH", path, {"spec": patch}, content_type=MERGE_PATCH)
        assert reply.code == 422
        return reply.message

    assert 'spec.frozen: Invalid value: "y": frozen is immutable' in refusal({"frozen": "y"})
    assert "spec: Invalid value: frozen can be neither added nor removed" in refusal(
        {"frozen": None}
    )
    changed = {"parts": [{"name": "q"}, {"name": "p", "serial": "2"}]}
    assert 'spec.parts[1].serial: Invalid value: "2": serial is immutable' in refusal(changed)
    kube.merge(path, {"spec": {"parts": [{"name": "q", "serial": "2"}]}})


def test_the_status_is_validated_too(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    bad = {"status": {"seen": "many", "conditions": [{"type": "Ready"}]}}
    path = widgets(namespace, "a", "status")
    reply = kube.request("PATCH", path, bad, content_type=MERGE_PATCH)
    assert reply.code == 422
    assert "status.seen: Invalid value" in reply.message
    assert "status.conditions[0].status: Required value" in reply.message
    found = kube.merge(path, {"status": {"seen": 1, "unknown": 2}})
    assert found["status"] == {"seen": 1}


def test_a_body_that_is_no_json_is_a_400(kube: Kube, namespace: str) -> None:
    url = kube.url + widgets(namespace)
    headers = {"Content-Type": "application/json"}
    assert kube.session.post(url, data="{", headers=headers, timeout=10).status_code == 400
    headers = {"Content-Type": "text/plain"}
    assert kube.session.post(url, data="{}", headers=headers, timeout=10).status_code == 415


def _crd(plural: str) -> dict[str, Any]:
    text = Path(__file__).with_name("crd.yaml").read_text()
    crd: dict[str, Any] = copy.deepcopy(yaml.safe_load(text))
    kind = plural.removesuffix("s").capitalize()
    crd["metadata"]["name"] = f"{plural}.contract.tinymlaas.dev"
    crd["spec"]["names"] = {"plural": plural, "kind": kind, "singular": plural.removesuffix("s")}
    return crd


def test_a_crd_is_established_and_goes_with_its_objects(kube: Kube, namespace: str) -> None:
    crd = _crd("gadgets")
    path = f"{CRDS}/{crd['metadata']['name']}"
    kube.delete(path)  # left by a run that was cut short
    eventually(lambda: kube.is_gone(path), "an old one goes")
    kube.create(CRDS, crd)

    def true_conditions() -> set[str]:
        status = kube.get(path).get("status", {})
        return {c["type"] for c in status.get("conditions") or () if c["status"] == "True"}

    eventually(lambda: {"Established", "NamesAccepted"} <= true_conditions(), "it is established")
    objects = f"/apis/contract.tinymlaas.dev/v1/namespaces/{namespace}/gadgets"
    body = widget("a") | {"kind": "Gadget"}
    eventually(lambda: kube.request("POST", objects, body).code == 201, "Gadgets are served")
    kube.delete(path)
    eventually(lambda: kube.is_gone(path), "the CRD goes")
    eventually(lambda: kube.request("GET", objects).code == 404, "Gadgets are not served any more")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("rule",), "self.size <", "compilation failed"),
        (("rule",), "self.nosuchfunction()", "compilation failed"),
        (("rule",), "other.size > 1", "undeclared reference to 'other'"),
        (("messageExpression",), "nobody", "undeclared reference to 'nobody'"),
    ],
)
def test_a_rule_that_cannot_be_evaluated_is_refused(
    kube: Kube, where: tuple[str], value: str, message: str
) -> None:
    crd = _crd("gizmos")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rule = {"rule": "self.size > 0", "message": "x", where[0]: value}
    schema["properties"]["spec"]["x-kubernetes-validations"] = [rule]
    reply = kube.request("POST", CRDS, crd)
    assert (reply.code, reply.body["reason"]) == (422, "Invalid")
    assert message in reply.message
    assert f"x-kubernetes-validations[0].{where[0]}" in reply.message


@pytest.mark.parametrize(
    ("field", "schema"),
    [
        ("openAPIV3Schema.properties[spec].type", {"properties": {"spec": {}}}),
        ("metadata.name", None),
    ],
)
def test_a_crd_that_says_nonsense_is_refused(kube: Kube, field: str, schema: Any) -> None:
    crd = _crd("gizmos")
    if schema is None:
        crd["metadata"]["name"] = "other.contract.tinymlaas.dev"
    else:
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {"type": "object", **schema}
    reply = kube.request("POST", CRDS, crd)
    assert reply.code == 422
    assert field in reply.message
