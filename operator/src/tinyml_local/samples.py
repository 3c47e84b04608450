"""Manifests that `tinyml up` and the demo apply, as a user would write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

API_VERSION = "tinymlaas.dev/v1alpha1"


def local_gateway(
    devices_dir: Path,
    counts: Mapping[str, int],
    *,
    name: str = "local",
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return an EdgeGateway with `counts[class]` emulated devices, one group a device class."""
    return {
        "apiVersion": API_VERSION,
        "kind": "EdgeGateway",
        "metadata": {"name": name, "namespace": namespace, "labels": {"site": name}},
        "spec": {
            "deviceGroups": [
                {
                    "name": device_class,
                    "deviceClass": device_class,
                    "labels": dict(labels or {"fleet": "local"}),
                    "devices": {
                        f"{device_class}-{i + 1}": f"serial://{devices_dir}/{device_class}-{i + 1}"
                        for i in range(count)
                    },
                }
                for device_class, count in counts.items()
            ]
        },
    }


def tiny_model(
    name: str,
    *,
    source_uri: str,
    source_sha256: str,
    calibration_uri: str,
    calibration_sha256: str,
    calibration_samples: int,
    selector: Mapping[str, str],
    namespace: str = "default",
) -> dict[str, Any]:
    """Return a TinyModel that is quantized after training and deployed to devices with these
    labels.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": "TinyModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "source": {"uri": source_uri, "sha256": source_sha256, "format": "Keras"},
            "quantization": {
                "mode": "PostTraining",
                "calibration": {
                    "uri": calibration_uri,
                    "sha256": calibration_sha256,
                    "samples": calibration_samples,
                },
            },
            "deploy": {"selector": {"matchLabels": dict(selector)}},
        },
    }
