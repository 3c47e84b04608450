"""Who gets which artifact, and what everybody else is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from tinyml_kube.resources import GATEWAY_DEPLOYMENT, MODEL_BUILD
from tinyml_operator.artifacts import Agent, ArtifactServer, agent_of
from tinyml_operator.metrics import Metrics
from tinyml_operator.storage import StorageError

from tests.support.operator_world import NAMESPACE, World, a_gateway, a_group, a_tiny_model

UNKNOWN = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("user", "agent"),
    [
        ("system:serviceaccount:ns:tinyml-gateway-site", Agent("ns", "site")),
        ("system:serviceaccount:ns:tinyml-gateway-", None),
        ("system:serviceaccount:ns:site", None),
        ("system:serviceaccount:ns:x-tinyml-gateway-site", None),
        ("kubernetes-admin", None),
        ("system:serviceaccount:ns:tinyml-gateway-site:more", None),
    ],
)
def test_only_service_accounts_of_gateways_are_agents(user: str, agent: Agent | None) -> None:
    assert agent_of(user) == agent


@pytest_asyncio.fixture
async def world() -> World:
    made = World()
    await made.classes("posix")
    await made.add(a_gateway("site"), a_gateway("other", a_group("x", use="else")), a_tiny_model())
    for name in ("tinyml-gateway-site", "tinyml-gateway-other", "somebody"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount"}
        await made.add({**account, "metadata": {"name": name, "namespace": NAMESPACE}})
    await made.settle()
    return made


@pytest_asyncio.fixture
async def client(world: World) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    server = ArtifactServer(world.cluster, world.storage, Metrics(), host="127.0.0.1", port=0)
    async with TestClient(TestServer(server.app())) as made:
        yield made


async def ask(client: TestClient, world: World, account: str, digest: str) -> tuple[int, str]:  # type: ignore[type-arg]
    token = await world.cluster.create_token(NAMESPACE, account, seconds=600)
    headers = {"Authorization": f"Bearer {token}"}
    reply = await client.get(f"/artifacts/{digest}", headers=headers, allow_redirects=False)
    return reply.status, reply.headers.get("Location") or (await reply.json())["error"]


async def test_an_agent_is_sent_to_its_image_for_fifteen_minutes(
    client: TestClient,  # type: ignore[type-arg]
    world: World,
) -> None:
    image = (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"]["images"][0]
    request = (await world.get(MODEL_BUILD, image["build"]))["spec"]["requestDigest"]
    for part, file in (("code", "code.img"), ("weights", "weights.img")):
        found = await ask(client, world, "tinyml-gateway-site", image[part]["digest"])
        assert found == (307, f"memory://tinyml/{NAMESPACE}/builds/{request}/{file}?for=900")


async def test_a_digest_that_the_gateway_does_not_name_is_not_found(
    client: TestClient,  # type: ignore[type-arg]
    world: World,
) -> None:
    image = (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"]["images"][0]
    code, error = await ask(client, world, "tinyml-gateway-other", image["code"]["digest"])
    assert (code, "does not name" in error) == (404, True)
    assert (await ask(client, world, "tinyml-gateway-site", UNKNOWN))[0] == 404
    assert (await ask(client, world, "tinyml-gateway-site", "sha256:x"))[0] == 404


async def test_others_are_refused(client: TestClient, world: World) -> None:  # type: ignore[type-arg]
    assert (await ask(client, world, "somebody", UNKNOWN))[0] == 403
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic x"}):
        reply = await client.get(f"/artifacts/{UNKNOWN}", headers=headers)
        assert reply.status == 401
        assert reply.headers["WWW-Authenticate"] == "Bearer"


async def test_health_and_metrics_are_served(client: TestClient) -> None:  # type: ignore[type-arg]
    await client.get(f"/artifacts/{UNKNOWN}")
    assert (await client.get("/healthz")).status == 200
    text = await (await client.get("/metrics")).text()
    assert 'tinyml_artifact_requests_total{code="401"} 1.0' in text


async def test_a_store_that_presigns_nothing_is_a_503(world: World, client: TestClient) -> None:  # type: ignore[type-arg]
    async def refuse(bucket: str, key: str, *, seconds: int) -> str:
        raise StorageError("Unable to locate credentials")

    world.storage.get_url = refuse  # type: ignore[method-assign]
    deployment = await world.get(GATEWAY_DEPLOYMENT, "site")
    digest = deployment["spec"]["images"][0]["code"]["digest"]
    status, told = await ask(client, world, "tinyml-gateway-site", digest)
    assert (status, told) == (503, "the artifact store does not answer: try again")
    assert (await ask(client, world, "tinyml-gateway-site", digest.upper()))[0] == 404
    assert (await ask(client, world, "tinyml-gateway-site", "..%2F..%2Fmetrics"))[0] == 404


async def test_no_token_is_logged(
    world: World,
    client: TestClient,  # type: ignore[type-arg]
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    headers = {"Authorization": "Bearer a-token-of-somebody"}
    assert (await client.get(f"/artifacts/{UNKNOWN}", headers=headers)).status == 401
    assert "a-token-of-somebody" not in caplog.text
