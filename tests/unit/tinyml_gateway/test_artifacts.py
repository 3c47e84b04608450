"""Downloads against a server on 127.0.0.1 that redirects, cuts, lies and resumes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tinyml_api.images import ImageFile
from tinyml_gateway.artifacts import Cache, Downloader
from tinyml_gateway.errors import ArtifactUnavailableError, DigestMismatchError

DATA = bytes(range(256)) * 1024


def a_file(data: bytes = DATA, size: int | None = None) -> ImageFile:
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    return ImageFile(digest, "c" * 64, len(data) if size is None else size)


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@dataclass
class Servers:
    """The operator (`/artifacts`) and S3 (`/s3`) as two hosts, and what they were asked."""

    data: bytes = DATA
    cut_after: int = 0  # S3 closes the connection after so many bytes
    ranges: bool = True
    status: int = 307
    location: str = ""
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    operator_url: str = ""

    def note(self, request: web.Request) -> None:
        headers = request.headers
        self.asked.append((request.path, headers.get("Authorization"), headers.get("Range")))

    async def artifact(self, request: web.Request) -> web.Response:
        self.note(request)
        if self.status != 307:
            return web.Response(status=self.status, text="not for you")
        return web.Response(status=307, headers={"Location": self.location})

    async def s3(self, request: web.Request) -> web.StreamResponse:
        self.note(request)
        start = request.http_range.start or 0
        if not self.ranges:
            start = 0
        elif start >= len(self.data):
            return web.Response(status=416)
        response = web.StreamResponse(status=206 if start else 200)
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/*"
        response.content_length = len(self.data) - start
        await response.prepare(request)
        if self.cut_after:
            await response.write(self.data[start : start + self.cut_after])
            self.cut_after = 0
            assert request.transport is not None
            request.transport.close()
        else:
            await response.write(self.data[start:])
        return response


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    state = Servers()
    runners = []
    for path, handler in (("/artifacts/{digest}", state.artifact), ("/s3", state.s3)):
        app = web.Application()
        app.router.add_get(path, handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    state.operator_url = f"http://127.0.0.1:{runners[0].addresses[0][1]}"
    state.location = f"http://127.0.0.1:{runners[1].addresses[0][1]}/s3?X-Amz-Signature=secret"
    yield state
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def downloader(servers: Servers, tmp_path: Path) -> AsyncIterator[Downloader]:
    async with aiohttp.ClientSession() as session:
        cache = Cache(tmp_path)
        yield Downloader(session, servers.operator_url, lambda: "token-1", cache)


async def test_an_artifact_comes_by_the_operators_redirect(
    servers: Servers, downloader: Downloader, tmp_path: Path
) -> None:
    file = a_file()
    assert await downloader.fetch(file) == len(DATA)
    cache = Cache(tmp_path)
    assert cache.read(file.digest) == DATA
    assert cache.digests() == {file.digest}


async def test_only_the_operator_sees_the_token(servers: Servers, downloader: Downloader) -> None:
    file = a_file()
    await downloader.fetch(file)
    assert servers.asked == [
        (f"/artifacts/{file.digest}", "Bearer token-1", None),
        ("/s3", None, None),
    ]


async def test_a_cut_download_goes_on_where_it_stopped(
    servers: Servers, downloader: Downloader, tmp_path: Path
) -> None:
    servers.cut_after = 100_000
    with pytest.raises(ArtifactUnavailableError, match="did not come"):
        await downloader.fetch(a_file())
    have = Cache(tmp_path).part(a_file().digest).stat().st_size
    assert 0 < have <= 100_000
    assert await downloader.fetch(a_file()) == len(DATA) - have
    assert servers.asked[-1] == ("/s3", None, f"bytes={have}-")
    assert Cache(tmp_path).read(a_file().digest) == DATA


async def test_a_server_without_ranges_gives_all_of_it_again(
    servers: Servers, downloader: Downloader, tmp_path: Path
) -> None:
    servers.ranges = False
    Cache(tmp_path).part(a_file().digest).write_bytes(b"x" * 10)
    assert await downloader.fetch(a_file()) == len(DATA)


async def test_a_part_that_is_complete_is_only_verified(
    servers: Servers, downloader: Downloader, tmp_path: Path
) -> None:
    Cache(tmp_path).part(a_file().digest).write_bytes(DATA)
    assert await downloader.fetch(a_file()) == 0
    assert servers.asked == []


async def test_other_bytes_are_deleted_and_both_digests_named(
    servers: Servers, downloader: Downloader, tmp_path: Path
) -> None:
    servers.data = DATA[:-1] + b"!"
    file = a_file()
    with pytest.raises(DigestMismatchError, match=f"spec names {file.digest}.*bytes of sha256:"):
        await downloader.fetch(file)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("served", "match"), [(DATA + b"x", "sends more"), (DATA[:-1], "has 2621")]
)
async def test_another_size_is_refused_with_the_numbers(
    servers: Servers, downloader: Downloader, tmp_path: Path, served: bytes, match: str
) -> None:
    servers.data = served
    with pytest.raises(DigestMismatchError, match=match):
        await downloader.fetch(a_file())
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
async def test_a_refusal_is_said_with_its_status(
    servers: Servers, downloader: Downloader, status: int
) -> None:
    servers.status = status
    with pytest.raises(ArtifactUnavailableError, match=f"answered {status} not for you"):
        await downloader.fetch(a_file())


async def test_a_redirect_to_another_scheme_is_not_followed(
    servers: Servers, downloader: Downloader
) -> None:
    servers.location = "ftp://127.0.0.1/artifact"
    with pytest.raises(ArtifactUnavailableError, match="'ftp'"):
        await downloader.fetch(a_file())


async def test_redirects_in_a_circle_end(servers: Servers, downloader: Downloader) -> None:
    servers.location = f"{servers.operator_url}/artifacts/{a_file().digest}"
    with pytest.raises(ArtifactUnavailableError, match="more than 3 redirects"):
        await downloader.fetch(a_file())
    assert [token for _, token, _ in servers.asked] == ["Bearer token-1", None, None, None]


async def test_an_operator_that_is_away_is_said_without_secrets(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        away = Downloader(session, "http://127.0.0.1:1", lambda: None, Cache(tmp_path))
        with pytest.raises(ArtifactUnavailableError, match=r"from http://127\.0\.0\.1:1"):
            await away.fetch(a_file())


async def test_errors_never_show_the_presigned_part_of_a_url(
    servers: Servers, downloader: Downloader
) -> None:
    servers.data = b""
    with pytest.raises((ArtifactUnavailableError, DigestMismatchError)) as caught:
        await downloader.fetch(a_file())
    assert "secret" not in str(caught.value)


async def test_a_file_that_rots_in_the_cache_is_deleted(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.path(a_file().digest).write_bytes(b"rotten")
    with pytest.raises(DigestMismatchError, match="in the cache"):
        await asyncio.to_thread(cache.read, a_file().digest)
    assert cache.digests() == set()


def test_pruning_keeps_what_is_named_and_its_parts(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    kept, gone = a_file(b"kept").digest, a_file(b"gone").digest
    for digest in (kept, gone):
        cache.path(digest).write_bytes(b"")
        cache.part(digest).write_bytes(b"")
    assert set(cache.prune({kept})) == {gone}
    assert {p.name for p in tmp_path.iterdir()} == {cache.path(kept).name, cache.part(kept).name}


def test_a_digest_that_is_no_digest_never_becomes_a_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        Cache(tmp_path).path("sha256:../../etc/passwd")
