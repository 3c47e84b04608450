"""MEAN to tml_mean_s8."""

from tinyml_compiler import ir, quant
from tinyml_compiler.codegen.lowered import (
    Call,
    InputArgument,
    OutputArgument,
    SectionArgument,
    Shape,
    ShapeArgument,
)
from tinyml_compiler.codegen.ops.parameters import (
    MAX_SUMMED_ELEMENTS,
    scale_and_zero_point,
    struct_section,
)
from tinyml_compiler.errors import UnsupportedOperatorError


def lower(graph: ir.Graph, op: ir.Op) -> Call:
    attributes = op.attributes
    if not isinstance(attributes, ir.Mean):
        raise TypeError(f"{op.source} is a {op.kind}")
    if attributes.reduced > MAX_SUMMED_ELEMENTS:
        raise UnsupportedOperatorError(
            [
                f"the mean of {attributes.reduced} elements, "
                f"supported are at most {MAX_SUMMED_ELEMENTS}"
            ]
        )
    parameters = quant.mean_params(
        *scale_and_zero_point(graph.x_of(op)),
        *scale_and_zero_point(graph.y_of(op)),
        attributes.reduced,
    )
    return Call(
        folder="mean",
        kernel="tml_mean_s8",
        arguments=(
            ShapeArgument(
                Shape(
                    "tml_mean_shape_t",
                    (
                        ("outer", attributes.outer),
                        ("reduced", attributes.reduced),
                        ("inner", attributes.inner),
                    ),
                )
            ),
            SectionArgument("quant"),
            InputArgument(op.x),
            OutputArgument(op.output),
        ),
        sections=(
            struct_section(
                "tml_mean_quant_t",
                (
                    parameters.input_zero_point,
                    parameters.output_zero_point,
                    parameters.multiplier,
                    parameters.shift,
                ),
            ),
        ),
    )
