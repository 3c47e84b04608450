"""Whatever the lifetimes: buffers that live at once do not overlap, and the arena is exact."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tinyml_compiler.memory_plan import (
    ALIGNMENT_BYTES,
    Buffer,
    lower_bound_bytes,
    place,
)

LIFETIMES = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(-1, 30), st.integers(0, 30)),
    min_size=1,
    max_size=24,
)


def buffers_of(lifetimes: list[tuple[int, int, int]]) -> list[Buffer]:
    return [
        Buffer(tensors=(i,), names=(f"t{i}",), size_bytes=size, first=first, last=first + length)
        for i, (size, first, length) in enumerate(lifetimes)
    ]


@settings(max_examples=200, deadline=10_000)
@given(LIFETIMES)
def test_live_buffers_never_overlap(lifetimes: list[tuple[int, int, int]]) -> None:
    plan = place(buffers_of(lifetimes))
    assert len(plan.buffers) == len(lifetimes)
    for i, one in enumerate(plan.buffers):
        assert one.offset >= 0
        assert one.offset % ALIGNMENT_BYTES == 0
        for two in plan.buffers[i + 1 :]:
            apart = (
                one.offset + one.size_bytes <= two.offset
                or two.offset + two.size_bytes <= one.offset
            )
            assert apart or one.last < two.first or two.last < one.first


@settings(max_examples=100, deadline=10_000)
@given(LIFETIMES)
def test_arena_lies_between_the_bound_and_the_sum(lifetimes: list[tuple[int, int, int]]) -> None:
    buffers = buffers_of(lifetimes)
    plan = place(buffers)
    ends = [buffer.offset + buffer.size_bytes for buffer in plan.buffers]
    padding = ALIGNMENT_BYTES * len(buffers)
    assert plan.arena_bytes == max(ends)
    assert plan.lower_bound_bytes == lower_bound_bytes(buffers) <= plan.arena_bytes
    assert plan.arena_bytes <= sum(buffer.size_bytes for buffer in buffers) + padding


@settings(max_examples=50, deadline=10_000)
@given(LIFETIMES)
def test_the_bound_counts_what_is_live_at_each_moment(
    lifetimes: list[tuple[int, int, int]],
) -> None:
    buffers = buffers_of(lifetimes)
    by_moment = [
        sum(b.size_bytes for b in buffers if b.first <= time <= b.last) for time in range(-1, 62)
    ]
    assert lower_bound_bytes(buffers) == max(by_moment)


@settings(max_examples=30, deadline=10_000)
@given(LIFETIMES)
def test_planning_again_gives_the_same_plan(lifetimes: list[tuple[int, int, int]]) -> None:
    assert place(buffers_of(lifetimes)) == place(buffers_of(lifetimes))
