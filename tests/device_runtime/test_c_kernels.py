"""The C kernels against `reference.py` on random models, in place too, outputs between guards.

`reference.py` equals TFLite Micro (tests/unit/tinyml_compiler/test_reference.py), and so do they.
"""

from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest

from tests.support.c_kernels import GUARD, RUNTIME, Guarded, Kernels, load_kernels
from tests.support.kernel_cases import CASES

CASES_PER_OPERATOR = 60


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return load_kernels()


@pytest.mark.parametrize("op", CASES)
def test_the_c_kernel_equals_the_reference(op: str, kernels: Kernels) -> None:
    for seed in range(CASES_PER_OPERATOR):
        case = CASES[op](np.random.default_rng(seed))
        np.testing.assert_array_equal(
            case.kernel(kernels), case.reference(), err_msg=f"seed {seed}: {case.what}"
        )


@pytest.mark.parametrize("op", CASES)
def test_the_c_kernel_equals_tflite_micro(op: str, kernels: Kernels) -> None:
    for seed in range(1000, 1005):
        case = CASES[op](np.random.default_rng(seed))
        np.testing.assert_array_equal(
            case.kernel(kernels), case.oracle(), err_msg=f"seed {seed}: {case.what}"
        )


def test_a_write_beyond_the_output_is_noticed() -> None:
    for place, where in ((GUARD - 1, "before"), (GUARD + 12, "after")):
        out = Guarded((3, 4), np.int8)
        ctypes.memset(out.address - GUARD + place, 1, 1)
        with pytest.raises(AssertionError, match=f"{where} its output"):
            out.checked()


def test_every_listed_body_has_its_file_and_every_file_is_listed() -> None:
    text = (RUNTIME / "src" / "kernels" / "kernels.inc").read_text()
    rows = re.findall(r"^TML_KERNEL\((\w+), (\w+), (\w+)\)$", text, re.MULTILINE)
    bodies = {f"{op}/tml_{op}_{dtype}_{isa}.c" for op, dtype, isa in rows}
    kernels = {f"{op}/tml_{op}_{dtype}.c" for op, dtype, _ in rows}
    folder = RUNTIME / "src" / "kernels"
    files = {str(f.relative_to(folder)) for f in folder.rglob("*.c")}
    assert files == bodies | kernels
