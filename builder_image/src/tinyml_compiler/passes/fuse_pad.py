"""Fold a Pad of height and width into the convolutions that read it.

Exact: a convolution's taps outside of its input count as the input's zero point, and only a Pad of
that very value is folded.
"""

from __future__ import annotations

from dataclasses import replace

from tinyml_compiler import ir
from tinyml_compiler.ir.check import MAX_SIDE


def run(graph: ir.Graph) -> ir.Graph:
    pads = {op.output: op for op in graph.ops if _is_foldable(graph, op)}
    return graph.with_ops(tuple(_folded(op, pads) for op in graph.ops))


def _is_foldable(graph: ir.Graph, op: ir.Op) -> bool:
    attributes, quantization = op.attributes, graph.x_of(op).quantization
    return (
        isinstance(attributes, ir.Pad)
        and quantization is not None
        and attributes.value == quantization.zero_point
        and len(attributes.before) == 4
        and not any(attributes.before[axis] or attributes.after[axis] for axis in (0, 3))
    )


def _folded(op: ir.Op, pads: dict[int, ir.Op]) -> ir.Op:
    attributes, pad = op.attributes, pads.get(op.x)
    if pad is None or not isinstance(attributes, ir.Conv2d | ir.DepthwiseConv2d):
        return op
    before = pad.attributes.before if isinstance(pad.attributes, ir.Pad) else ()
    window = attributes.window
    top, left = window.pad_top + before[1], window.pad_left + before[2]
    if max(top, left) > MAX_SIDE:
        return op
    window = replace(window, pad_top=top, pad_left=left)
    return replace(
        op, attributes=replace(attributes, window=window), inputs=(pad.x, *op.inputs[1:])
    )
