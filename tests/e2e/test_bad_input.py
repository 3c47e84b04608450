"""Bad input ends in a condition with a reason and the numbers; a corrected manifest recovers with
no restart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tinyml_kube.errors import InvalidError
from tinyml_kube.resources import TINY_MODEL

from tests.e2e.conftest import Up
from tests.support.manifests import (
    a_small_model,
    condition,
    edge_gateway,
    emulated,
    is_ready,
    sha256,
    tiny_model,
)
from tests.support.tflite_builder import Quant, a_model

pytestmark = pytest.mark.timeout(300)


def stalled(obj: dict[str, Any]) -> bool:
    found = condition(obj, "Stalled")
    return (
        found.get("status") == "True"
        and found.get("observedGeneration") == obj["metadata"]["generation"]
    )


def refused(up: Up, namespace: str, data: bytes, digest: str | None = None, **spec: Any) -> str:
    """Apply a model that cannot be built and return `reason: message` of its Ready condition."""
    uri = up.put(f"{namespace}/bad.tflite", data)
    spec.setdefault("deviceClasses", ["posix"])
    up.apply(tiny_model(namespace, "bad", uri, digest or sha256(data), **spec))
    found = up.wait(TINY_MODEL, namespace, "bad", stalled)
    ready = condition(found, "Ready")
    assert ready["status"] == "False"
    return f"{ready['reason']}: {ready['message']}"


def test_wrong_digest_is_named_and_correcting_it_recovers(up: Up) -> None:
    namespace = up.namespace()
    model = a_small_model().build()
    other = sha256(b"something else")
    said = refused(up, namespace, model, other)
    assert said.startswith("DigestMismatch: ")
    assert other.removeprefix("sha256:")[:12] in said
    assert sha256(model).removeprefix("sha256:")[:12] in said
    uri = f"s3://tinyml/{namespace}/bad.tflite"
    up.apply(tiny_model(namespace, "bad", uri, sha256(model), deviceClasses=["posix"]))
    found = up.wait(
        TINY_MODEL, namespace, "bad", lambda o: condition(o, "Compiled").get("status") == "True"
    )
    assert condition(found, "Stalled") == {}


def test_truncated_model_is_invalid(up: Up) -> None:
    said = refused(up, up.namespace(), a_small_model().build()[:700])
    assert said.startswith("ModelInvalid: ")


def test_unsupported_operator_is_named(up: Up) -> None:
    model = (
        a_model().input("x", (1, 4), Quant(0.1, 0)).unary("LOGISTIC", Quant(1 / 256, -128)).build()
    )
    said = refused(up, up.namespace(), model)
    assert said.startswith("UnsupportedOperator: ")
    assert "LOGISTIC" in said


def test_model_larger_than_the_slot_gives_the_numbers(up: Up) -> None:
    model = (
        a_model()
        .input("x", (1, 400), Quant(0.1, 0))
        .fully_connected(
            np.ones((400, 400), np.int8),
            np.zeros(400, np.int32),
            Quant(0.1, 0),
            filter_scale=[0.01],
        )
        .build()
    )
    said = refused(up, up.namespace(), model, deviceClasses=["microbit"])
    assert said.startswith("WeightsTooLarge: ")
    assert "65536" in said


def test_model_that_needs_more_ram_than_the_class_has_gives_the_numbers(up: Up) -> None:
    model = (
        a_model()
        .input("x", (1, 64, 64, 8), Quant(0.1, 0))
        .max_pool2d((2, 2), stride=(2, 2))
        .build()
    )
    said = refused(up, up.namespace(), model, deviceClasses=["microbit"])
    assert said.startswith("ArenaTooLarge: ")
    assert "16384" in said


def test_missing_bucket_is_said_and_recovers_when_the_manifest_is_corrected(up: Up) -> None:
    namespace = up.namespace()
    model = a_small_model().build()
    up.apply(
        tiny_model(
            namespace,
            "bad",
            "s3://no-such-bucket/model.tflite",
            sha256(model),
            deviceClasses=["posix"],
        )
    )

    def unreachable(obj: dict[str, Any]) -> bool:
        return condition(obj, "Ready").get("reason") in ("SourceUnreachable", "StorageUnreachable")

    found = up.wait(TINY_MODEL, namespace, "bad", unreachable)
    assert "no-such-bucket" in condition(found, "Ready")["message"]
    uri = up.put(f"{namespace}/good.tflite", model)
    up.apply(tiny_model(namespace, "bad", uri, sha256(model), deviceClasses=["posix"]))
    up.wait(
        TINY_MODEL, namespace, "bad", lambda o: condition(o, "Compiled").get("status") == "True"
    )


def test_device_that_does_not_answer_blocks_no_other(up: Up) -> None:
    namespace = up.namespace()
    model = a_small_model().build()
    devices = emulated(up.devices_dir, "alive") | {"away": "serial:///nowhere/at/all"}
    up.apply(edge_gateway(namespace, "edge", devices))
    uri = up.put(f"{namespace}/model.tflite", model)
    up.apply(tiny_model(namespace, "small", uri, sha256(model)))

    def one_of_two(obj: dict[str, Any]) -> bool:
        counts = obj["status"]["devices"]
        return counts["running"] == 1 and counts["offline"] == 1

    found = up.wait(TINY_MODEL, namespace, "small", one_of_two)
    assert not is_ready(found)
    up.apply(edge_gateway(namespace, "edge", emulated(up.devices_dir, "alive")))
    up.wait(TINY_MODEL, namespace, "small", is_ready)


def test_device_of_another_class_is_refused_before_it_is_touched(up: Up) -> None:
    namespace = up.namespace()
    model = a_small_model().build()
    # `wrong` is made as a posix device, then claimed to be an mps2-an385.
    first = emulated(up.devices_dir, "wrong")
    up.apply(edge_gateway(namespace, "edge", first))
    up.apply(tiny_model(namespace, "small", up.put(f"{namespace}/m.tflite", model), sha256(model)))
    up.wait(TINY_MODEL, namespace, "small", is_ready)
    up.apply(edge_gateway(namespace, "edge", first, "mps2-an385"))

    def mismatch(obj: dict[str, Any]) -> bool:
        return any(f["reason"] == "DeviceClassMismatch" for f in obj["status"].get("failures", ()))

    found = up.wait(TINY_MODEL, namespace, "small", mismatch)
    message = found["status"]["failures"][0]["message"]
    assert "posix" in message
    assert "mps2-an385" in message


def test_manifest_out_of_bounds_names_field_value_and_limit(up: Up) -> None:
    namespace = up.namespace()
    manifest = tiny_model(
        namespace, "bad", "s3://tinyml/x", "sha256:" + "0" * 64, budget={"ramBytes": -5}
    )
    with pytest.raises(
        InvalidError, match=r"spec\.budget\.ramBytes.*-5.*greater than or equal to 1"
    ):
        up.apply(manifest)
