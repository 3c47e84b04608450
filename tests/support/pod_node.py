"""A node for an API server that has none: runs the containers of pods as processes of this machine.

The control plane of `shared/tools/kube` makes pods for Jobs, but nothing runs them. `PodNode` does,
as the local environment's runner would, through the API alone; so a flow that needs its Jobs to end
can be tested on both.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinyml_kube.cluster import Object, Ref
from tinyml_kube.errors import ClusterError
from tinyml_kube.real import KubernetesCluster
from tinyml_kube.resources import CONFIG_MAP, POD, SECRET
from tinyml_local.kubeapi import pods

CONTENT = {"secrets": SECRET, "configmaps": CONFIG_MAP}
POLL_S = 0.3


class PodNode:
    """Runs every pod of one namespace that is not finished, once, until stopped."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path) -> None:
        self._kubeconfig = kubeconfig
        self._namespace = namespace
        self._folder = folder
        self._running: dict[str, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PodNode:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._running.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        async with KubernetesCluster.from_kubeconfig(self._kubeconfig) as cluster:
            while True:
                with suppress(ClusterError):
                    found = {p["metadata"]["uid"]: p for p in await self._pods(cluster)}
                    for uid in self._running.keys() - found.keys():
                        self._running.pop(uid).cancel()
                    for uid, pod in found.items():
                        if uid not in self._running:
                            self._running[uid] = asyncio.create_task(self._pod(cluster, pod))
                await asyncio.sleep(POLL_S)

    async def _pods(self, cluster: KubernetesCluster) -> list[Object]:
        listed = await cluster.list(POD, self._namespace)
        return [
            p
            for p in listed
            if (
                p.get("status", {}).get("phase") not in ("Succeeded", "Failed")
                and "deletionTimestamp" not in p["metadata"]
            )
            or p["metadata"]["uid"] in self._running
        ]

    async def _pod(self, cluster: KubernetesCluster, pod: Object) -> None:
        container = pod["spec"]["containers"][0]
        folder = self._folder / pod["metadata"]["uid"]
        folder.mkdir(parents=True)
        content = await self._content(cluster, pod)

        def lookup(plural: str, name: str) -> Object | None:
            return content.get((plural, name))

        pods.make_volumes(pod, folder, lookup)
        command = pods.prepare(pod, container, folder, dict(os.environ), lookup)
        await self._report(cluster, pod, "Running", {"running": {}})
        log = folder / "log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                env={**command.env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                cwd=command.folder,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            code = await process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        ended = {
            "exitCode": code,
            "message": pods.last_word(command, container, log, code),
        }
        phase = "Failed" if code else "Succeeded"
        await self._report(cluster, pod, phase, {"terminated": ended})

    async def _content(
        self, cluster: KubernetesCluster, pod: Object
    ) -> dict[tuple[str, str], Object]:
        """Read the Secrets and ConfigMaps that the pod's volumes name; waits for those to come."""
        names = [
            (plural, volume[field][key])
            for volume in pod["spec"].get("volumes", ())
            for field, key, plural in (
                ("secret", "secretName", "secrets"),
                ("configMap", "name", "configmaps"),
            )
            if field in volume
        ]
        content: dict[tuple[str, str], Object] = {}
        for plural, name in names:
            while (plural, name) not in content:
                found = await cluster.get(Ref(CONTENT[plural], self._namespace, name))
                if found is not None:
                    content[plural, name] = found
                else:
                    await asyncio.sleep(POLL_S)
        return content

    async def _report(
        self, cluster: KubernetesCluster, pod: Object, phase: str, state: dict[str, Any]
    ) -> None:
        container = pod["spec"]["containers"][0]
        status = {
            "phase": phase,
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": state,
                }
            ],
        }
        ref = Ref(POD, self._namespace, pod["metadata"]["name"])
        with suppress(ClusterError):
            await cluster.patch_status(ref, status)
