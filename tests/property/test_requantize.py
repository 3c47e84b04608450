"""The one rounding of the project, in Python and in C: equal everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinyml_compiler.quant import quantize_multiplier, requantize

from tests.support.c_kernels import Kernels, load_kernels

INT32 = st.integers(-(2**31), 2**31 - 1)
MULTIPLIER = st.integers(0, 2**31 - 1)
SHIFT = st.integers(-31, 31)


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return load_kernels()


def test_python_equals_c_over_a_million_random_inputs(kernels: Kernels) -> None:
    rng = np.random.default_rng(20261122)
    x = rng.integers(-(2**31), 2**31, size=1_000_000)
    multiplier = rng.integers(0, 2**31, size=1_000_000)
    shift = rng.integers(-31, 32, size=1_000_000)
    np.testing.assert_array_equal(
        requantize(x, multiplier, shift), kernels.requantize_all(x, multiplier, shift)
    )


def test_python_equals_c_at_every_edge(kernels: Kernels) -> None:
    powers = [s * 2**k + d for k in range(31) for s in (1, -1) for d in (-1, 0, 1)]
    xs = np.array([-(2**31), 2**31 - 1, *powers])
    multipliers = np.array([0, 1, 2**30 - 1, 2**30, 2**30 + 1, 2**31 - 2, 2**31 - 1])
    x, multiplier, shift = (
        a.ravel() for a in np.meshgrid(xs, multipliers, np.arange(-31, 32), indexing="ij")
    )
    np.testing.assert_array_equal(
        requantize(x, multiplier, shift), kernels.requantize_all(x, multiplier, shift)
    )


def _by_definition(x: int, multiplier: int, shift: int) -> int:
    """gemmlowp's words: a doubling high multiplication with a nudge, then a rounding division."""
    if shift > 0:
        x = (x << shift) + 2**31 & 0xFFFFFFFF
        x -= 2**31
    product = x * multiplier
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    high = abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)
    if shift >= 0:
        return high
    half = 1 << (-shift - 1)
    return (abs(high) + half >> -shift) * (1 if high >= 0 else -1)


@given(x=INT32, multiplier=MULTIPLIER, shift=SHIFT)
@settings(max_examples=1000, deadline=None)
def test_python_equals_the_definition(x: int, multiplier: int, shift: int) -> None:
    assert int(requantize(x, multiplier, shift)) == _by_definition(x, multiplier, shift)


@given(x=st.integers(-(2**22), 2**22), scale=st.floats(2**-20, 2**6))
@settings(max_examples=1000, deadline=None)
def test_the_result_is_the_scaled_number_to_within_a_rounding(x: int, scale: float) -> None:
    multiplier, shift = quantize_multiplier(scale)
    # Half for the last rounding, less for the first one and for the multiplier's 31 bits.
    assert abs(int(requantize(x, multiplier, shift)) - x * scale) <= 1.01
