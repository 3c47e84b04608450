"""From C sources to the programs of a device: boot stage, firmware with a model, factory image.

Called by `build` and `factory`. The memory map is the device class's own: what exceeds it is a
TooLargeError with the numbers. Equal inputs give equal bytes in any folder. Sizes come from the
very program that ships.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinyml_compiler import runtime_sources
from tinyml_compiler.elf import STT_FUNC, STT_OBJECT, Elf, read_elf, strip, without_debug
from tinyml_compiler.errors import (
    ArenaTooLargeError,
    CodeTooLargeError,
    CompileFailedError,
    TargetInvalidError,
)
from tinyml_compiler.images import HEADER_BYTES, NO_ABI, pack_image
from tinyml_compiler.runtime_sources import Port
from tinyml_compiler.target import Target
from tinyml_compiler.toolchain import LinkFailedError, Toolchain, Unit

BARE_STACK_BYTES = 2048  # of a model alone; kernels have small frames and no recursion
_WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Wvla",
    "-Werror",
)
_INFERENCE_FLAGS = ("-O2", *_WARNINGS)
_FIRMWARE_FLAGS = ("-Os", *_WARNINGS)
_THIRD_PARTY_FLAGS = ("-Os", "-w", "-DZCBOR_PRINT_FUNC(...)=(void)0")
_INCLUDES = (".", "include", "zcbor/include")
_FREESTANDING_INCLUDES = ("include/freestanding", "src/port/freestanding")
_OVERFLOW = re.compile(r"region [`'](ROM|RAM)' overflowed by (\d+) bytes")
_OVERFLOW_LLD = re.compile(
    r"will not fit in region '(ROM|RAM)': overflowed by (\d+) bytes",
)
_TLV_BYTES = 84  # of an image of ours, without the class name

_BOOT_SOURCES = ("src/boot/flash.c", "src/boot/image.c", "src/boot/sha256.c", "src/boot/update.c")
_FIRMWARE_SOURCES = (
    "src/boot/flash.c",
    "src/boot/image.c",
    "src/boot/sha256.c",
    "src/boot/update.c",
    "src/firmware/main.c",
    "src/firmware/smp_image.c",
    "src/firmware/smp_model.c",
    "src/firmware/smp_serial.c",
    "src/firmware/smp_server.c",
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes. Flash: `inference_code` + `firmware_code` = the payload. RAM: static + stack + arena.

    Inference is kernels, generated code and the compiler's runtime library; its mutable data is
    `inference_static`. `static` is all .data and .bss, the firmware's included.
    """

    inference_code: int
    firmware_code: int
    inference_static: int
    static: int
    arena: int
    stack: int


@dataclass(frozen=True, slots=True)
class Linked:
    """A linked program. `payload` is what its code image holds: linked to run in place."""

    elf: bytes
    payload: bytes
    map: str
    sizes: Sizes
    abi_hash: bytes
    weights_bytes: int


@dataclass(frozen=True, slots=True)
class FactoryFlash:
    """What a new device is made of: the boot stage's ELF and all of its flash."""

    boot: bytes
    flash: bytes


def build_firmware(
    target: Target,
    toolchain: Toolchain,
    sources: Mapping[str, str],
    kernel_folders: tuple[str, ...],
    work: Path,
) -> Linked:
    """Link boot-loadable firmware around generated `sources`; `kernel_folders` in src/kernels.

    Raises CodeTooLargeError, ArenaTooLargeError, CompileFailedError, TargetInvalidError.
    """
    port = runtime_sources.load_port(target)
    _prepare(target, work, sources)
    inference = _inference_units(target, sources, kernel_folders)
    firmware = _units(target, (*_FIRMWARE_SOURCES, *port.sources), _FIRMWARE_FLAGS, port)
    firmware += _units(target, runtime_sources.zcbor_sources(), _THIRD_PARTY_FLAGS, port)
    return _link_model(target, toolchain, inference, firmware, port, work)


def build_inference_elf(
    target: Target,
    toolchain: Toolchain,
    sources: Mapping[str, str],
    kernel_folders: tuple[str, ...],
    work: Path,
) -> Linked:
    """Link the model alone (start-up code and `src/port/bare`), in the class's own memory map."""
    if target.cpu.is_host:
        raise TargetInvalidError(
            f"device class {target.name!r}: CPU Host needs a board, e.g. `board: posix`"
        )
    startup = "rv32" if target.cpu.gcc_triple.startswith("riscv") else "arm_m"
    port = Port(
        board="bare",
        sources=(
            f"src/port/{startup}/startup.c",
            "src/port/bare/inference.c",
        ),
        linker_script="bare.ld",
        stack_bytes=BARE_STACK_BYTES,
        defines=(),
    )
    _prepare(target, work, sources)
    inference = _inference_units(target, sources, kernel_folders)
    return _link_model(
        target,
        toolchain,
        inference,
        _units(target, port.sources, _FIRMWARE_FLAGS, port),
        port,
        work,
    )


