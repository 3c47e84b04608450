"""Every operator and graph shape, compiled and run on the host, equals TFLite Micro bit for bit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from tinyml_compiler.pipeline import compile_model
from tinyml_compiler.target import CPUS, Cpu

from tests.support.c_kernels import RUNTIME
from tests.support.graph_models import GRAPHS
from tests.support.host_model import TARGET, WARNINGS, assert_equals_oracle
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


@pytest.mark.needs_gcc
@pytest.mark.parametrize(
    "cpu", [cpu for cpu in CPUS.values() if not cpu.is_host], ids=lambda cpu: cpu.name
)
def test_generated_c_compiles_without_a_warning_for_every_core(cpu: Cpu, tmp_path: Path) -> None:
    for name in ("flatten_dense_softmax", "float_edges", "pad_of_another_value", "residual"):
        folder = tmp_path / name
        folder.mkdir()
        for file, text in compile_model(GRAPHS[name](), name=name, target=TARGET).sources.items():
            (folder / file).write_text(text)
        subprocess.run(
            [
                f"{cpu.gcc_triple}-gcc",
                *(*cpu.gcc_flags, "-std=c11", "-ffreestanding", "-Os", *WARNINGS),
                *("-I", str(RUNTIME / "include"), "-I", str(folder)),
                *("-c", str(folder / "model.c"), "-o", str(folder / "model.o")),
            ],
            check=True,
        )
