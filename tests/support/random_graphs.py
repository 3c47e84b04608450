"""Random models of all operators: branches, shared tensors, several inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support.tflite_builder import ModelBuilder, Quant, a_model

MAX_ELEMENTS = 600
Rng = np.random.Generator


def random_graph(seed: int) -> bytes:
    """A model of up to a dozen operators; the same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    model, tensors = a_model(), _Tensors(rng)
    for number in range(int(rng.integers(1, 4))):
        name, quant = f"in{number}", _quant(rng)
        shape = (1, *(int(n) for n in rng.integers(1, 7, 3)))
        model.input(name, shape, quant)
        tensors.add(name, quant)
    for number in range(int(rng.integers(1, 12))):
        name, source = f"t{number}", tensors.pick()
        made = _STEPS[int(rng.integers(len(_STEPS)))](rng, model, tensors, source, name)
        if made is not None:
            tensors.add(name, made)
    outputs = {tensors.names[-1], *(tensors.pick() for _ in range(int(rng.integers(0, 4))))}
    for name in sorted(outputs):
        model.output(name)
    if rng.integers(4) == 0:
        model.output(tensors.names[-1])  # the same tensor twice
    return model.build()


class _Tensors:
    def __init__(self, rng: Rng) -> None:
        self.names: list[str] = []
        self.quant: dict[str, Quant] = {}
        self._rng = rng

    def add(self, name: str, quant: Quant) -> None:
        self.names.append(name)
        self.quant[name] = quant

    def pick(self) -> str:
        """Any tensor, the last ones more often."""
        at = int(len(self.names) * self._rng.random() ** 0.4)
        return self.names[min(at, len(self.names) - 1)]


_Step = Callable[[Rng, ModelBuilder, _Tensors, str, str], Quant | None]


def _quant(rng: Rng) -> Quant:
    """Scales of the usual size, now and then far from it; few kinds, so that some are equal."""
    scale = float(rng.choice([0.02, 0.05, 0.11, 1 / 256, 10.0 ** rng.uniform(-4, 2)]))
    return Quant(scale, int(rng.choice([-128, -3, 0, 4, 127, int(rng.integers(-128, 128))])))


