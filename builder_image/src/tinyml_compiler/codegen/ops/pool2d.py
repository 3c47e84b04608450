"""AVERAGE_POOL_2D and MAX_POOL_2D to tml_average_pool2d_s8 and tml_max_pool2d_s8."""

from tinyml_compiler import ir
from tinyml_compiler.codegen.lowered import (
    Call,
    InputArgument,
    OutputArgument,
    SectionArgument,
    ShapeArgument,
)
from tinyml_compiler.codegen.ops.parameters import (
    MAX_SUMMED_ELEMENTS,
    quant_section,
    window_shape,
)
from tinyml_compiler.errors import UnsupportedOperatorError


def lower_average(graph: ir.Graph, op: ir.Op) -> Call:
    return _lower(graph, op, "average_pool2d")


def lower_max(graph: ir.Graph, op: ir.Op) -> Call:
    return _lower(graph, op, "max_pool2d")


def _lower(graph: ir.Graph, op: ir.Op, name: str) -> Call:
    attributes = op.attributes
    if not isinstance(attributes, ir.AveragePool2d | ir.MaxPool2d):
        raise TypeError(f"{op.source} is a {op.kind}")
    window = attributes.window
    if window.filter_h * window.filter_w > MAX_SUMMED_ELEMENTS:
        raise UnsupportedOperatorError(
            [
                f"pools {window.filter_h}x{window.filter_w} elements, "
                f"supported are at most {MAX_SUMMED_ELEMENTS}"
            ]
        )
    return Call(
        folder=name,
        kernel=f"tml_{name}_s8",
        arguments=(
            ShapeArgument(window_shape(window, graph.x_of(op), graph.y_of(op))),
            SectionArgument("quant"),
            InputArgument(op.x),
            OutputArgument(op.output),
        ),
        sections=(quant_section(graph, op, attributes.clamp),),
    )
