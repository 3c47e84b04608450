"""The generated text and blob: deterministic, safe, and split into structure and data."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from tinyml_compiler import ir
from tinyml_compiler.codegen.c_literals import comment_text
from tinyml_compiler.codegen.ops.add import broadcast_strides
from tinyml_compiler.errors import ArenaTooLargeError, ModelInvalidError, UnsupportedOperatorError
from tinyml_compiler.pipeline import STAGES, CompiledModel, compile_model
from tinyml_compiler.target import Target

from tests.support import graph_models
from tests.support.graph_models import GRAPHS, X, Y, bias, weights
from tests.support.host_model import SPEC, TARGET, HostModel, assert_equals_oracle
from tests.support.tflite_builder import ModelBuilder, Quant, a_model


def compiled(model: bytes, name: str = "m") -> CompiledModel:
    return compile_model(model, name=name, target=TARGET)


def trained(seed: int, scale: float = 0.02) -> bytes:
    """The same structure, other weights, scales and zero points."""
    return (
        a_model()
        .input("x", (1, 6, 6, 3), Quant(scale, seed))
        .conv2d(
            weights((4, 3, 3, 3), seed), bias(4, seed), Quant(scale * 3, -seed), filter_scale=scale
        )
        .mean((1, 2), Quant(scale * 2, seed))
        .softmax()
        .build()
    )


def without_head(text: str) -> str:
    return text.split("*/", 1)[1]


def test_same_model_same_bytes() -> None:
    one, two = compiled(graph_models.residual()), compiled(graph_models.residual())
    assert one == two


def test_a_retrained_model_changes_the_weights_alone() -> None:
    one, two = compiled(trained(1)), compiled(trained(2, 0.05))
    assert one.weights != two.weights
    assert one.abi_hash == two.abi_hash
    assert without_head(one.sources["model.c"]) == without_head(two.sources["model.c"])


def test_new_weights_run_with_the_code_of_the_old() -> None:
    old, new = compiled(trained(1)), compiled(trained(2, 0.05))
    x = np.random.default_rng(4).integers(-128, 128, (1, 6, 6, 3)).astype(np.int8)
    mixed = HostModel(replace(old, weights=new.weights))
    np.testing.assert_array_equal(mixed(x)[0], HostModel(new)(x)[0])


def test_names_of_tensors_do_not_change_the_abi() -> None:
    one = compiled(a_model().input("x", (1, 4), X).quantize(Y, name="a").build())
    two = compiled(a_model().input("y", (1, 4), X).quantize(Y, name="b").build())
    assert one.abi_hash == two.abi_hash


def test_another_structure_has_another_abi() -> None:
    hashes = {compiled(build()).abi_hash for build in GRAPHS.values()}
    assert len(hashes) == len(GRAPHS)


def test_the_blob_starts_with_its_header() -> None:
    model = compiled(graph_models.residual())
    head = struct.unpack_from("<4sHHII32s", model.weights)
    assert head == (b"TMLW", 1, 48, len(model.weights), 0, model.abi_hash)


def test_sections_are_aligned_to_16() -> None:
    offsets = re.findall(r"WEIGHTS\(\w+, 0x([0-9a-f]+)u\)", compiled(trained(1)).sources["model.c"])
    assert offsets
    assert all(int(offset, 16) % 16 == 0 for offset in offsets)


def test_layers_carry_what_a_report_needs() -> None:
    model = compiled(graph_models.flatten_dense_softmax())
    assert [layer.op for layer in model.layers] == [
        "depthwise_conv2d",
        "fully_connected",
        "softmax",
    ]
    assert [layer.macs for layer in model.layers] == [2 * 2 * 3 * 3 * 6, 24 * 5, 0]
    assert model.macs == sum(layer.macs for layer in model.layers)
    assert model.kernel_sources == ("depthwise_conv2d", "fully_connected", "softmax")
    quant_and_channels = 16 + 6 * (4 + 4 + 1) + 54
    assert model.layers[0].weights_bytes == quant_and_channels


def test_inputs_and_outputs_are_described() -> None:
    model = compiled(graph_models.float_edges())
    (x,), (y,) = model.inputs, model.outputs
    assert (x.name, x.shape, x.dtype, x.scale, x.bytes) == ("x", (1, 6, 6, 1), "float32", None, 144)
    assert (y.shape, y.dtype, y.bytes) == ((1, 3), "float32", 12)
    (i,) = compiled(graph_models.add_of_itself()).inputs
    assert (i.scale, i.zero_point) == (float(np.float32(0.05)), -3)


def test_the_header_documents_the_edges() -> None:
    text = compiled(graph_models.add_of_itself()).sources["model.h"]
    assert "input 0: x, int8_t 1x9." in text
    assert "real = 0.05000000074505806 * (value - -3)" in text
    assert "#define TML_MODEL_INPUT_0_BYTES 9u" in text


def test_names_from_a_file_cannot_leave_a_comment() -> None:
    name = "x */ int evil(void) { /* ??/\n#include"
    model = a_model().input(name, (1, 4), X).quantize(Y, name="*/ y /*").build()
    run = compiled(model, name="*/ #error /*")
    for text in run.sources.values():
        assert "evil(void) {" not in text
        for comment in re.findall(r"/\*.*?\*/", text, re.S):
            assert "/*" not in comment[2:]
    assert_equals_oracle(model, run, vectors=4, seed=1)


def test_comment_text_keeps_what_is_harmless() -> None:
    assert comment_text("model/conv2d_1/Relu;x:0") == "model/conv2d_1/Relu;x:0"
    assert len(comment_text("a" * 1000)) == 64


def test_an_arena_over_the_ram_is_refused_with_the_numbers() -> None:
    small = Target.from_spec("tiny", {**SPEC, "ram": {"address": 0, "sizeBytes": 100}})
    with pytest.raises(ArenaTooLargeError) as caught:
        compile_model(graph_models.residual(), name="m", target=small)
    assert "bytes, device class 'tiny' has 100: " in str(caught.value)


def test_a_sum_that_can_leave_int32_is_refused() -> None:
    huge = np.full(2, 2**31 - 1, np.int32)
    model = a_model().input("x", (1, 4), X)
    model = model.fully_connected(weights((2, 4)), huge, Y, filter_scale=0.1)
    with pytest.raises(
        ModelInvalidError, match=r"op 0 FULLY_CONNECTED: the sum of channel .*2147483647"
    ):
        compiled(model.build())


def test_a_scale_out_of_range_is_refused_with_its_operation() -> None:
    model = a_model().input("x", (1, 4), Quant(1e30, 0)).quantize(Quant(1e-30, 0)).build()
    with pytest.raises(ModelInvalidError, match=r"^op 0 QUANTIZE: a scale ratio is 1e\+60"):
        compiled(model)


def test_a_softmax_over_the_kernels_limit_is_refused() -> None:
    model = a_model().input("x", (1, 5000), X).softmax().build()
    with pytest.raises(UnsupportedOperatorError, match="has 5000 elements, supported are at most"):
        compiled(model)


def test_stages_are_timed_and_dumped_in_order() -> None:
    timed: list[str] = []
    dumped: list[str] = []

    @contextmanager
    def timer(stage: str) -> Iterator[None]:
        timed.append(stage)
        yield

    def dump(stage: str, graph: ir.Graph) -> None:
        dumped.append(stage)
        assert graph.ops

    compile_model(graph_models.residual(), name="m", target=TARGET, timer=timer, dump=dump)
    assert timed == dumped == [name for name, _ in STAGES]


def test_broadcast_strides_repeat_sides_of_one() -> None:
    assert broadcast_strides((3, 1, 5), (2, 3, 4, 5)) == (0, 5, 0, 1)
    assert broadcast_strides((5,), (1, 3, 4, 5)) == (0, 0, 0, 1)


def with_constant() -> ModelBuilder:
    """An input that is read, and an int8 constant c of shape [1, 4, 4, 2]."""
    start = a_model().input("x", (1, 4, 4, 2), X).constant("c", weights((1, 4, 4, 2)), X)
    return start.relu(X, source="x", name="y").output("y")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            with_constant().conv2d(
                weights((2, 1, 1, 2)), None, Y, filter_scale=0.01, source="c", name="z"
            ),
            "op 1 CONV_2D: works on a constant, 'c'",
        ),
        (with_constant().relu(Y, source="c", name="z"), "op 1 RELU: works on a constant, 'c'"),
        (with_constant().mean((1, 2), Y, source="c", name="z"), "op 1 MEAN: works on a constant"),
        (with_constant().softmax(source="c", name="z"), "op 1 SOFTMAX: works on a constant"),
        (with_constant().dequantize(source="c", name="z"), "op 1 DEQUANTIZE: works on a constant"),
        (with_constant().reshape((32,), source="c", name="z"), "output 4 'z' is a constant"),
        (
            with_constant()
            .reshape((1, 4, 4, 2), source="c", name="same")
            .add("c", "same", Y, name="z"),
            "op 2 ADD: adds two constants",
        ),
    ],
)
def test_what_is_computed_of_constants_alone_is_refused_by_name(
    model: ModelBuilder, message: str
) -> None:
    with pytest.raises(UnsupportedOperatorError, match=re.escape(message)):
        compiled(model.output("z").build())


def test_what_nobody_reads_of_a_constant_is_no_problem() -> None:
    model = with_constant().relu(Y, source="c", name="z").build()
    assert [layer.name for layer in compiled(model).layers] == ["y"]
