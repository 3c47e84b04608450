"""One build: a model for one device class, from its bytes to checked artifacts.

The stages in order, each timed and reported; `__main__` calls it for the Job and for
`tinyml compile`. It knows nothing of requests, uploads or exit statuses. The same parameters and
model give the same artifacts byte for byte, but for the times in `report.json` and `report.html`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyml_compiler import link, report_html, toolchain
from tinyml_compiler.budget import Limits, check_budget, check_ram
from tinyml_compiler.elf import read_elf
from tinyml_compiler.errors import ModelInvalidError, ToolchainMissingError
from tinyml_compiler.fetch import (
    CALIBRATION_LIMIT_BYTES,
    MODEL_LIMIT_BYTES,
    Source,
    check_sha256,
    fetch,
)
from tinyml_compiler.frontends import keras
from tinyml_compiler.images import PackedImage, pack_image
from tinyml_compiler.library import make_library
from tinyml_compiler.pipeline import COMPILER, CompiledModel, compile_model
from tinyml_compiler.report import (
    Firmware,
    FlashBytes,
    ImageSize,
    Layer,
    PlannedBuffer,
    RamBytes,
    Report,
    Stage,
    Tensor,
    summary,
)
from tinyml_compiler.target import Target
from tinyml_compiler.verify.exactness import verify

MODEL_NAME = "model"  # in generated names: of all models, since a file's name must not change bytes

_TFLITE_IDENTIFIER = b"TFL3"
_TFLITE_IDENTIFIER_OFFSET = 4


@dataclass(frozen=True, slots=True)
class BuildParameters:
    """What decides the artifacts. `format` is `Auto`, `TFLite` or `Keras`; `quantization` is `AsIs`
    or `PostTraining`; `compiler` and `toolchain` pin versions (`auto`: whatever is here)."""

    model: Source
    device_class: str
    device_class_spec: Mapping[str, Any]
    format: str = "Auto"
    quantization: str = "AsIs"
    calibration: Source | None = None
    calibration_samples: int | None = None
    compiler: str = COMPILER
    toolchain: str = "auto"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """`artifacts` are file names to contents. `code` and `weights` are None without a board."""

    artifacts: Mapping[str, bytes]
    code: PackedImage | None
    weights: PackedImage | None
    summary: Mapping[str, int]
    report: Report


# Called when a stage starts (seconds is None) and when it is done.
Progress = Callable[[str, float | None], None]


def build(
    parameters: BuildParameters, work: Path, progress: Progress = lambda _stage, _seconds: None
) -> BuildOutput:
    """Run all stages, with `work` as folder for what tools read and write.

    Raises the errors of `tinyml_compiler.errors`.
    """
    stages = _Stages(progress)
    target = Target.from_spec(parameters.device_class, parameters.device_class_spec)
    tools = _tools(parameters, target)
    model = _read(parameters.model, "model", MODEL_LIMIT_BYTES, stages)
    tflite, quantizer = _import(parameters, model, work, stages)
    compiled = compile_model(tflite, name=MODEL_NAME, target=target, timer=stages.timed)
    with stages.timed("link"):
        linked = _link(target, tools, compiled, work / "link")
        boot_bytes = _boot_bytes(target, tools, work / "boot")
    with stages.timed("pack-images"):  # what exceeds its slot is not worth verifying
        code, weights = _images(target, linked, compiled)
    verified = verify(
        tflite,
        compiled,
        target,
        elf=None if target.cpu.is_host else read_elf(linked.elf),
        work=work / "verify",
        timer=stages.timed,
    )
    with stages.timed("package"):
        library = make_library(
            compiled, model_sha256=parameters.model.sha256, device_class=target.name
        )
    flash = FlashBytes(weights=len(compiled.weights), code=linked.sizes.inference_code)
    ram = RamBytes(
        arena=compiled.arena_bytes,
        static=linked.sizes.inference_static,
        stack=verified.stack_bytes,
    )
    firmware_ram = linked.sizes.static - linked.sizes.inference_static
    check_ram(target, ram, firmware_bytes=firmware_ram, stack_bytes=linked.sizes.stack)
    check_budget(parameters.limits, flash=flash.total, ram=ram.total)
    report = Report(
        model_sha256=parameters.model.sha256,
        compiled_sha256=_digest(tflite),
        quantizer=quantizer,
        device_class=target.name,
        cpu=target.cpu.name,
        board=target.board,
        compiler=COMPILER,
        toolchain=tools.name,
        abi_hash=compiled.abi_hash.hex(),
        flash_bytes=flash,
        ram_bytes=ram,
        macs=compiled.macs,
        oracle=verified.oracle,
        emulated=verified.emulated,
        firmware=Firmware(
            flash_bytes=linked.sizes.firmware_code,
            ram_bytes=firmware_ram,
            stack_reserved_bytes=linked.sizes.stack,
            boot_bytes=boot_bytes,
        ),
        images=_image_sizes(target, code, weights),
        inputs=_tensors(compiled.inputs),
        outputs=_tensors(compiled.outputs),
        layers=_layers(compiled),
        buffers=_buffers(compiled),
        arena_lower_bound_bytes=compiled.plan.lower_bound_bytes,
        flash_limit_bytes=target.flash.code.size_bytes + target.flash.weights.size_bytes,
        ram_limit_bytes=target.ram.size_bytes,
        stages=tuple(stages.done),
    )
    artifacts = {
        "firmware.bin": linked.payload,
        "firmware.elf": linked.elf,
        "firmware.map": linked.map.encode(),
        "weights.bin": compiled.weights,
        "library.tar.gz": library,
        "report.json": report.to_json(),
        "report.html": report_html.render(report.to_dict()),
    }
    if code is not None and weights is not None:
        artifacts |= {"code.img": code.data, "weights.img": weights.data}
    return BuildOutput(
        artifacts=artifacts, code=code, weights=weights, summary=summary(report), report=report
    )


class _Stages:
    """Times stages, one after the other."""

    def __init__(self, progress: Progress) -> None:
        self.done: list[Stage] = []
        self._progress = progress

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        self._progress(name, None)
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.done.append(Stage(name, seconds))
        self._progress(name, seconds)


def _tools(parameters: BuildParameters, target: Target) -> toolchain.Toolchain:
    if parameters.compiler not in ("auto", COMPILER):
        raise ToolchainMissingError(
            f"the request asks for compiler {parameters.compiler!r}, this builder is {COMPILER!r}: "
            "use the builder image of that version"
        )
    return toolchain.select(target, parameters.toolchain)


def _read(source: Source, what: str, limit_bytes: int, stages: _Stages) -> bytes:
    suffix = "" if what == "model" else f"-{what}"
    with stages.timed(f"fetch{suffix}"):
        data = fetch(source, what=what, limit_bytes=limit_bytes)
    with stages.timed(f"check-sha256{suffix}"):
        check_sha256(data, source.sha256, what=what)
    return data


def _import(
    parameters: BuildParameters, model: bytes, work: Path, stages: _Stages
) -> tuple[bytes, str | None]:
    """Return the `.tflite` to compile, and what quantized it if it was quantized here."""
    found = _format(model)
    if parameters.format not in ("Auto", found):
        raise ModelInvalidError(
            f"the file is a {found} model, the request says {parameters.format}: "
            "correct the format, or leave it Auto"
        )
    if found == "TFLite":
        if parameters.quantization == "PostTraining":
            raise ModelInvalidError(
                "a .tflite file is quantized before it is made: give an int8 .tflite with "
                "quantization mode AsIs, or the Keras model with PostTraining"
            )
        return model, None
    if parameters.quantization != "PostTraining":
        raise ModelInvalidError(
            "a Keras model holds float weights: set quantization mode PostTraining "
            "and give calibration data"
        )
    calibration = None
    if parameters.calibration is not None:
        calibration = _read(
            parameters.calibration, "calibration data", CALIBRATION_LIMIT_BYTES, stages
        )
    with stages.timed("quantize"):
        quantized = keras.quantize(
            model, calibration, samples=parameters.calibration_samples, work=work / "quantize"
        )
    return quantized.tflite, quantized.quantizer


def _format(model: bytes) -> str:
    end = _TFLITE_IDENTIFIER_OFFSET + len(_TFLITE_IDENTIFIER)
    if model[_TFLITE_IDENTIFIER_OFFSET:end] == _TFLITE_IDENTIFIER:
        return "TFLite"
    if keras.is_keras(model):
        return "Keras"
    raise ModelInvalidError(
        f"the file of {len(model)} bytes begins with {model[:8].hex() or 'nothing'}: "
        "it is neither a .tflite file nor a Keras model (.keras, .h5)"
    )


def _link(
    target: Target, tools: toolchain.Toolchain, compiled: CompiledModel, work: Path
) -> link.Linked:
    make = link.build_inference_elf if target.board is None else link.build_firmware
    return make(target, tools, compiled.sources, compiled.kernel_sources, work)


def _boot_bytes(target: Target, tools: toolchain.Toolchain, work: Path) -> int | None:
    """Return the size of the class's boot stage, None for a class without a board."""
    if target.board is None:
        return None
    elf = read_elf(link.build_boot(target, tools, work))
    return sum(len(segment.data) for segment in elf.segments)


