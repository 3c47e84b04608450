"""What a build refuses before it compiles, and that its checks can fail."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinyml_compiler.budget import Limits, check_budget, check_ram
from tinyml_compiler.build import BuildParameters, build
from tinyml_compiler.errors import (
    ArenaTooLargeError,
    BudgetExceededError,
    CalibrationInvalidError,
    DigestMismatchError,
    ModelInvalidError,
    SourceUnreachableError,
    TargetInvalidError,
    ToolchainMissingError,
    VerificationFailedError,
)
from tinyml_compiler.fetch import Source
from tinyml_compiler.pipeline import compile_model
from tinyml_compiler.report import RamBytes
from tinyml_compiler.target import Target
from tinyml_compiler.verify.compare import mismatches, require_equal
from tinyml_compiler.verify.exactness import EMULATED_ORDER, _emulated_vectors, verify
from tinyml_compiler.verify.shipped import NotEmulated, choose
from tinyml_compiler.verify.vectors import EDGES

from tests.support.tflite_builder import Quant, a_model

M4 = {
    "cpu": "CortexM4F",
    "ram": {"address": 0x20000000, "sizeBytes": 65536},
    "flash": {
        "address": 0x08000000,
        "sizeBytes": 1048576,
        "eraseBlockBytes": 4096,
        "writeBlockBytes": 4,
        "boot": {"address": 0, "sizeBytes": 32768},
        "code": {"primaryOffset": 0, "secondaryOffset": 131072, "sizeBytes": 131072},
        "weights": {"primaryOffset": 262144, "secondaryOffset": 524288, "sizeBytes": 262144},
    },
}


def a_small_model() -> bytes:
    filter_ = np.arange(-20, 20).reshape(5, 8).astype(np.int8)
    bias = np.arange(5).astype(np.int32)
    return (
        a_model()
        .input("x", (1, 8), Quant(0.1, 3))
        .fully_connected(filter_, bias, Quant(0.2, -5), filter_scale=0.05)
        .build()
    )


def parameters(tmp_path: Path, data: bytes, **changes: Any) -> BuildParameters:
    path = tmp_path / "model"
    path.write_bytes(data)
    source = Source(str(path), "sha256:" + hashlib.sha256(data).hexdigest())
    return replace(BuildParameters(source, "m4", M4), **changes)


def test_another_file_than_the_digest_says_is_refused(tmp_path: Path) -> None:
    wrong = parameters(tmp_path, b"abc")
    wrong = replace(wrong, model=replace(wrong.model, sha256="sha256:" + "0" * 64))
    with pytest.raises(DigestMismatchError, match="model has digest sha256:ba7816bf"):
        build(wrong, tmp_path / "work")


@pytest.mark.parametrize(
    ("data", "changes", "error", "message"),
    [
        (b"GIF89a..", {}, ModelInvalidError, "neither a .tflite file nor a Keras model"),
        (b"", {}, ModelInvalidError, "begins with nothing"),
        (b"\0\0\0\0TFL3", {"format": "Keras"}, ModelInvalidError, "a TFLite model, the request"),
        (b"\0\0\0\0TFL3", {"quantization": "PostTraining"}, ModelInvalidError, "AsIs"),
        (b"PK\x03\x04", {}, ModelInvalidError, "set quantization mode PostTraining"),
        (
            b"PK\x03\x04",
            {"quantization": "PostTraining"},
            CalibrationInvalidError,
            "needs calibration data",
        ),
        (
            b"PK\x03\x04",
            {"quantization": "PostTraining", "calibration": Source("/nowhere", "sha256:")},
            SourceUnreachableError,
            "calibration data at /nowhere: No such file",
        ),
        (b"", {"toolchain": "turboc-3.0"}, ToolchainMissingError, "toolchain 'turboc-3.0'"),
        (b"", {"compiler": "tinymlaas-9"}, ToolchainMissingError, "this builder is 'tinymlaas-"),
        (b"", {"device_class_spec": {"cpu": "Z80"}}, TargetInvalidError, "Z80"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_reason(
    tmp_path: Path, data: bytes, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(parameters(tmp_path, data, **changes), tmp_path / "work")


def test_stages_are_told_as_they_start_and_end(tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []
    with pytest.raises(ModelInvalidError):
        build(
            parameters(tmp_path, b"\0\0\0\0TFL3"),
            tmp_path / "work",
            lambda stage, seconds: told.append((stage, seconds is None)),
        )
    assert told == [
        ("fetch", True),
        ("fetch", False),
        ("check-sha256", True),
        ("check-sha256", False),
        ("parse", True),
    ]


def test_ram_that_does_not_suffice_is_refused_with_the_numbers() -> None:
    target = Target.from_spec("m4", M4)
    ram = RamBytes(arena=60000, static=100, stack=500)
    check_ram(target, ram, firmware_bytes=1340, stack_bytes=4096)
    with pytest.raises(ArenaTooLargeError, match=r"with 1441 of data and 4096 .* 65537;"):
        check_ram(target, ram, firmware_bytes=1341, stack_bytes=4096)


def test_the_users_own_limits_are_kept_to_the_byte() -> None:
    check_budget(Limits(100, 200), flash=100, ram=200)
    check_budget(Limits(), flash=10**9, ram=10**9)
    with pytest.raises(BudgetExceededError) as caught:
        check_budget(Limits(99, 199), flash=100, ram=200)
    assert "100 bytes of flash, spec.budget.flashBytes allows 99" in str(caught.value)
    assert "200 bytes of RAM, spec.budget.ramBytes allows 199" in str(caught.value)


def test_one_wrong_byte_fails_and_is_named() -> None:
    expected, found = [b"\x01\x02", b"\x03\x04"], [b"\x01\x02", b"\x03\x84"]
    assert mismatches(expected, found) == 1
    with pytest.raises(VerificationFailedError) as caught:
        require_equal(expected, found, where="on a test")
    assert "on a test: 1 of 4 bytes" in str(caught.value)
    assert "1 of 2 vectors; first in vector 1, byte 1: -124, the oracle has 4" in str(caught.value)
    require_equal(expected, list(expected), where="on a test")


def test_a_wrong_weight_fails_the_build(tmp_path: Path) -> None:
    model = a_small_model()
    target = Target.from_spec("m4", M4)
    compiled = compile_model(model, name="model", target=target)
    good = verify(model, compiled, target, elf=None, work=tmp_path / "good", timer=nullcontext)
    assert (good.oracle.vectors, good.oracle.mismatches) == (32, 0)
    assert 0 < good.stack_bytes < 4096
    blob = bytearray(compiled.weights)
    at = compiled.weights.index(bytes(range(8)))  # a row of the filter
    blob[at] ^= 0x40
    broken = replace(compiled, weights=bytes(blob))
    with pytest.raises(VerificationFailedError, match="bytes of outputs differ"):
        verify(model, broken, target, elf=None, work=tmp_path / "bad", timer=nullcontext)


def test_weights_of_another_structure_are_refused_by_the_code(tmp_path: Path) -> None:
    model = a_small_model()
    target = Target.from_spec("m4", M4)
    compiled = compile_model(model, name="model", target=target)
    blob = bytearray(compiled.weights)
    blob[16] ^= 1  # of the ABI hash
    broken = replace(compiled, weights=bytes(blob))
    with pytest.raises(VerificationFailedError, match="tml_model_check: -4"):
        verify(model, broken, target, elf=None, work=tmp_path, timer=nullcontext)


def test_small_models_run_more_vectors_on_the_core_and_large_ones_at_least_one() -> None:
    assert _emulated_vectors(0) == _emulated_vectors(1000) == EMULATED_ORDER
    assert len(_emulated_vectors(7_500_000)) == 2
    assert _emulated_vectors(10**9) == (len(EDGES),)


def test_a_core_that_no_emulator_has_is_said() -> None:
    class Nothing:
        def why_not(self, _: object) -> str:
            return "nothing has this core"

    found = choose(object(), [Nothing(), Nothing()])  # type: ignore[arg-type, list-item]
    assert found == NotEmulated("nothing has this core; nothing has this core")
