"""The reference models, compiled and run on the host, equal TFLite Micro bit for bit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tinyml_compiler.pipeline import compile_model

from tests.support.host_model import TARGET, assert_equals_oracle

# name: arena in bytes (the lower bound), multiply-accumulates
MODELS = {
    "ad01_int8": (768, 264_192),
    "kws_ref_model": (16_000, 2_656_768),
    "pretrainedResnet_quant": (49_152, 12_501_632),
    "vww_96_int8": (55_296, 7_489_664),
}


def model_bytes(name: str) -> bytes:
    return Path(os.environ["TINYML_MODELS"], f"{name}.tflite").read_bytes()


@pytest.mark.needs_models
@pytest.mark.parametrize("name", MODELS)
def test_reference_model_equals_the_oracle(name: str) -> None:
    model = model_bytes(name)
    compiled = compile_model(model, name=name, target=TARGET)
    assert_equals_oracle(model, compiled, vectors=32, seed=7)


@pytest.mark.needs_models
@pytest.mark.parametrize("name", MODELS)
def test_arena_reaches_the_lower_bound(name: str) -> None:
    compiled = compile_model(model_bytes(name), name=name, target=TARGET)
    arena, macs = MODELS[name]
    assert compiled.arena_bytes == compiled.plan.lower_bound_bytes == arena
    assert compiled.macs == macs
