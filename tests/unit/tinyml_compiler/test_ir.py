"""The verifier finds what is wrong with a graph; the dump shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tinyml_compiler import ir
from tinyml_compiler.frontends.tflite import import_model

from tests.support import graph_models


@pytest.fixture
def graph() -> ir.Graph:
    return import_model(graph_models.residual(), "residual")


def test_a_sound_graph_has_no_problems(graph: ir.Graph) -> None:
    assert ir.problems(graph) == []
    ir.verify(graph)


def test_reading_before_writing_is_found(graph: ir.Graph) -> None:
    turned = graph.with_ops(graph.ops[::-1])
    assert any("before anything writes it" in text for text in ir.problems(turned))
    with pytest.raises(ir.GraphInvalidError, match="graph 'residual' is not well formed"):
        ir.verify(turned)


def test_writing_twice_is_found(graph: ir.Graph) -> None:
    doubled = graph.with_ops((*graph.ops, graph.ops[-1]))
    assert any("which has a value already" in text for text in ir.problems(doubled))


def test_a_missing_output_is_found(graph: ir.Graph) -> None:
    cut = graph.with_ops(graph.ops[:-1])
    assert any("is written by no operation" in text for text in ir.problems(cut))


def test_an_index_outside_of_the_graph_is_found(graph: ir.Graph) -> None:
    wild = replace(graph, outputs=(99,))
    assert ir.problems(wild) == [f"tensor 99 is used, the graph has {len(graph.tensors)} tensors"]


def test_constant_data_of_another_length_is_found(graph: ir.Graph) -> None:
    index = graph.ops[0].inputs[1] or 0
    short = replace(graph.tensors[index], data=b"\0")
    (text,) = ir.problems(graph.with_tensors({index: short}))
    assert "needs 144 bytes of data and has 1" in text


def test_a_wrong_filter_shape_is_found(graph: ir.Graph) -> None:
    op = graph.ops[0]
    assert isinstance(op.attributes, ir.Conv2d)
    window = replace(op.attributes.window, filter_h=2)
    wrong = replace(op, attributes=replace(op.attributes, window=window))
    (text,) = ir.problems(graph.with_ops((wrong, *graph.ops[1:])))
    assert text == "op 0 CONV_2D: filter shape is [4, 3, 3, 4], must be [4, 2, 3, 4]"


def test_a_pool_that_sees_nothing_is_found() -> None:
    graph = import_model(graph_models.average_then_max(), "m")
    op = graph.ops[0]
    assert isinstance(op.attributes, ir.AveragePool2d)
    outside = replace(op.attributes, window=replace(op.attributes.window, pad_top=3))
    wrong = graph.with_ops((replace(op, attributes=outside), *graph.ops[1:]))
    assert ir.problems(wrong) == [
        "op 0 AVERAGE_POOL_2D: a pooling window lies outside of the input"
    ]


def test_clamps_combine_where_they_meet() -> None:
    assert ir.Clamp(-10, 50).then(ir.Clamp(0, 127)) == ir.Clamp(0, 50)
    assert ir.Clamp(-10, -5).then(ir.Clamp(0, 127)) is None


def test_the_dump_names_operations_shapes_and_sources(graph: ir.Graph) -> None:
    text = ir.dump(graph)
    assert text.startswith("graph residual\n")
    assert "Conv2d(" in text
    assert "int8[1, 6, 6, 4]" in text
    assert "# op 2 ADD" in text
