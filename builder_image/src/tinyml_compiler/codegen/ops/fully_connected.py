"""FULLY_CONNECTED to tml_fully_connected_s8."""

from tinyml_compiler import ir, quant
from tinyml_compiler.codegen.lowered import (
    Call,
    ChannelsArgument,
    InputArgument,
    OutputArgument,
    SectionArgument,
    Shape,
    ShapeArgument,
)
from tinyml_compiler.codegen.ops.parameters import (
    channel_sections,
    filter_tensor,
    quant_section,
    quantization_of,
)


def lower(graph: ir.Graph, op: ir.Op) -> Call:
    """Return the call; all axes of the output but the last are rows."""
    attributes, x, y = op.attributes, graph.x_of(op), graph.y_of(op)
    if not isinstance(attributes, ir.FullyConnected):
        raise TypeError(f"{op.source} is a {op.kind}")
    weights = filter_tensor(graph, op)
    out_features, in_features = weights.shape
    rows = y.elements // out_features
    multipliers = quant.fully_connected_multipliers(
        quantization_of(x).scale,
        quantization_of(weights).scales,
        quantization_of(y).scale,
        out_features,
    )
    return Call(
        folder="fully_connected",
        kernel="tml_fully_connected_s8",
        arguments=(
            ShapeArgument(
                Shape(
                    "tml_fully_connected_shape_t",
                    (("rows", rows), ("in_features", in_features), ("out_features", out_features)),
                )
            ),
            SectionArgument("quant"),
            ChannelsArgument(),
            SectionArgument("filter"),
            InputArgument(op.x),
            OutputArgument(op.output),
        ),
        sections=(
            quant_section(graph, op, attributes.clamp),
            *channel_sections(graph, op, 0, multipliers),
        ),
        macs=rows * in_features * out_features,
    )
