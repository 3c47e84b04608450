"""Small models of several operators, each a shape that the compiler has to get right."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from tests.support.tflite_builder import Quant, a_model

X = Quant(0.05, -3)
Y = Quant(0.11, 4)
RNG_SEED = 11


def weights(shape: tuple[int, ...], seed: int = RNG_SEED) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)


def bias(channels: int, seed: int = RNG_SEED) -> npt.NDArray[np.int32]:
    return np.random.default_rng(seed).integers(-2000, 2000, channels).astype(np.int32)


def residual() -> bytes:
    """Two branches that meet in an ADD with RELU."""
    scale = [0.01, 0.02, 0.015, 0.03]
    return (
        a_model()
        .input("x", (1, 6, 6, 4), X)
        .conv2d(weights((4, 3, 3, 4)), bias(4), Y, filter_scale=scale, name="left")
        .conv2d(weights((4, 1, 1, 4), 3), None, X, filter_scale=0.02, source="x", name="right")
        .add("left", "right", Quant(0.08, -128), activation="RELU")
        .build()
    )


def flatten_dense_softmax() -> bytes:
    return (
        a_model()
        .input("x", (1, 4, 4, 3), X)
        .depthwise_conv2d(weights((1, 3, 3, 6)), bias(6), Y, filter_scale=0.02, stride=(2, 2))
        .flatten()
        .fully_connected(weights((5, 24)), bias(5), Quant(0.2, 10), filter_scale=0.01)
        .softmax()
        .build()
    )


def padded_convolution() -> bytes:
    """PAD of the zero point before a VALID convolution, as Keras' ZeroPadding2D makes it."""
    return (
        a_model()
        .input("x", (1, 7, 5, 2), X)
        .pad([(0, 0), (2, 1), (1, 3), (0, 0)])
        .conv2d(
            weights((3, 3, 3, 2)), bias(3), Y, filter_scale=0.01, stride=(2, 2), padding="VALID"
        )
        .build()
    )


def pad_with_two_readers() -> bytes:
    return (
        a_model()
        .input("x", (1, 4, 4, 2), X)
        .pad([(0, 0), (1, 1), (1, 1), (0, 0)], name="padded")
        .conv2d(weights((2, 3, 3, 2)), None, Y, filter_scale=0.01, padding="VALID", name="a")
        .max_pool2d((2, 2), source="padded", name="b")
        .output("a")
        .output("b")
        .build()
    )


def pad_of_another_value() -> bytes:
    return (
        a_model()
        .input("x", (1, 4, 4, 2), X)
        .pad([(0, 0), (1, 1), (0, 2), (0, 0)], value=17)
        .conv2d(weights((2, 3, 3, 2)), None, Y, filter_scale=0.01, padding="VALID")
        .build()
    )


def pad_of_channels() -> bytes:
    return a_model().input("x", (1, 3, 3, 2), X).pad([(0, 0), (0, 0), (1, 0), (1, 2)]).build()


def relu_of_equal_scale() -> bytes:
    return (
        a_model()
        .input("x", (1, 5, 5, 3), X)
        .conv2d(weights((4, 3, 3, 3)), bias(4), Y, filter_scale=0.02)
        .relu(Y)
        .build()
    )


def relu_of_another_scale() -> bytes:
    return (
        a_model()
        .input("x", (1, 5, 5, 3), X)
        .conv2d(weights((4, 3, 3, 3)), bias(4), Y, filter_scale=0.02)
        .relu(Quant(0.07, -128))
        .build()
    )


def relu_read_twice() -> bytes:
    """The convolution's own result is an output too: nothing may be fused into it."""
    return (
        a_model()
        .input("x", (1, 5, 5, 3), X)
        .conv2d(weights((4, 3, 3, 3)), bias(4), Y, filter_scale=0.02, name="raw")
        .relu(Y, name="clamped")
        .output("raw")
        .output("clamped")
        .build()
    )


def relu6_after_add() -> bytes:
    return (
        a_model()
        .input("x", (1, 5, 5, 3), X)
        .input("y", (1, 5, 5, 3), Quant(0.03, 9))
        .add("x", "y", Quant(0.04, -100))
        .relu6(Quant(0.04, -100))
        .build()
    )


def add_of_a_constant() -> bytes:
    return (
        a_model()
        .input("x", (1, 3, 4, 5), X)
        .constant("c", weights((5,)), Quant(0.02, 7))
        .add("x", "c", Y)
        .build()
    )


def add_that_broadcasts() -> bytes:
    return (
        a_model()
        .input("x", (1, 3, 1, 5), X)
        .input("y", (4, 1), Y)
        .add("x", "y", Quant(0.15, 1))
        .build()
    )


def add_of_itself() -> bytes:
    return a_model().input("x", (1, 9), X).add("x", "x", Y).build()


def float_edges() -> bytes:
    return (
        a_model()
        .input("x", (1, 6, 6, 1), None, "float32")
        .quantize(X)
        .conv2d(weights((3, 3, 3, 1)), bias(3), Y, filter_scale=0.01)
        .mean((1, 2), Quant(0.05, 2))
        .dequantize()
        .build()
    )


def requantized_in_place() -> bytes:
    return a_model().input("x", (1, 33), X).quantize(Y).quantize(X).quantize(Y).build()


def average_then_max() -> bytes:
    return (
        a_model()
        .input("x", (1, 9, 7, 3), X)
        .average_pool2d((3, 2), stride=(2, 1), padding="SAME", activation="RELU")
        .max_pool2d((2, 3), padding="SAME", activation="RELU6")
        .build()
    )


def mean_of_rows() -> bytes:
    return a_model().input("x", (2, 3, 4, 5), X).mean((-1,), Y, keep_dims=True).build()


def only_a_reshape() -> bytes:
    return a_model().input("x", (1, 2, 6), X).reshape((3, -1)).build()


def reshape_of_an_input_that_is_read_again() -> bytes:
    return (
        a_model()
        .input("x", (1, 12), X)
        .reshape((1, 2, 2, 3), name="image")
        .conv2d(weights((3, 1, 1, 3)), None, X, filter_scale=0.02, name="y")
        .add("y", "image", Y)
        .build()
    )


def dense_on_rows() -> bytes:
    return (
        a_model()
        .input("x", (3, 7), X)
        .fully_connected(weights((4, 7)), bias(4), Y, filter_scale=[0.01, 0.02, 0.03, 0.04])
        .build()
    )


def squeeze_and_expand() -> bytes:
    return (
        a_model()
        .input("x", (1, 1, 1, 8), X)
        .op("SQUEEZE", ("x",), (1, 8), X, "SqueezeOptions", {"SqueezeDims": [1, 2]}, name="flat")
        .constant("axis", np.asarray(1, np.int32))
        .op("EXPAND_DIMS", ("flat", "axis"), (1, 1, 8), X)
        .build()
    )


GRAPHS: Mapping[str, Callable[[], bytes]] = {
    build.__name__: build
    for build in (
        residual,
        flatten_dense_softmax,
        padded_convolution,
        pad_with_two_readers,
        pad_of_another_value,
        pad_of_channels,
        relu_of_equal_scale,
        relu_of_another_scale,
        relu_read_twice,
        relu6_after_add,
        add_of_a_constant,
        add_that_broadcasts,
        add_of_itself,
        float_edges,
        requantized_in_place,
        average_then_max,
        mean_of_rows,
        only_a_reshape,
        reshape_of_an_input_that_is_read_again,
        dense_on_rows,
        squeeze_and_expand,
    )
}
