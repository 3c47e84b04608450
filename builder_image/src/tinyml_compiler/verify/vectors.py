"""Input vectors that try a model's arithmetic at its edges and at random, the same for each build.

Seeded by the model's digest: a build that fails, fails again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

COUNT = 32

Generator = np.random.Generator
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """`dtype` is `int8` or `float32`; of a float input, `scale` and `zero_point` are those that it
    is quantized to, if known."""

    dtype: str
    elements: int
    scale: float
    zero_point: int


# Each returns int8 values for `elements` of an input with `zero_point`.
Pattern = Callable[[int, int, Generator], Array]


def _constant(value: int) -> Pattern:
    return lambda elements, _zero_point, _random: np.full(elements, value)


def _zero(elements: int, zero_point: int, _: Generator) -> Array:
    return np.full(elements, zero_point)


def _ramp(elements: int, _zero_point: int, _random: Generator) -> Array:
    return np.arange(elements) % 256 - 128


def _falling(elements: int, zero_point: int, random: Generator) -> Array:
    return _ramp(elements, zero_point, random)[::-1]


def _alternating(elements: int, _zero_point: int, _random: Generator) -> Array:
    return np.where(np.arange(elements) % 2, 127, -128)


def _spike(elements: int, zero_point: int, _: Generator) -> Array:
    values = np.full(elements, zero_point)
    values[elements // 2] = 127
    return values


def _uniform(elements: int, _zero_point: int, random: Generator) -> Array:
    return random.integers(-128, 128, elements)


def _near_zero(elements: int, zero_point: int, random: Generator) -> Array:
    return np.clip(np.rint(random.normal(zero_point, 16, elements)), -128, 127)


EDGES: tuple[Pattern, ...] = (
    _constant(-128),
    _constant(127),
    _constant(0),
    _zero,
    _ramp,
    _falling,
    _alternating,
    _spike,
)
RANDOM: tuple[Pattern, ...] = (_uniform, _uniform, _near_zero)


def make_vectors(
    inputs: Sequence[InputSpec], *, seed: bytes, count: int = COUNT
) -> tuple[bytes, ...]:
    """Return `count` vectors, at least 32: the edge patterns, then random ones.

    One vector is the bytes of all inputs, concatenated, little-endian.
    """
    if count < COUNT:
        raise ValueError(f"{count} vectors, a build needs at least {COUNT}")
    random = np.random.default_rng(list(seed))
    patterns = (*EDGES, *islice(cycle(RANDOM), count - len(EDGES)))
    return tuple(b"".join(_one(spec, pattern, random) for spec in inputs) for pattern in patterns)


def _one(spec: InputSpec, pattern: Pattern, random: Generator) -> bytes:
    values = pattern(spec.elements, spec.zero_point, random)
    if spec.dtype == "int8":
        return values.astype(np.int8).tobytes()
    if spec.dtype == "float32":
        # Between the steps of the quantization, and a little outside of its range.
        steps = 1.1 * (values - spec.zero_point) + random.uniform(-0.5, 0.5, spec.elements)
        return (steps * spec.scale).astype("<f4").tobytes()
    raise ValueError(f"input of type {spec.dtype!r}: vectors are int8 or float32")
