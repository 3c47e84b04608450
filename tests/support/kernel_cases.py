"""Random single-operator models, and what the oracle, `reference.py` and the C kernel say to each.

case = conv2d_case(np.random.default_rng(7))
case.oracle()                 # TFLite Micro
case.reference()              # numpy
case.kernel(kernels)          # C, through ctypes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tinyml_compiler import quant, reference

from tests.support.c_kernels import Kernels
from tests.support.tflite_builder import Quant, a_model, oracle, window_output

Array = npt.NDArray[Any]
Rng = np.random.Generator
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")


@dataclass(frozen=True, slots=True)
class Case:
    what: str
    model: bytes
    inputs: tuple[Array, ...]
    reference: Callable[[], Array]
    kernel: Callable[[Kernels], Array]

    def oracle(self) -> Array:
        return oracle(self.model, *self.inputs)[0]


def conv2d_case(rng: Rng) -> Case:
    x, in_q, out_q = _activation(rng, _hwc(rng)), _quant(rng), _quant(rng)
    h, w, c = x.shape
    size, stride, dilation, padding = _window(rng, (h, w))
    o = int(rng.integers(1, 9))
    filter_, bias, scales = _weights(rng, (o, *size, c), o, in_q, out_q)
    activation = str(rng.choice(ACTIVATIONS))
    model = (
        a_model()
        .input("x", (1, h, w, c), in_q)
        .conv2d(
            filter_,
            bias,
            out_q,
            filter_scale=scales,
            stride=stride,
            dilation=dilation,
            padding=padding,
            activation=activation,
        )
        .build()
    )
    window = _window_params((h, w), size, stride, dilation, padding)
    params = _quant_params(in_q, out_q, activation)
    channels = _channels(filter_, bias, scales, in_q, out_q, axis=0)
    return Case(
        f"conv {x.shape} {filter_.shape} {stride} {dilation} {padding} {activation}",
        model,
        (x[None],),
        lambda: reference.conv2d(window, params, channels, filter_, x)[None],
        lambda c: c.conv2d(window, params, channels, filter_, x)[None],
    )


def depthwise_conv2d_case(rng: Rng) -> Case:
    x, in_q, out_q = _activation(rng, _hwc(rng)), _quant(rng), _quant(rng)
    h, w, c = x.shape
    size, stride, dilation, padding = _window(rng, (h, w))
    o = c * int(rng.integers(1, 4))
    filter_, bias, scales = _weights(rng, (1, *size, o), o, in_q, out_q)
    activation = str(rng.choice(ACTIVATIONS))
    model = (
        a_model()
        .input("x", (1, h, w, c), in_q)
        .depthwise_conv2d(
            filter_,
            bias,
            out_q,
            filter_scale=scales,
            stride=stride,
            dilation=dilation,
            padding=padding,
            activation=activation,
        )
        .build()
    )
    window = _window_params((h, w), size, stride, dilation, padding)
    params = _quant_params(in_q, out_q, activation)
    channels = _channels(filter_, bias, scales, in_q, out_q, axis=3)
    return Case(
        f"depthwise {x.shape} {filter_.shape} {stride} {dilation} {padding} {activation}",
        model,
        (x[None],),
        lambda: reference.depthwise_conv2d(window, params, channels, filter_[0], x)[None],
        lambda c: c.depthwise_conv2d(window, params, channels, filter_[0], x)[None],
    )


def fully_connected_case(rng: Rng) -> Case:
    rows, i, o = (int(rng.integers(1, n)) for n in (4, 40, 12))
    x, in_q, out_q = _activation(rng, (rows, i)), _quant(rng), _quant(rng)
    filter_, bias, scales = _weights(rng, (o, i), o, in_q, out_q)
    activation = str(rng.choice(ACTIVATIONS))
    model = (
        a_model()
        .input("x", (rows, i), in_q)
        .fully_connected(filter_, bias, out_q, filter_scale=scales, activation=activation)
        .build()
    )
    params = _quant_params(in_q, out_q, activation)
    multiplier, shift = quant.fully_connected_multipliers(_s(in_q), scales, _s(out_q), o)
    folded = quant.fold_bias(bias, filter_, in_q.zero_point, axis=0)
    channels = reference.Channels(folded, multiplier, shift)
    return Case(
        f"fully connected {x.shape} {filter_.shape} {len(scales)} scales {activation}",
        model,
        (x,),
        lambda: reference.fully_connected(params, channels, filter_, x),
        lambda c: c.fully_connected(params, channels, filter_, x),
    )


def average_pool2d_case(rng: Rng) -> Case:
    return _pool_case(rng, "average_pool2d")


def max_pool2d_case(rng: Rng) -> Case:
    return _pool_case(rng, "max_pool2d")


def mean_case(rng: Rng) -> Case:
    shape = tuple(int(n) for n in rng.integers(1, 8, size=4))
    x, in_q = _activation(rng, shape), _quant(rng)
    out_q = in_q if rng.random() < 0.3 else _quant(rng)
    first = int(rng.integers(0, 4))
    # TFLite Micro reduces two axes at most.
    axes = list(range(first, min(4, first + int(rng.integers(1, 3)))))
    named = [a - 4 if rng.random() < 0.3 else a for a in axes][:: int(rng.choice([1, -1]))]
    keep = bool(rng.random() < 0.5)
    model = a_model().input("x", shape, in_q).mean(named, out_q, keep_dims=keep)
    outer, reduced = int(np.prod(shape[:first])), int(np.prod([shape[a] for a in axes]))
    flat = x.reshape(outer, reduced, -1)
    p = quant.mean_params(_s(in_q), in_q.zero_point, _s(out_q), out_q.zero_point, reduced)
    return Case(
        f"mean {shape} over {named} keep {keep} {in_q} -> {out_q}",
        model.build(),
        (x,),
        lambda: reference.mean(p, flat).reshape(model.shape()),
        lambda c: c.mean(p, flat).reshape(model.shape()),
    )


def add_case(rng: Rng) -> Case:
    shape = tuple(int(n) for n in rng.integers(1, 6, size=4))
    shape1, shape2 = _broadcastable(rng, shape)
    x1, x2 = _activation(rng, shape1), _activation(rng, shape2)
    q1, q2, out_q = _quant(rng), _quant(rng), _quant(rng)
    activation = str(rng.choice(ACTIVATIONS))
    model = (
        a_model()
        .input("a", shape1, q1)
        .input("b", shape2, q2)
        .add("a", "b", out_q, activation=activation)
        .build()
    )
    p = quant.add_params(
        (_s(q1), q1.zero_point), (_s(q2), q2.zero_point), (_s(out_q), out_q.zero_point), activation
    )
    return Case(
        f"add {shape1} {shape2} {activation}",
        model,
        (x1, x2),
        lambda: reference.add(p, x1, x2),
        lambda c: c.add(p, x1, x2),
    )


def softmax_case(rng: Rng) -> Case:
    rows, depth = int(rng.integers(1, 4)), int(rng.integers(1, 60))
    x = _activation(rng, (rows, depth))
    scale = float(np.float32(10 ** rng.uniform(-4, 2)))
    beta = float(np.float32(rng.choice([1.0, 0.3, 2.5])))
    model = (
        a_model()
        .input("x", (rows, depth), Quant(scale, int(rng.integers(-128, 128))))
        .softmax(beta)
        .build()
    )
    p = quant.softmax_params(scale, beta)
    return Case(
        f"softmax {x.shape} scale {scale} beta {beta}",
        model,
        (x,),
        lambda: reference.softmax(p, x),
        lambda c: c.softmax(p, x),
    )


def relu_case(rng: Rng) -> Case:
    x, in_q, out_q = _activation(rng, _hwc(rng)), _quant(rng), _quant(rng)
    p = quant.relu_params(_s(in_q), in_q.zero_point, _s(out_q), out_q.zero_point)
    model = a_model().input("x", x.shape, in_q).relu(out_q).build()
    return _requantize_case("relu", model, p, x)


def relu6_case(rng: Rng) -> Case:
    x, in_q, out_q = _activation(rng, _hwc(rng)), _quant(rng), _quant(rng)
    p = quant.relu6_params(_s(in_q), in_q.zero_point)
    model = a_model().input("x", x.shape, in_q).relu6(out_q).build()
    return _requantize_case("relu6", model, p, x)


def requantize_case(rng: Rng) -> Case:
    x, in_q, out_q = _activation(rng, _hwc(rng)), _quant(rng), _quant(rng)
    if rng.random() < 0.2:
        out_q = Quant(in_q.scale, out_q.zero_point)
    p = quant.requantize_params(_s(in_q), in_q.zero_point, _s(out_q), out_q.zero_point)
    model = a_model().input("x", x.shape, in_q).quantize(out_q).build()
    return _requantize_case("quantize", model, p, x)


def quantize_f32_case(rng: Rng) -> Case:
    q = _quant(rng)
    x = rng.normal(scale=60 * _s(q), size=50).astype(np.float32)
    halves = (rng.integers(-140, 140, size=50) + 0.5) * _s(q)
    x = np.concatenate([x, halves.astype(np.float32)])
    model = a_model().input("x", x.shape, dtype="float32").quantize(q).build()
    return Case(
        f"quantize f32 {q}",
        model,
        (x,),
        lambda: reference.quantize_f32_s8(_s(q), q.zero_point, x),
        lambda c: c.quantize_f32_s8(_s(q), q.zero_point, x),
    )


def dequantize_case(rng: Rng) -> Case:
    q = _quant(rng)
    x = np.arange(-128, 128).astype(np.int8)
    model = a_model().input("x", x.shape, q).dequantize().build()
    return Case(
        f"dequantize {q}",
        model,
        (x,),
        lambda: reference.dequantize_s8_f32(_s(q), q.zero_point, x),
        lambda c: c.dequantize_s8_f32(_s(q), q.zero_point, x),
    )


def pad_case(rng: Rng) -> Case:
    shape = tuple(int(n) for n in rng.integers(1, 6, size=4))
    x, q = _activation(rng, shape), _quant(rng)
    paddings = [(int(a), int(b)) for a, b in rng.integers(0, 4, size=(4, 2))]
    value = None if rng.random() < 0.5 else int(rng.integers(-128, 128))
    model = a_model().input("x", shape, q).pad(paddings, value=value).build()
    fill = q.zero_point if value is None else value
    return Case(
        f"pad {shape} {paddings} {value}",
        model,
        (x,),
        lambda: reference.pad(paddings, fill, x),
        lambda c: c.pad(paddings, fill, x),
    )


CASES: Mapping[str, Callable[[Rng], Case]] = {
    "conv2d": conv2d_case,
    "depthwise_conv2d": depthwise_conv2d_case,
    "fully_connected": fully_connected_case,
    "average_pool2d": average_pool2d_case,
    "max_pool2d": max_pool2d_case,
    "mean": mean_case,
    "add": add_case,
    "softmax": softmax_case,
    "relu": relu_case,
    "relu6": relu6_case,
    "requantize": requantize_case,
    "quantize_f32": quantize_f32_case,
    "dequantize": dequantize_case,
    "pad": pad_case,
}


def _pool_case(rng: Rng, op: str) -> Case:
    x, q = _activation(rng, _hwc(rng)), _quant(rng)
    h, w, _ = x.shape
    size, stride, _, padding = _window(rng, (h, w))
    activation = str(rng.choice(ACTIVATIONS))
    builder = a_model().input("x", (1, *x.shape), q)
    model = getattr(builder, op)(
        size, stride=stride, padding=padding, activation=activation
    ).build()
    window = _window_params((h, w), size, stride, (1, 1), padding)
    params = _quant_params(q, q, activation)
    return Case(
        f"{op} {x.shape} {size} {stride} {padding} {activation}",
        model,
        (x[None],),
        lambda: getattr(reference, op)(window, params, size, x)[None],
        lambda c: getattr(c, op)(window, params, size, x)[None],
    )


def _requantize_case(what: str, model: bytes, p: quant.RequantizeParams, x: Array) -> Case:
    return Case(
        f"{what} {p}",
        model,
        (x,),
        lambda: reference.requantize_s8(p, x),
        lambda c: c.requantize(p, x),
    )


def _s(q: Quant) -> float:
    return q.scales()[0]


def _hwc(rng: Rng) -> tuple[int, int, int]:
    h, w, c = rng.integers(1, (11, 11, 6))
    return int(h), int(w), int(c)


def _activation(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Random bytes, sometimes only extremes."""
    if rng.random() < 0.25:
        return rng.choice(np.array([-128, 127], dtype=np.int8), size=shape)
    return rng.integers(-128, 128, size=shape, dtype=np.int8)


