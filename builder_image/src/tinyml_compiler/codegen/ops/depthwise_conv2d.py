"""DEPTHWISE_CONV_2D to tml_depthwise_conv2d_s8."""

from tinyml_compiler import ir
from tinyml_compiler.codegen.lowered import Call
from tinyml_compiler.codegen.ops.conv2d import lower_filtered


def lower(graph: ir.Graph, op: ir.Op) -> Call:
    """Return the call; the filter's output channels are its last axis."""
    return lower_filtered(graph, op, "depthwise_conv2d", axis=3)
