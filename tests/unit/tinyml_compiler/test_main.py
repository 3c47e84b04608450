"""The Job's entry: exit status and last word for every way in which a build can end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tinyml_api.build import (
    EXIT_DONE,
    EXIT_NEEDS_USER,
    EXIT_RETRY,
    REQUEST_VERSION,
    BuildRequest,
    BuildResult,
    Input,
    Outcome,
    Termination,
    sha256_digest,
)
from tinyml_compiler import __main__ as entry
from tinyml_compiler.build import BuildOutput
from tinyml_compiler.errors import ArenaTooLargeError, StorageUnreachableError
from tinyml_compiler.images import PackedImage

ARTIFACTS = {
    "code.img": b"code",
    "weights.img": b"weights",
    "firmware.bin": b"firmware",
    "report.json": b"{}",
    "report.html": b"<p>",
}


def a_request(**changes: Any) -> BuildRequest:
    fields: dict[str, Any] = {
        "model": Input("model.tflite", "sha256:" + "0" * 64),
        "device_class": "m4",
        "device_class_spec": {"cpu": "CortexM4F"},
        "compiler": "tinymlaas-0.1.0",
        "toolchain": "auto",
        **changes,
    }
    return BuildRequest(**fields)


def built() -> BuildOutput:
    return BuildOutput(
        artifacts=ARTIFACTS,
        code=PackedImage(b"code", "aa" * 32),
        weights=PackedImage(b"weights", "bb" * 32),
        summary={"flashBytes": 1, "vectors": 32, "mismatches": 0},
        report=SimpleNamespace(),  # type: ignore[arg-type]
    )


class Job:
    """Runs the entry as the Job does, with a builder of the test's own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.output = folder / "output"
        self.builds: list[Path] = []
        self._monkeypatch = monkeypatch
        self.outcome: Any = built()

    def run(self, request: bytes) -> tuple[int, Termination]:
        self._monkeypatch.setattr(entry, "build", self._build)
        (self.folder / "request.json").write_bytes(request)
        last_word = self.folder / "termination"
        status = entry.main(
            [
                *("--request", str(self.folder / "request.json"), "--work", str(self.work)),
                *("--termination-log", str(last_word), "--output", str(self.output)),
            ]
        )
        return status, Termination.from_json(last_word.read_bytes())

    def _build(self, _parameters: Any, work: Path, progress: Any) -> BuildOutput:
        self.builds.append(work)
        (work / "half-done").write_bytes(b"x")
        progress("link", None)
        progress("link", 1.0)
        if callable(self.outcome):
            self.outcome()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert isinstance(self.outcome, BuildOutput)
        return self.outcome


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    return Job(tmp_path, monkeypatch)


def test_a_build_leaves_artifacts_result_and_last_word(job: Job) -> None:
    status, last_word = job.run(a_request().to_json())
    assert (status, last_word) == (EXIT_DONE, Termination(Outcome.SUCCEEDED))
    assert {path.name for path in job.output.iterdir()} == {*ARTIFACTS, "result.json"}
    result = BuildResult.from_dict(json.loads((job.output / "result.json").read_bytes()))
    assert result.request_digest == a_request().digest()
    assert result.artifacts == {name: sha256_digest(data) for name, data in ARTIFACTS.items()}
    assert result.code is not None
    assert result.code.digest == sha256_digest(b"code")
    assert (result.code.image_hash, result.code.size_bytes) == ("aa" * 32, 4)
    assert result.summary["mismatches"] == 0


def test_a_second_build_into_the_same_folder_leaves_nothing_of_the_first(job: Job) -> None:
    job.run(a_request().to_json())
    (job.output / "notes.txt").write_text("the user's own")
    images = ("code.img", "weights.img")
    job.outcome = BuildOutput(
        artifacts={name: data for name, data in ARTIFACTS.items() if name not in images},
        code=None,
        weights=None,
        summary={},
        report=SimpleNamespace(),  # type: ignore[arg-type]
    )
    job.run(a_request().to_json())
    left = {path.name for path in job.output.iterdir()}
    assert left == {*ARTIFACTS, "result.json", "notes.txt"} - {*images}


