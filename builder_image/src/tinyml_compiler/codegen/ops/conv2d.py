"""CONV_2D to tml_conv2d_s8."""

from tinyml_compiler import ir, quant
from tinyml_compiler.codegen.lowered import (
    Call,
    ChannelsArgument,
    InputArgument,
    OutputArgument,
    SectionArgument,
    ShapeArgument,
)
from tinyml_compiler.codegen.ops.parameters import (
    channel_sections,
    filter_tensor,
    quant_section,
    quantization_of,
    window_shape,
)


def lower(graph: ir.Graph, op: ir.Op) -> Call:
    """Return the call of a convolution; `lower_filtered` does depthwise ones too."""
    return lower_filtered(graph, op, "conv2d", axis=0)


def lower_filtered(graph: ir.Graph, op: ir.Op, name: str, axis: int) -> Call:
    """`axis`: the filter's output channels."""
    attributes, x, y = op.attributes, graph.x_of(op), graph.y_of(op)
    if not isinstance(attributes, ir.Conv2d | ir.DepthwiseConv2d):
        raise TypeError(f"{op.source} is a {op.kind}")
    weights = filter_tensor(graph, op)
    multipliers = quant.convolution_multipliers(
        quantization_of(x).scale,
        quantization_of(weights).scales,
        quantization_of(y).scale,
        y.shape[3],
    )
    return Call(
        folder=name,
        kernel=f"tml_{name}_s8",
        arguments=(
            ShapeArgument(window_shape(attributes.window, x, y)),
            SectionArgument("quant"),
            ChannelsArgument(),
            SectionArgument("filter"),
            InputArgument(op.x),
            OutputArgument(op.output),
        ),
        sections=(
            quant_section(graph, op, attributes.clamp),
            *channel_sections(graph, op, axis, multipliers),
        ),
        macs=y.shape[1] * y.shape[2] * weights.elements,
    )
