"""The API group of every kind, and the label and annotation keys made of it."""

from __future__ import annotations

GROUP = "tinymlaas.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_TINYMODEL = f"{GROUP}/tinymodel"
LABEL_BUILD = f"{GROUP}/build"
LABEL_GATEWAY = f"{GROUP}/gateway"
LABEL_DEVICE_CLASS = f"{GROUP}/device-class"
ANNOTATION_ATTEMPT = f"{GROUP}/attempt"
ANNOTATION_TRY = f"{GROUP}/try"
ANNOTATION_SOURCES = f"{GROUP}/sources"
ANNOTATION_EXPIRES = f"{GROUP}/expires"

GATEWAY_ACCOUNT_PREFIX = "tinyml-gateway-"


def gateway_account(gateway: str) -> str:
    """Return the name of the ServiceAccount that the agent of `gateway` uses."""
    return GATEWAY_ACCOUNT_PREFIX + gateway
