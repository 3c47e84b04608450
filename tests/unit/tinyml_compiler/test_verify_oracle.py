"""The oracle runs apart, and vectors are enough, at the edges, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from tinyml_compiler.errors import VerificationFailedError
from tinyml_compiler.verify.oracle import run_oracle
from tinyml_compiler.verify.vectors import COUNT, InputSpec, make_vectors

INT8 = InputSpec("int8", elements=300, scale=0.5, zero_point=-3)
FLOAT = InputSpec("float32", elements=10, scale=0.5, zero_point=-3)


def test_vectors_are_the_same_for_a_seed_and_others_for_another() -> None:
    assert make_vectors([INT8], seed=b"a") == make_vectors([INT8], seed=b"a")
    assert make_vectors([INT8], seed=b"a") != make_vectors([INT8], seed=b"b")


def test_there_are_32_vectors_with_extremes_zero_point_and_ramp() -> None:
    vectors = [np.frombuffer(v, np.int8) for v in make_vectors([INT8], seed=b"a")]
    assert len(vectors) == COUNT == 32
    constants = {int(v[0]) for v in vectors if len(set(v.tolist())) == 1}
    assert {-128, 127, -3, 0} <= constants
    assert any(v[:256].tolist() == list(range(-128, 128)) for v in vectors)
    assert len({v.tobytes() for v in vectors}) == COUNT


def test_vectors_of_several_inputs_are_concatenated() -> None:
    vectors = make_vectors([INT8, FLOAT], seed=b"a")
    assert {len(v) for v in vectors} == {300 + 4 * 10}
    floats = np.frombuffer(vectors[0][300:], "<f4")
    assert np.all(np.isfinite(floats))
    assert floats.min() < (-128 + 3) * 0.5


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        make_vectors([INT8], seed=b"a", count=31)


def test_a_model_that_the_oracle_cannot_run_fails_the_verification() -> None:
    with pytest.raises(VerificationFailedError, match=r"exit status .*\d"):
        run_oracle(b"\0" * 64, [b"\0"], outputs=1)
