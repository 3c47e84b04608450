"""Every operator and graph shape, compiled and run on the host, equals TFLite Micro bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from tinyml_compiler.pipeline import compile_model

from tests.support.graph_models import GRAPHS
from tests.support.host_model import TARGET, assert_equals_oracle
from tests.support.kernel_cases import CASES


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_equals_the_oracle(name: str) -> None:
    model = GRAPHS[name]()
    compiled = compile_model(model, name=name, target=TARGET)
    assert_equals_oracle(model, compiled, vectors=12, seed=3)


# The case of RELU6 changes the scale, which is refused (test_frontend_tflite); equal scales are in
# GRAPHS as relu6_after_add.
@pytest.mark.parametrize("name", [name for name in CASES if name != "relu6"])
def test_operator_equals_the_oracle(name: str) -> None:
    case = CASES[name](np.random.default_rng(5))
    compiled = compile_model(case.model, name=name, target=TARGET)
    assert_equals_oracle(case.model, compiled, vectors=6, seed=5)
