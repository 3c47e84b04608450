"""Which server the contract suite talks to: the local API, and a real Kubernetes where one can
be had.

No test may ask which one it is. The real one is `KUBECONFIG` if that is set, else the one
of `shared/tools/kube`, which is started for the suite and stopped after it, unless it was
running before.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from tinyml_local.kubeapi import LocalKubeApi

from tests.conftest import KUBE_TOOLS

from .kube import Kube, eventually, widget, widgets

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(
    scope="session",
    params=["local", pytest.param("real", marks=pytest.mark.needs_kubernetes)],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kube]:
    """A server, as a client."""
    folder = tmp_path_factory.mktemp("kube")
    with {"local": _local, "real": _real}[request.param](folder) as kubeconfig:
        yield Kube.of(kubeconfig, folder)


@pytest.fixture(scope="session")
def kube(server: Kube) -> Iterator[Kube]:
    """The server with the suite's own CRD, which is removed in the end."""
    crd = yaml.safe_load(Path(__file__).with_name("crd.yaml").read_text())
    name = crd["metadata"]["name"]
    server.delete(f"{CRDS}/{name}")
    eventually(lambda: server.is_gone(f"{CRDS}/{name}"), "an old CRD of the suite goes")
    server.create(CRDS, crd)
    eventually(lambda: is_served(server, "default"), "Widgets are served")
    yield server
    server.delete(f"{CRDS}/{name}")


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"contract-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    kube.create("/api/v1/namespaces", body)
    yield name
    kube.delete(f"/api/v1/namespaces/{name}")


def is_served(server: Kube, namespace: str) -> bool:
    """Return whether Widgets can be listed and made: a new CRD takes a moment."""
    listed = server.request("GET", widgets(namespace)).code == 200
    made = server.request("POST", widgets(namespace), widget(), dryRun="All")
    return listed and made.code == 201


@contextmanager
def _local(folder: Path) -> Iterator[Path]:
    """Run the local API in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="local-api")
    thread.start()
    api = LocalKubeApi(folder / "state", run_jobs=False)
    try:
        asyncio.run_coroutine_threadsafe(api.start(), loop).result(30)
        yield api.kubeconfig
    finally:
        asyncio.run_coroutine_threadsafe(api.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@contextmanager
def _real(_: Path) -> Iterator[Path]:
    """Find or start a real control plane. It has no node: no pod ever runs there."""
    if os.environ.get("KUBECONFIG"):
        yield Path(os.environ["KUBECONFIG"].split(os.pathsep)[0])
        return
    home = Path(os.environ.get("KUBE_HOME", Path.home() / ".cache" / "tinyml-kube"))
    kubeconfig = home / "admin.kubeconfig"
    running = kubeconfig.exists() and _answers(kubeconfig)
    try:
        if not running:
            started = subprocess.run(
                [KUBE_TOOLS / "up.sh"], capture_output=True, text=True, timeout=180
            )
            assert started.returncode == 0, started.stdout + started.stderr
        yield kubeconfig
    finally:
        if not running:
            subprocess.run([KUBE_TOOLS / "down.sh", "--wipe"], capture_output=True, timeout=60)


def _answers(kubeconfig: Path) -> bool:
    found = subprocess.run(
        ["kubectl", "--kubeconfig", kubeconfig, "get", "--raw", "/readyz"],
        capture_output=True,
        timeout=30,
    )
    return found.returncode == 0
