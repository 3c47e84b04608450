"""Tensors, operations and the graph, as frozen data. No pass logic, no file format, no C.

Activations are NHWC, convolution filters OHWI, depthwise filters 1HWO, dense filters
[out_features][in_features]. A tensor is named by its index in `Graph.tensors`; passes append
tensors and replace operations, and never renumber.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt


class DType(StrEnum):
    INT8 = "int8"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT32 = "float32"

    @property
    def size_bytes(self) -> int:
        return {"int8": 1, "int32": 4, "int64": 8, "float32": 4}[self.value]


class Activation(StrEnum):
    """The RELU family, as TFLite names it."""

    NONE = "NONE"
    RELU = "RELU"
    RELU6 = "RELU6"
    RELU_N1_TO_1 = "RELU_N1_TO_1"
    RELU_0_TO_1 = "RELU_0_TO_1"


@dataclass(frozen=True, slots=True)
class Quantization:
    """real = scale · (value - zero_point); one pair a tensor, or one a channel along `axis`."""

    scales: tuple[float, ...]  # binary32 values
    zero_points: tuple[int, ...]
    axis: int | None = None  # None: per tensor

    @property
    def scale(self) -> float:
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        return self.zero_points[0]


@dataclass(frozen=True, slots=True)
class Tensor:
    """`data` holds the little-endian bytes of a constant; None: an activation."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    quantization: Quantization | None = None
    data: bytes | None = None

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.elements * self.dtype.size_bytes

    def array(self) -> npt.NDArray[Any]:
        """Return the constant's value. The tensor must be a constant."""
        if self.data is None:
            raise ValueError(f"tensor {self.name!r} is not a constant")
        little_endian = np.dtype(self.dtype.value).newbyteorder("<")
        return np.frombuffer(self.data, little_endian).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Clamp:
    """Inclusive limits of an int8 result."""

    minimum: int = -128
    maximum: int = 127

    def then(self, other: Clamp) -> Clamp | None:
        """Return the one clamp that equals this and then `other`; None if the two do not meet."""
        low, high = max(self.minimum, other.minimum), min(self.maximum, other.maximum)
        return Clamp(low, high) if low <= high else None


NO_CLAMP = Clamp()


@dataclass(frozen=True, slots=True)
class Window:
    """How a filter or pool moves over the input. Padding is explicit; bottom and right follow."""

    filter_h: int
    filter_w: int
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    pad_top: int = 0
    pad_left: int = 0


# Each class below is one operation's attributes. `activation` comes from a front end;
# `legalize` turns it into `clamp`.


@dataclass(frozen=True, slots=True)
class Conv2d:
    """Inputs: x, filter, bias or None."""

    window: Window
    activation: Activation = Activation.NONE
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True)
class DepthwiseConv2d:
    """Inputs: x, filter, bias or None. Output channels: input channels times a whole number."""

    window: Window
    activation: Activation = Activation.NONE
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True)
class FullyConnected:
    """Inputs: x, filter, bias or None."""

    activation: Activation = Activation.NONE
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True)
class AveragePool2d:
    window: Window
    activation: Activation = Activation.NONE
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True)
class MaxPool2d:
    window: Window
    activation: Activation = Activation.NONE
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True)
class Mean:
    """Over the middle of [outer][reduced][inner]."""

    outer: int
    reduced: int
    inner: int


@dataclass(frozen=True, slots=True)
class Add:
    """Inputs: two tensors that broadcast to the output; at most one is a constant."""

    activation: Activation = Activation.NONE
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True)
class Softmax:
    """Over the last axis."""

    beta: float


@dataclass(frozen=True, slots=True)
class Pad:
    """Elements added before and after each axis, all of `value`."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: int


@dataclass(frozen=True, slots=True)
class Reshape:
    """Same bytes, other shape. Inputs: x and, until constants are folded, the new shape."""


@dataclass(frozen=True, slots=True)
class Activate:
    """An activation that stands alone; `legalize` makes a Requantize of it."""

    activation: Activation


@dataclass(frozen=True, slots=True)
class Quantize:
    """float32 or int8 to int8; after `legalize` from float32 only."""


@dataclass(frozen=True, slots=True)
class Dequantize:
    """int8 to float32."""


@dataclass(frozen=True, slots=True)
class Requantize:
    """int8 to int8 of another scale and zero point, clamped."""

    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True)
class ShapeOf:
    """The input's shape as int32 or int64; folded."""


@dataclass(frozen=True, slots=True)
class StridedSlice:
    """Inputs: x, begin, end, strides. Masks as in TFLite, one bit an axis; folded."""

    begin_mask: int = 0
    end_mask: int = 0
    shrink_axis_mask: int = 0


@dataclass(frozen=True, slots=True)
class Pack:
    """Stack the inputs along a new axis; folded."""

    axis: int


Attributes = (
    Conv2d
    | DepthwiseConv2d
    | FullyConnected
    | AveragePool2d
    | MaxPool2d
    | Mean
    | Add
    | Softmax
    | Pad
    | Reshape
    | Activate
    | Quantize
    | Dequantize
    | Requantize
    | ShapeOf
    | StridedSlice
    | Pack
)


@dataclass(frozen=True, slots=True)
class Op:
    """`source` says where in the model this comes from (`op 3 CONV_2D`), for messages."""

    source: str
    attributes: Attributes
    inputs: tuple[int | None, ...]
    output: int

    @property
    def kind(self) -> str:
        return type(self.attributes).__name__

    @property
    def x(self) -> int:
        """Return the first input, which every operation has."""
        first = self.inputs[0]
        if first is None:
            raise ValueError(f"{self.source}: the first input is missing")
        return first


@dataclass(frozen=True, slots=True)
class Graph:
    """Operations in an order in which they can run."""

    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def with_ops(self, ops: tuple[Op, ...]) -> Self:
        return replace(self, ops=ops)

    def with_tensors(self, changed: Mapping[int, Tensor]) -> Self:
        """Return the graph with some tensors replaced; the index one past the end appends."""
        tensors = list(self.tensors)
        for index in sorted(changed):
            tensors[index : index + 1] = [changed[index]]
        return replace(self, tensors=tuple(tensors))

    def uses(self) -> dict[int, list[int]]:
        """Return, for each tensor, the positions of the operations that read it, in order."""
        uses: dict[int, list[int]] = {}
        for position, op in enumerate(self.ops):
            for index in op.inputs:
                if index is not None:
                    uses.setdefault(index, []).append(position)
        return uses

    def x_of(self, op: Op) -> Tensor:
        return self.tensors[op.x]

    def y_of(self, op: Op) -> Tensor:
        return self.tensors[op.output]
