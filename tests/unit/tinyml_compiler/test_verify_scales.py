"""The product of input and filter scale is formed in binary64, as the oracle does it.

In binary32 it is off by up to 2^-24, which shows in about one output of 20,000 only: ad01 has such
a one. Each case here is built around an accumulator for which the two differ.
"""

from __future__ import annotations

import numpy as np
import pytest
from tinyml_compiler import quant

from tests.support.tflite_builder import Quant, a_model, oracle

CASES = 8


def telling_accumulators() -> list[tuple[float, float, float, int, int]]:
    """Input scale, filter scale, output scale, an accumulator, its output by binary64."""
    random = np.random.default_rng(1)
    found: list[tuple[float, float, float, int, int]] = []
    while len(found) < CASES:
        x, w = np.float32(random.uniform(0.01, 1)), np.float32(random.uniform(0.001, 0.1))
        y = np.float32(float(x) * float(w) * 2**23)
        single = quant.quantize_multiplier(float(x * w) / float(y))
        double = quant.quantize_multiplier(float(x) * float(w) / float(y))
        middle = int(100.5 * float(y) / (float(x) * float(w)))
        candidates = np.arange(middle - 200, middle + 200)
        by_double = quant.requantize(candidates, *double)
        (differ,) = np.nonzero(quant.requantize(candidates, *single) != by_double)
        if len(differ):
            at = differ[0]
            found.append((float(x), float(w), float(y), int(candidates[at]), int(by_double[at])))
    return found


@pytest.mark.parametrize(("x", "w", "y", "accumulator", "expected"), telling_accumulators())
def test_fully_connected_scales_multiply_in_binary64(
    x: float, w: float, y: float, accumulator: int, expected: int
) -> None:
    bias = np.array([accumulator], np.int32)
    model = (
        a_model()
        .input("x", (1, 4), Quant(x, 0))
        .fully_connected(np.ones((1, 4), np.int8), bias, Quant(y, 0), filter_scale=w)
        .build()
    )
    assert oracle(model, np.zeros((1, 4), np.int8))[0].item() == expected
    multiplier, shift = quant.fully_connected_multipliers(x, [w], y, 1)
    assert quant.requantize(bias, multiplier, shift).item() == expected
