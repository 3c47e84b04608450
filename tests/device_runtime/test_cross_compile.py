"""The runtime compiles without a warning for each CPU, by GNU cross compilers and by ziglang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.c_kernels import RUNTIME, WARNINGS, runtime_sources

ARM = ("arm-none-eabi-gcc", "-mthumb")
GNU = {
    "CortexM0Plus": (*ARM, "-mcpu=cortex-m0plus"),
    "CortexM3": (*ARM, "-mcpu=cortex-m3"),
    "CortexM4F": (*ARM, "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    "CortexM7": (*ARM, "-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-d16"),
    "CortexM33": (*ARM, "-mcpu=cortex-m33", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
    "CortexM55": (*ARM, "-mcpu=cortex-m55", "-mfloat-abi=hard"),
    "RV32IMAC": (
        *("riscv64-unknown-elf-gcc", "-march=rv32imac", "-mabi=ilp32", "-ffreestanding"),
        *("-isystem", str(RUNTIME / "include" / "freestanding")),
    ),
}
_THUMB = ("-target", "thumb-freestanding-eabi")
_THUMB_HF = ("-target", "thumb-freestanding-eabihf")
ZIG = {
    "CortexM0Plus": (*_THUMB, "-mcpu=cortex_m0plus"),
    "CortexM3": (*_THUMB, "-mcpu=cortex_m3"),
    "CortexM4F": (*_THUMB_HF, "-mcpu=cortex_m4"),
    "CortexM7": (*_THUMB_HF, "-mcpu=cortex_m7"),
    "CortexM33": (*_THUMB_HF, "-mcpu=cortex_m33"),
    "CortexM55": (*_THUMB_HF, "-mcpu=cortex_m55+mve+mve_fp"),
    "RV32IMAC": ("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+a+c"),
}


# One relocatable object of all: ziglang compiles only the first of many files with -c.
ONE_OBJECT = ("-nostdlib", "-r")


def _compile(command: tuple[str, ...], folder: Path, link: tuple[str, ...] = ONE_OBJECT) -> None:
    done = subprocess.run(
        [
            *command,
            *("-std=c11", "-Os", *WARNINGS, "-I", str(RUNTIME / "include")),
            *(*link, "-o", "all.o"),
            *map(str, runtime_sources()),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    compiled = (folder / "all.o").read_bytes()
    for source in runtime_sources():
        if "kernels" in source.parts:
            assert source.stem.encode() in compiled


@pytest.mark.needs_gcc
@pytest.mark.parametrize("cpu", GNU)
def test_gcc_has_nothing_to_say(cpu: str, tmp_path: Path) -> None:
    _compile(GNU[cpu], tmp_path)


@pytest.mark.parametrize("cpu", ZIG)
def test_ziglang_has_nothing_to_say(cpu: str, tmp_path: Path) -> None:
    freestanding = ("-ffreestanding", "-isystem", str(RUNTIME / "include" / "freestanding"))
    _compile((sys.executable, "-m", "ziglang", "cc", *ZIG[cpu], *freestanding), tmp_path)


def test_ziglang_has_nothing_to_say_on_the_host(tmp_path: Path) -> None:
    # A bare machine has no C library of its own: zig brings one where it may link it.
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl")
    _compile(zig, tmp_path, ("-shared", "-fPIC"))


@pytest.mark.parametrize(("suffix", "standard"), [("c", "c11"), ("cpp", "c++17")])
def test_each_public_header_compiles_alone(suffix: str, standard: str, tmp_path: Path) -> None:
    for header in sorted((RUNTIME / "include" / "tml").glob("*.h")):
        source = tmp_path / f"{header.stem}.{suffix}"
        source.write_text(f'#include "tml/{header.name}"\n#include "tml/{header.name}"\n')
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ziglang", "cc", *ZIG["CortexM3"], f"-std={standard}"),
                *("-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdinc++"),
                *("-I", str(RUNTIME / "include"), "-c", str(source), "-o", "alone.o"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{source.name}: {done.stderr}"