def _images(
    target: Target, linked: link.Linked, compiled: CompiledModel
) -> tuple[PackedImage | None, PackedImage | None]:
    """Return code and weights image. A class without a board has none, but must fit as well."""
    align = target.flash.write_block_bytes
    code = pack_image(
        linked.payload,
        slot_bytes=target.flash.code.size_bytes,
        device_class=target.name,
        abi_hash=compiled.abi_hash,
        align=align,
        kind="code",
    )
    weights = pack_image(
        compiled.weights,
        slot_bytes=target.flash.weights.size_bytes,
        device_class=target.name,
        abi_hash=compiled.abi_hash,
        align=align,
        kind="weights",
    )
    return (None, None) if target.board is None else (code, weights)


def _image_sizes(
    target: Target, code: PackedImage | None, weights: PackedImage | None
) -> dict[str, ImageSize]:
    slots = {"code": (code, target.flash.code), "weights": (weights, target.flash.weights)}
    return {
        name: ImageSize(len(image.data), slot.size_bytes)
        for name, (image, slot) in slots.items()
        if image is not None
    }


def _tensors(specs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            spec.name,
            spec.dtype,
            spec.shape,
            spec.scale,
            spec.zero_point,
            spec.arena_offset,
            spec.bytes,
        )
        for spec in specs
    )


def _layers(compiled: CompiledModel) -> tuple[Layer, ...]:
    return tuple(
        Layer(each.name, each.op, each.shape, each.macs, each.kernel, each.weights_bytes)
        for each in compiled.layers
    )


def _buffers(compiled: CompiledModel) -> tuple[PlannedBuffer, ...]:
    return tuple(
        PlannedBuffer(each.names, each.offset, each.size_bytes, each.first, each.last)
        for each in compiled.plan.buffers
    )


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
