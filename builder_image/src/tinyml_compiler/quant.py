"""Which integers make a quantized operator: multipliers, shifts, clamps, folded biases.

Called by the code generator (they go into the weights blob) and by `reference.py`. Every function
does what TFLite Micro does when it prepares the operator, in the same floating-point type and
order, so that the integers are equal bit for bit. Sources: TFLite Micro's `quantization_util.cc`,
`kernel_util.cc`, and `add_common.cc`, `softmax_common.cc`, `reduce_common.cc`,
`activations_common.cc`, `fully_connected_common.cc`, `quantize_common.cc`. Rounding on the device
lives in `tml/requant.h`; `requantize` is its twin. Scales are IEEE binary32 as in the model file,
real = scale * (q - zero_point).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from tinyml_compiler.errors import ModelInvalidError

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

INT8_MIN, INT8_MAX = -128, 127
ADD_LEFT_SHIFT = 20
SOFTMAX_INTEGER_BITS = 5
SOFTMAX_MAX_DEPTH = 4095
"""With more the sum of exponentials, 12 integer bits, could overflow."""


class Activation(StrEnum):
    """Fused activations, by their TFLite names."""

    NONE = "NONE"
    RELU = "RELU"
    RELU6 = "RELU6"
    RELU_N1_TO_1 = "RELU_N1_TO_1"


@dataclass(frozen=True, slots=True)
class RequantizeParams:
    """`tml_requantize_quant_t`: clamp(output_zero_point + requantize(in - input_zero_point))."""

    input_zero_point: int
    output_zero_point: int
    multiplier: int
    shift: int
    activation_min: int = INT8_MIN
    activation_max: int = INT8_MAX


@dataclass(frozen=True, slots=True)
class AddParams:
    """`tml_add_quant_t`; all shifts are <= 0."""

    input1_zero_point: int
    input2_zero_point: int
    output_zero_point: int
    left_shift: int
    multiplier1: int
    shift1: int
    multiplier2: int
    shift2: int
    multiplier_out: int
    shift_out: int
    activation_min: int
    activation_max: int


@dataclass(frozen=True, slots=True)
class SoftmaxParams:
    """`tml_softmax_quant_t`."""

    multiplier: int
    left_shift: int
    diff_min: int


@dataclass(frozen=True, slots=True)
class MeanParams:
    """`tml_mean_quant_t`; multiplier and shift hold 1 / number of elements too."""

    input_zero_point: int
    output_zero_point: int
    multiplier: int
    shift: int


def quantize_multiplier(scale: float) -> tuple[int, int]:
    """Return `(multiplier, shift)` with `scale ≈ multiplier · 2**(shift-31)`.

    `multiplier` is in [2^30, 2^31); both are 0 for 0 and for what rounds to less than 2^-32.
    `scale` is finite, not negative and below 2^31, else `ModelInvalidError`. Rounds half away
    from zero. Source: TFLite `QuantizeMultiplier`.
    """
    if not math.isfinite(scale) or scale < 0:
        raise ModelInvalidError(f"a scale ratio is {scale}; it must be finite and not negative")
    if scale == 0:
        return 0, 0
    fraction, shift = math.frexp(scale)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 31:
        raise ModelInvalidError(
            f"a scale ratio is {scale:g}, the limit is 2^31: check the scales of the operator"
        )
    return multiplier, shift


def requantize(x: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike) -> Int64Array:
    """`x * multiplier * 2**(shift-31)`, rounded twice as TFLite Micro does, element by element.

    x int32, multiplier in [0, 2^31), shift in [-31, 31]; all broadcast. A left shift wraps at 32
    bits, then comes the product's high half, halves rounded up, then the right shift, halves away
    from zero. The twin of `tml_requantize`.
    """
    shift_ = np.asarray(shift, dtype=np.int64)
    left, right = np.maximum(shift_, 0), np.maximum(-shift_, 0)
    shifted = (np.asarray(x, dtype=np.int64) << left).astype(np.int32).astype(np.int64)
    high = (shifted * np.asarray(multiplier, dtype=np.int64) + (1 << 30)) >> 31
    return rounding_divide_by_pot(high, right)


def rounding_divide_by_pot(x: npt.ArrayLike, exponent: npt.ArrayLike) -> Int64Array:
    """x / 2**exponent to nearest, halves away from zero; exponent 0 to 31. Source: gemmlowp."""
    x_, exponent_ = np.asarray(x, dtype=np.int64), np.asarray(exponent, dtype=np.int64)
    mask = (np.int64(1) << exponent_) - 1
    threshold = (mask >> 1) + (x_ < 0)
    result: Int64Array = (x_ >> exponent_) + ((x_ & mask) > threshold)
    return result


def activation_range(
    activation: Activation | str, scale: float, zero_point: int
) -> tuple[int, int]:
    """The smallest and largest int8 that a fused activation lets out; scale of the output.

    Source: TFLite `CalculateActivationRangeQuantized` (the division is in binary32).
    """
    low, high = INT8_MIN, INT8_MAX
    match Activation(activation):
        case Activation.RELU:
            low = _quantize_bound(0.0, scale, zero_point)
        case Activation.RELU6:
            low = _quantize_bound(0.0, scale, zero_point)
            high = _quantize_bound(6.0, scale, zero_point)
        case Activation.RELU_N1_TO_1:
            low = _quantize_bound(-1.0, scale, zero_point)
            high = _quantize_bound(1.0, scale, zero_point)
    return max(low, INT8_MIN), min(high, INT8_MAX)


def convolution_multipliers(
    input_scale: float, filter_scales: Sequence[float], output_scale: float, channels: int
) -> tuple[Int32Array, Int8Array]:
    """Multiplier int32[channels] and shift int8[channels] of CONV_2D and DEPTHWISE_CONV_2D.

    One filter scale serves all channels. The ratio is formed in binary64. Source:
    `PopulateConvolutionQuantizationParams`.
    """
    s_in, s_out = _scale(input_scale), _scale(output_scale)
    return _channels([s_in * _scale(f) / s_out for f in filter_scales], channels)


def fully_connected_multipliers(
    input_scale: float, filter_scales: Sequence[float], output_scale: float, channels: int
) -> tuple[Int32Array, Int8Array]:
    """As `convolution_multipliers`, for FULLY_CONNECTED: the product of scales is binary64 too.

    TFLite's sources have a path that forms it in binary32; the oracle does not take it (measured
    on accumulators where both differ, with and without bias; tests/unit, test_verify_scales).
    """
    return convolution_multipliers(input_scale, filter_scales, output_scale, channels)


def fold_bias(
    bias: npt.ArrayLike | None, filter_: npt.NDArray[np.int8], input_zero_point: int, axis: int
) -> Int32Array:
    """bias - input_zero_point * (sum of the channel's filter): int32, one per index of `axis`.

    Wraps at 32 bits as the accumulator does, so folding never changes a result.
    """
    others = tuple(i for i in range(filter_.ndim) if i != axis % filter_.ndim)
    sums = filter_.sum(axis=others, dtype=np.int64)
    start = np.zeros_like(sums) if bias is None else np.asarray(bias, dtype=np.int64)
    folded: Int32Array = (start - input_zero_point * sums).astype(np.int32)
    return folded


def requantize_params(
    input_scale: float, input_zero_point: int, output_scale: float, output_zero_point: int
) -> RequantizeParams:
    """int8 to int8 QUANTIZE. Source: `PrepareQuantizeReference`."""
    multiplier, shift = quantize_multiplier(_scale(input_scale) / _scale(output_scale))
    return RequantizeParams(input_zero_point, output_zero_point, multiplier, shift)


def relu_params(
    input_scale: float, input_zero_point: int, output_scale: float, output_zero_point: int
) -> RequantizeParams:
    """RELU as an operator of its own. Source: `CalculateReluOpData`."""
    multiplier, shift = quantize_multiplier(_scale(input_scale) / _scale(output_scale))
    low = max(INT8_MIN, output_zero_point)
    return RequantizeParams(input_zero_point, output_zero_point, multiplier, shift, low)


def relu6_params(input_scale: float, input_zero_point: int) -> RequantizeParams:
    """RELU6 as an operator of its own.

    TFLite Micro clamps in the input's quantization and rescales nothing, whatever the output's
    scale and zero point are. Source: `Relu6Prepare`.
    """
    six = _quantize_bound(6.0, input_scale, input_zero_point)
    high = min(INT8_MAX, max(INT8_MIN, six))
    one = quantize_multiplier(1.0)
    return RequantizeParams(input_zero_point, input_zero_point, *one, input_zero_point, high)


def add_params(
    input1: tuple[float, int],
    input2: tuple[float, int],
    output: tuple[float, int],
    activation: Activation | str = Activation.NONE,
) -> AddParams:
    """ADD of tensors given as (scale, zero point).

    `ModelInvalidError` if the output's scale is smaller than the larger input's by 2^19 or more.
    Source: `CalculateOpDataAdd`.
    """
    s1, s2, s_out = _scale(input1[0]), _scale(input2[0]), _scale(output[0])
    twice_max = 2 * max(s1, s2)
    out_ratio = twice_max / (2**ADD_LEFT_SHIFT * s_out)
    if out_ratio >= 1:
        raise ModelInvalidError(
            f"ADD: input scale {twice_max / 2:g} is {twice_max / 2 / s_out:g} times the output's, "
            f"the limit is 2^{ADD_LEFT_SHIFT - 1}"
        )
    multiplier1, shift1 = quantize_multiplier(s1 / twice_max)
    multiplier2, shift2 = quantize_multiplier(s2 / twice_max)
    multiplier_out, shift_out = quantize_multiplier(out_ratio)
    low, high = activation_range(activation, *output)
    return AddParams(
        input1_zero_point=input1[1],
        input2_zero_point=input2[1],
        output_zero_point=output[1],
        left_shift=ADD_LEFT_SHIFT,
        multiplier1=multiplier1,
        shift1=shift1,
        multiplier2=multiplier2,
        shift2=shift2,
        multiplier_out=multiplier_out,
        shift_out=shift_out,
        activation_min=low,
        activation_max=high,
    )


def softmax_params(input_scale: float, beta: float = 1.0) -> SoftmaxParams:
    """SOFTMAX to scale 1/256, zero point -128.

    Source: `PreprocessSoftmaxScaling`, `CalculateInputRadius`.
    """
    ratio = _scale(beta) * _scale(input_scale) * (1 << (31 - SOFTMAX_INTEGER_BITS))
    if ratio <= 1:
        raise ModelInvalidError(
            f"SOFTMAX: beta {beta:g} times input scale {input_scale:g} must be above 2^-26"
        )
    multiplier, left_shift = quantize_multiplier(min(ratio, 2.0**31 - 1.0))
    integer_part = float((1 << SOFTMAX_INTEGER_BITS) - 1)
    radius = integer_part * (1 << (31 - SOFTMAX_INTEGER_BITS)) / (1 << left_shift)
    return SoftmaxParams(multiplier, left_shift, -math.floor(radius))


def mean_params(
    input_scale: float,
    input_zero_point: int,
    output_scale: float,
    output_zero_point: int,
    reduced: int,
) -> MeanParams:
    """MEAN over `reduced` elements, at least 1.

    Source: `PrepareMeanOrSum`, `QuantizedMeanOrSum`.
    """
    multiplier, shift = quantize_multiplier(_scale(input_scale) / _scale(output_scale))
    count_bits = min(reduced.bit_length() - 1, 32, 31 + shift)
    multiplier = (multiplier << count_bits) // reduced
    return MeanParams(input_zero_point, output_zero_point, multiplier, shift - count_bits)


def _channels(ratios: Sequence[float], channels: int) -> tuple[Int32Array, Int8Array]:
    if len(ratios) not in (1, channels):
        raise ModelInvalidError(f"{len(ratios)} filter scales for {channels} output channels")
    pairs = [quantize_multiplier(r) for r in ratios]
    if len(pairs) == 1:
        pairs *= channels
    multiplier = np.array([m for m, _ in pairs], dtype=np.int32)
    return multiplier, np.array([s for _, s in pairs], dtype=np.int8)


def _quantize_bound(real: float, scale: float, zero_point: int) -> int:
    with np.errstate(over="ignore", under="ignore"):
        ratio = float(np.float32(real) / np.float32(_scale(scale)))
    if abs(ratio) > INT8_MAX - INT8_MIN:  # outside of int8 for any zero point
        return int(math.copysign(2 * (INT8_MAX - INT8_MIN), ratio))
    return zero_point + int(math.copysign(math.floor(abs(ratio) + 0.5), ratio))


def _scale(value: float) -> float:
    """A binary32 scale as binary64."""
    with np.errstate(over="ignore", under="ignore"):
        scale = float(np.float32(value))
    if not math.isfinite(scale) or scale <= 0:
        raise ModelInvalidError(f"a scale is {value}; it must be finite and above 0")
    return scale
