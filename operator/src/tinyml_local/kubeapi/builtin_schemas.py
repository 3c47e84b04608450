"""Which fields do the built-in kinds have? Schemas made from the models of the `kubernetes`
client.

The client's pydantic models are generated from Kubernetes' own OpenAPI document, so field
names, types, required fields and descriptions come from there. What they lack is added here:
how lists merge (merge keys). Called once per kind by `kinds`; the parts go to
`schema.components`.
"""

from __future__ import annotations

import re
from typing import Any

import kubernetes.client
from pydantic import BaseModel

from .patches import MERGE_KEY, STRATEGY
from .schema import INT_OR_STRING, LIST_KEYS, LIST_TYPE, PRESERVE, Schema, components

REF = "#/components/schemas/"

# How lists merge: (component, field): merge key, or "" for a set of scalars.
# Source: the patchMergeKey and listMapKey tags of Kubernetes' Go types.
_MERGE: dict[tuple[str, str], str] = {
    ("V1ObjectMeta", "finalizers"): "",
    ("V1ObjectMeta", "ownerReferences"): "uid",
    ("V1PodSpec", "containers"): "name",
    ("V1PodSpec", "initContainers"): "name",
    ("V1PodSpec", "volumes"): "name",
    ("V1PodSpec", "imagePullSecrets"): "name",
    ("V1PodSpec", "hostAliases"): "ip",
    ("V1Container", "env"): "name",
    ("V1Container", "ports"): "containerPort",
    ("V1Container", "volumeMounts"): "mountPath",
    ("V1ServiceAccount", "secrets"): "name",
    ("V1PodStatus", "conditions"): "type",
    ("V1JobStatus", "conditions"): "type",
    ("V1NamespaceStatus", "conditions"): "type",
    ("V1CustomResourceDefinitionStatus", "conditions"): "type",
}
_ATOMIC_MAPS = {
    "V1LabelSelector",
    "V1SecretKeySelector",
    "V1ConfigMapKeySelector",
    "V1OwnerReference",
}


def builtin_schema(model: str) -> Schema:
    """Return the schema of the client's model `model`, such as `V1Job`, as a reference into
    `components`.
    """
    if model not in components:
        cls: type[BaseModel] = getattr(kubernetes.client, model)
        raw = cls.model_json_schema(by_alias=True, ref_template=REF + "{model}")
        for name, definition in raw.pop("$defs", {}).items():
            components.setdefault(name, _component(name, definition))
        if "$ref" not in raw:  # a model that refers to itself is among the definitions
            components.setdefault(model, _component(model, raw))
    return {"$ref": REF + model}


def _component(name: str, raw: dict[str, Any]) -> Schema:
    schema = _convert(raw)
    for (owner, field), key in _MERGE.items():
        if owner == name and field in schema["properties"]:
            schema["properties"][field] |= _merge_extensions(key)
    if name in _ATOMIC_MAPS:
        schema["x-kubernetes-map-type"] = "atomic"
    return schema


def _merge_extensions(key: str) -> Schema:
    if not key:
        return {STRATEGY: "merge", LIST_TYPE: "set"}
    return {STRATEGY: "merge", MERGE_KEY: key, LIST_TYPE: "map", LIST_KEYS: [key]}


def _convert(raw: dict[str, Any]) -> Schema:
    """Return pydantic's JSON schema `raw` in structural form."""
    if "anyOf" in raw:
        return _with_description(_one_of([r for r in raw["anyOf"] if r.get("type") != "null"]), raw)
    if "$ref" in raw:
        return _with_description({"$ref": raw["$ref"]}, raw)
    kind = raw.get("type")
    if kind == "object" and "properties" in raw:
        schema: Schema = {"type": "object"}
        schema["properties"] = {k: _convert(v) for k, v in raw["properties"].items()}
        if raw.get("required"):
            schema["required"] = list(raw["required"])
    elif kind == "object":
        extra = raw.get("additionalProperties")
        if isinstance(extra, dict) and extra:
            schema = {"type": "object", "additionalProperties": _convert(extra)}
        else:
            schema = {"type": "object", PRESERVE: True}
    elif kind == "array":
        schema = {"type": "array", "items": _convert(raw.get("items", {})), LIST_TYPE: "atomic"}
    elif kind is None:
        schema = {PRESERVE: True}
    else:
        schema = {"type": kind}
        if raw.get("format") == "date-time":
            schema["format"] = "date-time"
    return _with_description(schema, raw)


def _one_of(choices: list[dict[str, Any]]) -> Schema:
    if len(choices) == 1:
        return _convert(choices[0])
    types = {c.get("type") for c in choices}
    if types == {"string"}:
        return {"type": "string", "format": "byte"}
    if types == {"string", "integer"}:
        return {INT_OR_STRING: True}
    if types <= {"integer", "number"}:
        return {"type": "number"}
    return {PRESERVE: True}


def _with_description(schema: Schema, raw: dict[str, Any]) -> Schema:
    text = str(raw.get("description") or "").partition("Attributes:")[0].strip()
    if text and "$ref" not in schema:
        return {"description": re.sub(r"\s+", " ", text), **schema}
    return schema