def build_boot(target: Target, toolchain: Toolchain, work: Path) -> bytes:
    """Link the boot stage of a class's board. Returns its ELF."""
    port = runtime_sources.load_port(target)
    _prepare(target, work, {})
    units = _units(
        target, (*_BOOT_SOURCES, "src/boot/main.c", *port.sources), _FIRMWARE_FLAGS, port
    )
    units += _core_units(target, _FIRMWARE_FLAGS, "firmware")
    boot = target.flash.boot
    try:
        data = _link(
            target, toolchain, units, port, (boot.address, boot.size_bytes), "boot.elf", work
        )
        return strip(data) if target.cpu.is_host else data
    except LinkFailedError as error:
        over = _overflow(error, "ROM")
        if over is None:
            raise
        raise TargetInvalidError(
            f"boot stage needs {boot.size_bytes + over} bytes, flash.boot of device class "
            f"{target.name!r} has {boot.size_bytes}: enlarge flash.boot.sizeBytes"
        ) from error


def factory_flash(target: Target, toolchain: Toolchain, work: Path) -> FactoryFlash:
    """Boot stage, and a flash that holds the factory image: no model, ready for its first one."""
    boot = build_boot(target, toolchain, work / "boot")
    none = (runtime_sources.runtime_folder() / "src" / "firmware" / "model_none.c").read_text()
    firmware = build_firmware(target, toolchain, {"model_none.c": none}, (), work / "factory")
    flash = target.flash
    image = pack_image(
        firmware.payload,
        slot_bytes=flash.code.size_bytes,
        device_class=target.name,
        abi_hash=NO_ABI,
        align=flash.write_block_bytes,
    )
    content = bytearray(b"\xff" * flash.region.size_bytes)
    start = flash.code.primary - flash.region.address
    content[start : start + len(image.data)] = image.data
    return FactoryFlash(boot=boot, flash=bytes(content))


def _prepare(target: Target, work: Path, sources: Mapping[str, str]) -> None:
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    runtime_sources.stage(work)
    (work / "tml_class.h").write_text(runtime_sources.class_header(target))
    for name, text in sources.items():
        path = work / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _includes(target: Target) -> tuple[str, ...]:
    return _INCLUDES if target.cpu.is_host else (*_INCLUDES, *_FREESTANDING_INCLUDES)


def _units(
    target: Target, sources: tuple[str, ...], flags: tuple[str, ...], port: Port
) -> list[Unit]:
    return [
        Unit(
            source=source,
            output=f"firmware/{source.replace('/', '_')}.o",
            includes=(*_includes(target), f"src/port/{port.board}"),
            defines=port.defines,
            flags=flags,
        )
        for source in sources
    ]


def _core_units(target: Target, flags: tuple[str, ...], folder: str) -> list[Unit]:
    core = runtime_sources.runtime_folder() / "src" / "core"
    return [
        Unit(
            f"src/core/{path.name}",
            f"{folder}/core_{path.name}.o",
            _includes(target),
            flags=flags,
        )
        for path in sorted(core.glob("*.c"))
    ]


def _inference_units(
    target: Target, sources: Mapping[str, str], kernel_folders: tuple[str, ...]
) -> list[Unit]:
    kernels = runtime_sources.runtime_folder() / "src" / "kernels"
    files: list[str] = []
    for folder in sorted(set(kernel_folders)):
        found = sorted((kernels / folder).glob("*.c"))
        if not found:
            raise CompileFailedError(f"the device runtime has no kernel folder {folder!r}")
        files += [f"src/kernels/{folder}/{path.name}" for path in found]
    files += [f"model/{name}" for name in sorted(sources) if name.endswith(".c")]
    includes = (*_includes(target), "model", "src/core", "src/kernels")
    return [
        Unit(source, f"inference/{source.replace('/', '_')}.o", includes, flags=_INFERENCE_FLAGS)
        for source in files
    ] + _core_units(target, _INFERENCE_FLAGS, "inference")


def _link(
    target: Target,
    toolchain: Toolchain,
    units: list[Unit],
    port: Port,
    rom: tuple[int, int],
    output: str,
    work: Path,
) -> bytes:
    toolchain.compile(units, work)
    script = None
    if port.linker_script is not None:
        (work / "tml_memory.ld").write_text(
            runtime_sources.memory_script(target, rom, port.stack_bytes)
        )
        script = f"ld/{port.linker_script}"
    toolchain.link([unit.output for unit in units], output, work, script=script)
    return without_debug((work / output).read_bytes())


def _link_model(
    target: Target,
    toolchain: Toolchain,
    inference: list[Unit],
    firmware: list[Unit],
    port: Port,
    work: Path,
) -> Linked:
    slot = target.flash.code
    overhead = HEADER_BYTES + _TLV_BYTES + len(target.name.encode())
    rom = (slot.primary + HEADER_BYTES, slot.size_bytes - overhead)
    try:
        data = _link(target, toolchain, [*inference, *firmware], port, rom, "firmware.elf", work)
    except LinkFailedError as error:
        _raise_too_large(error, target)
        raise
    elf = read_elf(data)
    objects = [read_elf((work / unit.output).read_bytes()) for unit in inference]
    payload = strip(data) if port.linker_script is None else _flash_content(elf, *rom)
    abi_hash, arena_bytes, weights_bytes = _model_facts(elf)
    measure = _host_sizes if port.linker_script is None else _bare_sizes
    sizes = measure(elf, objects, len(payload), arena_bytes, port.stack_bytes)
    _check_ram(target, sizes)
    return Linked(data, payload, symbol_map(elf), sizes, abi_hash, weights_bytes)


