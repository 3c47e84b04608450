"""Damaged models end in an error that says so, or compile; never in a crash or a hang."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tinyml_compiler.errors import CompilerError
from tinyml_compiler.pipeline import compile_model

from tests.support.graph_models import GRAPHS
from tests.support.host_model import TARGET

WORDS = (0, 1, 2, 7, 127, 255, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 128)
QUICK = settings(
    max_examples=300, deadline=10_000, suppress_health_check=[HealthCheck.data_too_large]
)


@functools.cache
def seed(name: str) -> bytes:
    return GRAPHS[name]()


def must_end_well(data: bytes) -> None:
    """Any exception but CompilerError fails the test; so does more than `deadline`."""
    with contextlib.suppress(CompilerError):
        compile_model(data, name="fuzzed", target=TARGET)


def test_every_truncation_is_an_error() -> None:
    data = seed("add_of_itself")
    for length in range(len(data)):
        with pytest.raises(CompilerError):
            compile_model(data[:length], name="cut", target=TARGET)


@pytest.mark.parametrize("value", [0, 0x7F, 0xFF])
def test_any_byte_may_be_wrong(value: int) -> None:
    data = seed("add_of_itself")
    for position in range(len(data)):
        must_end_well(data[:position] + bytes([value]) + data[position + 1 :])


@QUICK
@given(
    name=st.sampled_from(sorted(GRAPHS)),
    changes=st.lists(
        st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6
    ),
)
def test_any_bytes_may_be_wrong(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(seed(name))
    for position, value in changes:
        data[position % len(data)] = value
    must_end_well(bytes(data))


@QUICK
@given(
    name=st.sampled_from(sorted(GRAPHS)),
    changes=st.lists(
        st.tuples(st.integers(0, 1 << 18), st.sampled_from(WORDS)), min_size=1, max_size=3
    ),
)
def test_any_words_may_be_wrong(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(seed(name))
    for position, word in changes:
        at = position % (len(data) // 4) * 4
        data[at : at + 4] = word.to_bytes(4, "little")
    must_end_well(bytes(data))


@QUICK
@given(
    name=st.sampled_from(sorted(GRAPHS)),
    source=st.integers(0, 1 << 20),
    to=st.integers(0, 1 << 20),
    length=st.integers(1, 64),
)
def test_parts_may_be_copied_over_others(name: str, source: int, to: int, length: int) -> None:
    data = bytearray(seed(name))
    piece = data[source % len(data) :][:length]
    start = to % (len(data) - len(piece) + 1)
    data[start : start + len(piece)] = piece
    must_end_well(bytes(data))


@QUICK
@given(data=st.binary(max_size=200))
def test_any_bytes_after_the_identifier(data: bytes) -> None:
    must_end_well(data[:4].ljust(4, b"\0") + b"TFL3" + data[4:])


@pytest.mark.needs_models
@settings(max_examples=100, deadline=10_000)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=40
    )
)
def test_a_real_model_may_be_wrong_anywhere(changes: list[tuple[int, int]]) -> None:
    data = bytearray(_real_model())
    for position, value in changes:
        data[position % len(data)] = value
    must_end_well(bytes(data))


@functools.cache
def _real_model() -> bytes:
    return Path(os.environ["TINYML_MODELS"], "kws_ref_model.tflite").read_bytes()
