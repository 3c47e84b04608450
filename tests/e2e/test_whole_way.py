"""A TinyModel applied to the local environment ends as firmware that answers, whatever dies on the
way.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from tinyml_gateway.infer import classify_all
from tinyml_kube.resources import GATEWAY_DEPLOYMENT, MODEL_BUILD, TINY_MODEL

from tests.e2e.conftest import Up, start_up, stop_up
from tests.support.manifests import (
    a_small_model,
    edge_gateway,
    emulated,
    is_ready,
    sha256,
    tiny_model,
)
from tests.support.tflite_builder import oracle

pytestmark = pytest.mark.timeout(300)


def ask(address: str, inputs: list[bytes]) -> list[bytes]:
    async def body() -> list[bytes]:
        return [reply.outputs async for reply in classify_all(address, inputs)]

    return asyncio.run(body())


def deploy(
    up: Up, namespace: str, model: bytes, *devices: str, device_class: str = "posix"
) -> None:
    """Apply a gateway of that name with these devices, and the model for them."""
    uri = up.put(f"{namespace}/model.tflite", model)
    addresses = emulated(up.devices_dir, *devices)
    up.apply(edge_gateway(namespace, "edge", addresses, device_class))
    up.apply(tiny_model(namespace, "small", uri, sha256(model)))


def assert_answers_as_the_oracle(up: Up, model: bytes, device: str) -> None:
    random = np.random.default_rng(3)
    inputs = [random.integers(-128, 128, (1, 8, 8, 1), dtype=np.int8) for _ in range(8)]
    answers = ask(f"serial://{up.devices_dir / device}", [x.tobytes() for x in inputs])
    assert answers == [oracle(model, x)[0].tobytes() for x in inputs]


def test_devices_of_two_classes_answer_as_the_oracle(up: Up) -> None:
    model = a_small_model().build()
    namespace = up.namespace()
    deploy(up, namespace, model, "way-1", "way-2")
    up.apply(edge_gateway(namespace, "boards", emulated(up.devices_dir, "way-m4"), "mps2-an386"))
    ready = up.wait(TINY_MODEL, namespace, "small", is_ready)
    assert ready["status"]["devices"]["running"] == 3
    for device in ("way-1", "way-2", "way-m4"):
        assert_answers_as_the_oracle(up, model, device)


def test_same_manifest_applied_twice_changes_nothing(up: Up) -> None:
    model = a_small_model().build()
    namespace = up.namespace()
    deploy(up, namespace, model, "twice-1")
    first = up.wait(TINY_MODEL, namespace, "small", is_ready)
    deploy(up, namespace, model, "twice-1")
    time.sleep(3)
    second = up.get(TINY_MODEL, namespace, "small")
    assert second is not None
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    builds = up.do(lambda c: c.list(MODEL_BUILD, namespace))
    assert len(builds) == 1


def test_retrained_model_replaces_the_one_that_runs(up: Up) -> None:
    namespace = up.namespace()
    deploy(up, namespace, a_small_model(seed=1).build(), "retrained-1")
    up.wait(TINY_MODEL, namespace, "small", is_ready)
    newer = a_small_model(seed=2).build()
    deploy(up, namespace, newer, "retrained-1")
    up.wait(TINY_MODEL, namespace, "small", is_ready)
    assert_answers_as_the_oracle(up, newer, "retrained-1")


@pytest.mark.parametrize("victim", ["tinyml_operator", "tinyml_compiler", "tinyml_gateway"])
def test_killing_a_part_loses_nothing(up: Up, victim: str) -> None:
    model = a_small_model(seed=hash(victim) % 1000).build()
    namespace = up.namespace()
    device = victim.replace("_", "-")
    deploy(up, namespace, model, device)
    killed = 0
    deadline = time.monotonic() + 60
    while killed < 3 and time.monotonic() < deadline:
        found = up.get(TINY_MODEL, namespace, "small")
        if found is not None and is_ready(found):
            break
        for pid in up.children(victim)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(1.5)
    assert killed > 0, f"never saw a process of {victim}"
    up.wait(TINY_MODEL, namespace, "small", is_ready, timeout_s=180)
    assert_answers_as_the_oracle(up, model, device)
    assert len(up.do(lambda c: c.list(MODEL_BUILD, namespace))) == 1


def test_killed_device_comes_back_with_its_model(up: Up) -> None:
    model = a_small_model(seed=5).build()
    namespace = up.namespace()
    deploy(up, namespace, model, "cut-1")
    up.wait(TINY_MODEL, namespace, "small", is_ready)
    for pid in up.children(f"{up.devices_dir}/cut-1"):
        os.kill(pid, signal.SIGKILL)
    time.sleep(2)
    assert_answers_as_the_oracle(up, model, "cut-1")
    deployment = up.get(GATEWAY_DEPLOYMENT, namespace, "edge")
    assert deployment is not None
    assert deployment["status"]["groups"][0]["states"] == "R"


def test_interrupt_stops_everything_and_exits_cleanly(tmp_path: Path) -> None:
    running = start_up(tmp_path, "--devices", "posix=1")
    assert len(running.children("")) > 3
    assert stop_up(running) == 0
    assert "nothing is left running" in running.output.read_text()
    assert processes_of(running.state_dir) == []


def processes_of(state_dir: Path) -> list[str]:
    """Return the command lines of all processes that name the folder."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if str(state_dir) in line:
            lines.append(line)
    return lines
