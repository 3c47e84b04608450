"""Bytes in and out of a build: inputs by URL or path and digest, artifacts by presigned PUT.

Called by the Job entry. Whatever can pass (no connection, a busy server) is tried again here with
growing pauses, then reported as `UnreachableError`, which the Job retries as a whole. What will not
pass (403, 404) ends at once. URLs are secrets: messages show them without query and user.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import requests

from tinyml_compiler.errors import (
    DigestMismatchError,
    ModelInvalidError,
    SourceUnreachableError,
    StorageUnreachableError,
)

MODEL_LIMIT_BYTES = 64 << 20
CALIBRATION_LIMIT_BYTES = 256 << 20

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
PAUSES_S = (0.5, 2.0, 5.0)  # before the second, third and fourth attempt

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_CHUNK_BYTES = 1 << 16


class SourceRefusedError(SourceUnreachableError):
    """The source answers, and answers no: trying again changes nothing."""

    retryable: ClassVar[bool] = False


class StorageRefusedError(StorageUnreachableError):
    """The store answers, and answers no."""

    retryable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read: `url` is http(s) or a local path, `sha256` is `sha256:<hex>`."""

    url: str
    sha256: str


def fetch(
    source: Source,
    *,
    what: str,
    limit_bytes: int = MODEL_LIMIT_BYTES,
    sleep: Callable[[float], None] = time.sleep,
) -> bytes:
    """Return the bytes of `source`; `what` names it in messages ("model").

    Reads at most `limit_bytes` + 1. Raises `SourceUnreachableError`, `SourceRefusedError`, or
    `ModelInvalidError` where the file is larger than the limit. Does not check the digest.
    """
    if not _is_http(source.url):
        return _read_local(Path(source.url), what, limit_bytes)
    problem = ""
    for pause_s in (0.0, *PAUSES_S):
        if pause_s:
            sleep(pause_s)
        try:
            answer = requests.get(
                source.url, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
            )
            with answer:
                if answer.status_code == 200:
                    return _read_body(answer, what, limit_bytes)
                problem = f"HTTP status {answer.status_code}"
                if answer.status_code not in _PASSING:
                    raise SourceRefusedError(
                        f"{what} at {public(source.url)}: the server answers {problem}; "
                        "check that the object exists and may be read"
                    )
        except requests.RequestException as error:
            problem = type(error).__name__
    raise SourceUnreachableError(
        f"{what} at {public(source.url)}: {problem} in each of {len(PAUSES_S) + 1} attempts"
    )


def check_sha256(data: bytes, expected: str, *, what: str) -> None:
    """Raise `DigestMismatchError` unless `data` has the digest `expected` (`sha256:<hex>`)."""
    found = "sha256:" + hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DigestMismatchError(
            f"{what} has digest {found}, the request says {expected}: "
            "the file changed, or the digest is of another file"
        )


def upload(
    url: str, data: bytes, *, what: str, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """PUT `data` where nothing is yet. Returns False where something is there already (412).

    Raises `StorageUnreachableError` or `StorageRefusedError`.
    """
    problem = ""
    for pause_s in (0.0, *PAUSES_S):
        if pause_s:
            sleep(pause_s)
        try:
            answer = requests.put(
                url,
                data=data,
                headers={"If-None-Match": "*"},
                timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            problem = type(error).__name__
            continue
        if answer.status_code in (200, 201, 204):
            return True
        if answer.status_code == 412:
            return False
        problem = f"HTTP status {answer.status_code}"
        if answer.status_code not in _PASSING:
            raise StorageRefusedError(
                f"artifact {what} to {public(url)}: the store answers {problem}; "
                "check that the bucket exists and that the URL has not expired"
            )
    raise StorageUnreachableError(
        f"artifact {what} to {public(url)}: {problem} in each of {len(PAUSES_S) + 1} attempts"
    )


def public(url: str) -> str:
    """Return `url` without what may be secret in it: query, fragment, user and password."""
    if not _is_http(url):
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _read_local(path: Path, what: str, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise SourceRefusedError(f"{what} at {path}: {error.strerror or error}") from error
    _check_size(len(data), what, limit_bytes)
    return data


def _read_body(answer: requests.Response, what: str, limit_bytes: int) -> bytes:
    data = bytearray()
    for chunk in answer.iter_content(_CHUNK_BYTES):
        data += chunk
        _check_size(len(data), what, limit_bytes)
    return bytes(data)


def _check_size(found: int, what: str, limit_bytes: int) -> None:
    if found > limit_bytes:
        raise ModelInvalidError(
            f"{what} has more than {limit_bytes} bytes, the largest file that a build reads"
        )
