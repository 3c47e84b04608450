"""A builder that compiles nothing: it keeps the contract of a build Job, quickly.

Fetches and checks the model, puts artifacts whose bytes follow from the request, and ends as
`python -m tinyml_compiler` does. A model that begins with `bad:` is refused with the reason after
it; one that begins with `slow:` takes that many seconds first.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tinyml_api.build import (
    EXIT_DONE,
    EXIT_NEEDS_USER,
    BuildRequest,
    BuildResult,
    Image,
    Outcome,
    Termination,
    sha256_digest,
)


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("--request", "--work", "--termination-log"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args()
    request = BuildRequest.from_dict(json.loads(options.request.read_text()))
    with urlopen(request.model.url, timeout=10) as answer:
        model: bytes = answer.read()
    found = sha256_digest(model)
    if found != request.model.sha256:
        message = f"model is {found}, the request names {request.model.sha256}"
        return end(options.termination_log, "DigestMismatch", message)
    if model.startswith(b"bad:"):
        return end(options.termination_log, model.decode().split(":")[1], "as the model says")
    if model.startswith(b"slow:"):
        time.sleep(float(model.decode().split(":")[1]))
    (options.work / "scratch").write_bytes(model)
    build(request)
    print("built", request.digest(), flush=True)
    options.termination_log.write_bytes(Termination(Outcome.SUCCEEDED).to_json())
    return EXIT_DONE


def build(request: BuildRequest) -> None:
    digest = request.digest()
    files = {
        name: f"{name} of {digest}".encode() for name in request.uploads if name != "result.json"
    }
    images = [
        Image(sha256_digest(files[name]), digest, len(files[name]))
        for name in ("code.img", "weights.img")
    ]
    summary = {"flashBytes": 5000, "ramBytes": 900, "macs": 7, "vectors": 32, "mismatches": 0}
    digests = {name: sha256_digest(data) for name, data in files.items()}
    result = BuildResult(digest, digests, images[0], images[1], summary)
    for name, data in {**files, "result.json": result.to_json()}.items():
        put(request.uploads[name], data)


def put(url: str, data: bytes) -> None:
    headers = {"If-None-Match": "*", "Content-Type": ""}
    try:
        urlopen(Request(url, data=data, method="PUT", headers=headers), timeout=10).close()
    except HTTPError as error:
        error.close()
        if error.code != 412:
            raise


def end(log: Path, reason: str, message: str) -> int:
    log.write_bytes(Termination(Outcome.FAILED, reason, message).to_json())
    print(f"{reason}: {message}", flush=True)
    return EXIT_NEEDS_USER


if __name__ == "__main__":
    sys.exit(main())
