"""What an int8 operator computes, in plain numpy: the obvious twin of each C kernel.

Takes the parameters of `tml/kernels.h` under the same names and gives bit for bit what the kernel
(and TFLite Micro) gives. Used by tests and by passes that fold constants. It knows nothing of
graphs. Activations are HWC (batch 1), filters OHWI, depthwise HWO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyml_compiler.quant import (
    INT8_MAX,
    INT8_MIN,
    AddParams,
    Int8Array,
    Int64Array,
    MeanParams,
    RequantizeParams,
    SoftmaxParams,
    requantize,
    rounding_divide_by_pot,
)


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution or pool slides over height and width; `tml_window_t` without the shapes."""

    output_h: int
    output_w: int
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    pad_top: int = 0
    pad_left: int = 0


@dataclass(frozen=True, slots=True)
class Quant:
    """`tml_quant_t`."""

    input_zero_point: int = 0
    output_zero_point: int = 0
    activation_min: int = INT8_MIN
    activation_max: int = INT8_MAX


@dataclass(frozen=True, slots=True)
class Channels:
    """`tml_channels_t`: per output channel, the bias folded."""

    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.int32]
    shift: npt.NDArray[np.int8]


def conv2d(
    window: Window, quant: Quant, channels: Channels, filter_: Int8Array, x: Int8Array
) -> Int8Array:
    """x [H][W][C], filter [O][h][w][C] -> [output_h][output_w][O]."""
    taps = _taps(window, x, filter_.shape[1:3], quant.input_zero_point)
    # binary64 holds each sum exactly (below 2^53) and multiplies matrices fast.
    acc = np.einsum("kyxc,okc->yxo", taps, _per_tap(filter_), optimize=True)
    return _finish(acc, quant, channels)


