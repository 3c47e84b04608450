"""Where the C of a build comes from: our device runtime, and zcbor's C out of its Python package.

Files are staged into the build's folder, so that compilers only ever see relative paths. zcbor is
never imported (that needs an older cbor2): its files are found by the package's metadata, and each
must have the hash below.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinyml_compiler.errors import TargetInvalidError, ToolchainMissingError
from tinyml_compiler.target import Target

ZCBOR_VERSION = "0.9.1"
_ZCBOR_FILES: Mapping[str, str] = {
    "src/zcbor_common.c": "7ffeb0bfdc749782b9fff157dde34082d8204ac17d0ee7c96a2bade9cebd58e5",
    "src/zcbor_decode.c": "face2f690f2dba44fd994c084b77bdef57fc6cafe6ca61005783dc7ab2dca7d2",
    "src/zcbor_encode.c": "7a6e27df5f0503a4be0bbda9e5ae1971a41d073293666f25aa00c8333f87b6d0",
    "include/zcbor_common.h": "055336390948ed9b6ca7508b87f668190019ea62cb1a0c299cb4d370fcaf8680",
    "include/zcbor_decode.h": "b0580404994b666741f2dd66d8f7a9762c320561530681f8ff903c005cdea677",
    "include/zcbor_encode.h": "e39fcb17893a74b28f738025b5367a7a535f28e76cbe01aec1d9e20700027999",
    "include/zcbor_print.h": "98ece18ef37c85d75e962270dc5a7fab722fd0a6e142c7d28efa8886da08f708",
    "include/zcbor_tags.h": "880af46538382dd0eb172812cf2e473e2f4efb36a634a9abb5be4641bcfa6d10",
}


@dataclass(frozen=True, slots=True)
class Port:
    """One folder of `src/port`: what a board adds to the firmware."""

    board: str
    sources: tuple[str, ...]
    linker_script: str | None  # in `ld/`; None: a program of the host
    stack_bytes: int
    defines: tuple[tuple[str, str], ...]


def runtime_folder() -> Path:
    """The device runtime: TINYML_DEVICE_RUNTIME, the package's own copy, or the repository's."""
    named = os.environ.get("TINYML_DEVICE_RUNTIME")
    package = Path(__file__).resolve().parent
    candidates = (
        [Path(named)]
        if named
        else [package / "_device_runtime", package.parents[2] / "device_runtime"]
    )
    for candidate in candidates:
        if (candidate / "include" / "tml" / "model.h").is_file():
            return candidate
    raise ToolchainMissingError(
        f"no device runtime in {' or '.join(map(str, candidates))}: "
        "set TINYML_DEVICE_RUNTIME to the folder that holds include/tml/model.h"
    )


def load_port(target: Target) -> Port:
    """The port of the target's board. Raises TargetInvalidError where there is none for its CPU."""
    ports = runtime_folder() / "src" / "port"
    boards = sorted(path.parent.name for path in ports.glob("*/port.toml"))
    if target.board not in boards:
        raise TargetInvalidError(
            f"device class {target.name!r}: no firmware for board {target.board!r}; "
            f"boards are {', '.join(boards)}; without `board` a class gets the model alone"
        )
    port = tomllib.loads((ports / target.board / "port.toml").read_text())
    if target.cpu.name not in port["cpus"]:
        raise TargetInvalidError(
            f"device class {target.name!r}: board {target.board!r} has {' or '.join(port['cpus'])},"
            f" cpu is {target.cpu.name}"
        )
    return Port(
        board=target.board,
        sources=tuple(port["sources"]),
        linker_script=port.get("linker_script"),
        stack_bytes=port.get("stack_bytes", 0),
        defines=tuple(sorted(port.get("defines", {}).items())),
    )


def stage(work: Path) -> None:
    """Copy include/, src/, ld/ of the device runtime and zcbor's C into `work`."""
    runtime = runtime_folder()
    for name in ("include", "src", "ld"):
        shutil.copytree(runtime / name, work / name, dirs_exist_ok=True)
    distribution = importlib.metadata.distribution("zcbor")
    if distribution.version != ZCBOR_VERSION:
        raise ToolchainMissingError(
            f"package zcbor is {distribution.version}, the firmware is made for {ZCBOR_VERSION}: "
            f"pip install zcbor=={ZCBOR_VERSION}"
        )
    for name, sha256 in _ZCBOR_FILES.items():
        content = Path(str(distribution.locate_file(f"zcbor/{name}"))).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise ToolchainMissingError(
                f"zcbor's {name} has sha256 {found}, not {sha256}: "
                f"install zcbor=={ZCBOR_VERSION} afresh"
            )
        destination = work / "zcbor" / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(content)


def zcbor_sources() -> tuple[str, ...]:
    """The C files of zcbor, relative to the build's folder."""
    return tuple(f"zcbor/{name}" for name in _ZCBOR_FILES if name.endswith(".c"))


def class_header(target: Target) -> str:
    """`tml_class.h`: the numbers of one device class for the C of its port."""
    flash = target.flash
    numbers = {
        "TML_RAM_ADDRESS": target.ram.address,
        "TML_RAM_BYTES": target.ram.size_bytes,
        "TML_FLASH_ADDRESS": flash.region.address,
        "TML_FLASH_BYTES": flash.region.size_bytes,
        "TML_ERASE_BLOCK_BYTES": flash.erase_block_bytes,
        "TML_WRITE_BLOCK_BYTES": flash.write_block_bytes,
        "TML_CODE_PRIMARY": flash.code.primary - flash.region.address,
        "TML_CODE_SECONDARY": flash.code.secondary - flash.region.address,
        "TML_CODE_BYTES": flash.code.size_bytes,
        "TML_WEIGHTS_PRIMARY": flash.weights.primary - flash.region.address,
        "TML_WEIGHTS_SECONDARY": flash.weights.secondary - flash.region.address,
        "TML_WEIGHTS_BYTES": flash.weights.size_bytes,
    }
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "" for c in target.name)
    if name != target.name:
        raise TargetInvalidError(f"device class name {target.name!r} is not a Kubernetes name")
    lines = ["/* Device class, written by the build. Slots are offsets from TML_FLASH_ADDRESS. */"]
    lines += [f'#define TML_DEVICE_CLASS "{name}"']
    lines += [f"#define {macro} {number}u" for macro, number in numbers.items()]
    return "\n".join(lines) + "\n"


def memory_script(target: Target, rom: tuple[int, int], stack_bytes: int) -> str:
    """`tml_memory.ld`: the regions that `ld/bare.ld` places sections in."""
    return (
        "MEMORY {\n"
        f"  ROM (rx) : ORIGIN = 0x{rom[0]:08x}, LENGTH = {rom[1]}\n"
        f"  RAM (rw) : ORIGIN = 0x{target.ram.address:08x}, LENGTH = {target.ram.size_bytes}\n"
        "}\n"
        f"TML_STACK_BYTES = {stack_bytes};\n"
    )
