"""What each TFLite operator means in the IR: one method an operator, found by its name.

An importer only reports what we do not compile (`problems`); whether shapes and types fit together
is checked on the finished graph by `ir.problems`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tinyml_compiler import ir
from tinyml_compiler.errors import ModelInvalidError
from tinyml_compiler.frontends.tflite_file import FileOperator

_ACTIVATIONS = {
    0: ir.Activation.NONE,
    1: ir.Activation.RELU,
    2: ir.Activation.RELU_N1_TO_1,
    3: ir.Activation.RELU6,
}
_SAME, _VALID = 0, 1


class Importer:
    """Makes one operation of one operator; lives as long as `run` takes."""

    def __init__(self, operator: FileOperator, tensors: Sequence[ir.Tensor]) -> None:
        self.operator = operator
        self.problems: list[str] = []
        self._tensors = tensors

    @property
    def is_known(self) -> bool:
        return self.operator.name in _RULES

    def run(self) -> ir.Op | None:
        """Return the operation; None if there are problems, or the operator is unknown."""
        rule = _RULES.get(self.operator.name)
        if rule is None:
            self._problem("is not a supported operator")
            return None
        method, minimum, maximum = rule
        found = len(self.operator.inputs)
        if not minimum <= found <= maximum or len(self.operator.outputs) != 1:
            raise ModelInvalidError(
                f"{self.operator.source} has {found} inputs and {len(self.operator.outputs)} "
                f"outputs, must have {minimum} to {maximum} inputs and 1 output"
            )
        if -1 in self.operator.inputs[:minimum]:
            raise ModelInvalidError(
                f"{self.operator.source}: input {self.operator.inputs.index(-1)} is left out"
            )
        attributes, inputs = method(self)
        if self.problems or attributes is None:
            return None
        return ir.Op(
            source=self.operator.source,
            attributes=attributes,
            inputs=tuple(None if index == -1 else index for index in inputs),
            output=self.operator.outputs[0],
        )

    # One method an operator: attributes (None: see problems) and the inputs that the operation has.

    def conv_2d(self) -> _Imported:
        window, filter_shape = self._filter_window(1), self._tensor(1).shape
        if window is None:
            return None, ()
        if self._x.shape[3] != filter_shape[3]:
            self._problem(
                f"filter has {filter_shape[3]} input channels, the input {self._x.shape[3]}: "
                "grouped convolutions are not supported"
            )
        return ir.Conv2d(window, self._activation()), self.operator.inputs

    def depthwise_conv_2d(self) -> _Imported:
        window = self._filter_window(1)
        if window is None:
            return None, ()
        return ir.DepthwiseConv2d(window, self._activation()), self.operator.inputs

    def fully_connected(self) -> _Imported:
        weights_format = self._option("WeightsFormat")
        if weights_format != 0:
            self._problem(f"weights_format is {weights_format}, supported is 0 (DEFAULT)")
        self._constant_filter()
        return ir.FullyConnected(self._activation()), self.operator.inputs

    def average_pool_2d(self) -> _Imported:
        window = self._pool_window()
        if window is None:
            return None, ()
        return ir.AveragePool2d(window, self._activation()), self.operator.inputs

    def max_pool_2d(self) -> _Imported:
        window = self._pool_window()
        if window is None:
            return None, ()
        return ir.MaxPool2d(window, self._activation()), self.operator.inputs

    def mean(self) -> _Imported:
        values = self._constant(1, "axes")
        if values is None:
            return None, ()
        shape = self._x.shape
        if not all(-len(shape) <= axis < len(shape) for axis in values):
            raise ModelInvalidError(
                f"{self.operator.source}: axes {values} of a tensor of {len(shape)} axes"
            )
        axes = sorted({axis % len(shape) for axis in values})
        # Axes of one element may count as reduced or not, so they never get in the way.
        wide = [axis for axis in axes if shape[axis] != 1]
        first, last = (wide[0], wide[-1]) if wide else (0, -1)
        between = [axis for axis in range(first, last + 1) if axis not in axes and shape[axis] != 1]
        if between:
            self._problem(f"reduces axes {axes} of {list(shape)}, supported are neighbouring axes")
            return None, ()
        outer, reduced, inner = (
            _product(shape[:first]),
            _product(shape[first : last + 1]),
            _product(shape[last + 1 :]),
        )
        return ir.Mean(outer, reduced, inner), self.operator.inputs[:1]

    def add(self) -> _Imported:
        one, two = self._tensor(0), self._tensor(1)
        if one.data is not None and two.data is not None:
            self._problem("adds two constants, supported is at most one")
        if max(len(one.shape), len(two.shape)) > 4:
            self._problem(
                f"adds {list(one.shape)} and {list(two.shape)}, supported are at most 4 axes"
            )
        return ir.Add(self._activation()), self.operator.inputs

    def reshape(self) -> _Imported:
        if len(self.operator.inputs) == 2 and self.operator.inputs[1] == -1:
            return ir.Reshape(), self.operator.inputs[:1]
        return ir.Reshape(), self.operator.inputs

    def same_bytes(self) -> _Imported:
        """SQUEEZE, EXPAND_DIMS: the output's shape says it all."""
        return ir.Reshape(), self.operator.inputs[:1]

    def softmax(self) -> _Imported:
        return ir.Softmax(float(self._option("Beta"))), self.operator.inputs

    def pad(self) -> _Imported:
        quantization = self._x.quantization
        return self._padding(quantization.zero_point if quantization else 0)

    def pad_v2(self) -> _Imported:
        value = self._constant(2, "value")
        if value is None:
            return None, ()
        if len(value) != 1 or self._tensor(2).dtype is not ir.DType.INT8:
            raise ModelInvalidError(f"{self.operator.source}: the value must be one int8")
        return self._padding(value[0])

    def relu(self) -> _Imported:
        return ir.Activate(ir.Activation.RELU), self.operator.inputs

    def relu6(self) -> _Imported:
        x, y = self._x.quantization, self._tensors[self.operator.outputs[0]].quantization
        if x != y:
            self._problem(
                "input and output have different scales or zero points: TFLite Micro does not "
                "rescale in RELU6; supported are equal ones, or RELU6 fused into the layer before"
            )
        return ir.Activate(ir.Activation.RELU6), self.operator.inputs

    def quantize(self) -> _Imported:
        return ir.Quantize(), self.operator.inputs

    def dequantize(self) -> _Imported:
        return ir.Dequantize(), self.operator.inputs

    def shape(self) -> _Imported:
        return ir.ShapeOf(), self.operator.inputs

    def strided_slice(self) -> _Imported:
        for name in ("EllipsisMask", "NewAxisMask"):
            if self._option(name):
                self._problem(f"{name} is {self._option(name)}, supported is 0")
        return (
            ir.StridedSlice(
                begin_mask=int(self._option("BeginMask")),
                end_mask=int(self._option("EndMask")),
                shrink_axis_mask=int(self._option("ShrinkAxisMask")),
            ),
            self.operator.inputs,
        )

    def pack(self) -> _Imported:
        return ir.Pack(int(self._option("Axis"))), self.operator.inputs

    # Parts of the above.

    @property
    def _x(self) -> ir.Tensor:
        return self._tensor(0)

    def _tensor(self, position: int) -> ir.Tensor:
        return self._tensors[self.operator.inputs[position]]

    def _problem(self, text: str) -> None:
        self.problems.append(text)

    def _option(self, name: str) -> float:
        return self.operator.options[name]

    def _activation(self) -> ir.Activation:
        code = int(self._option("FusedActivationFunction"))
        if code not in _ACTIVATIONS:
            names = ", ".join(f"{value} {name.value}" for value, name in _ACTIVATIONS.items())
            self._problem(f"fused activation is {code}, supported are {names}")
            return ir.Activation.NONE
        return _ACTIVATIONS[code]

    def _constant(self, position: int, what: str) -> list[int] | None:
        tensor = self._tensor(position)
        if tensor.data is None:
            self._problem(f"{what} are computed by the model, supported are constants")
            return None
        if tensor.dtype is ir.DType.FLOAT32 or len(tensor.data) != tensor.size_bytes:
            raise ModelInvalidError(
                f"{self.operator.source}: {what}, tensor {tensor.name!r}, is "
                f"{tensor.dtype.value}{list(tensor.shape)} with {len(tensor.data)} bytes"
            )
        return [int(value) for value in tensor.array().reshape(-1)]

    def _constant_filter(self) -> None:
        tensor = self._tensor(1)
        if tensor.data is None:
            self._problem("the filter is computed by the model, supported is a constant")
        elif tensor.dtype is not ir.DType.INT8:
            self._problem(f"the filter is {tensor.dtype.value}, supported is int8")
        if tensor.quantization is not None and any(tensor.quantization.zero_points):
            bad = next(point for point in tensor.quantization.zero_points if point)
            self._problem(f"the filter has zero point {bad}, supported is 0")
        if len(self.operator.inputs) > 2 and self.operator.inputs[2] != -1:
            bias = self._tensor(2)
            if bias.data is None or bias.dtype is not ir.DType.INT32:
                kind = "computed" if bias.data is None else bias.dtype.value
                self._problem(f"the bias is {kind}, supported is an int32 constant")

    def _image(self) -> bool:
        """Is the input [1, height, width, channels]?"""
        shape = self._x.shape
        if len(shape) != 4 or shape[0] != 1:
            self._problem(
                f"input shape is {list(shape)}, supported is [1, height, width, channels]"
            )
            return False
        return True

    def _filter_window(self, position: int) -> ir.Window | None:
        self._constant_filter()
        shape = self._tensor(position).shape
        if len(shape) != 4:
            raise ModelInvalidError(f"{self.operator.source}: filter shape is {list(shape)}")
        dilation = (int(self._option("DilationHFactor")), int(self._option("DilationWFactor")))
        return self._window((shape[1], shape[2]), dilation)

    def _pool_window(self) -> ir.Window | None:
        size = (int(self._option("FilterHeight")), int(self._option("FilterWidth")))
        return self._window(size, (1, 1))

    def _window(self, size: tuple[int, int], dilation: tuple[int, int]) -> ir.Window | None:
        if not self._image():
            return None
        stride = (int(self._option("StrideH")), int(self._option("StrideW")))
        padding = int(self._option("Padding"))
        y = self._tensors[self.operator.outputs[0]].shape
        if min(*size, *stride, *dilation) < 1 or padding not in (_SAME, _VALID) or len(y) != 4:
            raise ModelInvalidError(
                f"{self.operator.source}: filter {list(size)}, strides {list(stride)}, dilations "
                f"{list(dilation)}, padding {padding}, output {list(y)} make no window"
            )
        before = []
        for axis in (0, 1):
            effective = (size[axis] - 1) * dilation[axis] + 1
            side = self._x.shape[1 + axis]
            if padding == _SAME:
                count = -(-side // stride[axis])
                before.append(max(0, (count - 1) * stride[axis] + effective - side) // 2)
            else:
                count = -(-(side - effective + 1) // stride[axis])
                before.append(0)
            if count != y[1 + axis] or count < 1:
                raise ModelInvalidError(
                    f"{self.operator.source}: output shape is {list(y)}, input and window make "
                    f"{count} along axis {1 + axis}"
                )
        return ir.Window(*size, *stride, *dilation, *before)

    def _padding(self, value: int) -> _Imported:
        amounts, rank = self._constant(1, "paddings"), len(self._x.shape)
        if amounts is None:
            return None, ()
        if len(amounts) != 2 * rank:
            raise ModelInvalidError(
                f"{self.operator.source}: {len(amounts)} paddings for {rank} axes"
            )
        if rank > 4:
            self._problem(f"pads {rank} axes, supported are at most 4")
        x, y = self._x.quantization, self._tensors[self.operator.outputs[0]].quantization
        if x != y:
            self._problem("input and output have different scales or zero points")
        return ir.Pad(tuple(amounts[::2]), tuple(amounts[1::2]), value), self.operator.inputs[:1]


_Imported = tuple[ir.Attributes | None, Sequence[int]]


def _product(sides: Sequence[int]) -> int:
    product = 1
    for side in sides:
        product *= side
    return product


def supported_operators() -> str:
    """Return the operators that `Importer` knows, for a message."""
    return ", ".join(sorted(_RULES))


# name: method, fewest and most inputs
_RULES: Mapping[str, tuple[Callable[[Importer], _Imported], int, int]] = {
    "CONV_2D": (Importer.conv_2d, 2, 3),
    "DEPTHWISE_CONV_2D": (Importer.depthwise_conv_2d, 2, 3),
    "FULLY_CONNECTED": (Importer.fully_connected, 2, 3),
    "AVERAGE_POOL_2D": (Importer.average_pool_2d, 1, 1),
    "MAX_POOL_2D": (Importer.max_pool_2d, 1, 1),
    "MEAN": (Importer.mean, 2, 2),
    "ADD": (Importer.add, 2, 2),
    "RESHAPE": (Importer.reshape, 1, 2),
    "SQUEEZE": (Importer.same_bytes, 1, 1),
    "EXPAND_DIMS": (Importer.same_bytes, 2, 2),
    "SOFTMAX": (Importer.softmax, 1, 1),
    "PAD": (Importer.pad, 2, 2),
    "PADV2": (Importer.pad_v2, 3, 3),
    "RELU": (Importer.relu, 1, 1),
    "RELU6": (Importer.relu6, 1, 1),
    "QUANTIZE": (Importer.quantize, 1, 1),
    "DEQUANTIZE": (Importer.dequantize, 1, 1),
    "SHAPE": (Importer.shape, 1, 1),
    "STRIDED_SLICE": (Importer.strided_slice, 4, 4),
    "PACK": (Importer.pack, 1, 8),
}