def _image(model: ModelBuilder, source: str, name: str, rng: Rng) -> str | None:
    """The source, or a Reshape of it to [1, height, width, channels]."""
    shape = model.shape(source)
    if len(shape) == 4 and shape[0] == 1:
        return source
    elements = int(np.prod(shape))
    divisors = [n for n in range(1, elements + 1) if elements % n == 0]
    channels = int(rng.choice(divisors))
    model.reshape((1, 1, elements // channels, channels), source=source, name=f"{name}_image")
    return f"{name}_image"


def _activation(rng: Rng) -> str:
    return str(rng.choice(["NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"]))


def _bias(rng: Rng, channels: int) -> np.ndarray | None:
    return rng.integers(-5000, 5000, channels).astype(np.int32) if rng.integers(4) else None


def _scales(rng: Rng, channels: int) -> float | list[float]:
    several = [float(s) for s in 10.0 ** rng.uniform(-4, -1, channels)]
    return several if rng.integers(2) and channels > 1 else several[0]


def _window(rng: Rng, shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int], str]:
    padding = str(rng.choice(["SAME", "VALID"]))
    size = [int(rng.integers(1, (side if padding == "VALID" else side + 2) + 1)) for side in shape]
    stride = [int(n) for n in rng.integers(1, 4, 2)]
    return (min(size[0], 5), min(size[1], 5)), (stride[0], stride[1]), padding


def _conv(rng: Rng, model: ModelBuilder, _: _Tensors, source: str, name: str) -> Quant | None:
    image = _image(model, source, name, rng)
    shape, out = model.shape(image), _quant(rng)
    size, stride, padding = _window(rng, shape[1:3])
    channels = int(rng.integers(1, 6))
    filter_ = rng.integers(-128, 128, (channels, *size, shape[3])).astype(np.int8)
    model.conv2d(
        filter_,
        _bias(rng, channels),
        out,
        filter_scale=_scales(rng, channels),
        stride=stride,
        padding=padding,
        activation=_activation(rng),
        source=image,
        name=name,
    )
    return out


def _depthwise(rng: Rng, model: ModelBuilder, _: _Tensors, source: str, name: str) -> Quant | None:
    image = _image(model, source, name, rng)
    shape, out = model.shape(image), _quant(rng)
    size, stride, padding = _window(rng, shape[1:3])
    channels = shape[3] * int(rng.integers(1, 3))
    model.depthwise_conv2d(
        rng.integers(-128, 128, (1, *size, channels)).astype(np.int8),
        _bias(rng, channels),
        out,
        filter_scale=_scales(rng, channels),
        stride=stride,
        padding=padding,
        activation=_activation(rng),
        source=image,
        name=name,
    )
    return out


def _dense(rng: Rng, model: ModelBuilder, _: _Tensors, source: str, name: str) -> Quant | None:
    shape, out = model.shape(source), _quant(rng)
    features = shape[-1] if rng.integers(2) else int(np.prod(shape))
    channels = int(rng.integers(1, 8))
    model.fully_connected(
        rng.integers(-128, 128, (channels, features)).astype(np.int8),
        _bias(rng, channels),
        out,
        filter_scale=_scales(rng, channels),
        activation=_activation(rng),
        source=source,
        name=name,
    )
    return out


def _pool(rng: Rng, model: ModelBuilder, tensors: _Tensors, source: str, name: str) -> Quant | None:
    image = _image(model, source, name, rng)
    size, stride, padding = _window(rng, model.shape(image)[1:3])
    pool = model.average_pool2d if rng.integers(2) else model.max_pool2d
    activation = _activation(rng)
    pool(size, stride=stride, padding=padding, activation=activation, source=image, name=name)
    return tensors.quant[source]


def _mean(rng: Rng, model: ModelBuilder, _: _Tensors, source: str, name: str) -> Quant | None:
    rank, out = len(model.shape(source)), _quant(rng)
    if rank < 2:
        return None
    first = int(rng.integers(rank))
    axes = list(range(first, int(rng.integers(first, rank)) + 1))
    keep = bool(rng.integers(2)) or len(axes) == rank
    model.mean(axes, out, keep_dims=keep, source=source, name=name)
    return out


def _add(rng: Rng, model: ModelBuilder, tensors: _Tensors, source: str, name: str) -> Quant | None:
    out, other = _quant(rng), tensors.pick()
    largest = max(float(tensors.quant[each].scale) for each in (source, other))  # type: ignore[arg-type]
    if largest >= float(out.scale) * 2**18:  # type: ignore[arg-type]
        return None
    try:
        shape = np.broadcast_shapes(model.shape(source), model.shape(other))
    except ValueError:
        other, shape = source, model.shape(source)
    if int(np.prod(shape)) > MAX_ELEMENTS:
        return None
    if rng.integers(4) == 0:
        channel = rng.integers(-128, 128, model.shape(source)[-1:]).astype(np.int8)
        other = f"{name}_constant"
        model.constant(other, channel, out)
    first, second = (source, other) if rng.integers(2) else (other, source)
    model.add(first, second, out, activation=_activation(rng), name=name)
    return out


def _reshape(rng: Rng, model: ModelBuilder, t: _Tensors, source: str, name: str) -> Quant | None:
    shape = model.shape(source)
    elements = int(np.prod(shape))
    new = [(1, elements), (elements,), (1, 1, 1, elements), (1, *shape[1:]), (1, *shape[::-1][:3])]
    fitting = [each for each in new if int(np.prod(each)) == elements and len(each) <= 4]
    model.reshape(fitting[int(rng.integers(len(fitting)))], source=source, name=name)
    return t.quant[source]


def _softmax(rng: Rng, model: ModelBuilder, t: _Tensors, source: str, name: str) -> Quant | None:
    if model.shape(source)[-1] > 400:  # with many more the oracle aborts
        return None
    model.softmax(float(rng.choice([1.0, 0.5, 3.0])), source=source, name=name)
    return Quant(1 / 256, -128)


def _pad(rng: Rng, model: ModelBuilder, t: _Tensors, source: str, name: str) -> Quant | None:
    amounts = rng.integers(0, 3, (len(model.shape(source)), 2))
    amounts[0] = 0
    if rng.integers(2):
        amounts[-1] = 0
    shape = model.shape(source)
    if int(np.prod([n + int(a.sum()) for n, a in zip(shape, amounts, strict=True)])) > MAX_ELEMENTS:
        return None
    value = None if rng.integers(2) else int(rng.integers(-128, 128))
    model.pad([(int(a), int(b)) for a, b in amounts], value=value, source=source, name=name)
    return t.quant[source]


def _relu(rng: Rng, model: ModelBuilder, t: _Tensors, source: str, name: str) -> Quant | None:
    out = t.quant[source] if rng.integers(2) else _quant(rng)
    model.relu(out, source=source, name=name)
    return out


def _relu6(rng: Rng, model: ModelBuilder, t: _Tensors, source: str, name: str) -> Quant | None:
    model.relu6(t.quant[source], source=source, name=name)
    return t.quant[source]


def _quantize(rng: Rng, model: ModelBuilder, t: _Tensors, source: str, name: str) -> Quant | None:
    out = _quant(rng)
    model.quantize(out, source=source, name=name)
    return out


_STEPS: tuple[_Step, ...] = (
    _conv,
    _conv,
    _depthwise,
    _dense,
    _pool,
    _mean,
    _add,
    _add,
    _add,
    _reshape,
    _reshape,
    _softmax,
    _pad,
    _relu,
    _relu6,
    _quantize,
)
