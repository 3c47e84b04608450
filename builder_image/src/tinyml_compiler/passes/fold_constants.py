"""Compute shape arithmetic at build time: SHAPE → STRIDED_SLICE → PACK → RESHAPE, as Flatten makes.

Shapes are static, so every such chain has one value. What is left of it afterwards is an error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyml_compiler import ir
from tinyml_compiler.errors import ModelInvalidError, UnsupportedOperatorError

_Array = npt.NDArray[Any]
_FOLDED = ir.ShapeOf | ir.StridedSlice | ir.Pack | ir.Reshape


def run(graph: ir.Graph) -> ir.Graph:
    """Return the graph without shape arithmetic; a Reshape has one input left."""
    ops: list[ir.Op] = []
    leftover: list[str] = []
    for op in graph.ops:
        value = _value(graph, op)
        if value is not None:
            graph = graph.with_tensors({op.output: _constant(graph, op, value)})
        elif isinstance(op.attributes, ir.ShapeOf | ir.StridedSlice | ir.Pack):
            leftover.append(f"{op.source}: works on data, supported is shape arithmetic")
        elif isinstance(op.attributes, ir.Reshape):
            ops.append(_reshape(graph, op, leftover))
        elif isinstance(op.attributes, ir.Add) and all(
            index is not None and graph.tensors[index].data is not None for index in op.inputs
        ):
            leftover.append(f"{op.source}: adds two constants, supported is at most one")
        else:
            ops.append(op)
    leftover += [
        f"output {index} {graph.tensors[index].name!r} is a constant"
        for index in graph.outputs
        if graph.tensors[index].data is not None
    ]
    if leftover:
        raise UnsupportedOperatorError(leftover)
    return graph.with_ops(tuple(ops))


def _value(graph: ir.Graph, op: ir.Op) -> _Array | None:
    """Return what the operation computes if that is known now."""
    attributes = op.attributes
    if isinstance(attributes, ir.ShapeOf):
        return np.asarray(graph.x_of(op).shape, dtype=graph.y_of(op).dtype.value)
    if not isinstance(attributes, _FOLDED):
        return None
    operands = [graph.tensors[index] for index in op.inputs if index is not None]
    if isinstance(attributes, ir.Reshape):
        return operands[0].array().reshape(-1) if operands[0].data is not None else None
    if any(tensor.data is None or tensor.dtype is ir.DType.FLOAT32 for tensor in operands):
        return None
    values = [tensor.array() for tensor in operands]
    if isinstance(attributes, ir.Pack):
        shapes = {value.shape for value in values}
        if len(shapes) != 1 or not -1 <= attributes.axis <= values[0].ndim:
            raise ModelInvalidError(f"{op.source}: inputs of shapes {sorted(shapes)} do not stack")
        return np.stack(values, axis=attributes.axis)
    return _slice(op, attributes, values)


def _slice(op: ir.Op, attributes: ir.StridedSlice, values: list[_Array]) -> _Array:
    x, begin, end, strides = values
    if not (begin.size == end.size == strides.size == x.ndim) or not np.all(strides):
        raise ModelInvalidError(
            f"{op.source}: begin, end and strides have {begin.size}, {end.size}, {strides.size} "
            f"values for {x.ndim} axes, and strides are {strides.reshape(-1).tolist()}"
        )
    index: list[int | slice] = []
    for axis in range(x.ndim):
        first, last, step = (int(each.reshape(-1)[axis]) for each in (begin, end, strides))
        if attributes.shrink_axis_mask >> axis & 1:
            if not -x.shape[axis] <= first < x.shape[axis]:
                raise ModelInvalidError(
                    f"{op.source}: element {first} of an axis of {x.shape[axis]}"
                )
            index.append(first)
        else:
            index.append(
                slice(
                    None if attributes.begin_mask >> axis & 1 else first,
                    None if attributes.end_mask >> axis & 1 else last,
                    step,
                )
            )
    return np.asarray(x[tuple(index)])


def _constant(graph: ir.Graph, op: ir.Op, value: _Array) -> ir.Tensor:
    y = graph.y_of(op)
    if value.size != y.elements or (
        value.shape != y.shape and not isinstance(op.attributes, ir.Reshape)
    ):
        raise ModelInvalidError(
            f"{op.source}: computes shape {list(value.shape)}, says {list(y.shape)}"
        )
    little_endian = np.dtype(y.dtype.value).newbyteorder("<")
    return replace(y, data=value.astype(little_endian).tobytes())


def _reshape(graph: ir.Graph, op: ir.Op, leftover: list[str]) -> ir.Op:
    if len(op.inputs) == 1 or op.inputs[1] is None:
        return replace(op, inputs=op.inputs[:1])
    new_shape, x, y = graph.tensors[op.inputs[1]], graph.x_of(op), graph.y_of(op)
    if new_shape.data is None:
        leftover.append(
            f"{op.source}: the new shape is computed from data, supported is a constant"
        )
        return op
    if new_shape.dtype is ir.DType.FLOAT32:
        raise ModelInvalidError(f"{op.source}: the new shape is float32")
    sides = [int(side) for side in new_shape.array().reshape(-1)]
    known = 1
    for side in sides:
        known *= side if side != -1 else 1
    if sides.count(-1) == 1 and known > 0:
        sides[sides.index(-1)] = x.elements // known
    if tuple(sides) != y.shape:
        raise ModelInvalidError(
            f"{op.source}: new shape is {sides}, the output has {list(y.shape)}"
        )
    return replace(op, inputs=op.inputs[:1])
