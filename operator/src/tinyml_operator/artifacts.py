"""What the operator serves over HTTP: artifacts for agents, /healthz, /metrics.

`GET /artifacts/sha256:<hex>` with a gateway agent's ServiceAccount token is answered by 307 to a
presigned URL, if that gateway's own GatewayDeployment names the digest. The operator never sends
the bytes itself. Contract: docs/decisions/001-spine-contracts.md.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tinyml_api.group import GATEWAY_ACCOUNT_PREFIX
from tinyml_api.modelbuild import ModelBuildSpec
from tinyml_kube.cluster import Cluster, Ref
from tinyml_kube.errors import ClusterError
from tinyml_kube.resources import GATEWAY_DEPLOYMENT, MODEL_BUILD

from tinyml_operator.metrics import Metrics
from tinyml_operator.storage import Storage, StorageError, build_prefix

URL_LIFETIME_S = 900
FILES = {"code": "code.img", "weights": "weights.img"}

log = logging.getLogger(__name__)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Agent:
    """Who asks: the agent of this gateway."""

    namespace: str
    gateway: str


def agent_of(user: str) -> Agent | None:
    """Return the agent that a user name stands for; None for everybody else."""
    match user.split(":"):
        case ["system", "serviceaccount", namespace, account]:
            gateway = account.removeprefix(GATEWAY_ACCOUNT_PREFIX)
            return Agent(namespace, gateway) if gateway and gateway != account else None
    return None


def find_image(spec: Mapping[str, Any], digest: str) -> tuple[str, str] | None:
    """Return (build, file name) of the image with this digest in a GatewayDeployment's spec."""
    for image in spec.get("images") or ():
        for part, file in FILES.items():
            if image[part]["digest"] == digest:
                return image["build"], file
    return None


class ArtifactServer:
    """`start` listens, `stop` ends. `port` 0 takes a free one; then `port` says which."""

    def __init__(
        self, cluster: Cluster, storage: Storage, metrics: Metrics, *, host: str, port: int
    ) -> None:
        self.port = port
        self._cluster = cluster
        self._storage = storage
        self._metrics = metrics
        self._host = host
        self._runner: web.AppRunner | None = None

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/artifacts/{digest}", self._artifact)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/metrics", self._show_metrics)
        return app

    async def start(self) -> None:
        self._runner = web.AppRunner(self.app(), access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        if self._runner.addresses:
            self.port = self._runner.addresses[0][1]
        log.info("http listens host=%s port=%d", self._host, self.port)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _artifact(self, request: web.Request) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except ClusterError as error:
            log.warning("artifact request failed error=%s", error)
            response = _refuse(503, "the Kubernetes API does not answer: try again")
        except StorageError as error:
            log.warning("artifact request failed error=%s", error)
            response = _refuse(503, "the artifact store does not answer: try again")
        self._metrics.artifacts.labels(str(response.status)).inc()
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        if not _DIGEST.fullmatch(digest):
            return _refuse(404, f"{digest[:80]!r} is not sha256: and 64 hex digits")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return _refuse(401, "send Authorization: Bearer and a ServiceAccount token")
        user = await self._cluster.review_token(token.strip())
        if user is None:
            return _refuse(401, "the token is not valid (any more)")
        agent = agent_of(user)
        if agent is None:
            expected = f"system:serviceaccount:<namespace>:{GATEWAY_ACCOUNT_PREFIX}<gateway>"
            return _refuse(403, f"{user!r} is not a gateway's agent ({expected})")
        return await self._redirect(agent, digest)

    async def _redirect(self, agent: Agent, digest: str) -> web.Response:
        ref = Ref(GATEWAY_DEPLOYMENT, agent.namespace, agent.gateway)
        deployment = await self._cluster.get(ref)
        found = find_image(deployment["spec"], digest) if deployment else None
        if found is None:
            where = f"GatewayDeployment {agent.namespace}/{agent.gateway}"
            return _refuse(404, f"{where} does not name {digest}")
        name, file = found
        build = await self._cluster.get(Ref(MODEL_BUILD, agent.namespace, name))
        if build is None:
            return _refuse(404, f"ModelBuild {agent.namespace}/{name} of {digest} is gone")
        spec = ModelBuildSpec.from_dict(build["spec"])
        key = build_prefix(agent.namespace, spec.request_digest) + file
        url = await self._storage.get_url(self._storage.bucket, key, seconds=URL_LIFETIME_S)
        return web.Response(status=307, headers={"Location": url, "Cache-Control": "no-store"})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _show_metrics(self, _: web.Request) -> web.Response:
        data = generate_latest(self._metrics.registry)
        return web.Response(body=data, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _refuse(status: int, message: str) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return web.json_response({"error": message}, status=status, headers=headers)
