"""Models that nobody has thought of: the compiled C equals TFLite Micro bit for bit."""

from __future__ import annotations

import pytest
from tinyml_compiler.pipeline import compile_model

from tests.support.host_model import TARGET, assert_equals_oracle
from tests.support.random_graphs import random_graph

GRAPHS = 24


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_a_random_graph_equals_the_oracle(seed: int) -> None:
    model = random_graph(seed)
    compiled = compile_model(model, name=f"random{seed}", target=TARGET)
    assert_equals_oracle(model, compiled, vectors=8, seed=seed)
