"""What a build made, in numbers: `report.json`.

Assembled by `build` from what the stages found; `report_html` draws the same. Figures are of the
ELF that ships. Only this file and `report.html` hold times, so they alone differ from one run to
the next. Described in docs/report.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VERSION = "tinymlaas.dev/report/v1"


@dataclass(frozen=True, slots=True)
class Stage:
    """Seconds of wall time."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class FlashBytes:
    """Of the inference: its code and constants, and the weights blob."""

    weights: int
    code: int

    @property
    def total(self) -> int:
        return self.weights + self.code


@dataclass(frozen=True, slots=True)
class RamBytes:
    """Of the inference: arena, its static data, and the stack that a run was seen to use."""

    arena: int
    static: int
    stack: int

    @property
    def total(self) -> int:
        return self.arena + self.static + self.stack


@dataclass(frozen=True, slots=True)
class Layer:
    """`shape` is of the output; `weights_bytes` are the layer's bytes of the weights blob."""

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    kernel: str
    weights_bytes: int


@dataclass(frozen=True, slots=True)
class PlannedBuffer:
    """Bytes [offset, offset + size) of the arena, live from layer `first` to layer `last`."""

    tensors: tuple[str, ...]
    offset: int
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output; `arena_offset` is where it is read or written."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int | None
    arena_offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OracleRecord:
    """How the comparison on the host ended: `mismatches` are bytes of outputs that differ."""

    name: str
    version: str
    vectors: int
    mismatches: int


@dataclass(frozen=True, slots=True)
class EmulatedRecord:
    """How the run on an emulated core ended. Without one all is None and `reason` says why."""

    emulator: str | None
    vectors: int
    mismatches: int | None
    instructions: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ImageSize:
    """A packed image and its slot."""

    size_bytes: int
    slot_bytes: int


@dataclass(frozen=True, slots=True)
class Firmware:
    """What is around the inference, in bytes: management protocol, drivers, start-up, reserves."""

    flash_bytes: int
    ram_bytes: int
    stack_reserved_bytes: int
    boot_bytes: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    model_sha256: str
    compiled_sha256: str  # of the .tflite that was compiled: another one if it was quantized here
    quantizer: str | None
    device_class: str
    cpu: str
    board: str | None
    compiler: str
    toolchain: str
    abi_hash: str
    flash_bytes: FlashBytes
    ram_bytes: RamBytes
    macs: int
    oracle: OracleRecord
    emulated: EmulatedRecord
    firmware: Firmware | None
    images: Mapping[str, ImageSize]
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    layers: Sequence[Layer]
    buffers: Sequence[PlannedBuffer]
    arena_lower_bound_bytes: int
    flash_limit_bytes: int
    ram_limit_bytes: int
    stages: Sequence[Stage]

    def to_dict(self) -> dict[str, Any]:
        """Return what `report.json` holds."""
        return {
            "version": VERSION,
            "model_sha256": self.model_sha256,
            "compiled_sha256": self.compiled_sha256,
            "quantizer": self.quantizer,
            "device_class": self.device_class,
            "cpu": self.cpu,
            "board": self.board,
            "compiler": self.compiler,
            "toolchain": self.toolchain,
            "abi_hash": self.abi_hash,
            "flash_bytes": {
                "total": self.flash_bytes.total,
                "weights": self.flash_bytes.weights,
                "code": self.flash_bytes.code,
                "limit": self.flash_limit_bytes,
            },
            "ram_bytes": {
                "total": self.ram_bytes.total,
                "arena": self.ram_bytes.arena,
                "static": self.ram_bytes.static,
                "stack": self.ram_bytes.stack,
                "limit": self.ram_limit_bytes,
            },
            "macs": self.macs,
            "instructions_per_inference": self.emulated.instructions,
            "instructions_reason": self.emulated.reason,
            "oracle": {
                "name": self.oracle.name,
                "version": self.oracle.version,
                "rounding": "double",
                "vectors": self.oracle.vectors,
                "mismatches": self.oracle.mismatches,
            },
            "emulator": {
                "name": self.emulated.emulator,
                "vectors": self.emulated.vectors,
                "mismatches": self.emulated.mismatches,
            },
            "firmware": _firmware(self.firmware),
            "images": {
                name: {"size_bytes": image.size_bytes, "slot_bytes": image.slot_bytes}
                for name, image in self.images.items()
            },
            "inputs": [_tensor(tensor) for tensor in self.inputs],
            "outputs": [_tensor(tensor) for tensor in self.outputs],
            "layers": [
                {
                    "name": layer.name,
                    "op": layer.op,
                    "shape": list(layer.shape),
                    "macs": layer.macs,
                    "kernel": layer.kernel,
                    "weights_bytes": layer.weights_bytes,
                }
                for layer in self.layers
            ],
            "memory_plan": {
                "arena_bytes": self.ram_bytes.arena,
                "lower_bound_bytes": self.arena_lower_bound_bytes,
                "buffers": [
                    {
                        "tensors": list(buffer.tensors),
                        "offset": buffer.offset,
                        "bytes": buffer.size_bytes,
                        "first": buffer.first,
                        "last": buffer.last,
                    }
                    for buffer in self.buffers
                ],
            },
            "stages": [
                {"name": stage.name, "seconds": round(stage.seconds, 4)} for stage in self.stages
            ],
        }

    def to_json(self) -> bytes:
        """Return `report.json`, indented: people read it."""
        return (json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n").encode()


def summary(report: Report) -> dict[str, int]:
    """Return the whole numbers that go into the build's result and from there into status."""
    numbers = {
        "flashBytes": report.flash_bytes.total,
        "ramBytes": report.ram_bytes.total,
        "macs": report.macs,
        "vectors": report.oracle.vectors,
        "mismatches": report.oracle.mismatches,
    }
    if report.emulated.instructions is not None:
        numbers["instructionsPerInference"] = report.emulated.instructions
    return numbers


def _firmware(firmware: Firmware | None) -> dict[str, Any] | None:
    if firmware is None:
        return None
    return {
        "flash_bytes": firmware.flash_bytes,
        "ram_bytes": firmware.ram_bytes,
        "stack_reserved_bytes": firmware.stack_reserved_bytes,
        "boot_bytes": firmware.boot_bytes,
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
        "arena_offset": tensor.arena_offset,
        "bytes": tensor.size_bytes,
    }
