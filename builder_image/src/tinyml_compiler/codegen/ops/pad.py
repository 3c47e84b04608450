"""PAD and PADV2 to tml_pad_s8."""

from tinyml_compiler import ir
from tinyml_compiler.codegen.lowered import (
    Call,
    InputArgument,
    OutputArgument,
    Section,
    Shape,
    ShapeArgument,
    ValueArgument,
)
from tinyml_compiler.codegen.ops.parameters import four


def lower(graph: ir.Graph, op: ir.Op) -> Call:
    attributes = op.attributes
    if not isinstance(attributes, ir.Pad):
        raise TypeError(f"{op.source} is a {op.kind}")
    value = attributes.value.to_bytes(1, "little", signed=True)
    return Call(
        folder="pad",
        kernel="tml_pad_s8",
        arguments=(
            ShapeArgument(
                Shape(
                    "tml_pad_shape_t",
                    (
                        ("dims", four(graph.x_of(op).shape, 1)),
                        ("before", four(attributes.before, 0)),
                        ("after", four(attributes.after, 0)),
                    ),
                )
            ),
            ValueArgument("value"),
            InputArgument(op.x),
            OutputArgument(op.output),
        ),
        sections=(Section("value", "int8_t", value),),
    )
