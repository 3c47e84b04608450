"""What a model must compute: PyPI's `tflite-micro`, its reference kernels, double rounding.

`run_oracle` runs it as a process of its own (`python -m tinyml_compiler.verify.oracle`): it is C++
that reads a stranger's file, and may abort. Source of the choice: DESIGN §5.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import BinaryIO

from tinyml_compiler.errors import VerificationFailedError

NAME = "tflite-micro"
TIMEOUT_S = 600.0

_ARENA_BYTES = 32 << 20  # beside ten times the model: only touched pages count


def oracle_version() -> str:
    return version("tflite-micro")


def run_oracle(model: bytes, vectors: Sequence[bytes], *, outputs: int) -> tuple[bytes, ...]:
    """Return all of `outputs` outputs of each vector, concatenated.

    Raises `VerificationFailedError` if the oracle cannot run the model.
    """
    head = {"model": len(model), "vectors": [len(vector) for vector in vectors], "outputs": outputs}
    request = json.dumps(head).encode() + b"\n" + model + b"".join(vectors)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tinyml_compiler.verify.oracle"],
            input=request,
            capture_output=True,
            timeout=TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
    except subprocess.TimeoutExpired as error:
        raise VerificationFailedError(
            f"the oracle {NAME} did not end within {TIMEOUT_S:.0f} s for {len(vectors)} vectors"
        ) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-600:]
        raise VerificationFailedError(
            f"the oracle {NAME} {oracle_version()} cannot run this model "
            f"(exit status {done.returncode}): {said or 'it said nothing'}"
        )
    sizes_line, _, data = done.stdout.partition(b"\n")
    size = int(json.loads(sizes_line)["bytes"])
    return tuple(data[at : at + size] for at in range(0, size * len(vectors), size))


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer one request of `run_oracle`."""
    import numpy as np
    from tflite_micro import runtime

    head = json.loads(source.readline())
    model = source.read(head["model"])
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=10 * len(model) + _ARENA_BYTES)
    results = []
    for size in head["vectors"]:
        vector = source.read(size)
        at = index = 0
        while at < size:
            details = interpreter.get_input_details(index)
            dtype = np.dtype(details["dtype"])
            shape = tuple(int(extent) for extent in details["shape"])
            end = at + int(np.prod(shape)) * dtype.itemsize
            if end > size:
                raise ValueError(f"input {index} needs {end - at} bytes, {size - at} are left")
            interpreter.set_input(np.frombuffer(vector[at:end], dtype).reshape(shape), index)
            at, index = end, index + 1
        interpreter.invoke()
        results.append(
            b"".join(
                np.ascontiguousarray(interpreter.get_output(i)).tobytes()
                for i in range(head["outputs"])
            )
        )
    sink.write(json.dumps({"bytes": len(results[0])}).encode() + b"\n" + b"".join(results))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
