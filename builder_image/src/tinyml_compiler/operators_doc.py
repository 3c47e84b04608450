"""The table of supported operators: `python -m tinyml_compiler.operators_doc > docs/operators.md`.

Made from the list of kernels, `kernels.inc` of the runtime; this module adds which TFLite operators
each kernel serves and within what limits. Contract tests compare with docs/operators.md and with
what the importer takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tinyml_compiler.quant import SOFTMAX_MAX_DEPTH
from tinyml_compiler.runtime_sources import runtime_folder

# Names of instruction sets in kernels.inc, in the order of the columns.
_ISAS: Mapping[str, str] = {
    "ref": "portable C",
    "thumb": "Thumb (M0+, M3)",
    "dsp": "DSP (M4, M7, M33)",
    "mve": "Helium (M55)",
    "rv32": "RV32",
}
_FUSED = "fused NONE, RELU, RELU6, RELU_N1_TO_1"
_FILTER = "constant int8 filter, per tensor or per channel; int32 bias or none"

# kernel as in kernels.inc: TFLite operators and limits
_SERVES: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("conv2d", "s8"): {"CONV_2D": f"batch 1; no groups; {_FILTER}; {_FUSED}"},
    ("depthwise_conv2d", "s8"): {
        "DEPTHWISE_CONV_2D": f"batch 1; any depth multiplier; {_FILTER}; {_FUSED}"
    },
    ("fully_connected", "s8"): {"FULLY_CONNECTED": f"{_FILTER}; {_FUSED}"},
    ("average_pool2d", "s8"): {"AVERAGE_POOL_2D": f"batch 1; {_FUSED}"},
    ("max_pool2d", "s8"): {"MAX_POOL_2D": f"batch 1; {_FUSED}"},
    ("mean", "s8"): {"MEAN": "constant neighbouring axes"},
    ("add", "s8"): {"ADD": f"broadcasting, at most 4 axes; {_FUSED}"},
    ("softmax", "s8"): {"SOFTMAX": f"last axis, at most {SOFTMAX_MAX_DEPTH} long"},
    ("requantize", "s8"): {
        "QUANTIZE": "from int8",
        "RELU": "",
        "RELU6": "same scale and zero point in and out",
    },
    ("quantize", "f32_s8"): {"QUANTIZE": "from float32"},
    ("dequantize", "s8_f32"): {"DEQUANTIZE": "to float32"},
    ("pad", "s8"): {"PAD": "at most 4 axes", "PADV2": "at most 4 axes"},
}
_WITHOUT_KERNEL: Mapping[str, str] = {
    "RESHAPE": "another view of the same bytes",
    "SQUEEZE": "another view of the same bytes",
    "EXPAND_DIMS": "another view of the same bytes",
    "SHAPE": "computed when the model is compiled",
    "STRIDED_SLICE": "computed when the model is compiled",
    "PACK": "computed when the model is compiled",
}


@dataclass(frozen=True, slots=True)
class KernelBody:
    """One row of kernels.inc."""

    op: str
    dtype: str
    isa: str


def kernel_bodies() -> tuple[KernelBody, ...]:
    """What the runtime has, in the order of its list."""
    text = (runtime_folder() / "src" / "kernels" / "kernels.inc").read_text()
    rows = re.findall(r"^TML_KERNEL\((\w+), (\w+), (\w+)\)$", text, re.MULTILINE)
    return tuple(KernelBody(*row) for row in rows)


def operators() -> frozenset[str]:
    """The TFLite operators of the table."""
    served = {name for names in _SERVES.values() for name in names}
    return frozenset(served | set(_WITHOUT_KERNEL))


def render() -> str:
    """The page. Raises KeyError for a kernel that this module does not know what it serves."""
    bodies = kernel_bodies()
    isas = [isa for isa in _ISAS if any(body.isa == isa for body in bodies)]
    rows = []
    for op, dtype in dict.fromkeys((body.op, body.dtype) for body in bodies):
        marks = ["yes" if KernelBody(op, dtype, isa) in bodies else "" for isa in isas]
        for operator, limits in _SERVES[op, dtype].items():
            rows.append([operator, f"`tml_{op}_{dtype}`", _types(dtype), *marks, limits])
    table = [["TFLite operator", "kernel", "types", *(_ISAS[isa] for isa in isas), "limits"]]
    table += [["---"] * len(table[0]), *sorted(rows)]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    folded = [f"| {name} | {what} |" for name, what in sorted(_WITHOUT_KERNEL.items())]
    return "\n".join(
        [
            "# Operators",
            "",
            "<!-- Made by `python -m tinyml_compiler.operators_doc`; change that instead. -->",
            "",
            "What a model may consist of, and the kernels that run it. Results equal those of",
            "TFLite Micro's reference kernels bit for bit.",
            "",
            *lines,
            "",
            "These cost nothing on the device:",
            "",
            "| TFLite operator | becomes |",
            "| --- | --- |",
            *folded,
            "",
        ]
    )


def _types(dtype: str) -> str:
    names = {"s8": "int8", "f32": "float32"}
    return " to ".join(names[part] for part in dtype.split("_"))


if __name__ == "__main__":
    print(render(), end="")
