"""The artifacts on the gateway's disk: fetched once for all devices, resumed when cut, never used
unverified.

Used by `agent`. A file is `<hex of its SHA-256>` once verified and renamed; `<hex>.part` while it
comes. The way: the operator's
`/artifacts/<digest>` with the agent's token, whose 307 leads to S3, where the token must not go.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp
from tinyml_api.images import ImageFile

from tinyml_gateway.errors import ArtifactUnavailableError, DigestMismatchError

PREFIX: Final = "sha256:"
BLOCK_BYTES: Final = 64 * 1024
REDIRECT_LIMIT: Final = 3
BODY_EXCERPT: Final = 120  # characters of an error page in a message
TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=10, sock_read=30)

_REDIRECTS: Final = (301, 302, 303, 307, 308)


class Cache:
    """Verified artifacts in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        return self.folder / _hex(digest)

    def part(self, digest: str) -> Path:
        return self.folder / f"{_hex(digest)}.part"

    def digests(self) -> set[str]:
        """Return the digests of all complete files. Their bytes were verified when they came, and
        are at each `read`.
        """
        return {PREFIX + entry.name for entry in self.folder.iterdir() if entry.suffix != ".part"}

    def read(self, digest: str) -> bytes:
        """Return the bytes, verified again: a disk may rot. Raises `DigestMismatchError` after
        deleting them, OSError.
        """
        data = self.path(digest).read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != _hex(digest):
            self.path(digest).unlink(missing_ok=True)
            raise DigestMismatchError(
                f"{digest} in the cache has turned into sha256:{found}: "
                "deleted, it is fetched again"
            )
        return data

    def keep(self, artifact: ImageFile) -> None:
        """Turn the part of `artifact` into a complete file. Raises `DigestMismatchError` after
        deleting it.
        """
        part = self.part(artifact.digest)
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.seek(0, os.SEEK_END)
            os.fsync(file.fileno())
        if found != _hex(artifact.digest):
            part.unlink()
            raise DigestMismatchError(
                f"the spec names {artifact.digest} with {artifact.size_bytes} bytes, "
                f"{size} bytes of sha256:{found} came: deleted; check what wrote the artifact"
            )
        part.rename(self.path(artifact.digest))

    def prune(self, named: Collection[str]) -> list[str]:
        """Delete what no spec names any more, parts included; return the digests."""
        gone: list[str] = []
        for entry in self.folder.iterdir():
            digest = PREFIX + entry.name.removesuffix(".part")
            if digest not in named:
                entry.unlink(missing_ok=True)
                gone.append(digest)
        return gone


class Downloader:
    """Fetches artifacts from the operator at `operator_url`; `token` is asked for it before each
    request.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        operator_url: str,
        token: Callable[[], str | None],
        cache: Cache,
    ) -> None:
        self._session = session
        self._base = operator_url.rstrip("/")
        self._token = token
        self._cache = cache

    async def fetch(self, artifact: ImageFile) -> int:
        """Bring `artifact` into the cache; return the bytes that came over the network.

        Raises `ArtifactUnavailableError` (what came stays, to be resumed) or `DigestMismatchError`.
        """
        part = self._cache.part(artifact.digest)
        have = part.stat().st_size if part.exists() else 0
        if have > artifact.size_bytes:
            part.unlink()
            have = 0
        came = 0
        if have < artifact.size_bytes:
            url = f"{self._base}/artifacts/{artifact.digest}"
            try:
                came = await self._get(url, artifact, have)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise ArtifactUnavailableError(
                    f"{artifact.digest} did not come from {_host(url)}: "
                    f"{type(error).__name__} {error}".rstrip()
                ) from error
        await asyncio.to_thread(self._cache.keep, artifact)
        return came

    async def _get(self, url: str, artifact: ImageFile, have: int) -> int:
        headers = {"Range": f"bytes={have}-"} if have else {}
        token = await asyncio.to_thread(self._token)
        authorized = {**headers, "Authorization": f"Bearer {token}"} if token else headers
        for hop in range(REDIRECT_LIMIT + 1):
            # Only the operator itself ever sees the token.
            async with self._session.get(
                url,
                headers=authorized if hop == 0 else headers,
                allow_redirects=False,
                timeout=TIMEOUT,
            ) as response:
                if response.status in _REDIRECTS:
                    url = urljoin(url, response.headers.get("Location", ""))
                    if urlsplit(url).scheme not in ("http", "https"):
                        raise ArtifactUnavailableError(
                            f"{artifact.digest}: redirected to a {urlsplit(url).scheme!r} URL, "
                            "only http and https are followed"
                        )
                    continue
                return await self._save(response, url, artifact, have)
        raise ArtifactUnavailableError(
            f"{artifact.digest}: more than {REDIRECT_LIMIT} redirects, the last to {_host(url)}"
        )

    async def _save(
        self, response: aiohttp.ClientResponse, url: str, artifact: ImageFile, have: int
    ) -> int:
        part = self._cache.part(artifact.digest)
        resumed = response.status == 206 and _range_start(response) == have
        if response.status == 416 or (response.status == 206 and not resumed):
            part.unlink(missing_ok=True)
            raise ArtifactUnavailableError(
                f"{artifact.digest}: {_host(url)} cannot go on at byte {have}: begun anew"
            )
        if response.status not in (200, 206):
            body = (await response.content.read(BODY_EXCERPT)).decode(errors="replace").strip()
            raise ArtifactUnavailableError(
                f"{artifact.digest}: {_host(url)} answered {response.status} {body}".rstrip()
            )
        came = 0
        size = have if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            async for block in response.content.iter_chunked(BLOCK_BYTES):
                file.write(block)
                came += len(block)
                size += len(block)
                if size > artifact.size_bytes:
                    break
        if size > artifact.size_bytes:
            part.unlink()
            raise DigestMismatchError(
                f"the spec says {artifact.digest} has {artifact.size_bytes} bytes, "
                f"{_host(url)} sends more: stopped after {size} and deleted"
            )
        declared = response.content_length
        if size < artifact.size_bytes and (declared is None or came == declared):
            part.unlink()
            raise DigestMismatchError(
                f"the spec says {artifact.digest} has {artifact.size_bytes} bytes, "
                f"{_host(url)} has {size}: deleted; check what wrote the artifact"
            )
        return came


def _range_start(response: aiohttp.ClientResponse) -> int:
    """Return where a 206 begins (`Content-Range: bytes 100-199/200`), -1 if it does not say."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    start = rest.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdigit() else -1


def _host(url: str) -> str:
    """Return scheme and host alone: the rest of a presigned URL is a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _hex(digest: str) -> str:
    """Return the hex part, which is a file name: anything else must never become one."""
    name = digest.removeprefix(PREFIX)
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise ValueError(f"digest {digest!r} is not sha256: and 64 hex digits")
    return name
