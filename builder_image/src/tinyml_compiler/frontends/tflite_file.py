"""A .tflite file as plain values, with every index, size and count checked against the file.

The file is a stranger's: what is read here is bounded before it is walked, and whatever the
flatbuffers library trips over ends in a ModelInvalidError. What operators mean is for
`frontends.tflite`. Format: TensorFlow Lite `schema.fbs`, version 3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite

from tinyml_compiler.errors import ModelInvalidError, UnsupportedOperatorError

MAX_FILE_BYTES = 64 << 20
MAX_TENSORS = 10_000
MAX_OPERATORS = 4_096
MAX_BUFFERS = 20_000
MAX_RANK = 8
MAX_OPERANDS = 64
MAX_SCALES = 1 << 16
MAX_NAME_BYTES = 512

_FILE_VERSION = 3
_FLATBUFFERS_FAULTS = (
    struct.error,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    AttributeError,
    MemoryError,
)

OPERATOR_NAMES: Mapping[int, str] = {
    code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)
}
TYPE_NAMES: Mapping[int, str] = {
    code: name for name, code in vars(tflite.TensorType).items() if isinstance(code, int)
}

# What is read of each operator's options: the union's member and its fields.
_WINDOW_FIELDS = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
_POOL = ("Pool2DOptions", (*_WINDOW_FIELDS, "FilterHeight", "FilterWidth"))
_DILATION = ("DilationHFactor", "DilationWFactor")
_OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": ("Conv2DOptions", (*_WINDOW_FIELDS, *_DILATION)),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_WINDOW_FIELDS, *_DILATION)),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat")),
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask"),
    ),
    "PACK": ("PackOptions", ("Axis",)),
}


@dataclass(frozen=True, slots=True)
class FileTensor:
    """`type_name` as in the schema; `data` None: not a constant; scales empty: not quantized."""

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    type_name: str
    data: bytes | None
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int
    is_sparse: bool
    is_variable: bool


@dataclass(frozen=True, slots=True)
class FileOperator:
    """Inputs may be -1 (left out). `options` has the fields that `_OPTIONS` lists."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, float]

    @property
    def source(self) -> str:
        return f"op {self.index} {self.name}"


@dataclass(frozen=True, slots=True)
class FileModel:
    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read(data: bytes) -> FileModel:
    """Return what the file holds. Raises ModelInvalidError, or UnsupportedOperatorError if it
    uses a part of the format that we do not read."""
    if len(data) > MAX_FILE_BYTES:
        raise ModelInvalidError(f"the model has {len(data)} bytes, the limit is {MAX_FILE_BYTES}")
    if len(data) < 16 or data[4:8] != b"TFL3":
        found = data[4:8].hex() or "nothing"
        raise ModelInvalidError(
            f"not a .tflite file: {len(data)} bytes, bytes 4 to 7 are {found}, must be "
            f"{b'TFL3'.hex()} ('TFL3')"
        )
    try:
        return _model(data)
    except _FLATBUFFERS_FAULTS as error:
        raise ModelInvalidError(
            f"the .tflite file is damaged: its flatbuffer does not hold together "
            f"({type(error).__name__}: {error}); export or upload it again"
        ) from error


def _model(data: bytes) -> FileModel:
    model = tflite.Model.GetRootAs(data, 0)
    if model.Version() != _FILE_VERSION:
        raise ModelInvalidError(f"schema version is {model.Version()}, must be {_FILE_VERSION}")
    _limit("subgraphs", model.SubgraphsLength(), 1 << 16)
    if model.SubgraphsLength() != 1:
        raise UnsupportedOperatorError(
            [f"the model has {model.SubgraphsLength()} subgraphs, not 1"]
        )
    graph = model.Subgraphs(0)
    codes = _limit("operator codes", model.OperatorCodesLength(), MAX_OPERATORS)
    names = [_operator_name(model.OperatorCodes(i)) for i in range(codes)]
    buffer_count = _limit("buffers", model.BuffersLength(), MAX_BUFFERS)
    tensor_count = _limit("tensors", graph.TensorsLength(), MAX_TENSORS)
    operator_count = _limit("operators", graph.OperatorsLength(), MAX_OPERATORS)
    tensors = tuple(
        _tensor(index, graph.Tensors(index), model, buffer_count) for index in range(tensor_count)
    )
    operators = tuple(
        _operator(index, graph.Operators(index), names, tensor_count)
        for index in range(operator_count)
    )
    return FileModel(
        tensors=tensors,
        operators=operators,
        inputs=_indices("model inputs", _vector(graph, "Inputs", MAX_OPERANDS), tensor_count),
        outputs=_indices("model outputs", _vector(graph, "Outputs", MAX_OPERANDS), tensor_count),
    )


