"""QUANTIZE from float32 to tml_quantize_f32_s8."""

import struct

from tinyml_compiler import ir
from tinyml_compiler.codegen.lowered import (
    Call,
    CountArgument,
    InputArgument,
    OutputArgument,
    Section,
    SectionArgument,
)
from tinyml_compiler.codegen.ops.parameters import scale_and_zero_point


def lower(graph: ir.Graph, op: ir.Op) -> Call:
    return Call(
        folder="quantize",
        kernel="tml_quantize_f32_s8",
        arguments=(
            CountArgument(graph.x_of(op).elements),
            SectionArgument("quant"),
            InputArgument(op.x),
            OutputArgument(op.output),
        ),
        sections=(scale_section(graph.y_of(op)),),
    )


def scale_section(tensor: ir.Tensor) -> Section:
    """Return the tml_scale_t of an int8 tensor."""
    data = struct.pack("<fi", *scale_and_zero_point(tensor))
    return Section("quant", "tml_scale_t", data, struct_bytes=len(data))
