"""The Job's entry: a `BuildRequest` file in, artifacts, a `BuildResult` and a last word out.

`python -m tinyml_compiler --request FILE --work DIR --termination-log FILE [--output DIR]`. The one
module of the compiler that knows `tinyml_api`; `tinyml compile` calls `execute` as well.

Exit status: 0 done; 1 the user must change something, or we must: the same request fails again;
75 something that can pass (the network, a full disk, SIGTERM): to be tried again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from errno import EACCES, ENOTDIR
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tinyml_api.build import (
    ARTIFACTS,
    EXIT_DONE,
    EXIT_NEEDS_USER,
    EXIT_RETRY,
    BuildReason,
    BuildRequest,
    BuildResult,
    Image,
    Input,
    Outcome,
    Termination,
    sha256_digest,
)

from tinyml_compiler.budget import Limits
from tinyml_compiler.build import BuildOutput, BuildParameters, Progress, build
from tinyml_compiler.errors import CompilerError
from tinyml_compiler.fetch import Source, upload
from tinyml_compiler.images import PackedImage

REQUEST_LIMIT_BYTES = 1 << 20
RESULT = "result.json"
TIMED = frozenset({"report.json", "report.html"})  # hold times: not the same in each run

logger = logging.getLogger("tinyml_compiler")


class Stopped(BaseException):
    """SIGTERM: everything is to be left as it was found."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one build and return the exit status."""
    arguments = _arguments(argv)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    with _stopped_by_sigterm():
        status, last_word = _run(arguments)
    if arguments.termination_log is not None:
        # A last word that cannot be left must not hide how the build ended.
        with suppress(OSError):
            arguments.termination_log.write_bytes(last_word.to_json())
    return status


def execute(
    request: BuildRequest,
    *,
    work: Path,
    output: Path | None = None,
    progress: Progress = lambda _stage, _seconds: None,
) -> tuple[BuildResult, BuildOutput]:
    """Build what `request` asks for; leave artifacts in `output` and at the request's uploads.

    Everything in `work` is gone afterwards. `result.json` is written last: where it is, all is, and
    nothing of an earlier build. Raises the errors of `tinyml_compiler.errors`, and OSError.
    """
    if output is not None:
        _check_can_be_folder(output)  # now, not when minutes of building are over
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=work) as folder:
        done = build(_parameters(request), Path(folder), progress)
    kept = set(done.artifacts)
    if request.uploads:
        progress("upload", None)
        kept = _upload(request.uploads, done.artifacts)
    result = BuildResult(
        request_digest=request.digest(),
        artifacts={
            name: sha256_digest(data)
            for name, data in sorted(done.artifacts.items())
            if name in kept
        },
        code=_image(done.code),
        weights=_image(done.weights),
        summary=done.summary,
    )
    if output is not None:
        _leave(output, {**done.artifacts, RESULT: result.to_json()})
    if RESULT in request.uploads:
        upload(request.uploads[RESULT], result.to_json(), what=RESULT)
    return result, done


def _check_can_be_folder(path: Path) -> None:
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not there.is_dir():
        raise NotADirectoryError(ENOTDIR, "is a file, a folder is needed", str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(EACCES, "is a folder that you cannot write to", str(there))


def _leave(folder: Path, artifacts: Mapping[str, bytes]) -> None:
    """Write all into `folder`; images of an earlier build must not be taken for this one's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in reversed(ARTIFACTS):  # the result first, it says that all is there
        (folder / name).unlink(missing_ok=True)
    for name in sorted(artifacts, key=ARTIFACTS.index):
        (folder / name).write_bytes(artifacts[name])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tinyml_compiler", description="Run one build of a TinyModel."
    )
    parser.add_argument("--request", type=Path, required=True, help="BuildRequest, as JSON")
    parser.add_argument("--work", type=Path, required=True, help="folder for temporary files")
    parser.add_argument("--termination-log", type=Path, help="where the last word goes")
    parser.add_argument("--output", type=Path, help="folder that gets the artifacts too")
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace) -> tuple[int, Termination]:
    """Return exit status and last word, whatever happens."""
    try:
        request = _request(arguments.request)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"the build request cannot be read: {type(error).__name__}: {error}"
        return _failed(EXIT_NEEDS_USER, BuildReason.REQUEST_INVALID, message)
    try:
        _, done = execute(
            request, work=arguments.work, output=arguments.output, progress=_log_stage
        )
    except CompilerError as error:
        status = EXIT_RETRY if error.retryable else EXIT_NEEDS_USER
        return _failed(status, BuildReason(error.reason), str(error))
    except Stopped:
        message = "the build was stopped by SIGTERM and leaves nothing behind"
        return _failed(EXIT_RETRY, BuildReason.INTERNAL_ERROR, message)
    except (OSError, MemoryError) as error:
        logger.error("%s", traceback.format_exc())
        message = f"the builder's machine fails: {type(error).__name__}: {error}"
        return _failed(EXIT_RETRY, BuildReason.INTERNAL_ERROR, message)
    except Exception as error:
        # The outermost loop: a fault of ours is told, never a bare traceback.
        logger.error("%s", traceback.format_exc())
        message = f"fault of the builder, please report it: {type(error).__name__}: {error}"
        return _failed(EXIT_NEEDS_USER, BuildReason.INTERNAL_ERROR, message)
    facts = " ".join(f"{name}={value}" for name, value in done.summary.items())
    logger.info("build done %s", facts)
    return EXIT_DONE, Termination(Outcome.SUCCEEDED)


def _request(path: Path) -> BuildRequest:
    with path.open("rb") as file:
        data = file.read(REQUEST_LIMIT_BYTES + 1)
    if len(data) > REQUEST_LIMIT_BYTES:
        raise ValueError(f"it has more than {REQUEST_LIMIT_BYTES} bytes")
    return BuildRequest.from_dict(json.loads(data))


def _parameters(request: BuildRequest) -> BuildParameters:
    return BuildParameters(
        model=_source(request.model),
        device_class=request.device_class,
        device_class_spec=request.device_class_spec,
        format=request.format.value,
        quantization=request.quantization.value,
        calibration=_source(request.calibration) if request.calibration else None,
        calibration_samples=request.calibration_samples,
        compiler=request.compiler,
        toolchain=request.toolchain,
        limits=Limits(request.budget.flash_bytes, request.budget.ram_bytes),
    )


def _source(source: Input) -> Source:
    return Source(url=source.url, sha256=source.sha256)


def _image(image: PackedImage | None) -> Image | None:
    if image is None:
        return None
    return Image(sha256_digest(image.data), image.image_hash, len(image.data))


def _upload(urls: Mapping[str, str], artifacts: Mapping[str, bytes]) -> set[str]:
    """Upload what has a URL; return the names of those that the store now holds as they are here.

    An earlier attempt may have left artifacts. They are these very bytes, but for the reports.
    """
    kept = set()
    for name in sorted(set(urls) & set(artifacts)):
        written = upload(urls[name], artifacts[name], what=name)
        logger.info("artifact name=%s bytes=%d written=%s", name, len(artifacts[name]), written)
        if written or name not in TIMED:
            kept.add(name)
    return kept


def _log_stage(stage: str, seconds: float | None) -> None:
    if seconds is not None:
        logger.info("stage done stage=%s seconds=%.3f", stage, seconds)


def _failed(status: int, reason: BuildReason, message: str) -> tuple[int, Termination]:
    logger.error("build failed reason=%s status=%d: %s", reason.value, status, message)
    return status, Termination(Outcome.FAILED, reason.value, message)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # cleaning up is not interrupted
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
