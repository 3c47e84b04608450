"""The local environment: Kubernetes API, S3, operator, and the edge (agents, emulated devices).

`tinyml up` holds one until Ctrl-C, `tinyml demo` and the end-to-end tests hold one for a while. It
is for trying and for tests: state lives in one folder and is made anew at each start. Everything
listens on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import yaml
from botocore.exceptions import BotoCoreError, ClientError
from tinyml_kube.cluster import Cluster, Ref
from tinyml_kube.errors import ClusterError, NotFoundError
from tinyml_kube.real import KubernetesCluster
from tinyml_kube.resources import MODEL_BUILD

from tinyml_local.edge import Edge
from tinyml_local.kubeapi import LocalKubeApi
from tinyml_local.processes import Supervised
from tinyml_local.storage import LocalStorage

logger = logging.getLogger(__name__)

FIELD_MANAGER = "tinyml-local"
BUCKET = "tinyml"
TOOLCHAIN = "ziglang-0.17.1"
START_TIMEOUT_S = 60.0
RESTARTS_LIMIT = 3
# What a part that is still starting answers; anything else is a fault of ours and is raised.
NOT_READY_YET = (ClusterError, BotoCoreError, ClientError, OSError)
FREE_BYTES_NEEDED = 100 << 20  # logs, builds, and the flash of some devices

Progress = Callable[[str], None]


class CannotStartError(Exception):
    """The environment cannot start; the message says what is in the way and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the environment lives. A port of 0 takes a free one; `emulator` is auto, qemu or
    unicorn.
    """

    state_dir: Path
    api_port: int = 0
    s3_port: int = 0
    operator_port: int = 0
    emulator: str = "auto"
    report_interval_s: int = 1
    python: str = field(default=sys.executable)


class Environment:
    """An async context manager: everything runs inside of the block, and is gone after it."""

    def __init__(self, settings: Settings, progress: Progress = lambda _: None) -> None:
        self.settings = settings
        self.kubeconfig = settings.state_dir / "kubeconfig"
        self.logs = settings.state_dir / "logs"
        self.devices_dir = settings.state_dir / "devices"
        self._progress = progress
        self._stack = AsyncExitStack()
        self.operator: Supervised
        self.edge: Edge
        self.storage: LocalStorage
        self.cluster: Cluster
        self.operator_url = ""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException as error:
            await self._stack.aclose()
            if isinstance(error, OSError):
                raise CannotStartError(
                    f"{error.filename or self.settings.state_dir}: {error.strerror or error}; "
                    "the state folder must be one that can be written"
                ) from error
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Apply one object as `kubectl apply --server-side` does."""
        return await self.cluster.apply(manifest, field_manager=FIELD_MANAGER)

    async def _start(self) -> None:
        s = self.settings
        _check_ports(s)
        _claim(s.state_dir, self._stack)
        for child in (self.logs, self.devices_dir):
            shutil.rmtree(child, ignore_errors=True)
            child.mkdir(parents=True)

        self._progress("Kubernetes API")
        api = LocalKubeApi(s.state_dir / "kubeapi", port=s.api_port, kubeconfig=self.kubeconfig)
        await api.start()
        self._stack.push_async_callback(api.stop)
        cluster = KubernetesCluster.from_kubeconfig(self.kubeconfig)
        self._stack.push_async_callback(cluster.close)
        self.cluster = cluster

        self._progress("S3 and operator")
        self.storage = LocalStorage(port=s.s3_port or free_port(), bucket=BUCKET)
        s3 = self._supervise("s3", *self.storage.server_command(s.python))
        for crd in load_manifests("crds"):
            await self.apply(crd)
        port = s.operator_port or free_port()
        self.operator_url = f"http://127.0.0.1:{port}"
        self.operator = self._supervise(
            "operator", s.python, "-m", "tinyml_operator", **self._operator_env(port)
        )
        for device_class in load_manifests("catalogue"):
            name = device_class["metadata"]["name"]
            await self._until(f"DeviceClass {name}", partial(self.apply, device_class))
        await self._until("S3", self.storage.ensure_bucket, s3)
        await self._until("operator", lambda: _listening(port), self.operator)

        self._progress("edge")
        self.edge = Edge(
            cluster=self.cluster,
            python=s.python,
            state_dir=s.state_dir,
            devices_dir=self.devices_dir,
            logs=self.logs,
            api_kubeconfig=self.kubeconfig,
            operator_url=self.operator_url,
            emulator=s.emulator,
            toolchain=TOOLCHAIN,
            report_interval_s=s.report_interval_s,
            env=child_env(s.python),
        )
        self.edge.start()
        self._stack.push_async_callback(self.edge.stop)

    async def build_digest(self, namespace: str, build: str) -> str:
        """Return the request digest of a ModelBuild: its folder in S3 is
        `<namespace>/builds/<digest>`.
        """
        found = await self.cluster.get(Ref(MODEL_BUILD, namespace, build))
        if found is None:
            raise NotFoundError(f"ModelBuild {namespace}/{build} is not there")
        digest: str = found["spec"]["requestDigest"]
        return digest

    def _operator_env(self, port: int) -> dict[str, str]:
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "TINYML_HTTP_PORT": str(port),
            "TINYML_HTTP_HOST": "127.0.0.1",
            "TINYML_S3_ENDPOINT": self.storage.endpoint,
            "TINYML_S3_BUCKET": BUCKET,
            "TINYML_ALLOWED_BUCKETS": "*",
            "TINYML_TOOLCHAIN": TOOLCHAIN,
            "TINYML_BUILDER_COMMAND": f"{self.settings.python} -m tinyml_compiler",
            **self.storage.credentials(),
        }

    def _supervise(self, name: str, *argv: str, **env: str) -> Supervised:
        child = Supervised(
            name, argv, env=child_env(self.settings.python) | env, log=self.logs / f"{name}.log"
        )
        child.start()
        self._stack.push_async_callback(child.stop)
        return child

    async def _until(
        self, what: str, check: Callable[[], Awaitable[Any]], process: Supervised | None = None
    ) -> None:
        """Try `check` until it raises none of NOT_READY_YET. Raises CannotStartError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT_S
        while True:
            try:
                await check()
                return
            except NOT_READY_YET as error:
                where = f", see {self.logs / process.name}.log" if process else ""
                if process is not None and process.restarts >= RESTARTS_LIMIT:
                    raise CannotStartError(
                        f"{what} ended {process.restarts} times at its start{where}: {error}"
                    ) from error
                if loop.time() > deadline:
                    raise CannotStartError(
                        f"{what} did not start in {START_TIMEOUT_S:.0f} s{where}: {error}"
                    ) from error
            await asyncio.sleep(0.1)


def load_manifests(folder: str) -> list[dict[str, Any]]:
    """Return the YAML documents of `crds` (the CRDs) or `catalogue` (device classes), sorted by
    file name.
    """
    root = manifests_root()
    where = root if folder == "crds" else root / folder
    files = sorted(p for p in where.iterdir() if p.suffix == ".yaml")
    if not files:
        raise CannotStartError(f"no manifests in {where}: the installation is not complete")
    return [doc for p in files for doc in yaml.safe_load_all(p.read_text()) if doc]


def manifests_root() -> Path:
    """The folder `crds`: inside the installed package, or in the checkout."""
    packaged = Path(str(resources.files("tinyml_local"))) / "_crds"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "crds"


def child_env(python: str) -> dict[str, str]:
    """Environment of a child: this process's, without what leads to another cluster or S3."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TINYML_", "KUBE"))}
    if "TINYML_DEVICE_RUNTIME" in os.environ:
        env["TINYML_DEVICE_RUNTIME"] = os.environ["TINYML_DEVICE_RUNTIME"]
    env["PYTHONUNBUFFERED"] = "1"
    env["PATH"] = f"{Path(python).parent}:{env.get('PATH', os.defpath)}"
    return env


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _check_ports(settings: Settings) -> None:
    """Raises CannotStartError for a port that somebody has, or that is wanted twice."""
    wanted = {
        "--api-port": settings.api_port,
        "--s3-port": settings.s3_port,
        "--operator-port": settings.operator_port,
    }
    with ExitStack() as held:
        for option, port in wanted.items():
            if not port:
                continue
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                probe.listen()
            except OSError as error:
                raise CannotStartError(
                    f"port {port} of 127.0.0.1 cannot be had: {error.strerror}; stop what uses it "
                    f"(another `tinyml up`?), or give another {option}, 0 for any free one"
                ) from error


async def _listening(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


def _claim(state_dir: Path, stack: AsyncExitStack) -> None:
    """Take the state folder for this process. Raises CannotStartError where another one has it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(state_dir).free
    if free < FREE_BYTES_NEEDED:
        raise CannotStartError(
            f"{state_dir} has {free >> 20} MiB free, {FREE_BYTES_NEEDED >> 20} MiB are needed: "
            "make room, or give another --state-dir"
        )
    lock: IO[str] = stack.enter_context((state_dir / "lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise CannotStartError(
            f"another `tinyml up` uses {state_dir}: stop it, or give another --state-dir"
        ) from None
