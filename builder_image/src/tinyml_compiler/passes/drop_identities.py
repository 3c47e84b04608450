"""Remove operations that change nothing, and those whose result nobody reads.

What a model gives out keeps its own operation, so that outputs keep their names.
"""

from __future__ import annotations

from dataclasses import replace

from tinyml_compiler import ir


def run(graph: ir.Graph) -> ir.Graph:
    return _live(_without_identities(graph))


def _without_identities(graph: ir.Graph) -> ir.Graph:
    same: dict[int, int] = {}  # tensor: the one that equals it
    ops = []
    for op in graph.ops:
        op = replace(op, inputs=tuple(None if i is None else same.get(i, i) for i in op.inputs))
        if op.output not in graph.outputs and _is_identity(graph, op):
            same[op.output] = op.x
        else:
            ops.append(op)
    return graph.with_ops(tuple(ops))


def _is_identity(graph: ir.Graph, op: ir.Op) -> bool:
    attributes, x, y = op.attributes, graph.x_of(op), graph.y_of(op)
    if x.shape != y.shape or x.quantization != y.quantization or x.dtype is not y.dtype:
        return False
    if isinstance(attributes, ir.Requantize):
        return attributes.clamp == ir.Clamp()
    if isinstance(attributes, ir.Pad):
        return not any((*attributes.before, *attributes.after))
    return isinstance(attributes, ir.Reshape)


def _live(graph: ir.Graph) -> ir.Graph:
    wanted, ops = set(graph.outputs), []
    for op in reversed(graph.ops):
        if op.output in wanted:
            ops.append(op)
            wanted |= {index for index in op.inputs if index is not None}
    return graph.with_ops(tuple(reversed(ops)))
