"""What one operation becomes: a kernel call as data, before any text is made of it.

`codegen.ops` makes these, `codegen.weights` places their sections, `codegen.emit` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinyml_compiler import ir


@dataclass(frozen=True, slots=True)
class Section:
    """Bytes of the weights blob that a retrained model may change. `c_type` is what they are an
    array of; `name` is unique within the operation."""

    name: str
    c_type: str
    data: bytes
    struct_bytes: int | None = None  # of one element, where c_type is a struct of tml/kernels.h


@dataclass(frozen=True, slots=True)
class Shape:
    """The structure of a call, a `static const` of the code."""

    c_type: str
    fields: tuple[tuple[str, int | tuple[int, ...]], ...]


# The arguments of a call, in order.


@dataclass(frozen=True, slots=True)
class ShapeArgument:
    """Address of a Shape; calls of one shape share it."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class CountArgument:
    """A number that the structure fixes."""

    value: int


@dataclass(frozen=True, slots=True)
class SectionArgument:
    """Address of a section in the blob."""

    section: str


@dataclass(frozen=True, slots=True)
class ValueArgument:
    """First element of a section."""

    section: str


@dataclass(frozen=True, slots=True)
class ChannelsArgument:
    """A tml_channels_t of the sections bias, multiplier and shift."""


@dataclass(frozen=True, slots=True)
class InputArgument:
    """Address of an activation that is read."""

    tensor: int


@dataclass(frozen=True, slots=True)
class OutputArgument:
    """Address of the activation that is written."""

    tensor: int


Argument = (
    ShapeArgument
    | CountArgument
    | SectionArgument
    | ValueArgument
    | ChannelsArgument
    | InputArgument
    | OutputArgument
)


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel call. `folder` is that of the kernel under device_runtime/src/kernels; `macs` are
    multiplications that are added up."""

    folder: str
    kernel: str
    arguments: tuple[Argument, ...]
    sections: tuple[Section, ...]
    macs: int = 0


Lower = Callable[[ir.Graph, ir.Op], Call]
"""Raises ModelInvalidError or UnsupportedOperatorError; the caller adds which operation it was."""