def depthwise_conv2d(
    window: Window, quant: Quant, channels: Channels, filter_: Int8Array, x: Int8Array
) -> Int8Array:
    """x [H][W][C], filter [h][w][O], O = C * multiplier -> [output_h][output_w][O]."""
    h, w, o = filter_.shape
    taps = _taps(window, x, (h, w), quant.input_zero_point)
    repeated = np.repeat(taps, o // x.shape[2], axis=3)
    acc = np.einsum("kyxo,ko->yxo", repeated, filter_.reshape(h * w, o).astype(np.float64))
    return _finish(acc, quant, channels)


def fully_connected(
    quant: Quant, channels: Channels, filter_: Int8Array, x: Int8Array
) -> Int8Array:
    """x [rows][in_features], filter [out_features][in_features] -> [rows][out_features]."""
    return _finish(x.astype(np.float64) @ filter_.T.astype(np.float64), quant, channels)


def average_pool2d(window: Window, quant: Quant, size: tuple[int, int], x: Int8Array) -> Int8Array:
    """x [H][W][C]; taps outside of the input do not count. Rounds halves away from zero."""
    inside = np.ones(x.shape, dtype=np.int8)
    count = _taps(window, inside, size, 0).sum(axis=0).astype(np.int64)
    acc = _taps(window, x, size, 0).sum(axis=0).astype(np.int64)
    half = np.where(acc > 0, count // 2, -(count // 2))
    return _clamp(_divide(acc + half, count), quant)


def max_pool2d(window: Window, quant: Quant, size: tuple[int, int], x: Int8Array) -> Int8Array:
    """x [H][W][C]; taps outside of the input do not count."""
    return _clamp(_taps(window, x, size, INT8_MIN).max(axis=0).astype(np.int64), quant)


def mean(quant: MeanParams, x: Int8Array) -> Int8Array:
    """x [outer][reduced][inner] -> [outer][inner]."""
    acc = x.sum(axis=1, dtype=np.int64) - quant.input_zero_point * x.shape[1]
    return _to_int8(requantize(acc, quant.multiplier, quant.shift) + quant.output_zero_point)


def add(quant: AddParams, x1: Int8Array, x2: Int8Array) -> Int8Array:
    """Element by element; shapes broadcast."""
    wide1 = (x1.astype(np.int64) - quant.input1_zero_point) << quant.left_shift
    wide2 = (x2.astype(np.int64) - quant.input2_zero_point) << quant.left_shift
    scaled1 = requantize(wide1, quant.multiplier1, quant.shift1)
    scaled2 = requantize(wide2, quant.multiplier2, quant.shift2)
    out = requantize(scaled1 + scaled2, quant.multiplier_out, quant.shift_out)
    out = out + quant.output_zero_point
    return np.clip(out, quant.activation_min, quant.activation_max).astype(np.int8)


def requantize_s8(quant: RequantizeParams, x: Int8Array) -> Int8Array:
    """RELU family and int8 QUANTIZE."""
    centred = x.astype(np.int64) - quant.input_zero_point
    out = requantize(centred, quant.multiplier, quant.shift) + quant.output_zero_point
    return np.clip(out, quant.activation_min, quant.activation_max).astype(np.int8)


def quantize_f32_s8(scale: float, zero_point: int, x: npt.NDArray[np.float32]) -> Int8Array:
    """Halves away from zero; saturates; not a number becomes the zero point."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        ratio = x.astype(np.float32) / np.float32(scale)
    ratio = np.nan_to_num(ratio, nan=0.0, posinf=512.0, neginf=-512.0).clip(-512.0, 512.0)
    wide = ratio.astype(np.float64)
    rounded = np.copysign(np.floor(np.abs(wide) + 0.5), wide).astype(np.int64)
    return _to_int8(rounded + zero_point)


def dequantize_s8_f32(scale: float, zero_point: int, x: Int8Array) -> npt.NDArray[np.float32]:
    wide = float(np.float32(scale)) * (x.astype(np.float64) - zero_point)
    return wide.astype(np.float32)


def pad(paddings: Sequence[tuple[int, int]], value: int, x: Int8Array) -> Int8Array:
    """(before, after) for each dimension."""
    return np.pad(x, paddings, constant_values=np.int8(value))


def softmax(quant: SoftmaxParams, x: Int8Array) -> Int8Array:
    """Over the last axis. Fixed point as gemmlowp's: exp in Q0.31, sum in Q12.19."""
    diff = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    counts = diff >= quant.diff_min
    # What does not count is left out below; 0 keeps the fixed point of it in range.
    scaled = requantize(np.where(counts, diff, 0), quant.multiplier, quant.left_shift)
    exps = _exp_on_negative_values(scaled)
    sums = np.where(counts, rounding_divide_by_pot(exps, 12), 0).sum(axis=-1, keepdims=True)
    headroom = np.vectorize(lambda s: 32 - int(s).bit_length(), otypes=[np.int64])(sums)
    reciprocal = _one_over_one_plus_x((sums << headroom) - (1 << 31))
    # 12 integer bits of the sum, less its headroom, to 8 bits of output.
    out = rounding_divide_by_pot(_multiply(reciprocal, exps), 12 - headroom + 31 - 8)
    return _to_int8(np.where(counts, out + INT8_MIN, INT8_MIN))


def _taps(
    window: Window, x: Int8Array, size: tuple[int, ...], outside: int
) -> npt.NDArray[np.float64]:
    """[h*w][output_h][output_w][C]: what each tap sees, `outside` beyond the input."""
    h, w = size
    rows = _positions(window.output_h, window.stride_h, window.pad_top, window.dilation_h, h)
    cols = _positions(window.output_w, window.stride_w, window.pad_left, window.dilation_w, w)
    inside_h = (rows >= 0) & (rows < x.shape[0])
    inside_w = (cols >= 0) & (cols < x.shape[1])
    taps = np.empty((h * w, window.output_h, window.output_w, x.shape[2]), dtype=np.float64)
    for ky in range(h):
        for kx in range(w):
            seen = x[rows[ky].clip(0, x.shape[0] - 1)][:, cols[kx].clip(0, x.shape[1] - 1)]
            inside = inside_h[ky][:, None, None] & inside_w[kx][None, :, None]
            taps[ky * w + kx] = np.where(inside, seen, outside)
    return taps


def _positions(outputs: int, stride: int, before: int, dilation: int, taps: int) -> Int64Array:
    """[tap][output]: the input position that a tap sees."""
    return np.arange(outputs)[None, :] * stride - before + np.arange(taps)[:, None] * dilation


def _per_tap(filter_: Int8Array) -> npt.NDArray[np.float64]:
    o, h, w, c = filter_.shape
    return filter_.reshape(o, h * w, c).astype(np.float64)


def _finish(acc: npt.NDArray[np.float64], quant: Quant, channels: Channels) -> Int8Array:
    wrapped = (acc.astype(np.int64) + channels.bias).astype(np.int32)
    scaled = requantize(wrapped, channels.multiplier, channels.shift)
    return _clamp(scaled + quant.output_zero_point, quant)


def _clamp(x: Int64Array, quant: Quant) -> Int8Array:
    return np.clip(x, quant.activation_min, quant.activation_max).astype(np.int8)


def _to_int8(x: Int64Array) -> Int8Array:
    return np.clip(x, INT8_MIN, INT8_MAX).astype(np.int8)


def _divide(x: Int64Array, by: Int64Array) -> Int64Array:
    """Toward zero, as C divides."""
    quotient: Int64Array = np.abs(x) // by * np.sign(x)
    return quotient


_ONE = 2**31 - 1
_QUARTER = 1 << 24  # in Q5.26
# exp(-2^k) in Q0.31 for k = -2 .. 4
_EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
_EXP_OF_MINUS_EIGHTH, _THIRD = 1895147668, 715827883  # Q0.31
_48_OVER_17, _MINUS_32_OVER_17 = 1515870810, -1010580540  # Q2.29


def _exp_on_negative_values(a: Int64Array) -> Int64Array:
    """exp of Q5.26 numbers <= 0, in Q0.31: a Taylor series on [-1/4, 0), a factor for each bit."""
    fraction = (a & (_QUARTER - 1)) - _QUARTER
    x = (fraction << 5) + (1 << 28)  # around -1/8
    x2 = _multiply(x, x)
    x3, x4 = _multiply(x2, x), _multiply(x2, x2)
    series = _multiply(rounding_divide_by_pot(x4, 2) + x3, _THIRD) + x2
    tail = x + rounding_divide_by_pot(series, 1)
    result = _EXP_OF_MINUS_EIGHTH + _multiply(tail, _EXP_OF_MINUS_EIGHTH)
    remainder = fraction - a
    for k, factor in enumerate(_EXP_OF_POWERS):
        result = np.where(remainder & (_QUARTER << k), _multiply(result, factor), result)
    return np.where(a == 0, _ONE, result)


def _one_over_one_plus_x(a: Int64Array) -> Int64Array:
    """1 / (1 + a) of Q0.31 numbers in [0, 1), in Q0.31: Newton's method from 48/17 - 32/17 d."""
    half_denominator = (a + _ONE + 1) >> 1
    x = _48_OVER_17 + _multiply(half_denominator, _MINUS_32_OVER_17)
    for _ in range(3):
        error = (1 << 29) - _multiply(half_denominator, x)
        x = x + _saturating_shift(_multiply(x, error), 2)
    return _saturating_shift(x, 1)


def _multiply(a: npt.ArrayLike, b: npt.ArrayLike) -> Int64Array:
    """Product of two fixed-point numbers, halves up; gemmlowp's, but for -1 times -1."""
    product: Int64Array = (
        np.asarray(a, dtype=np.int64) * np.asarray(b, dtype=np.int64) + (1 << 30)
    ) >> 31
    return product


def _saturating_shift(x: Int64Array, bits: int) -> Int64Array:
    shifted: Int64Array = np.clip(x << bits, -(2**31), 2**31 - 1)
    return shifted
