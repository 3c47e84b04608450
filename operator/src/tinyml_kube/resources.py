"""The resources that we talk to, as data: our six kinds and Kubernetes' own."""

from __future__ import annotations

from tinyml_api import (
    deviceclass,
    edgegateway,
    gatewaydeployment,
    modelbuild,
    tinymodel,
    tinymodelrevision,
)
from tinyml_api.group import GROUP, VERSION

from tinyml_kube.cluster import Object, Ref, Resource

TINY_MODEL = Resource(GROUP, VERSION, tinymodel.KIND, tinymodel.PLURAL)
DEVICE_CLASS = Resource(GROUP, VERSION, deviceclass.KIND, deviceclass.PLURAL, namespaced=False)
EDGE_GATEWAY = Resource(GROUP, VERSION, edgegateway.KIND, edgegateway.PLURAL)
TINY_MODEL_REVISION = Resource(GROUP, VERSION, tinymodelrevision.KIND, tinymodelrevision.PLURAL)
MODEL_BUILD = Resource(GROUP, VERSION, modelbuild.KIND, modelbuild.PLURAL)
GATEWAY_DEPLOYMENT = Resource(GROUP, VERSION, gatewaydeployment.KIND, gatewaydeployment.PLURAL)

OURS: tuple[Resource, ...] = (
    TINY_MODEL,
    DEVICE_CLASS,
    EDGE_GATEWAY,
    TINY_MODEL_REVISION,
    MODEL_BUILD,
    GATEWAY_DEPLOYMENT,
)

NAMESPACE = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
POD = Resource("", "v1", "Pod", "pods")
SECRET = Resource("", "v1", "Secret", "secrets")
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps")
EVENT = Resource("", "v1", "Event", "events")
SERVICE_ACCOUNT = Resource("", "v1", "ServiceAccount", "serviceaccounts")
JOB = Resource("batch", "v1", "Job", "jobs")
LEASE = Resource("coordination.k8s.io", "v1", "Lease", "leases")
CUSTOM_RESOURCE_DEFINITION = Resource(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    namespaced=False,
)

ALL: tuple[Resource, ...] = (
    *OURS,
    NAMESPACE,
    POD,
    SECRET,
    CONFIG_MAP,
    EVENT,
    SERVICE_ACCOUNT,
    JOB,
    LEASE,
    CUSTOM_RESOURCE_DEFINITION,
)

_BY_KIND = {(r.api_version, r.kind): r for r in ALL}


def resource_of(obj: Object) -> Resource:
    """Return the resource of an object by its apiVersion and kind. Raises KeyError."""
    return _BY_KIND[(obj["apiVersion"], obj["kind"])]


def ref_of(obj: Object) -> Ref:
    """Return the address of an object."""
    metadata = obj["metadata"]
    return Ref(resource_of(obj), metadata.get("namespace"), metadata["name"])
