"""How each operation becomes a kernel call, one file an operation."""

from collections.abc import Mapping

from tinyml_compiler import ir
from tinyml_compiler.codegen.lowered import Lower
from tinyml_compiler.codegen.ops import (
    add,
    conv2d,
    depthwise_conv2d,
    dequantize,
    fully_connected,
    mean,
    pad,
    pool2d,
    quantize,
    requantize,
    softmax,
)

LOWERINGS: Mapping[type, Lower] = {
    ir.Conv2d: conv2d.lower,
    ir.DepthwiseConv2d: depthwise_conv2d.lower,
    ir.FullyConnected: fully_connected.lower,
    ir.AveragePool2d: pool2d.lower_average,
    ir.MaxPool2d: pool2d.lower_max,
    ir.Mean: mean.lower,
    ir.Add: add.lower,
    ir.Softmax: softmax.lower,
    ir.Pad: pad.lower,
    ir.Requantize: requantize.lower,
    ir.Quantize: quantize.lower,
    ir.Dequantize: dequantize.lower,
}
"""Reshape is missing: it is the same bytes under another shape, so no call."""

__all__ = ["LOWERINGS"]
