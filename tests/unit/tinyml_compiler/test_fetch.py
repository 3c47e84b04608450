"""Inputs and uploads over HTTP: what can pass is tried again, what cannot ends at once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tinyml_compiler.errors import (
    DigestMismatchError,
    ModelInvalidError,
    SourceUnreachableError,
    StorageUnreachableError,
)
from tinyml_compiler.fetch import (
    PAUSES_S,
    Source,
    SourceRefusedError,
    StorageRefusedError,
    check_sha256,
    fetch,
    public,
    upload,
)

DIGEST = "sha256:" + "0" * 64


@dataclass
class Server:
    """Answers with `statuses` one after the other, the last of them for ever."""

    statuses: list[int] = field(default_factory=lambda: [200])
    body: bytes = b"model"
    seen: list[tuple[str, bytes, str | None]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/bucket/model.tflite?X-Amz-Signature=SECRET"


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, body: bytes) -> None:
            length = int(self.headers.get("Content-Length", 0))
            given = self.rfile.read(length)
            state.seen.append((self.command, given, self.headers.get("If-None-Match")))
            status = state.statuses.pop(0) if len(state.statuses) > 1 else state.statuses[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer(state.body)

        def do_PUT(self) -> None:
            self._answer(b"")

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def read(server: Server, **options: int) -> bytes:
    return fetch(Source(server.url, DIGEST), what="model", sleep=lambda _: None, **options)


def test_a_file_is_read_over_http(server: Server) -> None:
    assert read(server) == b"model"


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.statuses = [503, 429, 200]
    assert read(server) == b"model"
    assert len(server.seen) == 3


def test_a_server_that_stays_busy_can_be_retried_later(server: Server) -> None:
    server.statuses = [500]
    with pytest.raises(SourceUnreachableError, match="HTTP status 500 in each of 4") as caught:
        read(server)
    assert caught.value.retryable
    assert len(server.seen) == len(PAUSES_S) + 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_final_and_keeps_the_signature_secret(server: Server, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(SourceRefusedError, match=f"HTTP status {status}") as caught:
        read(server)
    assert not caught.value.retryable
    assert caught.value.reason == "SourceUnreachable"
    assert len(server.seen) == 1
    assert "SECRET" not in str(caught.value)


def test_nobody_listening_can_be_retried_later(server: Server) -> None:
    source = Source("http://127.0.0.1:9/model?SECRET", DIGEST)
    with pytest.raises(SourceUnreachableError, match="ConnectionError in each") as caught:
        fetch(source, what="model", sleep=lambda _: None)
    assert caught.value.retryable
    assert "SECRET" not in str(caught.value)


def test_a_file_over_the_limit_is_refused(server: Server) -> None:
    server.body = bytes(101)
    assert len(read(server, limit_bytes=101)) == 101
    with pytest.raises(ModelInvalidError, match="more than 100 bytes"):
        read(server, limit_bytes=100)


def test_a_local_file_is_read_and_limited(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"12345")
    assert fetch(Source(str(path), DIGEST), what="model") == b"12345"
    with pytest.raises(ModelInvalidError, match="more than 4 bytes"):
        fetch(Source(str(path), DIGEST), what="model", limit_bytes=4)
    with pytest.raises(SourceRefusedError, match="No such file"):
        fetch(Source(str(path) + "x", DIGEST), what="model")


def test_another_digest_is_refused_with_both() -> None:
    good = "sha256:" + hashlib.sha256(b"x").hexdigest()
    check_sha256(b"x", good, what="model")
    with pytest.raises(DigestMismatchError, match=f"{good}.*{DIGEST}"):
        check_sha256(b"x", DIGEST, what="model")


def test_an_upload_replaces_nothing(server: Server) -> None:
    assert upload(server.url, b"data", what="code.img")
    assert server.seen == [("PUT", b"data", "*")]
    server.statuses = [412]
    assert not upload(server.url, b"data", what="code.img")


def test_an_upload_is_tried_again_and_then_given_up(server: Server) -> None:
    server.statuses = [503, 200]
    assert upload(server.url, b"data", what="code.img", sleep=lambda _: None)
    server.statuses = [503]
    with pytest.raises(StorageUnreachableError, match=r"code\.img .* 503") as caught:
        upload(server.url, b"data", what="code.img", sleep=lambda _: None)
    assert caught.value.retryable


def test_a_bucket_that_is_not_there_is_final(server: Server) -> None:
    server.statuses = [404]
    with pytest.raises(StorageRefusedError, match="check that the bucket exists") as caught:
        upload(server.url, b"data", what="code.img", sleep=lambda _: None)
    assert not caught.value.retryable
    assert "SECRET" not in str(caught.value)


def test_urls_are_shown_without_their_secrets() -> None:
    assert public("https://user:pw@host:1/a/b?c=d#e") == "https://host:1/a/b"
    assert public("folder/model.tflite") == "folder/model.tflite"
