"""Server-side apply as laws: applying twice is applying once; what nobody owns does not stay."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tinyml_local.kubeapi.errors import ApiError
from tinyml_local.kubeapi.ownership import Owner, apply, fields_of, managed_fields, owners_of
from tinyml_local.kubeapi.protobuf import decode

WORDS = st.sampled_from(["a", "b", "c", "d/e", 'f"g', "h.i"])
PARTS = st.lists(WORDS, unique=True, max_size=3)
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "map": {"type": "object", "additionalProperties": {"type": "integer"}},
                "set": {
                    "type": "array",
                    "items": {"type": "string"},
                    "x-kubernetes-list-type": "set",
                },
                "atom": {"type": "array", "items": {"type": "string"}},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
                    },
                },
            },
        }
    },
}


def _object(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "x"}, "spec": spec}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Return an object with any of the four fields, none of them empty."""
    spec: dict[str, Any] = {}
    if found := draw(st.dictionaries(WORDS, st.integers(0, 2), max_size=3)):
        spec["map"] = found
    for field in ("set", "atom"):
        if listed := draw(PARTS):
            spec[field] = listed
    if names := draw(PARTS):
        spec["parts"] = [
            {"name": n, **draw(st.fixed_dictionaries({}, optional={"n": st.integers(0, 2)}))}
            for n in names
        ]
    return _object(spec)


def _apply(live: dict[str, Any], config: dict[str, Any], manager: str) -> dict[str, Any]:
    owner = Owner(manager, "Apply", "", "x/v1")
    new, owners = apply(SCHEMA, live, config, owner, force=True, plural="xs", group="")
    entries = managed_fields(owners, live, "now")
    return {**new, "metadata": {**new["metadata"], "managedFields": entries}}


def _sorted(obj: dict[str, Any]) -> str:
    spec = {
        k: sorted(v, key=json.dumps) if isinstance(v, list) and k != "atom" else v
        for k, v in obj.get("spec", {}).items()
    }
    return json.dumps(spec, sort_keys=True)


@given(first=specs(), second=specs())
@settings(max_examples=60, deadline=None)
def test_applying_twice_is_applying_once(first: dict[str, Any], second: dict[str, Any]) -> None:
    live = _apply(_apply(_object({}), first, "one"), second, "two")
    assert _apply(live, second, "two") == live


@given(first=specs(), second=specs())
@settings(max_examples=60, deadline=None)
def test_the_last_config_of_a_lone_owner_is_what_is_left(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    live = _apply(_apply(_object({}), first, "one"), second, "one")
    assert _sorted(live) == _sorted(second)


@given(mine=specs(), theirs=specs())
@settings(max_examples=60, deadline=None)
def test_leaving_takes_only_what_nobody_else_owns(
    mine: dict[str, Any], theirs: dict[str, Any]
) -> None:
    live = _apply(_apply(_object({}), mine, "me"), theirs, "them")
    left = _apply(live, _object({}), "me")
    assert _sorted(left) == _sorted(theirs)


@given(obj=specs())
@settings(max_examples=60, deadline=None)
def test_managed_fields_say_what_was_owned(obj: dict[str, Any]) -> None:
    owners = {Owner("m", "Apply", "", "x/v1"): fields_of(SCHEMA, obj)}
    entries = managed_fields(owners, None, "now")
    written = json.loads(json.dumps({"metadata": {"managedFields": entries}}))
    assert owners_of(written) == owners


@given(body=st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_an_object_or_a_refusal(body: bytes) -> None:
    head = b"k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12" + bytes([len(body)])
    try:
        found = decode(head + body)["kind"]
    except ApiError as e:
        found = "refused" if e.code in (400, 415) else e
    assert found in ("ConfigMap", "refused")
