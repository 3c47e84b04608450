"""Calibration data and Keras files are strangers' files: what is wrong with them is said.

Conversion itself, which needs TensorFlow's ten seconds, is in tests/e2e/test_compile.py.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tinyml_compiler.errors import CalibrationInvalidError, ModelInvalidError
from tinyml_compiler.frontends import keras


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def a_zip_of_text() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return file.getvalue()


def test_one_array_is_read_and_cut_to_the_samples() -> None:
    arrays = keras.read_calibration(npy(np.arange(12.0).reshape(6, 2)), samples=4)
    assert list(arrays) == ["input"]
    assert arrays["input"].shape == (4, 2)
    assert arrays["input"].dtype == np.float32


def test_several_arrays_are_read_by_name() -> None:
    one, two = np.zeros((3, 4), np.float32), np.ones((3, 5), np.float32)
    arrays = keras.read_calibration(npz(b=two, a=one), samples=None)
    assert {name: array.shape for name, array in arrays.items()} == {"a": (3, 4), "b": (3, 5)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "neither a .npy nor a .npz"),
        (b"hello, world", "begins with 68656c6c6f2c"),
        (npy(np.zeros((3, 4), np.float32))[:-1], "cannot be read"),
        (npz(a=np.zeros((3, 4), np.float32))[:-30], "cannot be read"),
        (npy(np.array([{}, {}], object), allow_pickle=True), "cannot be read: Object arrays"),
        (npy(np.zeros((3, 4), np.int8)), "is int8, it must be float32"),
        (npy(np.zeros(3, np.float32)), r"has shape \[3\]"),
        (npy(np.zeros((0, 3), np.float32)), r"has shape \[0, 3\]"),
        (npy(np.array([[1.0, np.nan, np.inf]])), "has 2 values of 3 that are not finite"),
        (npy(np.array([[1e300]])), "has 1 values of 1 that are not finite"),
        (npz(), "holds no array"),
        (a_zip_of_text(), "member 'readme.txt' that is no array"),
        (npz(a=np.zeros((3, 4)), b=np.zeros((2, 4))), "differ in their samples"),
        (npy(np.zeros((9, 4))), "has 9 samples, 10 are asked for"),
    ],
)
def test_unusable_calibration_data_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CalibrationInvalidError, match=message):
        keras.read_calibration(data, samples=10 if "10 are" in message else None)


def test_a_float_model_without_calibration_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationInvalidError, match="none is given"):
        keras.quantize(b"PK\x03\x04", None, samples=None, work=tmp_path)


def test_a_file_that_is_not_keras_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalidError, match="begins with 54464c33"):
        keras.quantize(b"TFL3", b"", samples=None, work=tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class_name": "Functional", "config": {"layers": [{"class_name": "Lambda"}]}}, "Lambda"),
        ({"class_name": "Sequential", "config": [{"class_name": "__lambda__"}]}, "__lambda__"),
        ({"class_name": "Thing", "module": "os.path"}, "is from 'os.path'"),
        ({"class_name": "f", "module": "keras_evil"}, "is from 'keras_evil'"),
        ([], "has 0 parts"),
    ],
)
def test_a_model_that_could_run_code_is_refused(tmp_path: Path, config: Any, message: str) -> None:
    model, data, output, answer = (tmp_path / name for name in ("m.keras", "d.npz", "o", "a"))
    with zipfile.ZipFile(model, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    data.write_bytes(npz(a=np.zeros((1, 1), np.float32)))
    assert keras.main(str(model), str(data), str(output), str(answer)) == 1
    told = json.loads(answer.read_text())
    assert told["error"] == "model"
    assert message in told["message"]
    assert not output.exists()


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_cut_off_model_is_refused(tmp_path: Path, content: bytes) -> None:
    model = tmp_path / ("m.keras" if content.startswith(b"PK") else "m.h5")
    model.write_bytes(content)
    data, answer = tmp_path / "d.npz", tmp_path / "a"
    data.write_bytes(npz(a=np.zeros((1, 1), np.float32)))
    assert keras.main(str(model), str(data), str(tmp_path / "o"), str(answer)) == 1
    assert "not a whole Keras model" in json.loads(answer.read_text())["message"]


def inputs(**shapes: tuple[int | None, ...]) -> list[Any]:
    return [SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()]


def test_arrays_are_matched_by_name_where_the_names_are_the_inputs() -> None:
    one, two = np.zeros((3, 4), np.float32), np.ones((3, 5), np.float32)
    matched = keras._match(inputs(a=(None, 4), b=(None, 5)), {"b": two, "a": one})
    assert matched[0] is one
    assert matched[1] is two


@pytest.mark.parametrize(
    ("shape", "message"),
    [((None, 5), "the model takes [n, 5]"), ((None, None, 4), "only the batch may be open")],
)
def test_calibration_data_of_another_shape_is_refused(
    shape: tuple[int | None, ...], message: str
) -> None:
    with pytest.raises(keras._Refused) as refused:
        keras._match(inputs(x=shape), {"input": np.zeros((3, 4), np.float32)})
    assert message in str(refused.value)


def test_calibration_data_for_another_number_of_inputs_is_refused() -> None:
    with pytest.raises(keras._Refused, match="has 2 inputs, the calibration data 1 arrays"):
        keras._match(inputs(x=(None, 4), y=(None, 4)), {"x": np.zeros((3, 4), np.float32)})
