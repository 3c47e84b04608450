"""Where each activation lives in the arena.

A buffer is live from the operation that writes its first tensor to the one that reads its last; the
model's inputs are live from the start, its outputs to the end. Tensors share a buffer where one is
the other's bytes (Reshape), and where an operation may write over its input. Buffers that live at
the same time do not overlap. Placement is by greedy best fit under several orders, the best kept;
`lower_bound_bytes` (the most bytes live at once) says how good that is.
Source of the idea: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tinyml_compiler import ir

ALIGNMENT_BYTES = 4  # floats at the edges; the arena itself is aligned to 16
MAX_SEARCHED_BUFFERS = 256
SEARCH_ROUNDS = 64


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes [offset, offset + size_bytes) of the arena, live in operations first to last inclusive.

    -1 is before the first operation (inputs), the number of operations is after the last (outputs).
    """

    tensors: tuple[int, ...]
    names: tuple[str, ...]
    size_bytes: int
    first: int
    last: int
    offset: int = 0

    def lives_with(self, other: Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """`arena_bytes` is the end of the last buffer: exact, nothing is rounded up."""

    buffers: tuple[Buffer, ...]
    offsets: Mapping[int, int]  # of each activation, by tensor
    arena_bytes: int
    lower_bound_bytes: int


def plan(graph: ir.Graph) -> MemoryPlan:
    """Place all activations of `graph`."""
    return place(lifetimes(graph))


def place(buffers: Sequence[Buffer]) -> MemoryPlan:
    """Give each buffer an offset. Same buffers in, same plan out."""
    bound = lower_bound_bytes(buffers)
    best = _first_fit(buffers, _ORDERS[0])
    if len(buffers) <= MAX_SEARCHED_BUFFERS:
        for order in _ORDERS[1:]:
            best = min(best, _first_fit(buffers, order), key=_end)
        best = _improved(best, bound)
    ordered = tuple(sorted(best, key=lambda each: (each.first, each.last, each.tensors)))
    offsets = {tensor: buffer.offset for buffer in ordered for tensor in buffer.tensors}
    return MemoryPlan(ordered, offsets, arena_bytes=_end(ordered), lower_bound_bytes=bound)


def lower_bound_bytes(buffers: Iterable[Buffer]) -> int:
    """Return the most bytes live at once: no plan can need fewer."""
    change: dict[int, int] = {}
    for buffer in buffers:
        change[buffer.first] = change.get(buffer.first, 0) + buffer.size_bytes
        change[buffer.last + 1] = change.get(buffer.last + 1, 0) - buffer.size_bytes
    live = most = 0
    for time in sorted(change):
        live += change[time]
        most = max(most, live)
    return most


def lifetimes(graph: ir.Graph) -> tuple[Buffer, ...]:
    """Return the buffers that `graph` needs, not placed yet."""
    first: dict[int, int] = dict.fromkeys(graph.inputs, -1)
    last: dict[int, int] = dict.fromkeys(graph.inputs, -1)
    for position, op in enumerate(graph.ops):
        first[op.output] = last[op.output] = position
    for index, positions in graph.uses().items():
        if index in last:
            last[index] = max(last[index], positions[-1])
    last.update(dict.fromkeys(graph.outputs, len(graph.ops)))
    owner = _owners(graph, first, last)
    members: dict[int, list[int]] = {}
    for index in sorted(first, key=lambda each: (first[each], each)):
        members.setdefault(owner(index), []).append(index)
    return tuple(
        Buffer(
            tensors=tuple(tensors),
            names=tuple(graph.tensors[index].name for index in tensors),
            size_bytes=graph.tensors[tensors[0]].size_bytes,
            first=min(first[index] for index in tensors),
            last=max(last[index] for index in tensors),
        )
        for tensors in members.values()
    )


def _owners(
    graph: ir.Graph, first: Mapping[int, int], last: Mapping[int, int]
) -> Callable[[int], int]:
    """Return the function from a tensor to the one that stands for its buffer."""
    parent: dict[int, int] = {}
    end = dict(last)  # of the buffer that a tensor stands for

    def owner(index: int) -> int:
        while index in parent:
            index = parent[index]
        return index

    def join(index: int, into: int) -> None:
        parent[index] = into
        end[into] = max(end[into], end[index])

    for op in graph.ops:
        if isinstance(op.attributes, ir.Reshape) and op.x in first:
            join(op.output, owner(op.x))
    for position, op in enumerate(graph.ops):
        for index in dict.fromkeys(op.inputs if _may_write_over(op) else ()):
            if index is None or index not in first:
                continue  # left out, or a constant
            into, y = owner(index), graph.y_of(op)
            same_size = graph.tensors[into].size_bytes == y.size_bytes
            whole = graph.tensors[index].shape == y.shape
            if end[into] == position and same_size and whole:
                join(op.output, into)
                break
    return owner


def _may_write_over(op: ir.Op) -> bool:
    """May the output be an input of the same shape? As tml/kernels.h says."""
    return isinstance(op.attributes, ir.Add | ir.Requantize)


_Order = Callable[[Buffer], tuple[int, ...]]

# Largest first; largest area first; longest first; as they come to life.
_ORDERS: tuple[_Order, ...] = (
    lambda b: (-b.size_bytes, b.first, *b.tensors),
    lambda b: (-b.size_bytes * (b.last - b.first + 1), b.first, *b.tensors),
    lambda b: (b.first - b.last, -b.size_bytes, *b.tensors),
    lambda b: (b.first, -b.size_bytes, *b.tensors),
)


def _end(buffers: Iterable[Buffer]) -> int:
    return max((buffer.offset + buffer.size_bytes for buffer in buffers), default=0)


def _first_fit(buffers: Iterable[Buffer], order: _Order) -> list[Buffer]:
    return _placed(sorted(buffers, key=order))


def _placed(ordered: Sequence[Buffer]) -> list[Buffer]:
    """Place in the given order, each into the smallest gap that it fits, else past the end."""
    placed: list[Buffer] = []
    for buffer in ordered:
        around = sorted(
            (each for each in placed if each.lives_with(buffer)), key=lambda each: each.offset
        )
        placed.append(_at(buffer, _best_gap(buffer.size_bytes, around)))
    return placed


def _best_gap(size_bytes: int, around: Sequence[Buffer]) -> int:
    start, best, best_slack = 0, None, 0
    for other in around:
        slack = other.offset - start - size_bytes
        if slack >= 0 and (best is None or slack < best_slack):
            best, best_slack = start, slack
        start = max(start, _aligned(other.offset + other.size_bytes))
    return start if best is None else best


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _at(buffer: Buffer, offset: int) -> Buffer:
    return Buffer(
        tensors=buffer.tensors,
        names=buffer.names,
        size_bytes=buffer.size_bytes,
        first=buffer.first,
        last=buffer.last,
        offset=offset,
    )


def _improved(placed: list[Buffer], bound: int) -> list[Buffer]:
    """Place the buffer that sticks out first, again and again, while the bound is not reached."""
    best, order = placed, list(placed)
    for _ in range(SEARCH_ROUNDS):
        if _end(best) <= bound:
            break
        highest = max(order, key=lambda each: each.offset + each.size_bytes)
        order = _placed([highest, *(each for each in order if each is not highest)])
        if _end(order) < _end(best):
            best = order
    return best