def _overflow(error: LinkFailedError, region: str) -> int | None:
    """By how many bytes the linker says that `region` is too small."""
    found = [*_OVERFLOW.findall(error.output), *_OVERFLOW_LLD.findall(error.output)]
    return max((int(count) for name, count in found if name == region), default=None)


def _raise_too_large(error: LinkFailedError, target: Target) -> None:
    slot = target.flash.code
    over = _overflow(error, "ROM")
    if over is not None:
        raise CodeTooLargeError(
            f"code image needs {slot.size_bytes + over} bytes, the code slot of device class "
            f"{target.name!r} has {slot.size_bytes}: use fewer kinds of layers, or drop the class"
        ) from error
    over = _overflow(error, "RAM")
    if over is not None:
        raise ArenaTooLargeError(
            f"firmware needs {target.ram.size_bytes + over} bytes of RAM without any arena, "
            f"device class {target.name!r} has {target.ram.size_bytes}: drop the class"
        ) from error


def _check_ram(target: Target, sizes: Sizes) -> None:
    beside = sizes.static + sizes.stack
    if sizes.arena + beside > target.ram.size_bytes:
        raise ArenaTooLargeError(
            f"arena needs {sizes.arena} bytes beside {beside} of firmware and stack, device class "
            f"{target.name!r} has {target.ram.size_bytes}: lower the input size or drop the class"
        )


def _model_facts(elf: Elf) -> tuple[bytes, int, int]:
    """ABI hash, arena bytes and weights bytes out of `tml_model` (tml/model.h)."""
    model = elf.read(elf.symbol("tml_model").address, 40)
    return (
        model[:32],
        int.from_bytes(model[32:36], "little"),
        int.from_bytes(model[36:40], "little"),
    )


def _flash_content(elf: Elf, start: int, limit: int) -> bytes:
    content = bytearray()
    for segment in sorted(elf.segments, key=lambda s: s.physical):
        at = segment.physical - start
        if segment.data and 0 <= at < limit:
            content.extend(b"\xff" * (at + len(segment.data) - len(content)))
            content[at : at + len(segment.data)] = segment.data
    return bytes(content)


def _static_bytes(objects: list[Elf]) -> int:
    """RAM that the objects' own variables take."""
    return sum(
        section.size
        for elf in objects
        for section in elf.sections
        if section.name.startswith((".data", ".bss", ".sdata", ".sbss"))
    )


def _bare_sizes(
    elf: Elf, objects: list[Elf], payload_bytes: int, arena_bytes: int, stack_bytes: int
) -> Sizes:
    by_name = {section.name: section.size for section in elf.sections}
    inference = by_name.get(".inference", 0)
    return Sizes(
        inference_code=inference,
        firmware_code=payload_bytes - inference,
        inference_static=_static_bytes(objects),
        # All between stack and arena (ld/bare.ld), gaps for alignment included.
        static=elf.symbol("tml_arena_start").address - elf.symbol("tml_stack_end").address,
        arena=arena_bytes,
        stack=stack_bytes,
    )


def _host_sizes(
    elf: Elf, objects: list[Elf], payload_bytes: int, arena_bytes: int, stack_bytes: int
) -> Sizes:
    """A process: its arena is a buffer as large as the class's RAM, which is not counted twice."""
    names = {
        symbol.name
        for found in objects
        for symbol in found.symbols
        if symbol.section and symbol.kind in (STT_FUNC, STT_OBJECT)
    }
    inference = sum(
        symbol.size
        for symbol in elf.symbols
        if symbol.name in names and symbol.kind in (STT_FUNC, STT_OBJECT)
    )
    return Sizes(
        inference_code=inference,
        firmware_code=payload_bytes - inference,
        inference_static=_static_bytes(objects),
        static=_static_bytes(objects),
        arena=arena_bytes,
        stack=stack_bytes,
    )


def symbol_map(elf: Elf) -> str:
    """What is where, as text: sections, then functions and objects by address."""
    lines = ["section              address      bytes"]
    lines += [f"{s.name:<20} {s.address:08x} {s.size:>10}" for s in elf.sections if s.is_loaded]
    lines += ["", "address       bytes section              symbol"]
    rows = sorted(
        (symbol.address, symbol.size, symbol.section, symbol.name)
        for symbol in elf.symbols
        if symbol.kind in (STT_FUNC, STT_OBJECT) and 0 < symbol.section < len(elf.sections)
    )
    lines += [
        f"{address:08x} {size:>10} {elf.sections[section].name:<20} {name}"
        for address, size, section, name in rows
    ]
    return "\n".join(lines) + "\n"
