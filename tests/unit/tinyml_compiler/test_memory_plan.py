"""Which tensors get a buffer, how long it lives, and who shares it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tinyml_compiler import ir, memory_plan
from tinyml_compiler.frontends.tflite import import_model
from tinyml_compiler.memory_plan import Buffer
from tinyml_compiler.passes import drop_identities, fold_constants, fuse_clamp, legalize, schedule

from tests.support import graph_models
from tests.support.graph_models import X, Y, bias, weights
from tests.support.tflite_builder import a_model


def graph_of(model: bytes) -> ir.Graph:
    graph = import_model(model, "m")
    for step in (fold_constants, legalize, fuse_clamp, drop_identities):
        graph = step.run(graph)
    ir.verify(graph)
    return graph


def buffers_by_name(model: bytes) -> dict[str, Buffer]:
    plan = memory_plan.plan(graph_of(model))
    return {name: buffer for buffer in plan.buffers for name in buffer.names}


def test_inputs_live_from_before_the_first_operation_and_outputs_past_the_last() -> None:
    buffers = buffers_by_name(graph_models.dense_on_rows())
    assert (buffers["x"].first, buffers["x"].last) == (-1, 0)
    output = next(b for name, b in buffers.items() if name != "x")
    assert (output.first, output.last) == (0, 1)


def test_an_input_that_nothing_reads_keeps_its_place_until_the_run_starts() -> None:
    model = a_model().input("x", (1, 8), X).input("unread", (1, 8), X)
    model = model.quantize(Y, source="x")
    buffers = buffers_by_name(model.build())
    assert (buffers["unread"].first, buffers["unread"].last) == (-1, -1)
    assert buffers["unread"].offset != buffers["x"].offset


def test_a_reshape_shares_its_input() -> None:
    buffers = buffers_by_name(graph_models.only_a_reshape())
    assert len(set(buffers.values())) == 1
    assert next(iter(buffers.values())).size_bytes == 12


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (graph_models.requantized_in_place, 1),  # one buffer all along
        (graph_models.add_of_itself, 1),
        (graph_models.relu_read_twice, 3),  # x, raw and clamped: raw is read by the caller
        (graph_models.add_that_broadcasts, 3),  # shapes differ
        (graph_models.float_edges, 5),  # 4 bytes become 1: never in place
    ],
)
def test_an_operation_writes_over_its_input_only_where_that_is_safe(
    build: Callable[[], bytes], count: int
) -> None:
    assert len(set(buffers_by_name(build()).values())) == count


def test_an_input_read_later_is_not_written_over() -> None:
    model = a_model().input("x", (1, 16), X).quantize(Y, name="y").add("x", "y", X).build()
    buffers = buffers_by_name(model)
    assert buffers["x"] != buffers["y"]
    assert buffers["add_2"] in (buffers["x"], buffers["y"])


def test_floats_are_aligned() -> None:
    model = a_model().input("odd", (1, 3), X).input("x", (1, 5), X)
    model = model.dequantize(source="odd", name="f").output("f").dequantize(source="x", name="g")
    plan = memory_plan.plan(graph_of(model.output("g").build()))
    assert all(buffer.offset % 4 == 0 for buffer in plan.buffers)


def test_the_schedule_runs_the_branch_that_frees_memory_first() -> None:
    """`small` is computed last in the file; run first it needs no buffer beside the large one."""
    wide = weights((64, 1, 1, 4))
    model = (
        a_model()
        .input("x", (1, 8, 8, 4), X)
        .conv2d(wide, bias(64), Y, filter_scale=0.01, name="large")
        .conv2d(wide, bias(64), Y, filter_scale=0.01, source="x", name="large2")
        .max_pool2d((8, 8), source="large", name="small")
        .max_pool2d((8, 8), source="large2", name="small2")
        .add("small", "small2", X)
        .build()
    )
    graph = graph_of(model)
    better = schedule.run(graph)
    ir.verify(better)
    assert schedule.peak_bytes(graph) == 256 + 2 * 4096
    assert schedule.peak_bytes(better) == 256 + 4096 + 64
