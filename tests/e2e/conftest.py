"""One `tinyml up` for all end-to-end tests, as a user starts it: a process, stopped by Ctrl-C at
the end.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from tinyml_kube.cluster import Ref, Resource
from tinyml_kube.errors import ClusterError
from tinyml_kube.real import KubernetesCluster

BUCKET = "tinyml"


@dataclass
class Up:
    """A running `tinyml up`, and what a user does with it."""

    process: subprocess.Popen[bytes]
    state_dir: Path
    output: Path
    s3_endpoint: str
    operator_url: str
    _names: int = field(default=0)

    @property
    def kubeconfig(self) -> Path:
        return self.state_dir / "kubeconfig"

    @property
    def devices_dir(self) -> Path:
        return self.state_dir / "devices"

    def do(self, action: Callable[[KubernetesCluster], Any]) -> Any:
        """Run `action(cluster)`, a coroutine function, in a loop of its own."""

        async def body() -> Any:
            cluster = KubernetesCluster.from_kubeconfig(self.kubeconfig)
            try:
                return await action(cluster)
            finally:
                await cluster.close()

        return asyncio.run(body())

    def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        return self.do(lambda c: c.apply(manifest, field_manager="e2e"))

    def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any] | None:
        return self.do(lambda c: c.get(Ref(resource, namespace, name)))

    def wait(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        until: Callable[[dict[str, Any]], bool],
        *,
        timeout_s: float = 120.0,
    ) -> dict[str, Any]:
        """Return the object once `until(object)` holds; fails with what it last was."""

        async def body(cluster: KubernetesCluster) -> dict[str, Any]:
            deadline = time.monotonic() + timeout_s
            found: dict[str, Any] | None = None
            while time.monotonic() < deadline:
                try:
                    found = await cluster.get(Ref(resource, namespace, name))
                    if found is not None and until(found):
                        return found
                except (ClusterError, KeyError):
                    pass
                await asyncio.sleep(0.2)
            raise AssertionError(
                f"{resource.kind} {name} is not as expected after {timeout_s} s: "
                f"{(found or {}).get('status')}"
            )

        return self.do(body)

    def namespace(self) -> str:
        """Return a namespace of the test's own."""
        self._names += 1
        name = f"e2e-{self._names}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def put(self, key: str, data: bytes) -> str:
        client = boto3.client(
            "s3",
            endpoint_url=self.s3_endpoint,
            aws_access_key_id="tinyml-local",
            aws_secret_access_key="tinyml-local",
            region_name="us-east-1",
        )
        client.put_object(Bucket=BUCKET, Key=key, Body=data)
        return f"s3://{BUCKET}/{key}"

    def children(self, *words: str) -> list[int]:
        """Return the processes below `tinyml up` whose command line has all of `words`."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if all(word in line for word in words) and self._below(int(entry.name)):
                found.append(int(entry.name))
        return found

    def _below(self, pid: int) -> bool:
        while pid > 1:
            if pid == self.process.pid:
                return True
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                return False
            match = re.search(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
            pid = int(match[1]) if match else 0
        return False


def start_up(folder: Path, *options: str) -> Up:
    """Start `tinyml up` with free ports and wait until it says that it is there."""
    state_dir, output = folder / "state", folder / "up.log"
    ports = ("--api-port", "0", "--s3-port", "0", "--operator-port", "0")
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tinyml_cli", "up", "--state-dir", state_dir, *ports, *options],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "300"},
        )
    deadline = time.monotonic() + 90
    while "Ctrl-C stops everything" not in output.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise AssertionError(f"tinyml up did not start:\n{output.read_text()}")
        time.sleep(0.1)
    text = output.read_text()
    s3 = re.search(r"S3\s+(http://\S+)", text)
    operator = re.search(r"metrics\s+(http://\S+)/metrics", text)
    assert s3, text
    assert operator, text
    return Up(process, state_dir, output, s3[1], operator[1])


def stop_up(up: Up) -> int:
    """Press Ctrl-C and return the exit status."""
    up.process.send_signal(signal.SIGINT)
    try:
        return up.process.wait(timeout=30)
    finally:
        up.process.kill()
        up.process.wait()


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = start_up(tmp_path_factory.mktemp("up"), "--devices", "none=0")
    yield running
    stop_up(running)
