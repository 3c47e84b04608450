"""What does Kubernetes fill in, and refuse, for built-in kinds beyond their schema?

Pure functions of the object: `fill` before validation, `check` after it. Called by `registry`.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Iterator
from typing import Any

from .errors import FieldError, Object, forbidden_field, invalid_value, required
from .kinds import Kind

_POD_DEFAULTS: Object = {
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}
_CONTAINER_DEFAULTS: Object = {
    "imagePullPolicy": "IfNotPresent",
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}


def fill(kind: Kind, obj: Object, old: Object | None) -> Object:
    """Return a copy of `obj` with what Kubernetes fills in; `old` is None on creation."""
    function = _FILL.get(kind.plural) if kind.builtin else None
    return function(copy.deepcopy(obj), old) if function is not None else obj


def check(kind: Kind, obj: Object, old: Object | None) -> list[FieldError]:
    """Return the complaints that the schema cannot express."""
    function = _CHECK.get(kind.plural) if kind.builtin else None
    return list(function(obj, old)) if function is not None else []


def _fill_namespace(obj: Object, old: Object | None) -> Object:
    labels = obj["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")
    if old is None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
    return obj


def _fill_secret(obj: Object, _: Object | None) -> Object:
    plain = obj.pop("stringData", None) or {}
    if plain:
        data = obj["data"] = dict(obj.get("data") or {})
        for key, value in plain.items():
            data[key] = base64.b64encode(str(value).encode()).decode()
    obj.setdefault("type", "Opaque")
    return obj


def _fill_job(obj: Object, old: Object | None) -> Object:
    spec = obj.get("spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("template"), dict):
        return obj
    for key, value in (("backoffLimit", 6), ("completions", 1), ("parallelism", 1)):
        spec.setdefault(key, value)
    spec.setdefault("suspend", False)
    template = spec["template"]
    if old is None:
        uid, name = obj["metadata"]["uid"], obj["metadata"].get("name", "")
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        for prefix in ("", "batch.kubernetes.io/"):
            labels[f"{prefix}controller-uid"] = uid
            labels[f"{prefix}job-name"] = name
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        obj["status"] = {}
    _fill_pod_spec(template.setdefault("spec", {}))
    return obj


def _fill_pod(obj: Object, old: Object | None) -> Object:
    if isinstance(obj.get("spec"), dict):
        _fill_pod_spec(obj["spec"])
    if old is None:
        obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    return obj


def _fill_pod_spec(spec: Object) -> None:
    for key, value in _POD_DEFAULTS.items():
        spec.setdefault(key, copy.deepcopy(value))
    for group in ("containers", "initContainers"):
        for container in spec.get(group) or ():
            if isinstance(container, dict):
                for key, value in _CONTAINER_DEFAULTS.items():
                    container.setdefault(key, copy.deepcopy(value))


def _check_immutable_data(obj: Object, old: Object | None) -> Iterator[FieldError]:
    if old is not None and old.get("immutable"):
        if not obj.get("immutable"):
            yield forbidden_field("immutable", "field is immutable when `immutable` is set")
        for field in ("data", "binaryData"):
            if obj.get(field) != old.get(field):
                yield forbidden_field(field, "field is immutable when `immutable` is set")


def _check_secret(obj: Object, old: Object | None) -> Iterator[FieldError]:
    yield from _check_immutable_data(obj, old)
    if old is not None and obj.get("type") != old.get("type"):
        yield invalid_value("type", obj.get("type"), "field is immutable")


def _check_job(obj: Object, old: Object | None) -> Iterator[FieldError]:
    spec = obj.get("spec")
    if spec is None:
        yield required("spec")
        return
    for field in ("backoffLimit", "completions", "parallelism", "activeDeadlineSeconds"):
        if spec.get(field, 0) < 0:
            yield invalid_value(f"spec.{field}", spec[field], "must be greater than or equal to 0")
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy not in ("OnFailure", "Never"):
        yield required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
    yield from _check_containers(spec["template"]["spec"], "spec.template.spec")
    if old is not None:
        for field in ("selector", "template", "completions"):
            if spec.get(field) != old["spec"].get(field):
                yield invalid_value(f"spec.{field}", spec.get(field), "field is immutable")


def _check_pod(obj: Object, old: Object | None) -> Iterator[FieldError]:
    if "spec" not in obj:
        yield required("spec")
        return
    yield from _check_containers(obj["spec"], "spec")
    if old is not None and obj["spec"] != old["spec"]:
        yield forbidden_field("spec", "pod updates may not change the spec")


def _check_containers(spec: Object, path: str) -> Iterator[FieldError]:
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    volumes = {v.get("name") for v in spec.get("volumes") or ()}
    for i, container in enumerate(spec.get("containers") or ()):
        at = f"{path}.containers[{i}]"
        if not container.get("image"):
            yield required(f"{at}.image")
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            if mount["name"] not in volumes:
                detail = f'Not found: "{mount["name"]}"'
                yield FieldError("FieldValueNotFound", f"{at}.volumeMounts[{j}].name", detail)


def _check_crd(obj: Object, old: Object | None) -> Iterator[FieldError]:
    if old is None:
        return
    for path in ("group", "scope", "names.plural", "names.kind"):
        new_value, old_value = obj["spec"], old["spec"]
        for key in path.split("."):
            new_value, old_value = new_value[key], old_value[key]
        if new_value != old_value:
            yield invalid_value(f"spec.{path}", new_value, "field is immutable")


_FILL: dict[str, Callable[[Object, Object | None], Object]] = {
    "namespaces": _fill_namespace,
    "secrets": _fill_secret,
    "jobs": _fill_job,
    "pods": _fill_pod,
}
_CHECK: dict[str, Callable[[Any, Any], Iterator[FieldError]]] = {
    "configmaps": _check_immutable_data,
    "secrets": _check_secret,
    "jobs": _check_job,
    "pods": _check_pod,
    "customresourcedefinitions": _check_crd,
}