def test_a_folder_that_could_not_be_filled_has_no_result(job: Job) -> None:
    job.run(a_request().to_json())
    (job.output / "report.html").unlink()
    (job.output / "report.html").mkdir()  # cannot be written, as on a full disk
    status, _ = job.run(a_request().to_json())
    assert status == EXIT_RETRY
    assert not (job.output / "result.json").exists()


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_an_output_that_is_a_file_is_told_before_the_build(
    below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(entry, "build", lambda *_: pytest.fail("it was built"))
    with pytest.raises(NotADirectoryError, match="is a file, a folder is needed") as caught:
        entry.execute(a_request(), work=tmp_path / "work", output=file / below)
    assert caught.value.filename == str(file)


def test_nothing_is_left_in_the_work_folder(job: Job) -> None:
    job.run(a_request().to_json())
    job.outcome = ArenaTooLargeError("too large")
    job.run(a_request().to_json())
    assert len(job.builds) == 2
    assert list(job.work.iterdir()) == []


def test_an_error_of_the_users_is_final_and_has_its_reason(job: Job) -> None:
    job.outcome = ArenaTooLargeError("arena needs 71680 bytes")
    status, last_word = job.run(a_request().to_json())
    assert status == EXIT_NEEDS_USER
    assert last_word == Termination(Outcome.FAILED, "ArenaTooLarge", "arena needs 71680 bytes")
    assert not job.output.exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StorageUnreachableError("HTTP status 503"), "StorageUnreachable"),
        (OSError(28, "No space left on device"), "InternalError"),
        (MemoryError(), "InternalError"),
    ],
)
def test_what_can_pass_is_to_be_tried_again(job: Job, error: Exception, reason: str) -> None:
    job.outcome = error
    status, last_word = job.run(a_request().to_json())
    assert (status, last_word.reason) == (EXIT_RETRY, reason)


def test_a_fault_of_ours_is_told_and_its_traceback_is_in_the_log(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    job.outcome = ZeroDivisionError("by zero")
    status, last_word = job.run(a_request().to_json())
    assert (status, last_word.reason) == (EXIT_NEEDS_USER, "InternalError")
    assert "ZeroDivisionError: by zero" in last_word.message
    assert "Traceback" in caplog.text


def test_sigterm_ends_the_build_and_cleans_up(job: Job) -> None:
    def be_killed() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    job.outcome = be_killed
    started = time.monotonic()
    status, last_word = job.run(a_request().to_json())
    assert time.monotonic() - started < 4
    assert status == EXIT_RETRY
    assert "SIGTERM" in last_word.message
    assert list(job.work.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (b"", "JSONDecodeError"),
        (b"[]", "AttributeError"),
        (b"{}", "request version is None"),
        (json.dumps({"version": REQUEST_VERSION}).encode(), "KeyError: 'model'"),
        (b" " * (1 << 20) + b"{}", "more than 1048576 bytes"),
        (a_request().to_json().replace(b'"Auto"', b'"Pickle"'), "'Pickle' is not a valid"),
    ],
)
def test_a_request_that_is_none_is_refused(job: Job, request_: bytes, message: str) -> None:
    status, last_word = job.run(request_)
    assert (status, last_word.reason) == (EXIT_NEEDS_USER, "RequestInvalid")
    assert message in last_word.message
    assert job.builds == []


def test_uploads_end_with_the_result(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def upload(url: str, data: bytes, *, what: str) -> bool:
        assert url == f"http://store/{what}"
        sent.append(what)
        return True

    monkeypatch.setattr(entry, "upload", upload)
    names = [*ARTIFACTS, "result.json", "library.tar.gz"]
    urls = {name: f"http://store/{name}" for name in names}
    status, _ = job.run(a_request(uploads=urls).to_json())
    assert status == EXIT_DONE
    assert sent[-1] == "result.json"
    assert sorted(sent[:-1]) == sorted(ARTIFACTS)


def test_reports_of_an_earlier_attempt_are_not_given_a_digest_that_is_not_theirs(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "upload", lambda _url, _data, *, what: what == "result.json")
    urls = {name: f"http://store/{name}" for name in (*ARTIFACTS, "result.json")}
    job.run(a_request(uploads=urls).to_json())
    result = BuildResult.from_dict(json.loads((job.output / "result.json").read_bytes()))
    assert set(result.artifacts) == {"code.img", "weights.img", "firmware.bin"}


def test_a_last_word_that_cannot_be_left_hides_nothing(job: Job) -> None:
    (job.folder / "request.json").write_bytes(b"{}")
    status = entry.main(
        [
            *("--request", str(job.folder / "request.json"), "--work", str(job.work)),
            *("--termination-log", str(job.folder / "no" / "folder")),
        ]
    )
    assert status == EXIT_NEEDS_USER
