"""The numpy operators against TFLite Micro, bit for bit, on random models with extremes."""

from __future__ import annotations

import numpy as np
import pytest
from tinyml_compiler import quant, reference

from tests.support.kernel_cases import CASES
from tests.support.tflite_builder import Quant, a_model, oracle

CASES_PER_OPERATOR = 30


@pytest.mark.parametrize("op", CASES)
def test_the_reference_equals_tflite_micro(op: str) -> None:
    for seed in range(CASES_PER_OPERATOR):
        case = CASES[op](np.random.default_rng(seed))
        np.testing.assert_array_equal(
            case.reference(), case.oracle(), err_msg=f"seed {seed}: {case.what}"
        )


def test_sums_beyond_32_bits_wrap_as_the_oracle_s_do() -> None:
    x = np.full((1, 4), 127, dtype=np.int8)
    filter_ = np.full((1, 4), 127, dtype=np.int8)
    bias = np.array([2**31 - 1], dtype=np.int32)
    in_q, out_q = Quant(1.0, -128), Quant(2.0**25, 0)
    model = (
        a_model()
        .input("x", x.shape, in_q)
        .fully_connected(filter_, bias, out_q, filter_scale=1.0)
        .build()
    )
    multiplier, shift = quant.fully_connected_multipliers(1.0, [1.0], 2.0**25, 1)
    channels = reference.Channels(quant.fold_bias(bias, filter_, -128, 0), multiplier, shift)
    found = reference.fully_connected(reference.Quant(-128, 0), channels, filter_, x)
    np.testing.assert_array_equal(found, oracle(model, x)[0])
    assert found[0, 0] < 0


def test_a_large_mean_equals_tflite_micro() -> None:
    x = np.random.default_rng(1).integers(-128, 128, size=(1, 61, 67, 3), dtype=np.int8)
    model = a_model().input("x", x.shape, Quant(0.3, 7)).mean([1, 2], Quant(0.11, -4)).build()
    p = quant.mean_params(0.3, 7, 0.11, -4, 61 * 67)
    found = reference.mean(p, x.reshape(1, 61 * 67, 3))
    np.testing.assert_array_equal(found, oracle(model, x)[0])


def test_the_softmax_of_a_flat_row_equals_tflite_micro() -> None:
    for depth in (1, 2, 3, 255, 256, 257, 511):
        x = np.full((1, depth), -7, dtype=np.int8)
        model = a_model().input("x", x.shape, Quant(0.1, 0)).softmax().build()
        found = reference.softmax(quant.softmax_params(0.1), x)
        np.testing.assert_array_equal(found, oracle(model, x)[0])


def test_quantizing_what_is_no_number_gives_the_zero_point() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e38, -1e38], dtype=np.float32)
    assert reference.quantize_f32_s8(0.5, 3, x).tolist() == [3, 127, -128, 127, -128]
