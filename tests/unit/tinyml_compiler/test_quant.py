"""The integers of an operator, on cases that can be checked by hand.

test_reference.py compares them, by what they compute, with TFLite Micro.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from tinyml_compiler import quant
from tinyml_compiler.errors import ModelInvalidError


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (1.0, (1 << 30, 1)),
        (0.5, (1 << 30, 0)),
        (0.25, (1 << 30, -1)),
        (0.75, (3 << 29, 0)),
        (2.0**-31, (1 << 30, -30)),
        (2.0**30, (1 << 30, 31)),
        (0.0, (0, 0)),
        (1e-20, (0, 0)),
        # The fraction rounds up to 1: half of it and one more shift.
        (1.0 - 2.0**-40, (1 << 30, 1)),
    ],
)
def test_a_scale_becomes_a_q31_multiplier_and_a_shift(
    scale: float, expected: tuple[int, int]
) -> None:
    assert quant.quantize_multiplier(scale) == expected


@pytest.mark.parametrize("scale", [-0.5, math.inf, math.nan, 2.0**31])
def test_a_scale_that_cannot_be_a_multiplier_is_refused_with_its_value(scale: float) -> None:
    with pytest.raises(ModelInvalidError, match=r"scale ratio is"):
        quant.quantize_multiplier(scale)


@pytest.mark.parametrize(
    ("x", "multiplier", "shift", "expected"),
    [
        (3, 1 << 30, 0, 2),  # 1.5: the first rounding takes halves up,
        (-3, 1 << 30, 0, -1),
        (1, 1 << 30, 0, 1),
        (-1, 1 << 30, 0, 0),
        (6, 1 << 30, -1, 2),  # the second away from zero
        (-6, 1 << 30, -1, -2),
        (5, 1 << 30, 1, 5),
        (-128, 1 << 30, 1, -128),
        (-(2**31), 2**31 - 1, -31, -1),
        (2**31 - 1, 2**31 - 1, 0, 2**31 - 2),
        (12345, 0, 0, 0),
    ],
)
def test_requantize_rounds_twice(x: int, multiplier: int, shift: int, expected: int) -> None:
    assert int(quant.requantize(x, multiplier, shift)) == expected


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("NONE", 0.1, 5, (-128, 127)),
        ("RELU", 0.1, 5, (5, 127)),
        ("RELU6", 0.1, 5, (5, 65)),
        ("RELU6", 0.01, 5, (5, 127)),
        ("RELU_N1_TO_1", 0.1, 5, (-5, 15)),
        ("RELU_N1_TO_1", 1e-30, -128, (-128, 127)),
        ("RELU6", 4.0, 0, (0, 2)),  # 1.5 goes up
    ],
)
def test_a_fused_activation_becomes_a_range_of_int8(
    activation: str, scale: float, zero_point: int, expected: tuple[int, int]
) -> None:
    assert quant.activation_range(activation, scale, zero_point) == expected


def test_the_folded_bias_takes_the_input_zero_point_times_the_filter_sum() -> None:
    filter_ = np.array([[1, 2], [-3, 4]], dtype=np.int8)
    folded = quant.fold_bias(np.array([100, 200]), filter_, input_zero_point=-5, axis=0)
    assert folded.tolist() == [100 + 5 * 3, 200 + 5 * 1]
    assert quant.fold_bias(None, filter_, -5, axis=1).tolist() == [5 * -2, 5 * 6]


def test_folding_wraps_like_the_accumulator_it_stands_for() -> None:
    filter_ = np.array([[127, 127]], dtype=np.int8)
    folded = quant.fold_bias(np.array([2**31 - 1]), filter_, input_zero_point=-1, axis=0)
    assert folded.tolist() == [2**31 - 1 + 254 - 2**32]


def test_one_filter_scale_serves_all_channels_and_several_one_each() -> None:
    multiplier, shift = quant.convolution_multipliers(0.5, [0.5], 1.0, channels=3)
    assert (multiplier.tolist(), shift.tolist()) == ([1 << 30] * 3, [-1] * 3)
    _, shift = quant.convolution_multipliers(0.5, [1.0, 0.25], 1.0, channels=2)
    assert shift.tolist() == [0, -2]
    with pytest.raises(ModelInvalidError, match="2 filter scales for 3 output channels"):
        quant.convolution_multipliers(0.5, [1.0, 0.25], 1.0, channels=3)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan, 1e-60, 1e60])
def test_a_tensor_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(ModelInvalidError, match="must be finite and above 0"):
        quant.requantize_params(scale, 0, 1.0, 0)


def test_an_output_of_add_that_is_far_too_fine_is_refused() -> None:
    with pytest.raises(ModelInvalidError, match=r"the limit is 2\^19"):
        quant.add_params((1.0, 0), (1.0, 0), (1e-6, 0))


def test_a_softmax_input_that_is_far_too_fine_is_refused() -> None:
    with pytest.raises(ModelInvalidError, match=r"must be above 2\^-26"):
        quant.softmax_params(1e-9)
