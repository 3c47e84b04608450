"""A model file to C and weights, stage by stage.

`STAGES` is the compiler: names and functions in order, each from one `State` to the next. The
stages that rewrite the graph are checked by `ir.verify` after each (unless `verify` is off).
Callers: the build (`tinyml_compiler.build`) and tests. Nothing here reads a clock or a file: time
and `--dump-after` come by callback.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from tinyml_compiler import ir, memory_plan
from tinyml_compiler.codegen import emit, weights
from tinyml_compiler.codegen.lowered import Call
from tinyml_compiler.codegen.ops import LOWERINGS
from tinyml_compiler.errors import (
    ArenaTooLargeError,
    ModelInvalidError,
    UnsupportedOperatorError,
)
from tinyml_compiler.frontends.tflite import import_model
from tinyml_compiler.memory_plan import MemoryPlan
from tinyml_compiler.passes import (
    drop_identities,
    fold_constants,
    fuse_clamp,
    fuse_pad,
    legalize,
    schedule,
)
from tinyml_compiler.target import Target

COMPILER = "tinymlaas-0.1.0"
"""What makes the bytes, as a build request names it."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output: `scale` and `zero_point` are None for float32."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    arena_offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One kernel call. `op` is the kernel's folder, `weights_bytes` are all its sections."""

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    kernel: str
    weights_bytes: int


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """What a model becomes for one device class. `sources` are file names to C text."""

    name: str
    sources: Mapping[str, str]
    weights: bytes
    abi_hash: bytes
    arena_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...]
    macs: int
    kernel_sources: tuple[str, ...]
    plan: MemoryPlan


@dataclass(frozen=True, slots=True)
class State:
    """What the stages hand on; each fills in its part."""

    model: bytes
    name: str
    target: Target
    graph: ir.Graph = field(default_factory=lambda: ir.Graph("", (), (), (), ()))
    ops: tuple[ir.Op, ...] = ()  # those that are calls
    calls: tuple[Call, ...] = ()
    plan: MemoryPlan | None = None
    compiled: CompiledModel | None = None


Stage = Callable[[State], State]
Timer = Callable[[str], AbstractContextManager[object]]
Dump = Callable[[str, ir.Graph], None]


def _parse(state: State) -> State:
    return replace(state, graph=import_model(state.model, state.name))


def _pass(run: Callable[[ir.Graph], ir.Graph]) -> Stage:
    return lambda state: replace(state, graph=run(state.graph))


def _lower(state: State) -> State:
    """Compute every parameter; what cannot be is refused here, before any memory is planned."""
    ops = tuple(op for op in state.graph.ops if not isinstance(op.attributes, ir.Reshape))
    calls: list[Call] = []
    problems: list[str] = []
    for op in ops:
        if state.graph.x_of(op).data is not None and not isinstance(op.attributes, ir.Add):
            problems.append(
                f"{op.source}: works on a constant, {state.graph.x_of(op).name!r}; "
                "supported is what the model's inputs lead to"
            )
            continue
        try:
            calls.append(LOWERINGS[type(op.attributes)](state.graph, op))
        except UnsupportedOperatorError as error:
            problems += [f"{op.source}: {text}" for text in error.problems]
        except ModelInvalidError as error:
            raise ModelInvalidError(f"{op.source}: {error}") from error
    if problems:
        raise UnsupportedOperatorError(problems)
    return replace(state, ops=ops, calls=tuple(calls))


def _plan_memory(state: State) -> State:
    plan, target = memory_plan.plan(state.graph), state.target
    if plan.arena_bytes > target.ram.size_bytes:
        raise ArenaTooLargeError(
            f"arena needs {plan.arena_bytes} bytes, device class {target.name!r} has "
            f"{target.ram.size_bytes}: lower the input size or drop the class"
        )
    return replace(state, plan=plan)


def _emit(state: State) -> State:
    if state.plan is None:
        raise ValueError("stage 'emit' comes after 'plan-memory'")
    placed = weights.layout(state.calls)
    program = emit.Program(
        name=state.name,
        model_sha256=hashlib.sha256(state.model).hexdigest(),
        compiler=COMPILER,
        graph=state.graph,
        ops=state.ops,
        calls=state.calls,
        plan=state.plan,
        layout=placed,
    )
    abi_hash = hashlib.sha256(emit.canonical_text(program).encode()).digest()
    compiled = CompiledModel(
        name=state.name,
        sources=MappingProxyType(
            {"model.c": emit.model_c(program, abi_hash), "model.h": emit.model_h(program)}
        ),
        weights=weights.blob(state.calls, placed, abi_hash),
        abi_hash=abi_hash,
        arena_bytes=state.plan.arena_bytes,
        inputs=tuple(_spec(state.graph, state.plan, index) for index in state.graph.inputs),
        outputs=tuple(_spec(state.graph, state.plan, index) for index in state.graph.outputs),
        layers=tuple(
            _layer(state.graph, op, call) for op, call in zip(state.ops, state.calls, strict=True)
        ),
        macs=sum(call.macs for call in state.calls),
        kernel_sources=tuple(sorted({call.folder for call in state.calls})),
        plan=state.plan,
    )
    return replace(state, compiled=compiled)


STAGES: tuple[tuple[str, Stage], ...] = (
    ("parse", _parse),
    ("fold-constants", _pass(fold_constants.run)),
    ("legalize", _pass(legalize.run)),
    ("fuse-pad", _pass(fuse_pad.run)),
    ("fuse-clamp", _pass(fuse_clamp.run)),
    ("drop-identities", _pass(drop_identities.run)),
    ("schedule", _pass(schedule.run)),
    ("lower", _lower),
    ("plan-memory", _plan_memory),
    ("emit", _emit),
)


def compile_model(
    model: bytes,
    *,
    name: str,
    target: Target,
    verify: bool = True,
    timer: Timer = nullcontext,
    dump: Dump | None = None,
) -> CompiledModel:
    """Compile an int8 .tflite file for `target`. Same arguments, same bytes.

    `timer(stage)` is entered around each stage; `dump(stage, graph)` is called after each.
    Raises the errors of `tinyml_compiler.errors` that concern a model.
    """
    state = State(model=model, name=name, target=target)
    for stage, run in STAGES:
        with timer(stage):
            before = state.graph
            state = run(state)
            if verify and state.graph is not before:
                ir.verify(state.graph)
        if dump is not None:
            dump(stage, state.graph)
    if state.compiled is None:
        raise ValueError("the last stage makes the result")
    return state.compiled


def _spec(graph: ir.Graph, plan: MemoryPlan, index: int) -> TensorSpec:
    tensor = graph.tensors[index]
    quantization = tensor.quantization if tensor.dtype is ir.DType.INT8 else None
    return TensorSpec(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype.value,
        scale=quantization.scale if quantization else None,
        zero_point=quantization.zero_point if quantization else None,
        arena_offset=plan.offsets[index],
        bytes=tensor.size_bytes,
    )


def _layer(graph: ir.Graph, op: ir.Op, call: Call) -> Layer:
    y = graph.y_of(op)
    return Layer(
        name=y.name,
        op=call.folder,
        shape=y.shape,
        macs=call.macs,
        kernel=call.kernel,
        weights_bytes=sum(len(section.data) for section in call.sections),
    )
