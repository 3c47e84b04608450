"""KubernetesCluster on the wire: paths, errors, pages, watches that break and go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from tinyml_kube.cluster import Ref
from tinyml_kube.errors import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    UnavailableError,
)
from tinyml_kube.real import KubernetesCluster
from tinyml_kube.resources import CONFIG_MAP, TINY_MODEL

BASE = "/apis/tinymlaas.dev/v1alpha1/namespaces/ns/tinymodels"


def an_object(name: str, version: int) -> dict[str, Any]:
    return {
        "apiVersion": TINY_MODEL.api_version,
        "kind": "TinyModel",
        "metadata": {"name": name, "namespace": "ns", "resourceVersion": str(version)},
    }


class Server:
    """Answers what a test has put into `replies`, in order, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any, dict[str, str]]] = []
        self.replies: list[tuple[int, Any]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(data) if (data := await request.read()) else None
        query = dict(request.query)
        headers = dict(request.headers)
        self.requests.append((request.method, request.path, query, body, headers))
        status, answer = self.replies.pop(0) if self.replies else (500, {"message": "no more"})
        if isinstance(answer, list):
            text = "".join(json.dumps(line) + "\n" for line in answer)
            return web.Response(status=status, text=text)
        return web.json_response(answer, status=status)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield made, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest_asyncio.fixture
async def cluster(server: tuple[Server, str], tmp_path: Path) -> AsyncIterator[KubernetesCluster]:
    path = tmp_path / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server[1]}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    }
    path.write_text(yaml.safe_dump(config))
    async with KubernetesCluster(path) as made:
        yield made


async def test_a_get_sends_the_token_and_none_is_for_404(
    server: tuple[Server, str], cluster: KubernetesCluster
) -> None:
    server[0].replies = [(200, an_object("a", 1)), (404, {"reason": "NotFound"})]
    ref = Ref(TINY_MODEL, "ns", "a")
    assert (await cluster.get(ref) or {})["metadata"]["name"] == "a"
    assert await cluster.get(ref) is None
    method, path, _, _, headers = server[0].requests[0]
    assert (method, path) == ("GET", f"{BASE}/a")
    assert headers["Authorization"] == "Bearer secret"


async def test_apply_is_forced_server_side_apply(
    server: tuple[Server, str], cluster: KubernetesCluster
) -> None:
    server[0].replies = [(200, an_object("a", 1))]
    await cluster.apply(an_object("a", 1), field_manager="us")
    _, _, query, body, headers = server[0].requests[0]
    assert query == {"fieldManager": "us", "force": "true"}
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert body["metadata"]["name"] == "a"


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        (409, "AlreadyExists", AlreadyExistsError),
        (409, "Conflict", ConflictError),
        (422, "Invalid", InvalidError),
        (403, "Forbidden", ForbiddenError),
        (401, "Unauthorized", ForbiddenError),
        (429, "TooManyRequests", UnavailableError),
        (503, "", UnavailableError),
    ],
)
async def test_errors_are_told_apart_and_keep_the_servers_words(
    server: tuple[Server, str],
    cluster: KubernetesCluster,
    status: int,
    reason: str,
    error: type[ClusterError],
) -> None:
    server[0].replies = [(status, {"reason": reason, "message": "spec.x: too long"})]
    with pytest.raises(error, match=r"spec\.x: too long"):
        await cluster.create(an_object("a", 1))


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    user = {"name": "u", "user": {"token": "t"}}
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {"current-context": "c", "contexts": [context], "clusters": [cluster]}
    path.write_text(yaml.safe_dump(config | {"users": [user]}))
    async with KubernetesCluster(path) as made:
        with pytest.raises(UnavailableError):
            await made.get(Ref(CONFIG_MAP, "ns", "a"))


