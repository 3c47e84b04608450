"""The operator as a whole: cluster, store, work queue, HTTP server and kopf's watches together."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import kopf
from tinyml_kube.real import KubernetesCluster

from tinyml_operator import handlers
from tinyml_operator.artifacts import ArtifactServer
from tinyml_operator.bell import Bell
from tinyml_operator.metrics import Metrics
from tinyml_operator.s3 import S3Storage
from tinyml_operator.settings import Settings
from tinyml_operator.shell import SWEEP_KIND, Shell
from tinyml_operator.workqueue import Key, WorkQueue

log = logging.getLogger(__name__)


async def run(settings: Settings, *, stop: asyncio.Event | None = None) -> None:
    """Run until SIGINT, SIGTERM or `stop`. Uses $KUBECONFIG, else the pod's account."""
    storage = await asyncio.to_thread(
        S3Storage,
        settings.s3_bucket,
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint,
    )
    metrics = Metrics()
    async with KubernetesCluster() as cluster, contextlib.AsyncExitStack() as stack:
        shell = Shell(cluster, storage, settings, metrics=metrics)
        queue = WorkQueue(shell.reconcile)
        shell.ring = queue.ring
        metrics.watch_depth(lambda: queue.depth)
        server = ArtifactServer(
            cluster, storage, metrics, host=settings.http_host, port=settings.http_port
        )
        await server.start()
        stack.push_async_callback(server.stop)
        queue.ring(Key(SWEEP_KIND, "", ""))
        stopping = stop or asyncio.Event()
        workers = asyncio.create_task(queue.run(settings.workers))
        workers.add_done_callback(lambda _: stopping.set())  # never alive without workers
        stack.push_async_callback(_end, workers)
        kopf_settings = kopf.OperatorSettings()
        handlers.configure(kopf_settings)
        log.info("operator starts bucket=%s compiler=%s", settings.s3_bucket, settings.compiler)
        await kopf.operator(
            registry=handlers.registry(),
            settings=kopf_settings,
            memo=kopf.Memo(bell=Bell(queue.ring, shell.sweep_fully)),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            stop_flag=stopping,
        )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
