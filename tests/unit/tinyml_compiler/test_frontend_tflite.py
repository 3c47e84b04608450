"""What the TFLite front end reads, and how it refuses what it does not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tinyml_compiler import ir
from tinyml_compiler.errors import (
    CompilerError,
    ModelInvalidError,
    ModelNotQuantizedError,
    UnsupportedOperatorError,
)
from tinyml_compiler.frontends import tflite_file
from tinyml_compiler.frontends.tflite import import_model

from tests.support import graph_models
from tests.support.graph_models import X, Y, bias, weights
from tests.support.tflite_builder import ModelBuilder, Quant, a_model


def refusal(model: bytes, error: type[CompilerError]) -> str:
    with pytest.raises(error) as caught:
        import_model(model, "m")
    return str(caught.value)


def test_a_convolution_arrives_with_explicit_padding() -> None:
    model = (
        a_model()
        .input("x", (1, 49, 10, 1), X)
        .conv2d(weights((4, 10, 4, 1)), bias(4), Y, filter_scale=0.01, stride=(2, 2))
        .build()
    )
    graph = import_model(model, "m")
    (op,) = graph.ops
    assert op.attributes == ir.Conv2d(ir.Window(10, 4, 2, 2, 1, 1, pad_top=4, pad_left=1))
    assert graph.x_of(op).quantization == ir.Quantization((float(np.float32(0.05)),), (-3,))
    assert graph.y_of(op).shape == (1, 25, 5, 4)


def test_what_is_left_out_is_none() -> None:
    graph = import_model(graph_models.pad_of_another_value(), "m")
    conv = graph.ops[1]
    assert len(conv.inputs) == 2 or conv.inputs[2] is None


def test_neighbouring_axes_of_a_mean_become_one() -> None:
    model = a_model().input("x", (1, 4, 5, 6), X).mean((-2, 1), Y).build()
    assert import_model(model, "m").ops[0].attributes == ir.Mean(outer=1, reduced=20, inner=6)


def test_axes_of_one_element_never_stand_in_the_way_of_a_mean() -> None:
    model = a_model().input("x", (3, 4, 1, 6), X).mean((1, 3), Y).build()
    assert import_model(model, "m").ops[0].attributes == ir.Mean(outer=3, reduced=24, inner=1)


@pytest.mark.needs_models
def test_a_float_model_is_told_to_quantize() -> None:
    model = Path(os.environ["TINYML_MODELS"], "kws_ref_model_float32.tflite").read_bytes()
    message = refusal(model, ModelNotQuantizedError)
    assert "13 of 13 operators" in message
    assert "spec.quantization.mode: PostTraining" in message


def test_a_float_operator_in_the_middle_is_named() -> None:
    model = a_model().input("x", (1, 4), X).dequantize().unary("LOGISTIC", None, dtype="float32")
    message = refusal(model.build(), ModelNotQuantizedError)
    assert "1 of 2 operators work on float (op 1 LOGISTIC)" in message


def test_all_problems_are_in_one_message() -> None:
    model = (
        a_model()
        .input("x", (1, 4, 4, 2), X)
        .unary("LOGISTIC", Y)
        .mean((1, 3), Y)
        .op("CUSTOM", (2,), (1, 4), Y, custom_code="Secret*/Sauce")
        .build()
    )
    with pytest.raises(UnsupportedOperatorError) as caught:
        import_model(model, "m")
    problems = caught.value.problems
    assert len(problems) == 3
    assert problems[0] == "op 0 LOGISTIC: is not a supported operator"
    assert problems[1] == (
        "op 1 MEAN: reduces axes [1, 3] of [1, 4, 4, 2], supported are neighbouring axes"
    )
    assert problems[2] == "op 2 CUSTOM(Secret*/Sauce): is not a supported operator"
    assert str(caught.value).startswith("3 parts of the model not supported: op 0")
    assert "(supported operators: ADD, AVERAGE_POOL_2D, CONV_2D, " in str(caught.value)


REFUSED: dict[str, tuple[bytes, str]] = {
    "batch": (
        ModelBuilder.build(
            a_model()
            .input("x", (2, 4, 4, 2), X)
            .conv2d(weights((1, 1, 1, 2)), None, Y, filter_scale=0.1)
        ),
        "op 0 CONV_2D: input shape is [2, 4, 4, 2], supported is [1, height, width, channels]",
    ),
    "groups": (
        ModelBuilder.build(
            a_model()
            .input("x", (1, 4, 4, 4), X)
            .conv2d(weights((4, 1, 1, 2)), None, Y, filter_scale=0.1)
        ),
        "op 0 CONV_2D: filter has 2 input channels, the input 4: grouped convolutions",
    ),
    "uint8": (
        ModelBuilder.build(a_model().input("x", (1, 4), X, "uint8").quantize(Y)),
        "tensor 0 'x' is UINT8, supported are INT8, INT32, INT64, FLOAT32",
    ),
    "int16 activations": (
        ModelBuilder.build(a_model().input("x", (1, 4), Quant(0.1, 0), "int16").softmax()),
        "tensor 0 'x' is INT16",
    ),
    "relu6 that rescales": (
        ModelBuilder.build(a_model().input("x", (1, 4), X).relu6(Y)),
        "op 0 RELU6: input and output have different scales or zero points",
    ),
    "relu that the oracle lacks": (
        ModelBuilder.build(a_model().input("x", (1, 4), X).relu_n1_to_1(X)),
        "op 0 RELU_N1_TO_1: is not a supported operator",
    ),
    "computed shape": (
        ModelBuilder.build(
            a_model()
            .input("x", (1, 4), X)
            .input("s", (2,), None, "int32")
            .op("RESHAPE", ("x", "s"), (2, 2), X)
        ),
        "tensor 1 's' at the edge of the model is INT32, supported are INT8 and FLOAT32",
    ),
    "five axes": (
        ModelBuilder.build(
            a_model().input("x", (1, 1, 1, 2, 2), X).input("y", (2,), X).add("x", "y", Y)
        ),
        "op 0 ADD: adds [1, 1, 1, 2, 2] and [2], supported are at most 4 axes",
    ),
    "two constants": (
        ModelBuilder.build(
            a_model()
            .input("x", (1, 2), X)
            .constant("a", weights((2,)), X)
            .constant("b", weights((2,)), X)
            .add("a", "b", Y)
        ),
        "op 0 ADD: adds two constants",
    ),
    "computed filter": (
        ModelBuilder.build(
            a_model()
            .input("x", (1, 4), X)
            .input("w", (3, 4), Quant(0.1, 0))
            .op(
                "FULLY_CONNECTED",
                ("x", "w"),
                (1, 3),
                Y,
                "FullyConnectedOptions",
                {"FusedActivationFunction": 0},
            )
        ),
        "op 0 FULLY_CONNECTED: the filter is computed by the model, supported is a constant",
    ),
    "float bias is named": (
        ModelBuilder.build(
            a_model()
            .input("x", (1, 4), X)
            .constant("w", weights((3, 4)), Quant(0.1, 0))
            .constant("b", np.zeros(3, np.int64))
            .op(
                "FULLY_CONNECTED",
                ("x", "w", "b"),
                (1, 3),
                Y,
                "FullyConnectedOptions",
                {"FusedActivationFunction": 0},
            )
        ),
        "op 0 FULLY_CONNECTED: the bias is int64, supported is an int32 constant",
    ),
    "filter zero point": (
        ModelBuilder.build(
            a_model()
            .input("x", (1, 4), X)
            .constant("w", weights((3, 4)), Quant(0.1, 5))
            .op(
                "FULLY_CONNECTED",
                ("x", "w"),
                (1, 3),
                Y,
                "FullyConnectedOptions",
                {"FusedActivationFunction": 0},
            )
        ),
        "op 0 FULLY_CONNECTED: the filter has zero point 5, supported is 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_parts_are_refused_by_name(name: str) -> None:
    model, expected = REFUSED[name]
    assert expected in refusal(model, UnsupportedOperatorError)


INVALID: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a .tflite file: 0 bytes"),
    "something else": (
        b"PK\x03\x04" * 8,
        "not a .tflite file: 32 bytes, bytes 4 to 7 are 504b0304",
    ),
    "output shape": (
        ModelBuilder.build(a_model().input("x", (1, 8), X).op("RELU", ("x",), (1, 7), X)),
        "op 0 RELU: output shape is [1, 7], must be [1, 8]",
    ),
    "scale of zero": (
        ModelBuilder.build(a_model().input("x", (1, 8), Quant(0.0, 0)).quantize(Y)),
        "tensor 0 'x' has scale 0.0: scales must be finite and above 0",
    ),
    "scale of infinity": (
        ModelBuilder.build(a_model().input("x", (1, 8), Quant(float("inf"), 0)).quantize(Y)),
        "tensor 0 'x' has scale inf",
    ),
    "zero point": (
        ModelBuilder.build(a_model().input("x", (1, 8), Quant(0.1, 128)).quantize(Y)),
        "tensor 0 'x' has zero point 128, int8 has -128..127",
    ),
    "no quantization": (
        ModelBuilder.build(a_model().input("x", (1, 8)).quantize(Y)),
        "op 0 QUANTIZE: input 'x' needs one scale and zero point",
    ),
    "softmax scale": (
        ModelBuilder.build(
            a_model()
            .input("x", (1, 8), X)
            .op("SOFTMAX", ("x",), (1, 8), Y, "SoftmaxOptions", {"Beta": 1.0})
        ),
        "must be 1/256 and -128",
    ),
    "stride of zero": (
        ModelBuilder.build(
            a_model()
            .input("x", (1, 4, 4, 1), X)
            .op("MAX_POOL_2D", ("x",), (1, 4, 4, 1), X, "Pool2DOptions", {"FilterHeight": 1})
        ),
        "op 0 MAX_POOL_2D: filter [1, 0], strides [0, 0]",
    ),
    "huge shape": (
        ModelBuilder.build(a_model().input("x", (1, 1 << 30), X).quantize(Y)),
        "tensor 0 'x' has 1073741824 elements, the limit is 67108864",
    ),
    "missing options": (
        ModelBuilder.build(
            a_model().input("x", (1, 4), X).op("SOFTMAX", ("x",), (1, 4), Quant(1 / 256, -128))
        ),
        "op 0 SOFTMAX: options are of type 0, must be 9 (SoftmaxOptions)",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_a_model_that_does_not_hold_together_is_refused_with_what_was_found(name: str) -> None:
    model, expected = INVALID[name]
    assert expected in refusal(model, ModelInvalidError)


def test_a_scale_without_a_zero_point_is_refused() -> None:
    """Found by fuzzing: PAD takes its value from the zero point."""
    data = bytearray(a_model().input("x", (1, 4), X).pad([(0, 0), (1, 1)]).build())
    at = data.index((-3).to_bytes(8, "little", signed=True)) - 4
    assert data[at : at + 4] == b"\1\0\0\0"  # one zero point
    data[at] = 0
    assert "has 1 scales and 0 zero points" in refusal(bytes(data), ModelInvalidError)


def test_a_file_over_the_limit_is_refused_before_it_is_parsed() -> None:
    data = b"\0\0\0\0TFL3" + bytes(tflite_file.MAX_FILE_BYTES)
    assert f"the limit is {tflite_file.MAX_FILE_BYTES}" in refusal(data, ModelInvalidError)


def test_an_unknown_first_side_is_one() -> None:
    """Keras writes -1 for the batch into the signature; the shape says 1."""
    graph = import_model(graph_models.flatten_dense_softmax(), "m")
    assert graph.tensors[graph.inputs[0]].shape[0] == 1