def _quant(rng: Rng) -> Quant:
    extremes = (-128, 127, 0)
    zero_point = rng.choice(extremes) if rng.random() < 0.3 else rng.integers(-128, 128)
    return Quant(float(np.float32(10 ** rng.uniform(-2.5, 0.5))), int(zero_point))


def _weights(
    rng: Rng, shape: tuple[int, ...], channels: int, in_q: Quant, out_q: Quant
) -> tuple[Array, Array | None, list[float]]:
    """Filter, bias and scales such that outputs use the range of int8, and sometimes saturate."""
    filter_ = rng.integers(-127, 128, size=shape, dtype=np.int8)
    taps = filter_.size / channels
    bias = rng.integers(-20000, 20000, size=channels) if rng.random() < 0.8 else None
    typical = 40 * _s(out_q) / (_s(in_q) * 5000 * np.sqrt(taps))
    count = 1 if rng.random() < 0.3 else channels
    spread = 10 ** rng.uniform(-1, 1, size=count)
    return filter_, bias, [float(np.float32(typical * s)) for s in spread]


def _window(
    rng: Rng, size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], str]:
    """Window size, stride, dilation and padding that leave at least one output."""
    padding = str(rng.choice(["SAME", "VALID"]))
    stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    window = []
    for n, d in zip(size, dilation, strict=True):
        limit = 5 if padding == "SAME" else min(5, (n - 1) // d + 1)
        window.append(int(rng.integers(1, limit + 1)))
    # A pool has no dilation, and then any such window fits too.
    return (window[0], window[1]), stride, dilation, padding


def _window_params(
    size: tuple[int, int],
    window: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
) -> reference.Window:
    out_h, out_w = window_output(size, window, stride, dilation, padding)

    def before(n: int, out: int, k: int, s: int, d: int) -> int:
        return max(0, (out - 1) * s + (k - 1) * d + 1 - n) // 2

    return reference.Window(
        out_h,
        out_w,
        *stride,
        *dilation,
        before(size[0], out_h, window[0], stride[0], dilation[0]) if padding == "SAME" else 0,
        before(size[1], out_w, window[1], stride[1], dilation[1]) if padding == "SAME" else 0,
    )


def _quant_params(in_q: Quant, out_q: Quant, activation: str) -> reference.Quant:
    low, high = quant.activation_range(activation, _s(out_q), out_q.zero_point)
    return reference.Quant(in_q.zero_point, out_q.zero_point, low, high)


def _channels(
    filter_: Array, bias: Array | None, scales: list[float], in_q: Quant, out_q: Quant, axis: int
) -> reference.Channels:
    multiplier, shift = quant.convolution_multipliers(
        _s(in_q), scales, _s(out_q), filter_.shape[axis]
    )
    folded = quant.fold_bias(bias, filter_, in_q.zero_point, axis)
    return reference.Channels(folded, multiplier, shift)


def _broadcastable(rng: Rng, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if rng.random() < 0.5:
        return shape, shape
    first = tuple(1 if rng.random() < 0.3 else n for n in shape)
    second = tuple(
        n if f == 1 or rng.random() < 0.6 else 1 for n, f in zip(shape, first, strict=True)
    )
    return first, second
