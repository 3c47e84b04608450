"""Small `.tflite` models made by hand, for tests.

    model = (
        a_model()
        .input("x", (1, 8, 8, 3), Quant(0.05, -3))
        .conv2d(filter_ohwi, bias, Quant(0.1, 4), filter_scale=[...], padding="SAME")
        .softmax()
        .build()
    )

Each operator reads the tensor that came last unless `source` names another one, and its result is
called `name` (or after the operator). Data layout is TFLite's: activations NHWC, filters OHWI,
depthwise filters 1HWO, fully connected filters [out, in].
`op` makes any operator at all; `oracle` runs a model in TFLite Micro.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite

Array = npt.NDArray[Any]
Pair = tuple[int, int]

_TYPES: Mapping[str, int] = {
    "int8": tflite.TensorType.INT8,
    "uint8": tflite.TensorType.UINT8,
    "int16": tflite.TensorType.INT16,
    "int32": tflite.TensorType.INT32,
    "int64": tflite.TensorType.INT64,
    "float32": tflite.TensorType.FLOAT32,
    "bool": tflite.TensorType.BOOL,
}


@dataclass(frozen=True, slots=True)
class Quant:
    """real = scale * (q - zero_point); several scales: one for each index of dimension `axis`."""

    scale: float | Sequence[float]
    zero_point: int = 0
    axis: int = 0

    def scales(self) -> list[float]:
        return [float(s) for s in np.atleast_1d(np.asarray(self.scale, dtype=np.float32))]


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: str
    quant: Quant | None
    data: bytes | None


@dataclass(frozen=True, slots=True)
class _Op:
    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: str | None
    fields: Mapping[str, Any]
    custom_code: str | None


def a_model() -> ModelBuilder:
    """An empty model: give it an input first."""
    return ModelBuilder()


@dataclass(slots=True)
class ModelBuilder:
    _tensors: list[_Tensor] = field(default_factory=list)
    _ops: list[_Op] = field(default_factory=list)
    _inputs: list[int] = field(default_factory=list)
    _outputs: list[int] = field(default_factory=list)
    _last: int = -1

    # ------------------------------------------------------------------ tensors

    def input(
        self, name: str, shape: Sequence[int], quant: Quant | None = None, dtype: str = "int8"
    ) -> Self:
        self._last = self._tensor(name, shape, dtype, quant)
        self._inputs.append(self._last)
        return self

    def constant(self, name: str, data: Array, quant: Quant | None = None) -> Self:
        """A constant tensor under a name; the next operator does not read it by itself."""
        self._constant(name, data, quant)
        return self

    def output(self, name: str | None = None) -> Self:
        """Make a tensor an output of the model (without any: the last one)."""
        self._outputs.append(self._index(name))
        return self

    def shape(self, name: str | None = None) -> tuple[int, ...]:
        return self._tensors[self._index(name)].shape

    # ------------------------------------------------------------------ operators

    def conv2d(
        self,
        filter_: Array,
        bias: Array | None,
        out: Quant,
        *,
        filter_scale: float | Sequence[float],
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: str = "SAME",
        activation: str = "NONE",
        source: str | None = None,
        name: str | None = None,
    ) -> Self:
        """filter_ is OHWI; `filter_scale` with several values is per output channel."""
        src = self._index(source)
        n, h, w, _ = self._tensors[src].shape
        o, kh, kw, _ = filter_.shape
        size = window_output((h, w), (kh, kw), stride, dilation, padding)
        inputs = self._weights(src, filter_, bias, filter_scale, axis=0)
        return self.op(
            "CONV_2D",
            inputs,
            (n, *size, o),
            out,
            "Conv2DOptions",
            {
                "Padding": _padding(padding),
                "StrideH": stride[0],
                "StrideW": stride[1],
                "DilationHFactor": dilation[0],
                "DilationWFactor": dilation[1],
                "FusedActivationFunction": _activation(activation),
            },
            name=name,
        )

    def depthwise_conv2d(
        self,
        filter_: Array,
        bias: Array | None,
        out: Quant,
        *,
        filter_scale: float | Sequence[float],
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: str = "SAME",
        activation: str = "NONE",
        source: str | None = None,
        name: str | None = None,
    ) -> Self:
        """filter_ is 1HWO with O = input channels * depth multiplier."""
        src = self._index(source)
        n, h, w, c = self._tensors[src].shape
        _, kh, kw, o = filter_.shape
        size = window_output((h, w), (kh, kw), stride, dilation, padding)
        inputs = self._weights(src, filter_, bias, filter_scale, axis=3)
        return self.op(
            "DEPTHWISE_CONV_2D",
            inputs,
            (n, *size, o),
            out,
            "DepthwiseConv2DOptions",
            {
                "Padding": _padding(padding),
                "StrideH": stride[0],
                "StrideW": stride[1],
                "DilationHFactor": dilation[0],
                "DilationWFactor": dilation[1],
                "DepthMultiplier": o // c,
                "FusedActivationFunction": _activation(activation),
            },
            name=name,
        )

    def fully_connected(
        self,
        filter_: Array,
        bias: Array | None,
        out: Quant,
        *,
        filter_scale: float | Sequence[float],
        activation: str = "NONE",
        keep_num_dims: bool = False,
        source: str | None = None,
        name: str | None = None,
    ) -> Self:
        src = self._index(source)
        o, i = filter_.shape
        shape = self._tensors[src].shape
        out_shape = (*shape[:-1], o) if keep_num_dims else (int(np.prod(shape)) // i, o)
        return self.op(
            "FULLY_CONNECTED",
            self._weights(src, filter_, bias, filter_scale, axis=0),
            out_shape,
            out,
            "FullyConnectedOptions",
            {"FusedActivationFunction": _activation(activation), "KeepNumDims": keep_num_dims},
            name=name,
        )

    def average_pool2d(self, size: Pair, **options: Any) -> Self:
        """size is (height, width); options: stride, padding, activation, out, source, name."""
        return self._pool("AVERAGE_POOL_2D", size, **options)

    def max_pool2d(self, size: Pair, **options: Any) -> Self:
        """size is (height, width); options: stride, padding, activation, out, source, name."""
        return self._pool("MAX_POOL_2D", size, **options)

    def mean(
        self,
        axes: Sequence[int],
        out: Quant,
        *,
        keep_dims: bool = False,
        source: str | None = None,
        name: str | None = None,
    ) -> Self:
        src = self._index(source)
        shape = self._tensors[src].shape
        reduced = {a % len(shape) for a in axes}
        out_shape = [
            1 if i in reduced else n for i, n in enumerate(shape) if keep_dims or i not in reduced
        ]
        axis = self._constant(self._fresh("axes"), np.asarray(axes, dtype=np.int32), None)
        return self.op(
            "MEAN",
            (src, axis),
            out_shape,
            out,
            "ReducerOptions",
            {"KeepDims": keep_dims},
            name=name,
        )

    def add(
        self,
        first: str | None,
        second: str,
        out: Quant,
        *,
        activation: str = "NONE",
        name: str | None = None,
    ) -> Self:
        a, b = self._index(first), self._index(second)
        shape = np.broadcast_shapes(self._tensors[a].shape, self._tensors[b].shape)
        return self.op(
            "ADD",
            (a, b),
            shape,
            out,
            "AddOptions",
            {"FusedActivationFunction": _activation(activation)},
            name=name,
        )

    def reshape(
        self, shape: Sequence[int], *, source: str | None = None, name: str | None = None
    ) -> Self:
        """One entry may be -1."""
        src = self._index(source)
        t = self._tensors[src]
        count = int(np.prod(t.shape))
        known = int(np.prod([n for n in shape if n != -1]))
        out_shape = [count // known if n == -1 else n for n in shape]
        new = self._constant(self._fresh("shape"), np.asarray(shape, dtype=np.int32), None)
        return self.op(
            "RESHAPE",
            (src, new),
            out_shape,
            t.quant,
            "ReshapeOptions",
            {"NewShape": list(shape)},
            name=name,
            dtype=t.dtype,
        )

    def flatten(self, *, source: str | None = None, name: str | None = None) -> Self:
        """What the converter makes of Keras' Flatten: SHAPE, STRIDED_SLICE, PACK, RESHAPE."""
        src = self._index(source)
        t = self._tensors[src]
        self.op("SHAPE", (src,), (len(t.shape),), None, "ShapeOptions", {}, dtype="int32")
        dims = self._last
        at = [
            self._constant(self._fresh(n), np.asarray([v], dtype=np.int32), None)
            for n, v in (("begin", 0), ("end", 1), ("strides", 1))
        ]
        self.op(
            "STRIDED_SLICE",
            (dims, *at),
            (),
            None,
            "StridedSliceOptions",
            {"ShrinkAxisMask": 1},
            dtype="int32",
        )
        batch = self._last
        rest = self._constant(self._fresh("rest"), np.asarray(-1, dtype=np.int32), None)
        self.op("PACK", (batch, rest), (2,), None, "PackOptions", {"ValuesCount": 2}, dtype="int32")
        return self.op(
            "RESHAPE",
            (src, self._last),
            (t.shape[0], int(np.prod(t.shape[1:]))),
            t.quant,
            "ReshapeOptions",
            {},
            name=name,
            dtype=t.dtype,
        )

    def softmax(
        self, beta: float = 1.0, *, source: str | None = None, name: str | None = None
    ) -> Self:
        src = self._index(source)
        return self.op(
            "SOFTMAX",
            (src,),
            self._tensors[src].shape,
            Quant(1 / 256, -128),
            "SoftmaxOptions",
            {"Beta": beta},
            name=name,
        )

    def pad(
        self,
        paddings: Sequence[Pair],
        *,
        value: int | None = None,
        source: str | None = None,
        name: str | None = None,
    ) -> Self:
        """(before, after) for each dimension; with `value` (quantized) it is PADV2."""
        src = self._index(source)
        t = self._tensors[src]
        out_shape = [n + b + a for n, (b, a) in zip(t.shape, paddings, strict=True)]
        inputs = [
            src,
            self._constant(self._fresh("paddings"), np.asarray(paddings, dtype=np.int32), None),
        ]
        if value is not None:
            fill = np.asarray([value], dtype=t.dtype)
            inputs.append(self._constant(self._fresh("pad_value"), fill, t.quant))
        code, options = ("PAD", "PadOptions") if value is None else ("PADV2", "PadV2Options")
        return self.op(code, inputs, out_shape, t.quant, options, {}, name=name, dtype=t.dtype)

    def relu(self, out: Quant, **options: Any) -> Self:
        return self.unary("RELU", out, **options)

    def relu6(self, out: Quant, **options: Any) -> Self:
        return self.unary("RELU6", out, **options)

    def relu_n1_to_1(self, out: Quant, **options: Any) -> Self:
        return self.unary("RELU_N1_TO_1", out, **options)

    def quantize(self, out: Quant, **options: Any) -> Self:
        """float32 or int8 to int8."""
        return self.unary("QUANTIZE", out, **options)

    def dequantize(self, **options: Any) -> Self:
        return self.unary("DEQUANTIZE", None, dtype="float32", **options)

    def unary(
        self,
        code: str,
        out: Quant | None,
        *,
        dtype: str = "int8",
        source: str | None = None,
        name: str | None = None,
    ) -> Self:
        """Any operator of one input, without options, whose output has the input's shape."""
        src = self._index(source)
        return self.op(
            code, (src,), self._tensors[src].shape, out, None, {}, name=name, dtype=dtype
        )

    def op(
        self,
        code: str,
        inputs: Sequence[int | str],
        out_shape: Sequence[int],
        out: Quant | None,
        options: str | None = None,
        fields: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        dtype: str = "int8",
        custom_code: str | None = None,
    ) -> Self:
        """Any operator of one output; `code`: of BuiltinOperator, `options`: of BuiltinOptions."""
        out_index = self._tensor(name or self._fresh(code.lower()), out_shape, dtype, out)
        self._ops.append(
            _Op(
                getattr(tflite.BuiltinOperator, code),
                tuple(i if isinstance(i, int) else self._index(i) for i in inputs),
                (out_index,),
                options,
                fields or {},
                custom_code,
            )
        )
        self._last = out_index
        return self

    # ------------------------------------------------------------------ the file

    def build(self) -> bytes:
        """The model as a flatbuffer; equal calls give equal bytes."""
        b = flatbuffers.Builder(1024)
        codes = sorted({(op.code, op.custom_code or "") for op in self._ops})
        buffers = [_buffer(b, None)]
        tensors = []
        for t in self._tensors:
            buffer = 0
            if t.data is not None:
                buffer = len(buffers)
                buffers.append(_buffer(b, t.data))
            tensors.append(_tensor(b, t, buffer))
        operators = [_operator(b, o, codes.index((o.code, o.custom_code or ""))) for o in self._ops]
        subgraph = _table(
            b,
            "SubGraph",
            {
                "Tensors": _offsets(b, tensors),
                "Inputs": _int32s(b, self._inputs),
                "Outputs": _int32s(b, self._outputs or [self._last]),
                "Operators": _offsets(b, operators),
                "Name": b.CreateString("main"),
            },
        )
        operator_codes = [_operator_code(b, code, custom) for code, custom in codes]
        model = _table(
            b,
            "Model",
            {
                "Version": 3,
                "OperatorCodes": _offsets(b, operator_codes),
                "Subgraphs": _offsets(b, [subgraph]),
                "Description": b.CreateString("made by a test"),
                "Buffers": _offsets(b, buffers),
            },
        )
        b.Finish(model, b"TFL3")
        return bytes(b.Output())

    # ------------------------------------------------------------------ private

    def _pool(
        self,
        code: str,
        size: Pair,
        *,
        stride: Pair | None = None,
        padding: str = "VALID",
        activation: str = "NONE",
        out: Quant | None = None,
        source: str | None = None,
        name: str | None = None,
    ) -> Self:
        src = self._index(source)
        t = self._tensors[src]
        stride = stride or size
        n, h, w, c = t.shape
        out_size = window_output((h, w), size, stride, (1, 1), padding)
        return self.op(
            code,
            (src,),
            (n, *out_size, c),
            out or t.quant,
            "Pool2DOptions",
            {
                "Padding": _padding(padding),
                "StrideH": stride[0],
                "StrideW": stride[1],
                "FilterHeight": size[0],
                "FilterWidth": size[1],
                "FusedActivationFunction": _activation(activation),
            },
            name=name,
        )

    def _weights(
        self,
        src: int,
        filter_: Array,
        bias: Array | None,
        filter_scale: float | Sequence[float],
        axis: int,
    ) -> tuple[int, ...]:
        quant = Quant(filter_scale, 0, axis)
        inputs = [src, self._constant(self._fresh("filter"), filter_.astype(np.int8), quant)]
        if bias is not None:
            source_quant = self._tensors[src].quant
            assert source_quant is not None
            scales = [s * source_quant.scales()[0] for s in quant.scales()]
            inputs.append(
                self._constant(self._fresh("bias"), bias.astype(np.int32), Quant(scales, 0, 0))
            )
        return tuple(inputs)

    def _tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quant: Quant | None,
        data: bytes | None = None,
    ) -> int:
        if any(t.name == name for t in self._tensors):
            raise ValueError(f"there is a tensor '{name}' already")
        self._tensors.append(_Tensor(name, tuple(int(n) for n in shape), dtype, quant, data))
        return len(self._tensors) - 1

    def _constant(self, name: str, data: Array, quant: Quant | None) -> int:
        little = np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("<"))
        return self._tensor(name, data.shape, data.dtype.name, quant, little.tobytes())

    def _index(self, name: str | None) -> int:
        if name is None:
            if self._last < 0:
                raise ValueError("the model has no input yet: call .input() first")
            return self._last
        for i, t in enumerate(self._tensors):
            if t.name == name:
                return i
        raise ValueError(f"no tensor '{name}'; there are {[t.name for t in self._tensors]}")

    def _fresh(self, stem: str) -> str:
        return f"{stem}_{len(self._tensors)}"


