"""A gateway's site for tests: FakeCluster with its two objects, images, fake devices and agent.

`Site` lives in one folder; `start` and `kill` begin and end agents on the same state, as a machine
that loses power and comes back does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tinyml_api.images import ImageFile
from tinyml_compiler.images import PackedImage
from tinyml_gateway.agent import Agent, Options
from tinyml_gateway.artifacts import Cache, Downloader
from tinyml_gateway.device import Timeouts
from tinyml_gateway.errors import ArtifactUnavailableError
from tinyml_gateway.metrics import Metrics
from tinyml_gateway.rollout import Policy
from tinyml_gateway.state import Store
from tinyml_gateway.visit import VisitLimits
from tinyml_gateway.workshop import Backoff, Pace
from tinyml_kube.cluster import Cluster, Object, Ref
from tinyml_kube.fake import FakeCluster
from tinyml_kube.resources import EDGE_GATEWAY, GATEWAY_DEPLOYMENT

from tests.support.fake_device import FakeDevice, an_image

NAME, NAMESPACE = "site-1", "default"
QUICK = Options(
    policy=Policy(verify_s=0.5),
    limits=VisitLimits(
        timeouts=Timeouts(connect_s=0.2, request_s=0.1, erase_s=0.1, run_s=0.2, attempts=2),
        return_s=0.5,
        return_poll_s=0.01,
    ),
    pace=Pace(*[Backoff(0.05, 0.2)] * 4),
    report_interval_s=0.02,
)


class MemoryDownloader(Downloader):
    """Gives artifacts from a dict instead of the network; `fetched` counts."""

    def __init__(self, files: Mapping[str, bytes], cache: Cache) -> None:
        self.files = files
        self.cache = cache
        self.fetched: list[str] = []

    async def fetch(self, artifact: ImageFile) -> int:
        self.fetched.append(artifact.digest)
        if artifact.digest not in self.files:
            raise ArtifactUnavailableError(f"{artifact.digest}: the operator answered 404")
        self.cache.part(artifact.digest).write_bytes(self.files[artifact.digest])
        self.cache.keep(artifact)
        return artifact.size_bytes


def image_file(image: PackedImage) -> ImageFile:
    digest = "sha256:" + hashlib.sha256(image.data).hexdigest()
    return ImageFile(digest, image.image_hash, len(image.data))


class Site:
    """One gateway with fake devices. `pair` makes images, `want` writes the GatewayDeployment.

    `cluster` is a FakeCluster, or a real one; the agent's may be another.
    """

    def __init__(self, folder: Path, *, cluster: Any = None, namespace: str = NAMESPACE) -> None:
        self.folder = folder
        self.namespace = namespace
        self.cluster: Any = cluster if cluster is not None else FakeCluster()
        self.agents_cluster: Cluster = self.cluster
        self.files: dict[str, bytes] = {}
        self.devices: dict[str, FakeDevice] = {}
        self.addresses: dict[str, str] = {}
        self.options = QUICK
        self.metrics = Metrics()
        self.downloader: MemoryDownloader | None = None
        self._stack = contextlib.AsyncExitStack()
        self._agent: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._store: Store | None = None

    async def add(self, name: str, device: FakeDevice | None = None) -> FakeDevice:
        self.devices[name] = device or FakeDevice()
        self.addresses[name] = await self._stack.enter_async_context(self.devices[name].on_pty())
        return self.devices[name]

    def pair(self, text: str, *, device_class: str = "posix", size: int = 1500) -> Object:
        """Make an image pair that the site can download; return its entry of `spec.images`."""
        code = an_image(text.encode() * (size // len(text)), device_class=device_class)
        weights = an_image(b"w" + text.encode() * 100, device_class=device_class)
        files = image_file(code), image_file(weights)
        for file, image in zip(files, (code, weights), strict=True):
            self.files[file.digest] = image.data
        return {
            "name": f"m-{text}",
            "tinyModel": "digits",
            "revision": "digits-1",
            "build": "mb-1",
            "deviceClass": device_class,
            "code": files[0].to_dict(),
            "weights": files[1].to_dict(),
        }

    async def want(self, image: Object, *names: str) -> None:
        """Apply both objects: every listed device (default: all) runs `image`."""
        edge = {
            "deviceGroups": [
                {"name": "line", "deviceClass": image["deviceClass"], "devices": self.addresses}
            ]
        }
        devices = list(names or self.devices)
        spec = {
            "gateway": NAME,
            "images": [image],
            "groups": [{"image": image["name"], "deviceGroup": "line", "devices": devices}],
        }
        for resource, body in ((EDGE_GATEWAY, edge), (GATEWAY_DEPLOYMENT, spec)):
            await self.cluster.apply(
                {
                    "apiVersion": resource.api_version,
                    "kind": resource.kind,
                    "metadata": {"name": NAME, "namespace": self.namespace},
                    "spec": body,
                },
                field_manager="test",
            )

    def start(self) -> None:
        """Start an agent on this folder's state."""
        cache = Cache(self.folder / "artifacts")
        self._store = Store(self.folder / "state.sqlite")
        self.downloader = MemoryDownloader(self.files, cache)
        self._stop = asyncio.Event()
        agent = Agent(
            NAME,
            self.namespace,
            cluster=self.agents_cluster,
            store=self._store,
            cache=cache,
            downloader=self.downloader,
            metrics=self.metrics,
            options=self.options,
            jitter=lambda: 0.5,
        )
        self._agent = asyncio.create_task(agent.run(self._stop), name="agent")

    async def stop(self) -> None:
        """End the agent as SIGTERM does."""
        self._stop.set()
        await self._end()

    async def kill(self) -> None:
        """End the agent wherever it is: it gets to report nothing."""
        assert self._agent is not None
        self._agent.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._end()

    async def _end(self) -> None:
        assert self._agent is not None
        assert self._store is not None
        try:
            await self._agent
        finally:
            self._store.close()
            self._agent = None

    async def close(self) -> None:
        if self._agent is not None:
            await self.stop()
        await self._stack.aclose()

    async def status(self) -> dict[str, Any]:
        found = await self.cluster.get(Ref(GATEWAY_DEPLOYMENT, self.namespace, NAME))
        status: dict[str, Any] = (found or {}).get("status") or {}
        return status

    async def states(self) -> str:
        return "".join(g["states"] for g in (await self.status()).get("groups", ()))

    async def reasons(self) -> dict[str, str]:
        return {f["device"]: f["reason"] for f in (await self.status()).get("failures", ())}

    async def until(self, what: Callable[[], Any], *, timeout_s: float = 5.0) -> None:
        """Wait until `what` (perhaps a coroutine function) is true, or say where things stand."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            found = what()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            if self._agent is not None and self._agent.done():
                await self._agent
            if loop.time() > deadline:
                raise AssertionError(f"not within {timeout_s:g} s; status is {await self.status()}")
            await asyncio.sleep(0.01)

    async def until_states(self, letters: str, *, timeout_s: float = 5.0) -> None:
        async def reached() -> bool:
            return await self.states() == letters

        await self.until(reached, timeout_s=timeout_s)

    async def until_runs(self, device: FakeDevice, pair: tuple[str, str]) -> None:
        await self.until(lambda: device.running == pair)
