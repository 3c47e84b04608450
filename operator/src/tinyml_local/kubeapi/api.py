"""A small Kubernetes API in this process: start it, give its kubeconfig to kubectl, stop it.

    async with LocalKubeApi(folder) as api:
        ... api.kubeconfig, api.url, api.token ...

It is for trying and for tests, see docs/local-api.md. All objects are gone when it stops.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiohttp import web

from .controllers import Controllers
from .identity import Tokens, make_certificates, write_kubeconfig
from .kinds import Kinds
from .registry import Registry
from .server import Server
from .store import Store

if TYPE_CHECKING:
    from ..jobs import JobRunner


class LocalKubeApi:
    """One local API. `port` 0 takes a free one; `window` is how many past changes a watch can
    start from.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        port: int = 0,
        kubeconfig: Path | None = None,
        run_jobs: bool = True,
        concurrent_jobs: int = 2,
        window: int = 4096,
    ) -> None:
        self.kubeconfig = kubeconfig or state_dir / "kubeconfig"
        self.url = ""
        self._port = port
        self._state_dir = state_dir
        store = Store(window)
        self.registry = Registry(store, Kinds())
        self._tokens = Tokens(store)
        self._controllers = Controllers(self.registry)
        self._jobs: JobRunner | None = None
        if run_jobs:
            from ..jobs import JobRunner  # it imports this package

            self._jobs = JobRunner(self.registry, state_dir / "pods", concurrent=concurrent_jobs)
        self._runner: web.AppRunner | None = None

    @property
    def token(self) -> str:
        """The administrator's bearer token."""
        return self._tokens.admin

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that clients have to trust."""
        return self._state_dir / "pki" / "ca.crt"

    async def start(self) -> None:
        """Serve on 127.0.0.1 and write the kubeconfig. Raises OSError if the port is taken."""
        ca, certificate, key = await asyncio.to_thread(make_certificates, self._state_dir / "pki")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._controllers.start()
        if self._jobs is not None:
            self._jobs.start()
        server = Server(self.registry, self._tokens, self._jobs)
        runner = web.AppRunner(
            server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
        )
        self._runner = runner
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=context)
        try:
            await site.start()
        except OSError:
            await self.stop()
            raise
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        write_kubeconfig(self.kubeconfig, self.url, ca, self.token)

    async def stop(self) -> None:
        """End all watches, jobs and connections."""
        if self._jobs is not None:
            await self._jobs.stop()
        await self._controllers.stop()
        self.registry.store.end_watches()
        if self._runner is not None:
            await _close(self._runner)
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


async def _close(runner: web.AppRunner) -> None:
    """Stop serving; do not wait for clients that keep their side of a connection open."""
    server = runner.server
    connections = list(server.connections) if server is not None else []
    transports = [c.transport for c in connections if c.transport is not None]
    await runner.cleanup()
    for transport in transports:
        with suppress(AttributeError):  # Python 3.11.2's TLS transport, where it is closed already
            transport.abort()
    for _ in range(3):  # the loop's turns that it takes to close their sockets
        await asyncio.sleep(0)
