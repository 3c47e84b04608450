"""ADD to tml_add_s8, with broadcast; an operand that is a constant lies in the weights blob."""

from tinyml_compiler import ir, quant
from tinyml_compiler.codegen.lowered import (
    Argument,
    Call,
    InputArgument,
    OutputArgument,
    Section,
    SectionArgument,
    Shape,
    ShapeArgument,
)
from tinyml_compiler.codegen.ops.parameters import four, scale_and_zero_point, struct_section


def lower(graph: ir.Graph, op: ir.Op) -> Call:
    attributes, y = op.attributes, graph.y_of(op)
    if not isinstance(attributes, ir.Add):
        raise TypeError(f"{op.source} is a {op.kind}")
    operands = [(index, graph.tensors[index]) for index in op.inputs if index is not None]
    (_, one), (_, two) = operands
    parameters = quant.add_params(
        scale_and_zero_point(one), scale_and_zero_point(two), scale_and_zero_point(y)
    )
    values = (
        parameters.input1_zero_point,
        parameters.input2_zero_point,
        parameters.output_zero_point,
        parameters.left_shift,
        parameters.multiplier1,
        parameters.shift1,
        parameters.multiplier2,
        parameters.shift2,
        parameters.multiplier_out,
        parameters.shift_out,
        attributes.clamp.minimum,
        attributes.clamp.maximum,
    )
    sections = [struct_section("tml_add_quant_t", values)]
    inputs: list[Argument] = []
    for position, (index, tensor) in enumerate(operands, start=1):
        if tensor.data is None:
            inputs.append(InputArgument(index))
        else:
            sections.append(Section(f"operand{position}", "int8_t", tensor.data))
            inputs.append(SectionArgument(f"operand{position}"))
    return Call(
        folder="add",
        kernel="tml_add_s8",
        arguments=(
            ShapeArgument(
                Shape(
                    "tml_broadcast_t",
                    (
                        ("dims", four(y.shape, 1)),
                        ("stride1", broadcast_strides(one.shape, y.shape)),
                        ("stride2", broadcast_strides(two.shape, y.shape)),
                    ),
                )
            ),
            SectionArgument("quant"),
            *inputs,
            OutputArgument(op.output),
        ),
        sections=tuple(sections),
    )


def broadcast_strides(shape: tuple[int, ...], result: tuple[int, ...]) -> tuple[int, ...]:
    """Return four strides in elements that read `shape` as if it were `result`; 0 repeats."""
    sides, wanted = four(shape, 1), four(result, 1)
    strides, step = [], 1
    for side, whole in zip(reversed(sides), reversed(wanted), strict=True):
        strides.append(step if side == whole and side != 1 else 0)
        step *= side
    return tuple(reversed(strides))
