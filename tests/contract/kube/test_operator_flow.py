"""The operator's whole flow on an API server: the real process, kopf, S3 and Jobs.

The builder is `tests/support/fake_builder.py`. The local API runs Jobs by itself; the real control
plane has no node, so `PodNode` is its kubelet. The gateway's agent is played here. The tests do
not know which server they talk to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from tinyml_api.build import sha256_digest
from tinyml_kube.cluster import Object, Ref
from tinyml_kube.errors import ClusterError
from tinyml_kube.real import KubernetesCluster
from tinyml_kube.resources import (
    DEVICE_CLASS,
    EVENT,
    GATEWAY_DEPLOYMENT,
    JOB,
    MODEL_BUILD,
    OURS,
    POD,
    SECRET,
    TINY_MODEL,
    ref_of,
)
from tinyml_local.kubeapi import LocalKubeApi
from tinyml_local.storage import LocalStorage

from tests.conftest import REPO
from tests.support.operator_world import a_gateway, a_group, a_tiny_model
from tests.support.pod_node import PodNode

from .conftest import _real as real_server

PATIENCE_S = 60.0
IDLE_S = float(os.environ.get("TINYML_TEST_IDLE_S", "7"))  # three sweeps and more
BUILDS_OF_OURS = {"app.kubernetes.io/managed-by": "tinyml-operator"}
BUCKET = "tinyml"
FAKE_BUILDER = REPO / "tests" / "support" / "fake_builder.py"


@dataclass
class Site:
    """One namespace with an operator, a store and a node."""

    cluster: KubernetesCluster
    storage: LocalStorage
    kubeconfig: Path
    namespace: str
    folder: Path
    port: int
    class_name: str
    process: asyncio.subprocess.Process | None = field(default=None)

    async def start_operator(self) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("TINYML_", "AWS_"))}
        env |= self.storage.credentials() | {
            "KUBECONFIG": str(self.kubeconfig),
            "PYTHONPATH": f"{REPO}/operator/src:{REPO}",
            "TINYML_S3_BUCKET": BUCKET,
            "TINYML_S3_ENDPOINT": self.storage.endpoint,
            "TINYML_NAMESPACES": self.namespace,
            "TINYML_HTTP_HOST": "127.0.0.1",
            "TINYML_HTTP_PORT": str(self.port),
            "TINYML_SWEEP_S": "2",
            "TINYML_RETRY_FIRST_S": "1",
            "TINYML_BUILDER_COMMAND": f"{sys.executable} {FAKE_BUILDER}",
        }
        with (self.folder / "operator.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tinyml_operator", env=env, cwd=REPO, stdout=log, stderr=log
            )

    async def kill_operator(self, sign: int = signal.SIGKILL) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(sign)
        return await asyncio.wait_for(self.process.wait(), 20)

    async def model(self, data: bytes, name: str = "digits", **spec: Any) -> Object:
        uri, digest = await self.storage.put(f"models/{sha256_digest(data)[7:15]}", data)
        obj = a_tiny_model(name, source={"uri": uri, "sha256": digest[7:]}, **spec)
        return await self.add(obj)

    async def gateway(self, *groups: dict[str, Any]) -> Object:
        return await self.add(a_gateway("site", *(groups or (a_group("a", self.class_name),))))

    async def add(self, obj: Object) -> Object:
        obj["metadata"]["namespace"] = self.namespace
        return await self.cluster.apply(obj, field_manager="user")

    async def ready(self, name: str, status: str = "True", reason: str = "") -> Object:
        """Wait until Ready of a TinyModel is this, of its newest generation."""

        async def look() -> Object | None:
            obj = await self.cluster.get(Ref(TINY_MODEL, self.namespace, name))
            found = (obj or {}).get("status") or {}
            for c in found.get("conditions", []):
                current = c["observedGeneration"] == obj["metadata"]["generation"]
                wanted = c["status"] == status and reason in ("", c["reason"])
                if c["type"] == "Ready" and current and wanted:
                    return obj
            return None

        return await self.eventually(look, f"{name} is Ready={status} {reason}")

    async def eventually(self, look: Callable[[], Awaitable[Any]], what: str) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        while loop.time() < deadline:
            try:
                found = await look()
            except ClusterError:
                found = None
            if found:
                return found
            await asyncio.sleep(0.2)
        log = self.folder / "operator.log"
        told = log.read_text()[-4000:] if log.exists() else "(the operator has not started)"
        raise AssertionError(f"never: {what}\n{told}")

    async def play_agent(self) -> None:
        """Report every device of every deployment of the namespace as running."""
        while True:
            for obj in await self.cluster.list(GATEWAY_DEPLOYMENT, self.namespace):
                status = {
                    "observedGeneration": obj["metadata"]["generation"],
                    "groups": [
                        {"image": g["image"], "states": "R" * len(g["devices"])}
                        for g in obj["spec"]["groups"]
                    ],
                }
                if obj.get("status") != status:
                    await self.cluster.patch_status(ref_of(obj), status)
            await asyncio.sleep(0.3)


@pytest.fixture(scope="session")
def real_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with real_server(tmp_path_factory.mktemp("real")) as found:
        yield found


@pytest_asyncio.fixture(params=["local", pytest.param("real", marks=pytest.mark.needs_kubernetes)])
async def kubeconfig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Path]:
    """A server that has a controller for Jobs, and maybe a node."""
    if request.param == "local":
        api = LocalKubeApi(tmp_path / "kubeapi")
        await api.start()
        try:
            yield api.kubeconfig
        finally:
            await api.stop()
    else:
        yield request.getfixturevalue("real_kubeconfig")


@pytest_asyncio.fixture
async def site(
    request: pytest.FixtureRequest, kubeconfig: Path, tmp_path: Path
) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(KubernetesCluster(kubeconfig))
        storage = LocalStorage(port=_free_port(), bucket=BUCKET)
        await stack.enter_async_context(_process(*storage.server_command(sys.executable)))
        name = f"flow-{uuid.uuid4().hex[:8]}"
        made = Site(cluster, storage, kubeconfig, name, tmp_path, _free_port(), name)
        await made.eventually(lambda: _done(storage.ensure_bucket), "S3 listens")
        for path in sorted((REPO / "crds").glob("*.yaml")):
            await cluster.apply(yaml.safe_load(path.read_text()), field_manager="tests")
        for resource in OURS:
            await made.eventually(lambda r=resource: _done(lambda: cluster.list(r)), "CRDs served")
        # The strictest of Kubernetes' pod security standards: build pods must pass it.
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": name, "labels": labels}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        await cluster.create(space)
        catalogue = yaml.safe_load((REPO / "crds" / "catalogue" / "posix.yaml").read_text())
        catalogue["metadata"]["name"] = name  # cluster-scoped: one of the test's own
        await cluster.create(catalogue)
        stack.push_async_callback(cluster.delete, Ref(DEVICE_CLASS, None, name))
        stack.push_async_callback(cluster.delete, ref_of(space))
        if request.node.get_closest_marker("needs_kubernetes"):
            await stack.enter_async_context(PodNode(kubeconfig, name, tmp_path / "pods"))
        agent = asyncio.create_task(made.play_agent())
        try:
            await made.start_operator()
            yield made
        finally:
            agent.cancel()
            await made.kill_operator()


async def test_a_model_is_built_once_and_rolled_out(site: Site) -> None:
    await site.gateway()
    await site.model(b"good")
    obj = await site.ready("digits")
    assert obj["status"]["rolledOutRevision"] == "digits-1"
    assert obj["status"]["devices"]["running"] == 2
    (build,) = await site.cluster.list(MODEL_BUILD, site.namespace)
    assert build["status"]["summary"]["flashBytes"] == 5000
    reasons = {e["reason"] for e in await site.cluster.list(EVENT, site.namespace)}
    assert {"RevisionCreated", "Built", "Released", "RolledOut"} <= reasons

    # A second model of the same content builds nothing.
    await site.model(b"good", "second", deploy=None, deviceClasses=[site.class_name])
    await site.ready("second", reason="BuildOnly")
    assert len(await site.cluster.list(JOB, site.namespace)) == 1

    # Deleted: its devices are released, and nothing is stuck.
    await site.cluster.delete(Ref(TINY_MODEL, site.namespace, "digits"))

    async def released() -> bool:
        (deployment,) = await site.cluster.list(GATEWAY_DEPLOYMENT, site.namespace)
        models = await site.cluster.list(TINY_MODEL, site.namespace, name="digits")
        return deployment["spec"]["groups"] == [] and not models

    await site.eventually(released, "the devices are released")
    assert await site.kill_operator(signal.SIGTERM) == 0


async def test_a_refused_model_says_why_and_a_corrected_one_recovers(site: Site) -> None:
    await site.gateway()
    await site.model(b"bad:UnsupportedOperator")
    obj = await site.ready("digits", "False", "UnsupportedOperator")
    assert "as the model says" in str(obj["status"]["conditions"])
    await site.model(b"better")
    await site.ready("digits")


async def test_an_idle_operator_writes_nothing(site: Site) -> None:
    await site.gateway(a_group("a", site.class_name), a_group("b", "no-such-class", use="else"))
    await site.model(b"good")
    await site.ready("digits")
    build_only: dict[str, Any] = {"deploy": None, "deviceClasses": [site.class_name]}
    await site.model(b"bad:ModelInvalid", "refused", **build_only)
    await site.ready("refused", "False", "ModelInvalid")
    await site.model(b"good", "younger")
    await site.ready("younger", "False", "DevicesContested")
    await asyncio.sleep(3)  # Job and pods of the last build come to their end
    before = await _versions(site)
    assert len(before) > 12
    await asyncio.sleep(IDLE_S)
    assert await _versions(site) == before


async def test_a_namesake_starts_anew(site: Site) -> None:
    await site.gateway()
    await site.model(b"good")
    old = await site.ready("digits")
    await site.cluster.delete(Ref(TINY_MODEL, site.namespace, "digits"))
    made = await site.model(b"another")
    assert made["metadata"]["uid"] != old["metadata"]["uid"]
    obj = await site.ready("digits")
    assert obj["metadata"]["uid"] == made["metadata"]["uid"]
    deployment = await site.cluster.get(Ref(GATEWAY_DEPLOYMENT, site.namespace, "site"))
    assert deployment is not None
    (image,) = deployment["spec"]["images"]
    assert image["build"] == obj["status"]["classes"][0]["build"]
    assert await site.cluster.list(SECRET, site.namespace, labels=BUILDS_OF_OURS) == []


async def test_a_killed_operator_loses_nothing(site: Site) -> None:
    await site.gateway()
    await site.model(b"slow:3")

    async def job() -> Any:
        return await site.cluster.list(JOB, site.namespace)

    await site.eventually(job, "the Job is there")
    await site.kill_operator()
    await asyncio.sleep(1)
    for found in await site.cluster.list(MODEL_BUILD, site.namespace):
        await site.cluster.patch_status(ref_of(found), None)
    await site.start_operator()
    await site.ready("digits")
    assert len(await job()) == 1


async def test_an_agent_gets_the_artifacts_of_its_own_deployment_only(site: Site) -> None:
    await site.gateway()
    await site.model(b"good")
    await site.ready("digits")
    tokens = {name: await _token(site, name) for name in ("tinyml-gateway-site", "other")}
    deployment = await site.cluster.get(Ref(GATEWAY_DEPLOYMENT, site.namespace, "site"))
    assert deployment is not None
    digest = deployment["spec"]["images"][0]["code"]["digest"]
    base = f"http://127.0.0.1:{site.port}"
    async with aiohttp.ClientSession() as http:

        async def get(path: str, token: str | None) -> tuple[int, bytes]:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with http.get(base + path, headers=headers) as answer:
                return answer.status, await answer.read()

        code, data = await get(f"/artifacts/{digest}", tokens["tinyml-gateway-site"])
        assert (code, sha256_digest(data)) == (200, digest)
        assert (await get(f"/artifacts/{digest}", None))[0] == 401
        assert (await get(f"/artifacts/{digest}", "no-token"))[0] == 401
        assert (await get(f"/artifacts/{digest}", tokens["other"]))[0] == 403
        unknown = f"/artifacts/sha256:{'0' * 64}"
        assert (await get(unknown, tokens["tinyml-gateway-site"]))[0] == 404
        code, data = await get("/metrics", None)
        assert b'tinyml_builds_finished_total{reason="Built"} 1.0' in data


async def _versions(site: Site) -> dict[str, str]:
    """Return the version of every object of the namespace that an operator could write."""
    return {
        f"{resource.kind}/{obj['metadata']['name']}": obj["metadata"]["resourceVersion"]
        for resource in (*OURS, EVENT, JOB, POD, SECRET)
        if resource.namespaced
        for obj in await site.cluster.list(resource, site.namespace)
    }


async def _token(site: Site, name: str) -> str:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    await site.add(account)
    return await site.cluster.create_token(site.namespace, name, seconds=600)


async def _done(call: Callable[[], Awaitable[Any]]) -> bool:
    try:
        await call()
    except Exception:
        return False
    return True


@asynccontextmanager
async def _process(*argv: str) -> AsyncIterator[None]:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port
