"""The local edge: for each EdgeGateway one agent, for each of its devices under `devices_dir` one
emulated device.

A device is ours if its address is `serial://<devices_dir>/<file>`; other addresses are left to the
user. A new device comes from the factory: boot stage and a factory image without a model, built
once per device class.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tinyml_kube.cluster import Cluster, Object, Ref
from tinyml_kube.errors import ClusterError
from tinyml_kube.resources import DEVICE_CLASS, EDGE_GATEWAY

from tinyml_local.processes import ProcessFailedError, Supervised, run

logger = logging.getLogger(__name__)

TOKEN_LIFETIME_S = 7 * 24 * 3600
FACTORY_TIMEOUT_S = 300.0
RETRY_S = 2.0
RETRY_MOST_S = 60.0
FIELD_MANAGER = "tinyml-local"


@dataclass(frozen=True, slots=True)
class _Failed:
    """A device class, as it was when its factory could not be made."""

    content: str
    delay: float
    until: float


@dataclass
class Edge:
    """Follows the EdgeGateways of all namespaces until stopped; what it starts is supervised."""

    cluster: Cluster
    python: str
    state_dir: Path
    devices_dir: Path
    logs: Path
    api_kubeconfig: Path
    operator_url: str
    emulator: str
    toolchain: str
    report_interval_s: int
    env: Mapping[str, str]
    agents: dict[tuple[str, str], Supervised] = field(default_factory=dict)
    devices: dict[Path, Supervised] = field(default_factory=dict)
    _failed: dict[str, _Failed] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="local edge")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        children = [*self.agents.values(), *self.devices.values()]
        await asyncio.gather(*(child.stop() for child in children))

    async def _follow(self) -> None:
        """Bring up what each EdgeGateway needs; what could not be done is tried again."""
        due: dict[tuple[str, str], Object] = {}
        events: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()

        async def watch() -> None:
            async for event in self.cluster.watch(EDGE_GATEWAY):
                events.put_nowait((event.type, event.object))

        watcher = asyncio.create_task(watch(), name="watch gateways")
        try:
            while True:
                # Not asyncio.wait_for: Python 3.11's loses a cancellation that meets an event.
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S if due else None):
                        kind, gateway = await events.get()
                    key = (gateway["metadata"]["namespace"], gateway["metadata"]["name"])
                    due.pop(key, None)
                    if kind == "DELETED":
                        await self._remove(key)
                    else:
                        due[key] = gateway
                for key, gateway in list(due.items()):
                    try:
                        if await self._bring_up(gateway):
                            del due[key]
                    except (ClusterError, ProcessFailedError, OSError) as error:
                        logger.warning("gateway waits: gateway=%s/%s error=%s", *key, error)
        finally:
            watcher.cancel()

    async def _remove(self, key: tuple[str, str]) -> None:
        agent = self.agents.pop(key, None)
        if agent is not None:
            await agent.stop()

    async def _bring_up(self, gateway: Object) -> bool:
        """Start what is missing. False: a device class is not there yet, try again."""
        complete = True
        for group in gateway["spec"].get("deviceGroups", ()):
            ours = [
                path
                for address in group["devices"].values()
                if (path := self._own_link(address)) is not None and path not in self.devices
            ]
            if not ours:
                continue
            device_class = await self.cluster.get(Ref(DEVICE_CLASS, None, group["deviceClass"]))
            if device_class is None:
                complete = False
                continue
            factory = await self._factory(group["deviceClass"], device_class["spec"])
            if factory is None:  # the other groups and the agent do not wait for it
                complete = False
                continue
            for link in ours:
                self._start_device(link, factory)
        key = (gateway["metadata"]["namespace"], gateway["metadata"]["name"])
        if key not in self.agents:
            await self._start_agent(*key)
        return complete

    def _own_link(self, address: str) -> Path | None:
        path = Path(address.removeprefix("serial://"))
        ours = address.startswith("serial://") and path.parent == self.devices_dir
        return path if ours else None

    async def _factory(self, name: str, spec: Mapping[str, Any]) -> Path | None:
        """Return the class's folder with `class.json`, `boot.elf` and `flash.bin`, made once.

        None: it cannot be made, and is not tried again before its time or a change of the class.
        """
        folder = self.state_dir / "factory" / name
        content = json.dumps(spec, sort_keys=True)
        spec_file = folder / "class.json"
        if spec_file.exists() and spec_file.read_text() == content:
            return folder
        now = asyncio.get_running_loop().time()
        failed = self._failed.get(name)
        if failed is not None and failed.content == content and now < failed.until:
            return None
        try:
            await self._make_factory(name, content)
        except ProcessFailedError as error:
            delay = RETRY_S
            if failed is not None and failed.content == content:
                delay = min(2 * failed.delay, RETRY_MOST_S)
            until = asyncio.get_running_loop().time() + delay
            self._failed[name] = _Failed(content, delay, until)
            logger.warning("devices of class %s wait %.0f s: %s", name, delay, error)
            return None
        self._failed.pop(name, None)
        return folder

    async def _make_factory(self, name: str, content: str) -> None:
        folder = self.state_dir / "factory" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pending = folder / "class.pending.json"
        pending.write_text(content)
        await run(
            (
                *(self.python, "-m", "tinyml_compiler.factory", "--class-name", name),
                *("--class-spec", str(pending), "--toolchain", self.toolchain),
                *("--output", str(folder)),
            ),
            env={**self.env, "TMPDIR": str(folder)},  # what it leaves when killed is found here
            log=self.logs / f"factory-{name}.log",
            timeout_s=FACTORY_TIMEOUT_S,
        )
        pending.rename(folder / "class.json")

    def _start_device(self, link: Path, factory: Path) -> None:
        flash = link.with_suffix(".flash")
        if not flash.exists():
            shutil.copyfile(factory / "flash.bin", flash)
        device = Supervised(
            link.name,
            (
                *(self.python, "-m", "tinyml_local.emulator"),
                *("--class-spec", str(factory / "class.json")),
                *("--boot", str(factory / "boot.elf"), "--flash", str(flash)),
                *("--link", str(link), "--emulator", self.emulator),
            ),
            env=self.env,
            log=self.logs / f"device-{link.name}.log",
        )
        device.start()
        self.devices[link] = device

    async def _start_agent(self, namespace: str, name: str) -> None:
        account = f"tinyml-gateway-{name}"
        await self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"namespace": namespace, "name": account},
            },
            field_manager=FIELD_MANAGER,
        )
        token = await self.cluster.create_token(namespace, account, seconds=TOKEN_LIFETIME_S)
        folder = self.state_dir / "gateways" / namespace / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        token_file = folder / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(token)
        kubeconfig = folder / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(_with_token(self.api_kubeconfig.read_text(), account, token))
        agent = Supervised(
            account,
            (
                *(self.python, "-m", "tinyml_gateway", "--gateway", name),
                *("--namespace", namespace, "--operator-url", self.operator_url),
                *("--state-dir", str(folder / "state"), "--kubeconfig", str(kubeconfig)),
                *("--token-file", str(token_file)),
                *("--report-interval", str(self.report_interval_s)),
            ),
            env=self.env,
            log=self.logs / f"gateway-{namespace}-{name}.log",
        )
        agent.start()
        self.agents[namespace, name] = agent


def _with_token(kubeconfig: str, user: str, token: str) -> str:
    """Return the kubeconfig with its one user replaced by a ServiceAccount's token."""
    config = yaml.safe_load(kubeconfig)
    config["users"] = [{"name": user, "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"]["user"] = user
    return yaml.safe_dump(config)
