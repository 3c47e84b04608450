"""Each pass alone: what it rewrites, and what it must leave."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tinyml_compiler import ir
from tinyml_compiler.errors import ModelInvalidError, UnsupportedOperatorError
from tinyml_compiler.frontends.tflite import import_model
from tinyml_compiler.passes import (
    drop_identities,
    fold_constants,
    fuse_clamp,
    fuse_pad,
    legalize,
    schedule,
)

from tests.support import graph_models
from tests.support.graph_models import GRAPHS, X, Y
from tests.support.tflite_builder import Quant, a_model

ALL = (fold_constants, legalize, fuse_pad, fuse_clamp, drop_identities, schedule)


def kinds(graph: ir.Graph) -> list[str]:
    return [op.kind for op in graph.ops]


def through(model: bytes, *steps: Callable[[ir.Graph], ir.Graph]) -> ir.Graph:
    graph = import_model(model, "m")
    for step in steps:
        graph = step(graph)
        ir.verify(graph)
    return graph


@pytest.mark.parametrize("name", GRAPHS)
def test_all_passes_keep_a_graph_well_formed_and_its_edges_the_same(name: str) -> None:
    before = import_model(GRAPHS[name](), name)
    after = through(GRAPHS[name](), *(each.run for each in ALL))
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert (
        through(GRAPHS[name](), *(each.run for each in ALL), *(each.run for each in ALL)) == after
    )


def test_flatten_folds_to_a_reshape() -> None:
    graph = through(graph_models.flatten_dense_softmax(), fold_constants.run)
    assert kinds(graph) == ["DepthwiseConv2d", "Reshape", "FullyConnected", "Softmax"]
    assert len(graph.ops[1].inputs) == 1


def test_a_shape_that_contradicts_the_output_is_refused() -> None:
    model = (
        a_model()
        .input("x", (1, 12), X)
        .constant("shape", np.asarray([3, 3], np.int32))
        .op("RESHAPE", ("x", "shape"), (3, 4), X)
        .build()
    )
    with pytest.raises(ModelInvalidError, match=r"new shape is \[3, 3\], the output has \[3, 4\]"):
        through(model, fold_constants.run)


def test_packing_data_is_refused() -> None:
    model = (
        a_model()
        .input("x", (4,), X)
        .op("PACK", ("x", "x"), (2, 4), X, "PackOptions", {"ValuesCount": 2})
    )
    with pytest.raises((UnsupportedOperatorError, ModelInvalidError), match="op 0 PACK"):
        through(model.build(), fold_constants.run)


def test_activations_become_clamps() -> None:
    model = (
        a_model().input("x", (1, 4, 4, 1), Quant(0.1, -20)).max_pool2d((2, 2), activation="RELU6")
    )
    graph = through(model.build(), legalize.run)
    attributes = graph.ops[0].attributes
    assert isinstance(attributes, ir.MaxPool2d)
    assert attributes.activation is ir.Activation.NONE
    assert attributes.clamp == ir.Clamp(-20, 40)


def test_int8_quantize_becomes_a_requantize_and_float_stays() -> None:
    graph = through(graph_models.float_edges(), legalize.run)
    assert kinds(graph) == ["Quantize", "Conv2d", "Mean", "Dequantize"]
    assert kinds(through(graph_models.requantized_in_place(), legalize.run)) == ["Requantize"] * 3


def test_a_pad_of_the_zero_point_goes_into_the_convolution() -> None:
    graph = through(graph_models.padded_convolution(), fuse_pad.run, drop_identities.run)
    (op,) = graph.ops
    assert isinstance(op.attributes, ir.Conv2d)
    assert (op.attributes.window.pad_top, op.attributes.window.pad_left) == (2, 1)
    assert op.x == graph.inputs[0]


def test_a_pad_that_others_read_too_stays_for_them() -> None:
    graph = through(graph_models.pad_with_two_readers(), fuse_pad.run, drop_identities.run)
    assert kinds(graph) == ["Pad", "Conv2d", "MaxPool2d"]
    assert graph.ops[1].x == graph.inputs[0]


@pytest.mark.parametrize("build", [graph_models.pad_of_another_value, graph_models.pad_of_channels])
def test_a_pad_of_another_value_or_axis_stays(build: Callable[[], bytes]) -> None:
    assert "Pad" in kinds(through(build(), fuse_pad.run, drop_identities.run))


def test_a_relu_of_equal_scale_goes_into_the_operation_before() -> None:
    graph = through(graph_models.relu_of_equal_scale(), legalize.run, fuse_clamp.run)
    (op,) = graph.ops
    assert isinstance(op.attributes, ir.Conv2d)
    assert op.attributes.clamp == ir.Clamp(Y.zero_point, 127)
    assert op.output == graph.outputs[0]


@pytest.mark.parametrize(
    "build", [graph_models.relu_of_another_scale, graph_models.relu_read_twice]
)
def test_a_relu_that_rescales_or_whose_input_is_read_stays(build: Callable[[], bytes]) -> None:
    graph = through(build(), legalize.run, fuse_clamp.run)
    assert kinds(graph) == ["Conv2d", "Requantize"]


def test_identities_in_the_middle_are_dropped() -> None:
    model = (
        a_model()
        .input("x", (1, 4), X)
        .quantize(X)
        .pad([(0, 0), (0, 0)])
        .reshape((1, 4))
        .quantize(Y)
        .build()
    )
    graph = through(model, fold_constants.run, legalize.run, drop_identities.run)
    assert kinds(graph) == ["Requantize"]
    assert graph.ops[0].x == graph.inputs[0]


def test_an_identity_that_the_model_gives_out_stays() -> None:
    model = a_model().input("x", (1, 4), X).quantize(X).build()
    assert kinds(through(model, legalize.run, drop_identities.run)) == ["Requantize"]


def test_what_nobody_reads_is_dropped() -> None:
    model = a_model().input("x", (1, 4), X).quantize(Y, name="y").softmax(name="unread").output("y")
    assert kinds(through(model.build(), legalize.run, drop_identities.run)) == ["Requantize"]


def test_an_order_that_is_good_already_is_kept() -> None:
    graph = import_model(graph_models.flatten_dense_softmax(), "m")
    graph = fold_constants.run(graph)
    assert schedule.run(graph) is graph
