"""Two lists of outputs, byte by byte: how many differ, and where the first does."""

from __future__ import annotations

from collections.abc import Sequence

from tinyml_compiler.errors import VerificationFailedError


def mismatches(expected: Sequence[bytes], found: Sequence[bytes]) -> int:
    """Return how many bytes of outputs differ."""
    return sum(
        sum(a != b for a, b in zip(one, other, strict=True))
        for one, other in zip(expected, found, strict=True)
    )


def require_equal(expected: Sequence[bytes], found: Sequence[bytes], *, where: str) -> None:
    """Raise `VerificationFailedError` with counts and the first difference, if there is one."""
    count = mismatches(expected, found)
    if count == 0:
        return
    wrong = sum(one != other for one, other in zip(expected, found, strict=True))
    total = sum(len(one) for one in expected)
    vector, byte = next(
        (vector, byte)
        for vector, (one, other) in enumerate(zip(expected, found, strict=True))
        for byte, (a, b) in enumerate(zip(one, other, strict=True))
        if a != b
    )
    raise VerificationFailedError(
        f"{where}: {count} of {total} bytes of outputs differ from the oracle's, in {wrong} of "
        f"{len(expected)} vectors; first in vector {vector}, byte {byte}: "
        f"{_signed(found[vector][byte])}, the oracle has {_signed(expected[vector][byte])}. "
        "This is a fault of the compiler: please report it with the model"
    )


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte
