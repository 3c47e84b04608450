"""Is a graph well formed? Run on what a front end reads, and between passes.

`problems` is the list of everything wrong: a front end makes a ModelInvalidError of it. `verify` is
for graphs of our own making, where a problem is a bug of the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from tinyml_compiler.errors import CompilerError
from tinyml_compiler.ir.graph import (
    Activate,
    Add,
    AveragePool2d,
    Conv2d,
    DepthwiseConv2d,
    Dequantize,
    DType,
    FullyConnected,
    Graph,
    MaxPool2d,
    Mean,
    Op,
    Pack,
    Pad,
    Quantize,
    Requantize,
    Reshape,
    ShapeOf,
    Softmax,
    StridedSlice,
    Tensor,
    Window,
)

MAX_TENSOR_ELEMENTS = 1 << 26
MAX_SIDE = 65535  # tml_window_t has uint16_t
MAX_STEP = 255  # strides and dilations are uint8_t


class GraphInvalidError(CompilerError):
    """A pass made a graph that does not hold together: a bug of the compiler, not of the model."""


def verify(graph: Graph) -> None:
    """Raise GraphInvalidError with all problems of `graph`, if it has any."""
    found = problems(graph)
    if found:
        raise GraphInvalidError(f"graph {graph.name!r} is not well formed: " + "; ".join(found))


def problems(graph: Graph) -> list[str]:
    """Return what is wrong with `graph`: its structure; types and shapes only if that holds."""
    found = list(_structure(graph))
    if not found:
        for index in sorted(_referenced(graph)):
            found += tensor_problems(index, graph.tensors[index])
    if not found:
        for op in graph.ops:
            found += [f"{op.source}: {text}" for text in _RULES[type(op.attributes)](graph, op)]
    return found


def _referenced(graph: Graph) -> set[int]:
    indices = set(graph.inputs) | set(graph.outputs)
    for op in graph.ops:
        indices |= {index for index in op.inputs if index is not None} | {op.output}
    return indices


def _structure(graph: Graph) -> Iterator[str]:
    count = len(graph.tensors)
    outside = sorted(index for index in _referenced(graph) if not 0 <= index < count)
    if outside:
        yield f"tensor {outside[0]} is used, the graph has {count} tensors"
        return
    if not graph.outputs:
        yield "the graph has no output"
    if len(set(graph.inputs)) != len(graph.inputs):
        yield f"an input is listed twice: {list(graph.inputs)}"
    known = set(graph.inputs)
    for index in graph.inputs:
        if graph.tensors[index].data is not None:
            yield f"input tensor {index} is a constant"
    for op in graph.ops:
        if not op.inputs or op.inputs[0] is None:
            yield f"{op.source}: the first input is missing"
        for read in op.inputs:
            if read is not None and read not in known and graph.tensors[read].data is None:
                yield f"{op.source}: reads tensor {read} before anything writes it"
        if op.output in known or graph.tensors[op.output].data is not None:
            yield f"{op.source}: writes tensor {op.output}, which has a value already"
        known.add(op.output)
    for output in graph.outputs:
        if output not in known:
            yield f"output tensor {output} is written by no operation"


def tensor_problems(index: int, tensor: Tensor) -> Iterator[str]:
    """Yield what is wrong with one tensor alone: shape, size of its data, quantization."""
    where = f"tensor {index} {tensor.name!r}"
    if any(side < 1 for side in tensor.shape):
        yield f"{where} has shape {list(tensor.shape)}: sides must be 1 or more"
        return
    if tensor.elements > MAX_TENSOR_ELEMENTS:
        yield f"{where} has {tensor.elements} elements, the limit is {MAX_TENSOR_ELEMENTS}"
    elif tensor.data is not None and len(tensor.data) != tensor.size_bytes:
        yield f"{where} needs {tensor.size_bytes} bytes of data and has {len(tensor.data)}"
    quantization = tensor.quantization
    if quantization is None:
        return
    if not all(math.isfinite(scale) and scale > 0 for scale in quantization.scales):
        bad = next(s for s in quantization.scales if not (math.isfinite(s) and s > 0))
        yield f"{where} has scale {bad}: scales must be finite and above 0"
    if tensor.dtype is DType.INT8 and not all(-128 <= z <= 127 for z in quantization.zero_points):
        bad_point = next(z for z in quantization.zero_points if not -128 <= z <= 127)
        yield f"{where} has zero point {bad_point}, int8 has -128..127"
    if len(quantization.scales) != len(quantization.zero_points):
        yield (
            f"{where} has {len(quantization.scales)} scales "
            f"and {len(quantization.zero_points)} zero points"
        )
    if quantization.axis is None:
        if len(quantization.scales) != 1:
            yield f"{where} has {len(quantization.scales)} scales and no axis for them"
    elif not 0 <= quantization.axis < len(tensor.shape):
        yield f"{where} is quantized along axis {quantization.axis} of {len(tensor.shape)}"
    elif len(quantization.scales) != tensor.shape[quantization.axis]:
        yield (
            f"{where} has {len(quantization.scales)} scales "
            f"along an axis of {tensor.shape[quantization.axis]}"
        )


def _is_int8(tensor: Tensor, what: str) -> Iterator[str]:
    if tensor.dtype is not DType.INT8:
        yield f"{what} is {tensor.dtype.value}, must be int8"
    elif tensor.quantization is None or tensor.quantization.axis is not None:
        yield f"{what} {tensor.name!r} needs one scale and zero point"


def _int8_to_int8(graph: Graph, op: Op) -> Iterator[str]:
    yield from _is_int8(graph.x_of(op), "input")
    yield from _is_int8(graph.y_of(op), "output")


def _same_shape(graph: Graph, op: Op) -> Iterator[str]:
    x, y = graph.x_of(op), graph.y_of(op)
    if x.shape != y.shape:
        yield f"output shape is {list(y.shape)}, must be {list(x.shape)}"


def _element_wise(graph: Graph, op: Op) -> Iterator[str]:
    yield from _int8_to_int8(graph, op)
    yield from _same_shape(graph, op)


def _same_quantization(graph: Graph, op: Op) -> Iterator[str]:
    x, y = graph.x_of(op), graph.y_of(op)
    if x.quantization != y.quantization:
        yield "input and output must have the same scale and zero point"


def _image(tensor: Tensor, what: str) -> Iterator[str]:
    if len(tensor.shape) != 4 or tensor.shape[0] != 1:
        yield f"{what} shape is {list(tensor.shape)}, must be [1, height, width, channels]"
    elif max(tensor.shape) > MAX_SIDE:
        yield f"{what} shape is {list(tensor.shape)}, sides must be at most {MAX_SIDE}"


def _window(window: Window, x: Tensor, y: Tensor, *, pool: bool) -> Iterator[str]:
    steps = (window.stride_h, window.stride_w, window.dilation_h, window.dilation_w)
    if not all(1 <= step <= MAX_STEP for step in steps):
        yield f"strides and dilations are {list(steps)}, must be 1..{MAX_STEP}"
    sides = (window.filter_h, window.filter_w)
    if not all(1 <= side <= MAX_SIDE for side in sides):
        yield f"filter is {list(sides)}, sides must be 1..{MAX_SIDE}"
    if not all(0 <= pad <= MAX_SIDE for pad in (window.pad_top, window.pad_left)):
        yield f"padding is {window.pad_top}, {window.pad_left}, must be 0..{MAX_SIDE}"
    if pool:  # each window must see an element
        last_h = (y.shape[1] - 1) * window.stride_h - window.pad_top
        last_w = (y.shape[2] - 1) * window.stride_w - window.pad_left
        seen = last_h < x.shape[1] and last_w < x.shape[2]
        if not seen or window.pad_top >= window.filter_h or window.pad_left >= window.filter_w:
            yield "a pooling window lies outside of the input"


def _filter_and_bias(graph: Graph, op: Op, channels: int, axis: int) -> Iterator[str]:
    """Rules that convolutions and dense layers share; `axis`: that of the output channels."""
    if len(op.inputs) not in (2, 3) or op.inputs[1] is None:
        yield f"has {len(op.inputs)} inputs, must have input, filter and perhaps bias"
        return
    weights = graph.tensors[op.inputs[1]]
    if weights.data is None or weights.dtype is not DType.INT8:
        yield f"filter {weights.name!r} must be an int8 constant"
    quantization = weights.quantization
    if quantization is None:
        yield f"filter {weights.name!r} has no scales"
    else:
        if quantization.axis not in (None, axis):
            yield f"filter is quantized along axis {quantization.axis}, must be {axis}"
        if any(quantization.zero_points):
            bad = next(z for z in quantization.zero_points if z)
            yield f"filter has zero point {bad}, must be 0"
    bias_index = op.inputs[2] if len(op.inputs) == 3 else None
    if bias_index is not None:
        bias = graph.tensors[bias_index]
        if bias.data is None or bias.dtype is not DType.INT32:
            yield f"bias {bias.name!r} must be an int32 constant"
        if bias.elements != channels:
            yield f"bias has {bias.elements} values for {channels} channels"


def _convolution(graph: Graph, op: Op, attributes: Any) -> Iterator[str]:
    depthwise = isinstance(attributes, DepthwiseConv2d)
    x, y = graph.x_of(op), graph.y_of(op)
    wrong = [*_int8_to_int8(graph, op), *_image(x, "input"), *_image(y, "output")]
    wrong += _filter_and_bias(graph, op, y.shape[-1], 3 if depthwise else 0)
    if wrong:
        yield from wrong
        return
    window, weights = attributes.window, graph.tensors[op.inputs[1] or 0]
    yield from _window(window, x, y, pool=False)
    if depthwise:
        shape: tuple[int, ...] = (1, window.filter_h, window.filter_w, y.shape[3])
        if y.shape[3] % x.shape[3]:
            yield f"{y.shape[3]} output channels are no multiple of {x.shape[3]} input channels"
    else:
        shape = (y.shape[3], window.filter_h, window.filter_w, x.shape[3])
    if weights.shape != shape:
        yield f"filter shape is {list(weights.shape)}, must be {list(shape)}"


def _fully_connected(graph: Graph, op: Op) -> Iterator[str]:
    x, y = graph.x_of(op), graph.y_of(op)
    if not y.shape:
        yield "output is a scalar"
        return
    wrong = [*_int8_to_int8(graph, op), *_filter_and_bias(graph, op, y.shape[-1], 0)]
    if wrong:
        yield from wrong
        return
    weights = graph.tensors[op.inputs[1] or 0]
    if len(weights.shape) != 2 or weights.shape[0] != y.shape[-1]:
        yield f"filter shape is {list(weights.shape)}, must be [{y.shape[-1]}, in_features]"
    elif x.elements != y.elements // y.shape[-1] * weights.shape[1]:
        yield (
            f"input {list(x.shape)} does not fit {weights.shape[1]} in_features "
            f"and output {list(y.shape)}"
        )


def _pool(graph: Graph, op: Op) -> Iterator[str]:
    attributes, x, y = op.attributes, graph.x_of(op), graph.y_of(op)
    wrong = [*_int8_to_int8(graph, op), *_image(x, "input"), *_image(y, "output")]
    yield from wrong
    if not wrong and isinstance(attributes, AveragePool2d | MaxPool2d):
        yield from _window(attributes.window, x, y, pool=True)
        yield from _same_quantization(graph, op)
        if x.shape[3] != y.shape[3]:
            yield f"{x.shape[3]} channels become {y.shape[3]}"


def _mean(graph: Graph, op: Op) -> Iterator[str]:
    yield from _int8_to_int8(graph, op)
    attributes, x, y = op.attributes, graph.x_of(op), graph.y_of(op)
    if isinstance(attributes, Mean):
        outer, reduced, inner = attributes.outer, attributes.reduced, attributes.inner
        if min(outer, reduced, inner) < 1 or outer * reduced * inner != x.elements:
            yield f"[{outer}][{reduced}][{inner}] is not the input {list(x.shape)}"
        elif outer * inner != y.elements:
            yield f"[{outer}][{inner}] is not the output {list(y.shape)}"


def _add(graph: Graph, op: Op) -> Iterator[str]:
    if len(op.inputs) != 2 or None in op.inputs:
        yield f"has {len(op.inputs)} inputs, must have 2"
        return
    operands = [graph.tensors[index] for index in op.inputs if index is not None]
    y = graph.y_of(op)
    for tensor in operands:
        yield from _is_int8(tensor, "input")
    yield from _is_int8(y, "output")
    if len(y.shape) > 4:
        yield f"output shape {list(y.shape)} has more than 4 sides"
    shape = broadcast_shape(operands[0].shape, operands[1].shape)
    if shape != y.shape:
        yield (
            f"shapes {list(operands[0].shape)} and {list(operands[1].shape)} "
            f"do not broadcast to {list(y.shape)}"
        )
    if all(tensor.data is not None for tensor in operands):
        yield "both operands are constants"


def broadcast_shape(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that two shapes broadcast to as in numpy; None: they do not."""
    rank = max(len(one), len(two))
    pairs = zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(two)) + two, strict=True)
    sides = [max(a, b) if a == b or 1 in (a, b) else 0 for a, b in pairs]
    return tuple(sides) if all(sides) else None


def _softmax(graph: Graph, op: Op) -> Iterator[str]:
    yield from _element_wise(graph, op)
    y = graph.y_of(op).quantization
    if y is not None and (y.scale != 1 / 256 or y.zero_point != -128):
        yield f"output has scale {y.scale} and zero point {y.zero_point}, must be 1/256 and -128"
    attributes = op.attributes
    if isinstance(attributes, Softmax) and not (
        math.isfinite(attributes.beta) and attributes.beta > 0
    ):
        yield f"beta is {attributes.beta}, must be finite and above 0"


def _pad(graph: Graph, op: Op) -> Iterator[str]:
    yield from _int8_to_int8(graph, op)
    yield from _same_quantization(graph, op)
    attributes, x, y = op.attributes, graph.x_of(op), graph.y_of(op)
    if not isinstance(attributes, Pad):
        return
    before, after = attributes.before, attributes.after
    if len(x.shape) > 4:
        yield f"input shape {list(x.shape)} has more than 4 sides"
    if len(before) != len(x.shape) or len(after) != len(x.shape):
        yield f"padding of {len(before)} axes for a tensor of {len(x.shape)}"
        return
    if min((*before, *after), default=0) < 0:
        yield f"padding {list(zip(before, after, strict=True))} must not be negative"
    grown = tuple(s + b + a for s, b, a in zip(x.shape, before, after, strict=True))
    if grown != y.shape:
        yield f"output shape is {list(y.shape)}, must be {list(grown)}"
    if not -128 <= attributes.value <= 127:
        yield f"value is {attributes.value}, int8 has -128..127"


