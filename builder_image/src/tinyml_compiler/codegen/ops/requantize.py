"""RELU, RELU6 and int8 QUANTIZE to tml_requantize_s8."""

from tinyml_compiler import ir, quant
from tinyml_compiler.codegen.lowered import (
    Call,
    CountArgument,
    InputArgument,
    OutputArgument,
    SectionArgument,
)
from tinyml_compiler.codegen.ops.parameters import scale_and_zero_point, struct_section


def lower(graph: ir.Graph, op: ir.Op) -> Call:
    attributes, x = op.attributes, graph.x_of(op)
    if not isinstance(attributes, ir.Requantize):
        raise TypeError(f"{op.source} is a {op.kind}")
    parameters = quant.requantize_params(
        *scale_and_zero_point(x), *scale_and_zero_point(graph.y_of(op))
    )
    return Call(
        folder="requantize",
        kernel="tml_requantize_s8",
        arguments=(
            CountArgument(x.elements),
            SectionArgument("quant"),
            InputArgument(op.x),
            OutputArgument(op.output),
        ),
        sections=(
            struct_section(
                "tml_requantize_quant_t",
                (
                    parameters.input_zero_point,
                    parameters.output_zero_point,
                    parameters.multiplier,
                    parameters.shift,
                    attributes.clamp.minimum,
                    attributes.clamp.maximum,
                ),
            ),
        ),
    )
