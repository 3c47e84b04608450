"""The running server: expired watches, clients that go, stopping, who may read its files."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from tinyml_local.kubeapi import LocalKubeApi

from .harness import OPTIONS, kind, named

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[LocalKubeApi]:
    async with LocalKubeApi(tmp_path, run_jobs=False, window=4) as running:
        yield running


@pytest_asyncio.fixture
async def http(api: LocalKubeApi) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(api.ca_file)))
    headers = {"Authorization": f"Bearer {api.token}"}
    async with aiohttp.ClientSession(api.url, connector=connector, headers=headers) as session:
        yield session


def _create(api: LocalKubeApi, name: str) -> dict[str, Any]:
    config_maps = kind(api.registry, "configmaps")
    return api.registry.create(config_maps, "default", named(name), OPTIONS)


async def test_a_watch_from_a_forgotten_version_is_told_so(
    api: LocalKubeApi, http: aiohttp.ClientSession
) -> None:
    first = _create(api, "c0")["metadata"]["resourceVersion"]
    for i in range(1, 8):
        _create(api, f"c{i}")
    query = {"watch": "true", "resourceVersion": first}
    async with http.get(CONFIG_MAPS, params=query) as response:
        assert response.status == 200
        event = json.loads(await response.content.readline())
        assert await response.content.readline() == b""
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_a_watcher_that_goes_is_forgotten(
    api: LocalKubeApi, http: aiohttp.ClientSession
) -> None:
    watches = api.registry.store._watches
    async with http.get(CONFIG_MAPS, params={"watch": "true"}):
        assert len(watches["", "configmaps"]) == 1
    async with asyncio.timeout(5):
        while watches["", "configmaps"]:  # noqa: ASYNC110  tests may poll
            await asyncio.sleep(0.01)


async def test_bookmarks_and_the_end_of_the_initial_events(
    api: LocalKubeApi, http: aiohttp.ClientSession
) -> None:
    _create(api, "c")
    query = {
        "watch": "true",
        "sendInitialEvents": "true",
        "allowWatchBookmarks": "true",
        "resourceVersionMatch": "NotOlderThan",
        "timeoutSeconds": "1",
    }
    async with http.get(CONFIG_MAPS, params=query) as response:
        events = [json.loads(line) async for line in response.content]
    assert [e["type"] for e in events] == ["ADDED", "BOOKMARK", "BOOKMARK"]
    annotations = events[1]["object"]["metadata"]["annotations"]
    assert annotations == {"k8s.io/initial-events-end": "true"}


async def test_stopping_does_not_wait_for_watchers(tmp_path: Path) -> None:
    api = LocalKubeApi(tmp_path, run_jobs=False)
    await api.start()
    context = ssl.create_default_context(cafile=str(api.ca_file))
    connector = aiohttp.TCPConnector(ssl=context)
    headers = {"Authorization": f"Bearer {api.token}"}
    async with (
        aiohttp.ClientSession(api.url, connector=connector, headers=headers) as http,
        http.get(CONFIG_MAPS, params={"watch": "true"}) as response,
    ):
        begin = time.monotonic()
        await api.stop()
        assert time.monotonic() - begin < 3.0
        assert await response.content.read() == b""


async def test_what_is_too_large_is_refused(http: aiohttp.ClientSession) -> None:
    body = io.BytesIO(b" " * 4_000_000)
    headers = {"Content-Type": "application/json"}
    async with http.post(CONFIG_MAPS, data=body, headers=headers) as response:
        found = await response.json()
    assert (response.status, found["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/nothing", "/apis/none/v1", "/openapi/v2"])
async def test_what_is_not_there_is_a_status(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as response:
        found = await response.json()
    assert (response.status, found["kind"], found["reason"]) == (404, "Status", "NotFound")


async def test_a_taken_port_is_an_error(api: LocalKubeApi, tmp_path: Path) -> None:
    port = int(api.url.rpartition(":")[2])
    second = LocalKubeApi(tmp_path / "second", port=port, run_jobs=False)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()


async def test_secrets_of_the_api_are_its_owners_alone(api: LocalKubeApi, tmp_path: Path) -> None:
    assert api.kubeconfig.stat().st_mode & 0o077 == 0
    assert (tmp_path / "pki" / "server.key").stat().st_mode & 0o077 == 0
    config = yaml.safe_load(api.kubeconfig.read_text())
    assert config["clusters"][0]["cluster"]["server"] == api.url


async def test_the_output_of_a_pod_can_be_read_and_followed(tmp_path: Path) -> None:
    async with LocalKubeApi(tmp_path) as api:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(api.ca_file)))
        headers = {"Authorization": f"Bearer {api.token}"}
        async with aiohttp.ClientSession(api.url, connector=connector, headers=headers) as http:
            go = tmp_path / "go"
            script = f"echo one; echo two; until test -e {go}; do sleep 0.05; done; echo three"
            main = {"name": "main", "image": "none", "command": ["sh", "-c", script]}
            spec = {"restartPolicy": "Never", "containers": [main]}
            body = named("j", spec={"template": {"spec": spec}})
            api.registry.create(kind(api.registry, "jobs"), "default", body, OPTIONS)
            log = await _log_path(api, http)
            async with http.get(log, params={"tailLines": "1"}) as response:
                assert await response.text() == "two\n"
            async with http.get(log, params={"container": "other"}) as response:
                assert response.status == 400
                assert "container other is not valid" in (await response.json())["message"]
            async with http.get(log, params={"follow": "true"}) as response:
                assert await response.content.readline() == b"one\n"
                go.touch()
                assert await response.text() == "two\nthree\n"


async def _log_path(api: LocalKubeApi, http: aiohttp.ClientSession) -> str:
    """Return the path of the one pod's log, once it has said two lines."""
    async with asyncio.timeout(20):
        while True:
            for pod in api.registry.store.items(("", "pods"), "default"):
                path = f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}/log"
                async with http.get(path) as response:
                    text = await response.text()
                if response.status == 200 and "two" in text:
                    return path
                assert response.status in (200, 400), text
            await asyncio.sleep(0.05)
