"""The local edge: one class that cannot be made holds up neither the others nor the agent."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tinyml_kube.fake import FakeCluster
from tinyml_local.edge import Edge
from tinyml_local.samples import API_VERSION, local_gateway

# Stands for `python`: the factory of the class `broken` fails, others leave what a factory leaves.
FACTORY = """#!/bin/sh
case "$*" in
  *tinyml_compiler.factory*broken*) echo no such board; exit 1;;
  *tinyml_compiler.factory*) for last; do :; done; touch "$last/boot.elf" "$last/flash.bin"
    echo "$TMPDIR" > "$last/temporary";;
  *) exec sleep 60;;
esac
"""


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    python = tmp_path / "python"
    python.write_text(FACTORY)
    python.chmod(0o755)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("users: []\ncontexts: []\n")
    (tmp_path / "devices").mkdir()
    edge = Edge(
        cluster=FakeCluster(),
        python=str(python),
        state_dir=tmp_path,
        devices_dir=tmp_path / "devices",
        logs=tmp_path / "logs",
        api_kubeconfig=kubeconfig,
        operator_url="http://127.0.0.1:1",
        emulator="auto",
        toolchain="none",
        report_interval_s=1,
        env=os.environ,
    )
    yield edge
    await edge.stop()


async def add_class(edge: Edge, name: str, cpu: str = "Host") -> None:
    await edge.cluster.apply(
        {
            "apiVersion": API_VERSION,
            "kind": "DeviceClass",
            "metadata": {"name": name},
            "spec": {"cpu": cpu},
        },
        field_manager="test",
    )


async def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def test_a_class_that_cannot_be_made_holds_up_neither_others_nor_the_agent(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    await add_class(edge, "broken")
    await add_class(edge, "sound")
    gateway = local_gateway(edge.devices_dir, {"broken": 1, "sound": 2})
    await edge.cluster.apply(gateway, field_manager="test")
    edge.start()
    await until(lambda: ("default", "local") in edge.agents)
    assert {path.name for path in edge.devices} == {"sound-1", "sound-2"}
    assert "devices of class broken wait" in caplog.text
    assert "no such board" in caplog.text
    # What a killed factory leaves is inside of the state folder, not in /tmp for good.
    folder = edge.state_dir / "factory" / "sound"
    assert (folder / "temporary").read_text().strip() == str(folder)


async def test_a_class_that_cannot_be_made_is_not_tried_at_every_event(edge: Edge) -> None:
    log = edge.logs / "factory-broken.log"
    await add_class(edge, "broken")
    gateway = local_gateway(edge.devices_dir, {"broken": 1})
    await edge.cluster.apply(gateway, field_manager="test")
    edge.start()
    await until(lambda: ("default", "local") in edge.agents)
    for turn in range(5):
        gateway["metadata"]["labels"] = {"turn": str(turn)}
        await edge.cluster.apply(gateway, field_manager="test")
        await asyncio.sleep(0.05)
    assert log.read_text().count("no such board") == 1
    await add_class(edge, "broken", cpu="CortexM3")  # corrected, or so its user hopes: at once
    gateway["metadata"]["labels"] = {"turn": "last"}
    await edge.cluster.apply(gateway, field_manager="test")
    await until(lambda: log.read_text().count("no such board") == 2)
