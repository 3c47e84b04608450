"""SOFTMAX to tml_softmax_s8."""

from tinyml_compiler import ir, quant
from tinyml_compiler.codegen.lowered import (
    Call,
    InputArgument,
    OutputArgument,
    SectionArgument,
    Shape,
    ShapeArgument,
)
from tinyml_compiler.codegen.ops.parameters import quantization_of, struct_section
from tinyml_compiler.errors import UnsupportedOperatorError


def lower(graph: ir.Graph, op: ir.Op) -> Call:
    attributes, x = op.attributes, graph.x_of(op)
    if not isinstance(attributes, ir.Softmax):
        raise TypeError(f"{op.source} is a {op.kind}")
    depth = x.shape[-1] if x.shape else 1
    if depth > quant.SOFTMAX_MAX_DEPTH:
        raise UnsupportedOperatorError(
            [f"the last axis has {depth} elements, supported are at most {quant.SOFTMAX_MAX_DEPTH}"]
        )
    parameters = quant.softmax_params(quantization_of(x).scale, attributes.beta)
    return Call(
        folder="softmax",
        kernel="tml_softmax_s8",
        arguments=(
            ShapeArgument(
                Shape("tml_softmax_shape_t", (("rows", x.elements // depth), ("depth", depth)))
            ),
            SectionArgument("quant"),
            InputArgument(op.x),
            OutputArgument(op.output),
        ),
        sections=(
            struct_section(
                "tml_softmax_quant_t",
                (parameters.multiplier, parameters.left_shift, parameters.diff_min),
            ),
        ),
    )