def window_output(
    size: Pair, window: Pair, stride: Pair, dilation: Pair, padding: str
) -> tuple[int, int]:
    """Height and width of a convolution's or pool's output."""

    def one(n: int, k: int, s: int, d: int) -> int:
        effective = (k - 1) * d + 1
        return -(-n // s) if padding == "SAME" else -(-(n - effective + 1) // s)

    h, w = (one(n, k, s, d) for n, k, s, d in zip(size, window, stride, dilation, strict=True))
    if h < 1 or w < 1:
        raise ValueError(f"window {window} does not fit into {size}")
    return h, w


def oracle(model: bytes, *inputs: Array, arena_bytes: int | None = None) -> list[Array]:
    """The outputs of TFLite Micro's reference kernels."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(
        model, arena_size=arena_bytes or 10 * len(model) + 200_000
    )
    for i, data in enumerate(inputs):
        interpreter.set_input(np.ascontiguousarray(data), i)
    interpreter.invoke()
    count = tflite.Model.GetRootAsModel(model, 0).Subgraphs(0).OutputsLength()
    return [np.array(interpreter.get_output(i)) for i in range(count)]


def _padding(name: str) -> int:
    return int(getattr(tflite.Padding, name))


def _activation(name: str) -> int:
    return int(getattr(tflite.ActivationFunctionType, name))


def _table(b: Any, kind: str, fields: Mapping[str, Any]) -> int:
    getattr(tflite, f"{kind}Start")(b)
    for key, value in fields.items():
        getattr(tflite, f"{kind}Add{key}")(b, value)
    return int(getattr(tflite, f"{kind}End")(b))


def _offsets(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for o in reversed(offsets):
        b.PrependUOffsetTRelative(o)
    return int(b.EndVector())


def _int32s(b: Any, values: Sequence[int]) -> int:
    return int(b.CreateNumpyVector(np.asarray(values, dtype=np.int32)))


def _buffer(b: Any, data: bytes | None) -> int:
    if data is None:
        return _table(b, "Buffer", {})
    b.StartVector(1, len(data), 16)
    b.head -= len(data)
    b.Bytes[b.head : b.head + len(data)] = data
    return _table(b, "Buffer", {"Data": b.EndVector()})


def _tensor(b: Any, t: _Tensor, buffer: int) -> int:
    fields: dict[str, Any] = {
        "Shape": _int32s(b, t.shape),
        "Type": _TYPES[t.dtype],
        "Buffer": buffer,
        "Name": b.CreateString(t.name),
    }
    if t.quant is not None:
        scales = t.quant.scales()
        quant = {
            "Scale": b.CreateNumpyVector(np.asarray(scales, dtype=np.float32)),
            "ZeroPoint": b.CreateNumpyVector(np.full(len(scales), t.quant.zero_point, np.int64)),
            "QuantizedDimension": t.quant.axis,
        }
        fields["Quantization"] = _table(b, "QuantizationParameters", quant)
    return _table(b, "Tensor", fields)


def _operator(b: Any, op: _Op, code_index: int) -> int:
    inputs, outputs = _int32s(b, op.inputs), _int32s(b, op.outputs)
    fields: dict[str, Any] = {"OpcodeIndex": code_index, "Inputs": inputs, "Outputs": outputs}
    if op.options is not None:
        values = {k: _int32s(b, v) if isinstance(v, list) else v for k, v in op.fields.items()}
        fields["BuiltinOptions"] = _table(b, op.options, values)
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, op.options)
    return _table(b, "Operator", fields)


def _operator_code(b: Any, code: int, custom: str) -> int:
    fields: dict[str, Any] = {
        "DeprecatedBuiltinCode": min(code, 127),
        "BuiltinCode": code,
        "Version": 1,
    }
    if custom:
        fields["CustomCode"] = b.CreateString(custom)
    return _table(b, "OperatorCode", fields)