def _limit(what: str, found: int, limit: int) -> int:
    if found > limit:
        raise ModelInvalidError(f"the model has {found} {what}, the limit is {limit}")
    return found


def _vector(table: Any, name: str, limit: int) -> tuple[Any, ...]:
    """Return a vector field as Python numbers."""
    length = _limit(f"entries in {name}", getattr(table, f"{name}Length")(), limit)
    if length == 0:
        return ()
    values = getattr(table, f"{name}AsNumpy")()
    if not isinstance(values, np.ndarray) or len(values) != length:
        raise ModelInvalidError(f"vector {name} says {length} entries and holds something else")
    numbers: list[Any] = values.tolist()
    return tuple(numbers)


def _indices(
    what: str, values: Sequence[int], count: int, *, optional: bool = False
) -> tuple[int, ...]:
    for value in values:
        if not (0 <= value < count or (optional and value == -1)):
            raise ModelInvalidError(f"{what}: tensor {value} is not one of {count}")
    return tuple(values)


def _operator_name(code: Any) -> str:
    # The field was one byte long once; newer files put 127 there and the code beside it.
    value = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name = OPERATOR_NAMES.get(value, f"operator code {value}")
    if name == "CUSTOM":
        return f"CUSTOM({_text(code.CustomCode())})"
    return name


def _text(raw: bytes | None) -> str:
    return (raw or b"")[:MAX_NAME_BYTES].decode("utf-8", errors="replace")


def _tensor(index: int, tensor: Any, model: Any, buffer_count: int) -> FileTensor:
    where = f"tensor {index}"
    buffer_index = tensor.Buffer()
    if not 0 <= buffer_index < max(buffer_count, 1):
        raise ModelInvalidError(f"{where}: buffer {buffer_index} is not one of {buffer_count}")
    quantization = tensor.Quantization()
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis = 0
    if quantization is not None:
        scales = _vector(quantization, "Scale", MAX_SCALES)
        zero_points = _vector(quantization, "ZeroPoint", MAX_SCALES)
        axis = quantization.QuantizedDimension()
    type_code = tensor.Type()
    return FileTensor(
        index=index,
        name=_text(tensor.Name()),
        shape=_vector(tensor, "Shape", MAX_RANK),
        shape_signature=_vector(tensor, "ShapeSignature", MAX_RANK),
        type_name=TYPE_NAMES.get(type_code, f"type {type_code}"),
        data=_buffer(where, model, buffer_index) if buffer_count else None,
        scales=scales,
        zero_points=zero_points,
        quantized_dimension=axis,
        is_sparse=tensor.Sparsity() is not None,
        is_variable=bool(tensor.IsVariable()),
    )


def _buffer(where: str, model: Any, index: int) -> bytes | None:
    """Return the buffer's bytes; None if it has none, as those of activations."""
    buffer = model.Buffers(index)
    if buffer.Offset() > 1:
        raise UnsupportedOperatorError([f"{where}: data outside of the flatbuffer (over 2 GiB)"])
    length = _limit(f"bytes in buffer {index}", buffer.DataLength(), MAX_FILE_BYTES)
    if length == 0:
        return None
    data: bytes = buffer.DataAsNumpy().tobytes()
    if len(data) != length:
        raise ModelInvalidError(f"buffer {index} says {length} bytes and holds {len(data)}")
    return data


def _operator(index: int, operator: Any, names: Sequence[str], tensor_count: int) -> FileOperator:
    code = operator.OpcodeIndex()
    if not 0 <= code < len(names):
        raise ModelInvalidError(f"op {index}: operator code {code} is not one of {len(names)}")
    name = names[code]
    where = f"op {index} {name}"
    inputs = _vector(operator, "Inputs", MAX_OPERANDS)
    outputs = _vector(operator, "Outputs", MAX_OPERANDS)
    return FileOperator(
        index=index,
        name=name,
        inputs=_indices(f"{where} inputs", inputs, tensor_count, optional=True),
        outputs=_indices(f"{where} outputs", outputs, tensor_count),
        options=_options(where, name, operator),
    )


def _options(where: str, name: str, operator: Any) -> Mapping[str, float]:
    if name not in _OPTIONS:
        return {}
    member, fields = _OPTIONS[name]
    expected, found = getattr(tflite.BuiltinOptions, member), operator.BuiltinOptionsType()
    table = operator.BuiltinOptions()
    if found != expected or table is None:
        raise ModelInvalidError(
            f"{where}: options are of type {found}, must be {expected} ({member})"
        )
    options = getattr(tflite, member)()
    options.Init(table.Bytes, table.Pos)
    return {field: _number(options, field) for field in fields}


def _number(options: Any, field: str) -> float:
    getter: Callable[[], float] = getattr(options, field)
    value = getter()
    return float(value) if isinstance(value, float) else int(value)