async def test_a_list_reads_all_pages_and_names_the_kind(
    server: tuple[Server, str], cluster: KubernetesCluster
) -> None:
    bare = {"metadata": {"name": "b", "namespace": "ns"}}
    server[0].replies = [
        (200, {"metadata": {"continue": "more"}, "items": [an_object("a", 1)]}),
        (200, {"metadata": {"resourceVersion": "9"}, "items": [bare]}),
    ]
    found = await cluster.list(TINY_MODEL, "ns", labels={"x": "1"}, name="n")
    assert [(o["kind"], o["metadata"]["name"]) for o in found] == [
        ("TinyModel", "a"),
        ("TinyModel", "b"),
    ]
    assert server[0].requests[1][2]["continue"] == "more"
    assert server[0].requests[0][2]["labelSelector"] == "x=1"
    assert server[0].requests[0][2]["fieldSelector"] == "metadata.name=n"


async def test_a_watch_that_expired_lists_anew_and_tells_the_difference(
    server: tuple[Server, str], cluster: KubernetesCluster
) -> None:
    def listing(version: int, *objects: dict[str, Any]) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": str(version)}, "items": list(objects)}

    expired = {"type": "ERROR", "object": {"code": 410, "reason": "Expired"}}
    bookmark = {"type": "BOOKMARK", "object": an_object("", 7)}
    server[0].replies = [
        (200, listing(5, an_object("a", 1), an_object("b", 2), an_object("c", 3))),
        (200, [{"type": "MODIFIED", "object": an_object("a", 6)}, bookmark, expired]),
        (200, listing(9, an_object("a", 6), an_object("c", 8), an_object("d", 9))),
    ]
    watch = cluster.watch(TINY_MODEL, "ns")
    events = [await anext(watch) for _ in range(7)]
    assert [(e.type, e.object["metadata"]["name"]) for e in events] == [
        ("ADDED", "a"),
        ("ADDED", "b"),
        ("ADDED", "c"),
        ("MODIFIED", "a"),
        ("DELETED", "b"),
        ("MODIFIED", "c"),
        ("ADDED", "d"),
    ]
    assert server[0].requests[1][2]["resourceVersion"] == "5"


async def test_a_watch_reads_objects_of_any_size(
    server: tuple[Server, str], cluster: KubernetesCluster
) -> None:
    large = an_object("a", 6) | {"spec": {"devices": "x" * 400_000}}
    listing = {"metadata": {"resourceVersion": "5"}, "items": []}
    server[0].replies = [
        (200, listing),
        (200, [{"type": "ADDED", "object": large}, {"type": "MODIFIED", "object": large}]),
    ]
    watch = cluster.watch(TINY_MODEL, "ns")
    found = [await asyncio.wait_for(anext(watch), 5) for _ in range(2)]
    assert [(e.type, e.object) for e in found] == [("ADDED", large), ("MODIFIED", large)]


async def test_a_status_can_be_bound_to_a_version_and_a_proxys_page_is_no_answer(
    server: tuple[Server, str], cluster: KubernetesCluster
) -> None:
    ref = Ref(TINY_MODEL, "ns", "a")
    server[0].replies = [(409, {"reason": "Conflict"}), (200, [])]
    with pytest.raises(ConflictError):
        await cluster.patch_status(ref, {"x": 1}, resource_version="7")
    method, path, _, body, _ = server[0].requests[0]
    assert (method, path) == ("PATCH", f"{BASE}/a/status")
    assert body == {"status": {"x": 1}, "metadata": {"resourceVersion": "7"}}
    with pytest.raises(UnavailableError, match="not JSON"):
        await cluster.get(ref)


async def test_a_token_that_the_server_does_not_know_is_nobodys(
    server: tuple[Server, str], cluster: KubernetesCluster
) -> None:
    known = {"status": {"authenticated": True, "user": {"username": "me"}}}
    server[0].replies = [(201, {"status": {}}), (201, known)]
    assert await cluster.review_token("x") is None
    assert await cluster.review_token("x") == "me"
