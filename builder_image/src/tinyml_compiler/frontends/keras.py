"""A Keras model (`.keras`, `.h5`) becomes a full int8 `.tflite` by TensorFlow's own converter.

`quantize` runs it as a process of its own (`python -m tinyml_compiler.frontends.keras`): TensorFlow
takes a gigabyte, ten seconds and many warnings, and reads a stranger's file. No pickles, no Lambda
layers, no classes from outside of Keras. The same model and calibration data give the same bytes.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml_compiler.errors import (
    CalibrationInvalidError,
    CompilerError,
    ModelInvalidError,
    UnsupportedOperatorError,
)

TIMEOUT_S = 900.0
UNPACKED_LIMIT_BYTES = 1 << 30
LAYERS_LIMIT = 10_000

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NPY = b"\x93NUMPY"

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Quantized:
    """An int8 `.tflite`, and what made it (`tensorflow 2.21.0`)."""

    tflite: bytes
    quantizer: str
    samples: int


def is_keras(data: bytes) -> bool:
    """Does `data` begin like a `.keras` (zip) or `.h5` (HDF5) file?"""
    return data.startswith((_ZIP, _HDF5))


def quantize(
    model: bytes, calibration: bytes | None, *, samples: int | None, work: Path
) -> Quantized:
    """Return `model` as full int8 `.tflite`, its ranges taken from `calibration`.

    `calibration` is a `.npy` (one input) or `.npz` (an array an input, in the model's order or by
    the inputs' names) of floats [n, …]; the first `samples` of it are used, or all. Raises
    `ModelInvalidError`, `CalibrationInvalidError`, `UnsupportedOperatorError`.
    """
    if not is_keras(model):
        raise ModelInvalidError(
            f"the file begins with {model[:8].hex()}: neither a .keras (zip) nor a .h5 (HDF5) file"
        )
    if calibration is None:
        raise CalibrationInvalidError(
            "a Keras model needs calibration data, and none is given: name a .npy or .npz file of "
            "float32 inputs [n, …] (spec.quantization.calibration)"
        )
    arrays = read_calibration(calibration, samples)
    work.mkdir(parents=True, exist_ok=True)
    suffix = ".keras" if model.startswith(_ZIP) else ".h5"
    model_path, data_path = work / f"model{suffix}", work / "calibration.npz"
    output, answer = work / "model.tflite", work / "converter.json"
    answer.unlink(missing_ok=True)
    model_path.write_bytes(model)
    np.savez(data_path, allow_pickle=False, **arrays)
    _run_converter([str(model_path), str(data_path), str(output), str(answer)], answer)
    return Quantized(
        tflite=output.read_bytes(),
        quantizer=f"tensorflow {version('tensorflow-cpu')}",
        samples=len(next(iter(arrays.values()))),
    )


def read_calibration(data: bytes, samples: int | None) -> Mapping[str, FloatArray]:
    """Return the arrays of a `.npy` (one, named `input`) or `.npz` file by name, as float32.

    Each is finite and has at least one sample; all have as many, cut to the first `samples`.
    """
    if samples is not None and samples < 1:
        raise CalibrationInvalidError(f"{samples} calibration samples asked for, at least 1 needed")
    arrays = {name: _checked(name, array) for name, array in _load(data)}
    if not arrays:
        raise CalibrationInvalidError("the .npz file of calibration data holds no array")
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise CalibrationInvalidError(f"calibration arrays differ in their samples: {counts}")
    found = next(iter(counts.values()))
    if samples is not None and found < samples:
        raise CalibrationInvalidError(
            f"calibration data has {found} samples, {samples} are asked for: "
            "give more data or lower the number"
        )
    return {name: array[:samples] for name, array in arrays.items()}


def _load(data: bytes) -> Iterator[tuple[str, NDArray[Any] | bytes]]:
    try:
        if data.startswith(_NPY):
            yield "input", np.load(io.BytesIO(data), allow_pickle=False)
        elif data.startswith(_ZIP[:2]):  # an empty archive begins with its end
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                total = sum(entry.file_size for entry in archive.infolist())
                if total > UNPACKED_LIMIT_BYTES:
                    raise CalibrationInvalidError(
                        f"calibration data unpacks to {total} bytes, "
                        f"the limit is {UNPACKED_LIMIT_BYTES}: use fewer samples"
                    )
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                yield from ((name, arrays[name]) for name in arrays.files)
        else:
            raise CalibrationInvalidError(
                f"calibration data begins with {data[:6].hex()}: neither a .npy nor a .npz file"
            )
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise CalibrationInvalidError(f"calibration data cannot be read: {error}") from error


def _checked(name: str, array: NDArray[Any] | bytes) -> FloatArray:
    if isinstance(array, bytes):
        raise CalibrationInvalidError(f"calibration data has a member {name!r} that is no array")
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise CalibrationInvalidError(
            f"calibration array {name!r} is {array.dtype}, it must be float32, "
            "scaled as the model's inputs were in training"
        )
    if array.ndim < 2 or len(array) < 1:
        raise CalibrationInvalidError(
            f"calibration array {name!r} has shape {list(array.shape)}, "
            "it must be [n, …] with n of at least 1 and one input in the rest"
        )
    with np.errstate(over="ignore"):
        floats = np.ascontiguousarray(array, np.float32)
    bad = np.count_nonzero(~np.isfinite(floats))
    if bad:
        raise CalibrationInvalidError(
            f"calibration array {name!r} has {bad} values of {floats.size} that are not finite"
        )
    return floats


def _run_converter(arguments: Sequence[str], answer: Path) -> None:
    quiet = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "KERAS_BACKEND": "tensorflow",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tinyml_compiler.frontends.keras", *arguments],
            capture_output=True,
            timeout=TIMEOUT_S,
            env={**os.environ, **quiet},
        )
    except subprocess.TimeoutExpired as error:
        raise ModelInvalidError(
            f"TensorFlow's converter did not end within {TIMEOUT_S:.0f} s: use fewer samples"
        ) from error
    if done.returncode == 0 and answer.exists():
        return
    if answer.exists():
        told = json.loads(answer.read_text())
        raise _ERRORS[told["error"]](told["message"])
    said = done.stderr.decode(errors="replace").strip()[-600:]
    raise ModelInvalidError(
        f"TensorFlow's converter ended with status {done.returncode} "
        f"(negative: by a signal; -9 is often too little memory): {said or 'it said nothing'}"
    )


def _unsupported(message: str) -> CompilerError:
    return UnsupportedOperatorError([message])


_ERRORS: Mapping[str, Any] = {
    "model": ModelInvalidError,
    "calibration": CalibrationInvalidError,
    "operator": _unsupported,
}


# From here on: inside of the converter's process.


class _Refused(Exception):  # noqa: N818 (never leaves this process)
    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


def main(model_path: str, data_path: str, output: str, answer: str) -> int:
    """Convert; leave `{}` or `{"error", "message"}` in the file `answer`."""
    try:
        with np.load(data_path, allow_pickle=False) as arrays:
            data = {name: arrays[name] for name in arrays.files}
        Path(output).write_bytes(_convert(Path(model_path), data))
    except _Refused as refusal:
        Path(answer).write_text(json.dumps({"error": refusal.error, "message": str(refusal)}))
        return 1
    Path(answer).write_text("{}")
    return 0


def _convert(path: Path, data: Mapping[str, FloatArray]) -> bytes:
    config = _read_config(path)
    _check_config(config)
    import tensorflow as tf

    try:
        model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise _Refused("model", f"Keras cannot load the model: {_short(error)}") from error
    inputs = _match(model.inputs, data)

    def representative() -> Iterator[list[FloatArray]]:
        for index in range(len(inputs[0])):
            yield [array[index : index + 1] for array in inputs]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    try:
        converted = converter.convert()
    except Exception as error:
        message = f"TensorFlow cannot quantize the model to int8: {_short(error)}"
        raise _Refused("operator", message) from error
    return bytes(converted)


def _read_config(path: Path) -> Any:
    """Return the model's configuration without building anything of it."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                total = sum(entry.file_size for entry in archive.infolist())
                if total > UNPACKED_LIMIT_BYTES:
                    message = (
                        f"the .keras file unpacks to {total} bytes, "
                        f"the limit is {UNPACKED_LIMIT_BYTES}"
                    )
                    raise _Refused("model", message)
                return json.loads(archive.read("config.json"))
        import h5py  # type: ignore[import-untyped]

        with h5py.File(path, "r") as file:
            return json.loads(file.attrs["model_config"])
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise _Refused("model", f"not a whole Keras model: {_short(error)}") from error


def _check_config(config: Any) -> None:
    """Refuse what could run code: Lambda layers, and classes from outside of Keras."""
    pending, seen = [config], 0
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            pending.extend(value.values())
            name, module = value.get("class_name"), value.get("module")
            seen += isinstance(name, str)
            if name in ("Lambda", "__lambda__", "function"):
                raise _Refused("model", f"the model has a {name}: it holds code, not layers")
            if isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins"):
                raise _Refused("model", f"class {name!r} is from {module!r}, not from Keras")
    if not 0 < seen <= LAYERS_LIMIT:
        raise _Refused("model", f"the model has {seen} parts, a build takes 1 to {LAYERS_LIMIT}")


def _match(inputs: Sequence[Any], data: Mapping[str, FloatArray]) -> list[FloatArray]:
    """Return one array for each input, by name if all names are the inputs', else in order."""
    names = [str(tensor.name) for tensor in inputs]
    if len(names) != len(data):
        message = f"the model has {len(names)} inputs, the calibration data {len(data)} arrays"
        raise _Refused("calibration", message)
    ordered = [data[name] for name in names] if set(names) == set(data) else list(data.values())
    for tensor, name, array in zip(inputs, names, ordered, strict=True):
        wanted = tuple(tensor.shape)[1:]
        if any(extent is None for extent in wanted):
            message = f"input {name!r} has shape {list(tensor.shape)}: only the batch may be open"
            raise _Refused("model", message)
        if array.shape[1:] != wanted:
            message = (
                f"calibration data of input {name!r} has shape {list(array.shape)}, "
                f"the model takes [n, {', '.join(map(str, wanted))}]"
            )
            raise _Refused("calibration", message)
    return ordered


def _short(error: BaseException) -> str:
    """Return the error's kind and the beginning of its text on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:500]}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
