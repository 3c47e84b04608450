"""Order the operations so that few bytes are live at once.

Two orders are compared by the largest number of bytes live at any time: the model's own, and a
greedy one that always runs the ready operation that leaves the fewest. The model's own wins a tie.
"""

from __future__ import annotations

from tinyml_compiler import ir

MAX_GREEDY_OPS = 512  # the greedy order is quadratic


def run(graph: ir.Graph) -> ir.Graph:
    if len(graph.ops) > MAX_GREEDY_OPS:
        return graph
    greedy = graph.with_ops(_greedy(graph))
    return greedy if peak_bytes(greedy) < peak_bytes(graph) else graph


def peak_bytes(graph: ir.Graph) -> int:
    """Return the most bytes of activations that are live at once, each in a buffer of its own."""
    last = {index: len(graph.ops) for index in graph.outputs}
    for index, positions in graph.uses().items():
        last[index] = max(last.get(index, 0), positions[-1])
    live = set(graph.inputs)
    peak = _bytes(graph, live)
    for position, op in enumerate(graph.ops):
        live.add(op.output)
        peak = max(peak, _bytes(graph, live))
        live = {index for index in live if last.get(index, -1) > position}
    return peak


def _bytes(graph: ir.Graph, live: set[int]) -> int:
    return sum(graph.tensors[index].size_bytes for index in live)


def _greedy(graph: ir.Graph) -> tuple[ir.Op, ...]:
    readers = {index: len(positions) for index, positions in graph.uses().items()}
    for index in graph.outputs:
        readers[index] = readers.get(index, 0) + 1
    done = set(graph.inputs) | {i for i, t in enumerate(graph.tensors) if t.data is not None}
    waiting, ordered = list(graph.ops), []
    while waiting:
        ready = [op for op in waiting if all(i is None or i in done for i in op.inputs)]
        op = min(ready, key=lambda each: _growth(graph, each, readers))
        for read in op.inputs:
            if read is not None:
                readers[read] -= 1
        done.add(op.output)
        ordered.append(op)
        waiting.remove(op)
    return tuple(ordered)


def _growth(graph: ir.Graph, op: ir.Op, readers: dict[int, int]) -> int:
    """Return the bytes that are live after `op` and were not before, less those that it frees."""
    freed = 0
    for index in {i for i in op.inputs if i is not None}:
        tensor = graph.tensors[index]
        if tensor.data is None and readers[index] == op.inputs.count(index):
            freed += tensor.size_bytes
    return graph.y_of(op).size_bytes - freed
