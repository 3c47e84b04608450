"""Sections and shapes that several operations have in common: quantization, channels, windows."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from tinyml_compiler import ir, quant
from tinyml_compiler.codegen.lowered import Section, Shape
from tinyml_compiler.errors import ModelInvalidError

INT32_MAX = (1 << 31) - 1
MAX_SUMMED_ELEMENTS = INT32_MAX // 255  # a sum of so many int8 less a zero point fits int32


def quantization_of(tensor: ir.Tensor) -> ir.Quantization:
    """Return the tensor's quantization, which `ir.verify` has seen."""
    if tensor.quantization is None:
        raise ValueError(f"tensor {tensor.name!r} has no scale")
    return tensor.quantization


def scale_and_zero_point(tensor: ir.Tensor) -> tuple[float, int]:
    quantization = quantization_of(tensor)
    return quantization.scale, quantization.zero_point


def struct_section(c_type: str, values: Sequence[int], name: str = "quant") -> Section:
    """Return a section of one struct of int32_t fields."""
    data = struct.pack(f"<{len(values)}i", *values)
    return Section(name=name, c_type=c_type, data=data, struct_bytes=len(data))


def quant_section(graph: ir.Graph, op: ir.Op, clamp: ir.Clamp) -> Section:
    """Return the tml_quant_t."""
    x, y = quantization_of(graph.x_of(op)), quantization_of(graph.y_of(op))
    return struct_section("tml_quant_t", (x.zero_point, y.zero_point, clamp.minimum, clamp.maximum))


def filter_tensor(graph: ir.Graph, op: ir.Op) -> ir.Tensor:
    index = op.inputs[1]
    if index is None:
        raise ValueError(f"{op.source} has no filter")
    return graph.tensors[index]


def channel_sections(
    graph: ir.Graph,
    op: ir.Op,
    axis: int,
    multipliers: tuple[quant.Int32Array, quant.Int8Array],
) -> tuple[Section, ...]:
    """Return folded bias, multiplier, shift and filter; `axis`: the filter's output channels.

    Raises ModelInvalidError if a sum could leave int32.
    """
    weights = filter_tensor(graph, op)
    values = weights.array()
    bias_index = op.inputs[2] if len(op.inputs) > 2 else None
    bias = None if bias_index is None else graph.tensors[bias_index].array().reshape(-1)
    zero_point = quantization_of(graph.x_of(op)).zero_point
    _sums_fit(values, bias, zero_point, axis)
    folded = quant.fold_bias(bias, values, zero_point, axis)
    multiplier, shift = multipliers
    return (
        Section("bias", "int32_t", folded.astype("<i4").tobytes()),
        Section("multiplier", "int32_t", multiplier.astype("<i4").tobytes()),
        Section("shift", "int8_t", shift.astype("i1").tobytes()),
        Section("filter", "int8_t", values.astype("i1").tobytes()),
    )


def _sums_fit(
    values: quant.Int8Array, bias: quant.Int32Array | None, zero_point: int, axis: int
) -> None:
    others = tuple(each for each in range(values.ndim) if each != axis)
    wide = values.astype(np.int64)
    start = 0 if bias is None else bias.astype(np.int64)
    folded = np.abs(start - zero_point * wide.sum(axis=others))
    largest = folded + 128 * np.abs(wide).sum(axis=others)
    channel = int(largest.argmax())
    if int(largest[channel]) > INT32_MAX:
        raise ModelInvalidError(
            f"the sum of channel {channel} can reach {int(largest[channel])}, the "
            f"limit is {INT32_MAX} (folded bias {int(folded[channel])}): the bias or the filter "
            "is out of all proportion, check the quantization"
        )


def window_shape(window: ir.Window, x: ir.Tensor, y: ir.Tensor) -> Shape:
    """Return the tml_window_t."""
    return Shape(
        "tml_window_t",
        (
            ("input_h", x.shape[1]),
            ("input_w", x.shape[2]),
            ("input_c", x.shape[3]),
            ("output_h", y.shape[1]),
            ("output_w", y.shape[2]),
            ("output_c", y.shape[3]),
            ("filter_h", window.filter_h),
            ("filter_w", window.filter_w),
            ("stride_h", window.stride_h),
            ("stride_w", window.stride_w),
            ("dilation_h", window.dilation_h),
            ("dilation_w", window.dilation_w),
            ("pad_top", window.pad_top),
            ("pad_left", window.pad_left),
        ),
    )


def four(sides: Sequence[int], fill: int) -> tuple[int, ...]:
    """Return `sides` with `fill` in front, so that there are four."""
    return (fill,) * (4 - len(sides)) + tuple(sides)
