"""A graph as text, one line an operation: what `--dump-after` prints."""

from __future__ import annotations

from dataclasses import fields

from tinyml_compiler.ir.graph import Attributes, Graph, Tensor


def dump(graph: Graph) -> str:
    """Return the graph for a person to read; constants by shape only."""
    lines = [f"graph {graph.name}"]
    lines += [f"  in   %{index}: {_tensor(graph.tensors[index])}" for index in graph.inputs]
    for op in graph.ops:
        arguments = ", ".join(
            "-" if index is None else f"%{index}" + _constant(graph.tensors[index])
            for index in op.inputs
        )
        lines.append(
            f"  %{op.output} = {op.kind}({arguments}) {_attributes(op.attributes)}"
            f": {_tensor(graph.tensors[op.output])}  # {op.source}"
        )
    lines += [f"  out  %{index}" for index in graph.outputs]
    return "\n".join(lines) + "\n"


def _constant(tensor: Tensor) -> str:
    return "" if tensor.data is None else f"={tensor.dtype.value}{list(tensor.shape)}"


def _tensor(tensor: Tensor) -> str:
    text = f"{tensor.dtype.value}{list(tensor.shape)}"
    if tensor.quantization is not None and tensor.quantization.axis is None:
        text += f" scale {tensor.quantization.scale!r} zero point {tensor.quantization.zero_point}"
    return text


def _attributes(attributes: Attributes) -> str:
    shown = [f"{field.name}={getattr(attributes, field.name)}" for field in fields(attributes)]
    return "{" + ", ".join(shown) + "} " if shown else ""
