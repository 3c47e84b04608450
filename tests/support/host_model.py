"""A compiled model as a Python function: the generated C, built for the host, run in this process.

The runtime's kernels are built once a session; each model is one small library that links to them.
The arena and the weights lie between guard bytes.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tinyml_compiler.pipeline import CompiledModel
from tinyml_compiler.target import Target

from tests.support.c_kernels import RUNTIME, host_compiler, runtime_sources

Array = npt.NDArray[Any]
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wvla", "-Werror")
GUARD_BYTES = 64
_FLAGS = ("-std=c11", "-O2", "-shared", "-fPIC", "-I", str(RUNTIME / "include"))

SPEC: Mapping[str, Any] = {
    "cpu": "CortexM4F",
    "board": "mps2-an386",
    "ram": {"address": 0x20000000, "sizeBytes": 262144},
    "flash": {
        "address": 0x21000000,
        "sizeBytes": 2097152,
        "eraseBlockBytes": 4096,
        "writeBlockBytes": 4,
        "boot": {"address": 0, "sizeBytes": 32768},
        "code": {"primaryOffset": 0, "secondaryOffset": 262144, "sizeBytes": 262144},
        "weights": {"primaryOffset": 524288, "secondaryOffset": 1048576, "sizeBytes": 524288},
    },
}
TARGET = Target.from_spec("an-m4", SPEC)


class _TensorIo(ctypes.Structure):
    _fields_ = [("arena_offset", ctypes.c_uint32), ("bytes", ctypes.c_uint32)]


class _Model(ctypes.Structure):
    _fields_ = [
        ("abi_hash", ctypes.c_uint8 * 32),
        ("arena_bytes", ctypes.c_uint32),
        ("weights_bytes", ctypes.c_uint32),
        ("input_count", ctypes.c_uint8),
        ("output_count", ctypes.c_uint8),
        ("inputs", ctypes.POINTER(_TensorIo)),
        ("outputs", ctypes.POINTER(_TensorIo)),
        ("invoke", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
    ]


class HostModel:
    """Call it with the inputs as arrays, get the outputs as arrays."""

    def __init__(self, compiled: CompiledModel) -> None:
        self.compiled = compiled
        with tempfile.TemporaryDirectory(prefix="tml-model-") as folder:
            for name, text in compiled.sources.items():
                Path(folder, name).write_text(text)
            library = Path(folder, "model.so")
            kernels = _kernels()
            subprocess.run(
                [
                    *host_compiler(),
                    *(*_FLAGS, *WARNINGS, "-I", folder, "-o", str(library)),
                    *(str(Path(folder, "model.c")), str(kernels)),
                    f"-Wl,-rpath,{kernels.parent}",
                ],
                check=True,
            )
            self._library = ctypes.CDLL(str(library))
        self.model = _Model.in_dll(self._library, "tml_model")

    def __call__(self, *inputs: Array) -> list[Array]:
        compiled = self.compiled
        arena = _Guarded(compiled.arena_bytes)
        weights = _Guarded(len(compiled.weights), compiled.weights)
        check = ctypes.CDLL(str(_kernels()))["tml_model_check"]
        check.argtypes = [ctypes.POINTER(_Model), ctypes.c_void_p, ctypes.c_uint32]
        status = check(ctypes.byref(self.model), weights.address, len(compiled.weights))
        assert status == 0, f"the model refuses its weights: {status}"
        for spec, value in zip(compiled.inputs, inputs, strict=True):
            assert value.dtype.name == spec.dtype
            data = np.ascontiguousarray(value).tobytes()
            assert len(data) == spec.bytes
            arena.inside[spec.arena_offset : spec.arena_offset + spec.bytes] = np.frombuffer(
                data, np.uint8
            )
        assert self.model.invoke(weights.address, arena.address) == 0
        arena.check()
        weights.check()
        assert weights.inside.tobytes() == compiled.weights, "the weights were written to"
        return [
            np.frombuffer(
                arena.inside[spec.arena_offset : spec.arena_offset + spec.bytes].tobytes(),
                spec.dtype,
            ).reshape(spec.shape)
            for spec in compiled.outputs
        ]


class _Guarded:
    """Bytes aligned to 16, of random content unless given, between guard bytes."""

    def __init__(self, size: int, content: bytes | None = None) -> None:
        self._whole = np.full(size + 2 * GUARD_BYTES + 16, 0xA5, np.uint8)
        self._start = GUARD_BYTES + -(self._whole.ctypes.data + GUARD_BYTES) % 16
        self.inside = self._whole[self._start : self._start + size]
        self.address = self._whole.ctypes.data + self._start
        if content is None:
            self.inside[:] = np.random.default_rng(size).integers(0, 256, size, np.uint8)
        else:
            self.inside[:] = np.frombuffer(content, np.uint8)

    def check(self) -> None:
        end = self._start + len(self.inside)
        assert (self._whole[: self._start] == 0xA5).all(), "written before the buffer"
        assert (self._whole[end:] == 0xA5).all(), "written past the buffer"


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tml-runtime-")


@functools.cache
def _kernels() -> Path:
    library = Path(_folder().name, "libtmlkernels.so")
    subprocess.run(
        [
            *host_compiler(),
            *(*_FLAGS, "-DTML_ASSERT(x)=((x)?(void)0:__builtin_trap())", "-o", str(library)),
            *map(str, runtime_sources()),
        ],
        check=True,
    )
    return library


class Oracle:
    """TFLite Micro on one model; the interpreter is made once."""

    def __init__(self, model: bytes) -> None:
        from tflite_micro import runtime

        self._interpreter = runtime.Interpreter.from_bytes(
            model, arena_size=10 * len(model) + 200_000
        )

    def __call__(self, outputs: int, *inputs: Array) -> list[Array]:
        for number, value in enumerate(inputs):
            self._interpreter.set_input(np.ascontiguousarray(value), number)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_output(number)) for number in range(outputs)]


def assert_equals_oracle(model: bytes, compiled: CompiledModel, vectors: int, seed: int) -> None:
    """Compare edge vectors and random ones, `vectors` in all, bit for bit."""
    run, expected = HostModel(compiled), Oracle(model)
    rng = np.random.default_rng(seed)
    for number in range(vectors):
        values = [_vector(rng, number, spec.shape, spec.dtype) for spec in compiled.inputs]
        wanted = expected(len(compiled.outputs), *values)
        for spec, found, want in zip(compiled.outputs, run(*values), wanted, strict=True):
            np.testing.assert_array_equal(
                found, want, err_msg=f"vector {number}, output {spec.name}"
            )


def _vector(rng: np.random.Generator, number: int, shape: tuple[int, ...], dtype: str) -> Array:
    if dtype == "float32":
        return (rng.standard_normal(shape) * 10.0 ** (number % 4 - 1)).astype(np.float32)
    edges = (-128, 127, 0)
    if number < len(edges):
        return np.full(shape, edges[number], np.int8)
    return rng.integers(-128, 128, shape).astype(np.int8)