def _reshape(graph: Graph, op: Op) -> Iterator[str]:
    x, y = graph.x_of(op), graph.y_of(op)
    if x.elements != y.elements:
        yield f"{list(x.shape)} has {x.elements} elements, {list(y.shape)} has {y.elements}"
    if x.dtype is not y.dtype:
        yield f"{x.dtype.value} becomes {y.dtype.value}"
    yield from _same_quantization(graph, op)


def _quantize(graph: Graph, op: Op) -> Iterator[str]:
    x, y = graph.x_of(op), graph.y_of(op)
    if x.dtype is not DType.FLOAT32:
        yield from _is_int8(x, "input")
    yield from _is_int8(y, "output")
    yield from _same_shape(graph, op)


def _dequantize(graph: Graph, op: Op) -> Iterator[str]:
    x, y = graph.x_of(op), graph.y_of(op)
    yield from _is_int8(x, "input")
    if y.dtype is not DType.FLOAT32:
        yield f"output is {y.dtype.value}, must be float32"
    yield from _same_shape(graph, op)


def _folded(graph: Graph, op: Op) -> Iterator[str]:
    """Shape arithmetic: whatever it reads, it writes whole numbers."""
    y = graph.y_of(op)
    if y.dtype not in (DType.INT32, DType.INT64):
        yield f"output is {y.dtype.value}, must be int32 or int64"


_RULES: dict[type, Callable[[Graph, Op], Iterator[str]]] = {
    Conv2d: lambda graph, op: _convolution(graph, op, op.attributes),
    DepthwiseConv2d: lambda graph, op: _convolution(graph, op, op.attributes),
    FullyConnected: _fully_connected,
    AveragePool2d: _pool,
    MaxPool2d: _pool,
    Mean: _mean,
    Add: _add,
    Softmax: _softmax,
    Pad: _pad,
    Reshape: _reshape,
    Activate: _element_wise,
    Requantize: _element_wise,
    Quantize: _quantize,
    Dequantize: _dequantize,
    ShapeOf: _folded,
    StridedSlice: _folded,
    Pack: _folded,
}
