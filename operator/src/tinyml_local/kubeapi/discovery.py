"""What is served? Discovery documents and OpenAPI v3, made from the kinds.

kubectl finds kinds by the first and needs the second for apply (the `fieldValidation`
parameter), for client-side checks and for explain.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

from .errors import Object
from .kinds import ALL_VERBS, REVIEWS, Kind, Kinds, Review
from .schema import Schema, components

VERSION: Object = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0+tinyml-local",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "python",
    "compiler": "none",
    "platform": "linux/local",
}

_SUB_KINDS = {
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ["create"]),
    "log": ("", "", "Pod", ["get"]),
}


def core_versions(address: str) -> Object:
    """Return the answer to `/api`."""
    places = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": places}


def group_list(kinds: Kinds) -> Object:
    """Return the answer to `/apis`."""
    groups: dict[str, list[str]] = {}
    for group, version in _group_versions(kinds):
        if group:
            groups.setdefault(group, []).append(version)
    found = [_group(name, versions) for name, versions in groups.items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(kinds: Kinds, name: str) -> Object | None:
    """Return the answer to `/apis/<name>`, or None."""
    versions = [v for g, v in _group_versions(kinds) if g == name]
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if versions else None


def resource_list(kinds: Kinds, group_name: str, version: str) -> Object | None:
    """Return the answer to `/apis/<group>/<version>` (or `/api/v1`), or None."""
    found = [k for k in kinds if (k.group, k.version) == (group_name, version)]
    reviews = [r for r in REVIEWS if (r.group, r.version) == (group_name, version)]
    if not found and not reviews:
        return None
    resources: list[Object] = []
    for kind in found:
        resources += _resources(kind)
    for review in reviews:
        resources.append(
            {
                "name": review.plural,
                "singularName": review.kind.lower(),
                "namespaced": review.namespaced,
                "kind": review.kind,
                "verbs": ["create"],
            }
        )
    full = f"{group_name}/{version}" if group_name else version
    head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": full}
    return {**head, "resources": resources}


class OpenApi:
    """The OpenAPI documents, made when they are asked for and kept until their kinds change."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._made: dict[tuple[str, str], tuple[list[Kind], bytes]] = {}

    def index(self) -> Object:
        """Return the answer to `/openapi/v3`."""
        paths = {}
        for group_name, version in _group_versions(self._kinds):
            path = f"apis/{group_name}/{version}" if group_name else f"api/{version}"
            digest = hashlib.sha256(self.document(group_name, version) or b"").hexdigest()
            url = f"/openapi/v3/{path}?hash={digest[:32].upper()}"
            paths[path] = {"serverRelativeURL": url}
        return {"paths": paths}

    def document(self, group_name: str, version: str) -> bytes | None:
        """Return the document of one group and version as JSON, or None."""
        of = [k for k in self._kinds if (k.group, k.version) == (group_name, version)]
        made = self._made.get((group_name, version))
        if made is None or [id(k) for k in made[0]] != [id(k) for k in of]:
            document = openapi(self._kinds, group_name, version)
            if document is None:
                return None
            made = (of, json.dumps(document, separators=(",", ":")).encode())
            self._made[group_name, version] = made
        return made[1]


def openapi(kinds: Kinds, group_name: str, version: str) -> Object | None:
    """Return the OpenAPI document of one group and version, or None."""
    found = [k for k in kinds if (k.group, k.version) == (group_name, version)]
    reviews = [r for r in REVIEWS if (r.group, r.version) == (group_name, version)]
    if not found and not reviews:
        return None
    paths: Object = {}
    schemas: dict[str, Schema] = {}
    for kind in found:
        name = ".".join((*reversed((kind.group or "core").split(".")), kind.version, kind.kind))
        schema = copy.copy(kind.schema)
        while "$ref" in schema:
            schema = dict(components[schema["$ref"].rpartition("/")[2]])
        schema["x-kubernetes-group-version-kind"] = [_gvk(kind)]
        schemas[name] = schema
        _collect(schema, schemas)
        paths |= _paths(kind, name)
    for review in reviews:
        root = f"/apis/{review.group}/{review.version}/{review.plural}"
        paths[root] = {"post": _operation("post", review, None)}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _group_versions(kinds: Kinds) -> list[tuple[str, str]]:
    found = dict.fromkeys((k.group, k.version) for k in kinds)
    found |= dict.fromkeys((r.group, r.version) for r in REVIEWS)
    return list(found)


def _group(name: str, versions: list[str]) -> Object:
    entries = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def _resources(kind: Kind) -> list[Object]:
    entry: Object = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(ALL_VERBS),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    result = [entry]
    base = {"singularName": "", "namespaced": kind.namespaced}
    if kind.has_status:
        verbs = ["get", "patch", "update"]
        result.append({"name": f"{kind.plural}/status", "kind": kind.kind, "verbs": verbs, **base})
    for sub in kind.subresources:
        group_name, version, sub_kind, verbs = _SUB_KINDS[sub]
        entry = {"name": f"{kind.plural}/{sub}", "kind": sub_kind, "verbs": verbs, **base}
        if version:
            entry |= {"group": group_name, "version": version}
        result.append(entry)
    return result


def _gvk(kind: Kind | Review) -> Object:
    return {"group": kind.group, "kind": kind.kind, "version": kind.version}


def _paths(kind: Kind, schema_name: str) -> Object:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    place = "/namespaces/{namespace}" if kind.namespaced else ""
    collection, one = f"{root}{place}/{kind.plural}", f"{root}{place}/{kind.plural}/{{name}}"
    paths = {
        collection: {m: _operation(m, kind, schema_name) for m in ("get", "post", "delete")},
        one: {m: _operation(m, kind, schema_name) for m in ("get", "put", "patch", "delete")},
    }
    if kind.namespaced:
        paths[f"{root}/{kind.plural}"] = {"get": _operation("get", kind, schema_name)}
    if kind.has_status:
        paths[f"{one}/status"] = {
            m: _operation(m, kind, schema_name) for m in ("get", "put", "patch")
        }
    return paths


def _operation(method: str, kind: Kind | Review, schema_name: str | None) -> Object:
    names = ["pretty"]
    if method in ("post", "put", "patch"):
        names += ["dryRun", "fieldManager", "fieldValidation"] + ["force"] * (method == "patch")
    ok: Object = {"description": "OK"}
    if schema_name is not None:
        ref = {"$ref": f"#/components/schemas/{schema_name}"}
        ok["content"] = {"application/json": {"schema": ref}}
    return {
        "operationId": f"{method}{kind.kind}",
        "x-kubernetes-group-version-kind": _gvk(kind),
        "x-kubernetes-action": method,
        "parameters": [{"name": n, "in": "query", "schema": {"type": "string"}} for n in names],
        "responses": {"200": ok},
    }


def _collect(schema: Any, into: dict[str, Schema]) -> None:
    """Add to `into` every component that `schema` refers to."""
    if isinstance(schema, dict):
        ref = schema.get("$ref")
        if isinstance(ref, str):
            name = ref.rpartition("/")[2]
            if name not in into:
                into[name] = components[name]
                _collect(components[name], into)
        for value in schema.values():
            _collect(value, into)
    elif isinstance(schema, list):
        for value in schema:
            _collect(value, into)
