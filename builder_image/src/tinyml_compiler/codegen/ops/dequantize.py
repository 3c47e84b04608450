"""DEQUANTIZE to tml_dequantize_s8_f32."""

from tinyml_compiler import ir
from tinyml_compiler.codegen.lowered import (
    Call,
    CountArgument,
    InputArgument,
    OutputArgument,
    SectionArgument,
)
from tinyml_compiler.codegen.ops.quantize import scale_section


def lower(graph: ir.Graph, op: ir.Op) -> Call:
    return Call(
        folder="dequantize",
        kernel="tml_dequantize_s8_f32",
        arguments=(
            CountArgument(graph.x_of(op).elements),
            SectionArgument("quant"),
            InputArgument(op.x),
            OutputArgument(op.output),
        ),
        sections=(scale_section(graph.x_of(op)),),
    )
