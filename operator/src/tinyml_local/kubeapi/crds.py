"""What does a CustomResourceDefinition say, and is it one that this API can serve?

Checks the parts that the local API relies on: names, versions, a structural schema, CEL rules
that can be evaluated, JSONPaths of columns that can be read. Everything else of a CRD is stored
as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import re2  # type: ignore[import-untyped]

from . import cel
from .errors import FieldError, Object, forbidden_field, invalid_value, required
from .jsonpath import JsonPathError, parse
from .kinds import Column, Kind
from .schema import INT_OR_STRING, LIST_KEYS, LIST_TYPE, PRESERVE, Schema, compiled

_AGE = Column("Age", "date", ".metadata.creationTimestamp")
_JUNCTORS = ("allOf", "anyOf", "oneOf", "not")


def kinds_of(crd: Object) -> list[Kind]:
    """Return a Kind for each served version of `crd`."""
    spec = crd["spec"]
    names = spec["names"]
    storage = next(v["name"] for v in spec["versions"] if v.get("storage"))
    return [
        Kind(
            spec["group"],
            version["name"],
            names["kind"],
            names["plural"],
            namespaced=spec["scope"] == "Namespaced",
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
            has_status="status" in version.get("subresources", {}),
            has_generation=True,
            custom_schema=version["schema"]["openAPIV3Schema"],
            columns=_columns(version),
            singular_name=names.get("singular", ""),
            selectable=tuple(
                f["jsonPath"].removeprefix(".") for f in version.get("selectableFields", ())
            ),
            storage_version=storage,
        )
        for version in spec["versions"]
        if version.get("served")
    ]


def with_defaults(crd: Object) -> Object:
    """Return `crd` with the names filled in that Kubernetes derives from others."""
    spec = crd.get("spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("names"), dict):
        return crd
    names = dict(spec["names"])
    kind = names.get("kind", "")
    names.setdefault("singular", kind.lower())
    names.setdefault("listKind", f"{kind}List")
    return {**crd, "spec": {"conversion": {"strategy": "None"}, **spec, "names": names}}


def established(crd: Object, now: str) -> Object:
    """Return `crd` with the status of one that is served."""
    old = crd.get("status", {}).get("conditions", ())
    since = {c["type"]: c["lastTransitionTime"] for c in old if c.get("status") == "True"}
    conditions = [
        {
            "type": type_,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": since.get(type_, now),
        }
        for type_, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    stored = [v["name"] for v in crd["spec"]["versions"] if v.get("storage")]
    names = crd["spec"]["names"]
    status = {"conditions": conditions, "acceptedNames": names, "storedVersions": stored}
    return {**crd, "status": status}


def check_crd(crd: Object, others: list[Kind]) -> list[FieldError]:
    """Return every complaint about `crd`, whose form the CRD schema has checked already."""
    return list(_check(crd, others))


def _check(crd: Object, others: list[Kind]) -> Iterator[FieldError]:
    spec, name = crd["spec"], crd["metadata"]["name"]
    wanted = f"{spec['names']['plural']}.{spec['group']}"
    if name != wanted:
        why = f'must be spec.names.plural+"."+spec.group ({wanted})'
        yield invalid_value("metadata.name", name, why)
    if spec["scope"] not in ("Namespaced", "Cluster"):
        yield invalid_value("spec.scope", spec["scope"], "must be Namespaced or Cluster")
    if spec.get("conversion", {}).get("strategy", "None") != "None":
        yield forbidden_field("spec.conversion", "the local API has no conversion webhooks")
    for kind in others:
        if (
            kind.group == spec["group"]
            and kind.kind == spec["names"]["kind"]
            and kind.key[1] != (spec["names"]["plural"])
        ):
            why = f'"{kind.kind}" is already in use by {kind.plural}'
            yield invalid_value("spec.names.kind", spec["names"]["kind"], why)
    if sum(bool(v.get("storage")) for v in spec["versions"]) != 1:
        yield invalid_value("spec.versions", len(spec["versions"]), "exactly one must be stored")
    for i, version in enumerate(spec["versions"]):
        # Kubernetes calls the schema that all versions share `spec.validation`.
        where = "spec.validation" if len(spec["versions"]) == 1 else f"spec.versions[{i}].schema"
        yield from _check_version(version, f"spec.versions[{i}]", f"{where}.openAPIV3Schema")


def _check_version(version: dict[str, Any], path: str, where: str) -> Iterator[FieldError]:
    schema = version.get("schema", {}).get("openAPIV3Schema")
    if schema is None:
        yield required(where, "schemas are required")
        return
    if schema.get("type") != "object":
        yield invalid_value(f"{where}.type", schema.get("type"), "must be object at the root")
    if "scale" in version.get("subresources", {}):
        yield forbidden_field(f"{path}.subresources.scale", "the local API does not serve it")
    yield from _check_structure(schema, where)
    yield from cel.check_rules(schema, where)
    for i, column in enumerate(version.get("additionalPrinterColumns", ())):
        try:
            parse(column["jsonPath"])
        except JsonPathError as e:
            at = f"{path}.additionalPrinterColumns[{i}].jsonPath"
            yield invalid_value(at, column["jsonPath"], str(e))


def _check_structure(schema: Schema, path: str) -> Iterator[FieldError]:
    if not schema.get("type") and not schema.get(PRESERVE) and not schema.get(INT_OR_STRING):
        yield required(f"{path}.type", "must not be empty for specified object fields")
    if "properties" in schema and "additionalProperties" in schema:
        yield forbidden_field(f"{path}.additionalProperties", "mutual exclusive with properties")
    if "$ref" in schema:
        yield forbidden_field(f"{path}.$ref", "$ref is not supported")
    if schema.get("uniqueItems"):
        yield forbidden_field(f"{path}.uniqueItems", "uniqueItems cannot be set to true")
    if "pattern" in schema:
        try:
            compiled(schema["pattern"])
        except re2.error as e:
            yield invalid_value(f"{path}.pattern", schema["pattern"], f"no RE2 pattern: {e}")
    if schema.get(LIST_TYPE) == "map":
        fields = schema.get("items", {}).get("properties", {})
        keys = schema.get(LIST_KEYS, ())
        if not keys:
            yield required(f"{path}.{LIST_KEYS}", "must not be empty for a list of type map")
        for key in keys:
            if key not in fields:
                yield invalid_value(f"{path}.{LIST_KEYS}", key, "must be a property of the items")
            elif key not in schema["items"].get("required", ()) and "default" not in fields[key]:
                yield required(f"{path}.items.properties[{key}].default", "or must be required")
    for junctor in _JUNCTORS:
        parts = schema.get(junctor, [])
        for i, part in enumerate([parts] if isinstance(parts, dict) else parts):
            for word in ("type", "default", "additionalProperties", "nullable", "description"):
                if word in part:
                    yield forbidden_field(f"{path}.{junctor}[{i}].{word}", "must be empty here")
    for key, sub in schema.get("properties", {}).items():
        if path.endswith("openAPIV3Schema") and key == "metadata":
            continue
        yield from _check_structure(sub, f"{path}.properties[{key}]")
    if schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
        yield required(f"{path}.items", "must be specified")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from _check_structure(schema[word], f"{path}.{word}")


def _columns(version: dict[str, Any]) -> tuple[Column, ...]:
    columns = [
        Column(
            c["name"],
            c["type"],
            c["jsonPath"],
            c.get("description", ""),
            c.get("format", ""),
            c.get("priority", 0),
        )
        for c in version.get("additionalPrinterColumns", ())
    ]
    name = replace(_AGE, name="Name", type="string", path=".metadata.name", format="name")
    return (name, *(columns or [_AGE]))
