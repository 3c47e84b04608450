"""Replace what only a model file says by what a kernel does: activations become clamps.

Afterwards no operation has an `activation`, RELU and int8 QUANTIZE are Requantize, and a Quantize
comes from float32.
"""

from __future__ import annotations

from dataclasses import replace

from tinyml_compiler import ir, quant

_WITH_ACTIVATION = (
    ir.Conv2d | ir.DepthwiseConv2d | ir.FullyConnected | ir.AveragePool2d | ir.MaxPool2d | ir.Add
)


def run(graph: ir.Graph) -> ir.Graph:
    return graph.with_ops(tuple(replace(op, attributes=_attributes(graph, op)) for op in graph.ops))


def _attributes(graph: ir.Graph, op: ir.Op) -> ir.Attributes:
    attributes = op.attributes
    if isinstance(attributes, _WITH_ACTIVATION):
        if attributes.activation is ir.Activation.NONE:
            return attributes
        return replace(
            attributes,
            activation=ir.Activation.NONE,
            clamp=_clamp(attributes.activation, graph.y_of(op)),
        )
    if isinstance(attributes, ir.Activate):
        return ir.Requantize(_clamp(attributes.activation, graph.y_of(op)))
    if isinstance(attributes, ir.Quantize) and graph.x_of(op).dtype is ir.DType.INT8:
        return ir.Requantize()
    return attributes


def _clamp(activation: ir.Activation, y: ir.Tensor) -> ir.Clamp:
    if y.quantization is None:
        raise ValueError(f"tensor {y.name!r} has no scale")
    scale, zero_point = y.quantization.scale, y.quantization.zero_point
    return ir.Clamp(*quant.activation_range(activation.value, scale, zero_point))
