"""Let the operation before do the clamping of a RELU that rescales nothing.

Exact: with equal scales and zero points a Requantize is its clamp alone, and two clamps are one. An
operation that other operations or the caller read too keeps its own result.
"""

from __future__ import annotations

from dataclasses import replace

from tinyml_compiler import ir

_CLAMPING = (
    ir.Conv2d
    | ir.DepthwiseConv2d
    | ir.FullyConnected
    | ir.AveragePool2d
    | ir.MaxPool2d
    | ir.Add
    | ir.Requantize
)


def run(graph: ir.Graph) -> ir.Graph:
    uses = graph.uses()
    ops: list[ir.Op | None] = list(graph.ops)
    writer = {op.output: position for position, op in enumerate(graph.ops)}
    for position, op in enumerate(graph.ops):
        before = writer.get(op.x)
        if before is None or len(uses[op.x]) != 1 or op.x in graph.outputs:
            continue
        fused = _fused(graph, ops[before], op)
        if fused is not None:
            ops[before], ops[position] = None, fused
    return graph.with_ops(tuple(op for op in ops if op is not None))


def _fused(graph: ir.Graph, before: ir.Op | None, op: ir.Op) -> ir.Op | None:
    """Return `before` with the clamp of `op`, writing its output; None if that is not exact."""
    if before is None or not isinstance(before.attributes, _CLAMPING):
        return None
    if not isinstance(op.attributes, ir.Requantize):
        return None
    if graph.x_of(op).quantization != graph.y_of(op).quantization:
        return None
    clamp = before.attributes.clamp.then(op.attributes.clamp)
    if clamp is None:
        return None
    return replace(before, attributes=replace(before.attributes, clamp=clamp), output=op.output)
