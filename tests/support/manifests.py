"""Manifests and a model for tests of the whole: what a user would write, with the parts that a test
changes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.tflite_builder import ModelBuilder, Quant, a_model

API_VERSION = "tinymlaas.dev/v1alpha1"
LABELS = {"fleet": "e2e"}


def a_small_model(seed: int = 1) -> ModelBuilder:
    """Return an int8 network of one convolution and one fully connected layer: [1, 8, 8, 1] to [1,
    4].
    """
    random = np.random.default_rng(seed)
    return (
        a_model()
        .input("image", (1, 8, 8, 1), Quant(0.02, -5))
        .conv2d(
            random.integers(-127, 128, (4, 3, 3, 1), dtype=np.int8),
            random.integers(-500, 500, 4, dtype=np.int32),
            Quant(0.05, 3),
            filter_scale=[0.01, 0.012, 0.008, 0.011],
            padding="SAME",
        )
        .flatten()
        .fully_connected(
            random.integers(-127, 128, (4, 256), dtype=np.int8),
            random.integers(-500, 500, 4, dtype=np.int32),
            Quant(0.4, 0),
            filter_scale=[0.01],
        )
    )


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tiny_model(namespace: str, name: str, uri: str, digest: str, **spec: Any) -> dict[str, Any]:
    """Return a TinyModel for the devices with LABELS; `spec` replaces or adds fields."""
    return {
        "apiVersion": API_VERSION,
        "kind": "TinyModel",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "source": {"uri": uri, "sha256": digest},
            "deploy": {"selector": {"matchLabels": LABELS}},
            **spec,
        },
    }


def edge_gateway(
    namespace: str, name: str, devices: dict[str, str], device_class: str = "posix"
) -> dict[str, Any]:
    """Return an EdgeGateway with one group of devices (name to address) with LABELS."""
    return {
        "apiVersion": API_VERSION,
        "kind": "EdgeGateway",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "deviceGroups": [
                {
                    "name": "group",
                    "deviceClass": device_class,
                    "labels": LABELS,
                    "devices": devices,
                }
            ]
        },
    }


def emulated(devices_dir: Path, *names: str) -> dict[str, str]:
    """Return addresses that the local environment answers with emulated devices."""
    return {name: f"serial://{devices_dir}/{name}" for name in names}


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the condition of that type, or {} where there is none."""
    conditions = (obj.get("status") or {}).get("conditions", ())
    return next((c for c in conditions if c["type"] == kind), {})


def is_ready(obj: dict[str, Any]) -> bool:
    """Is `Ready` true for the generation that the object has now?"""
    ready = condition(obj, "Ready")
    return (
        ready.get("status") == "True"
        and ready.get("observedGeneration") == obj["metadata"]["generation"]
    )
