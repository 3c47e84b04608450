"""Which compiler is taken, and what is said where there is none."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from tinyml_compiler import toolchain
from tinyml_compiler.errors import CompileFailedError, ToolchainMissingError
from tinyml_compiler.target import Target
from tinyml_compiler.toolchain import Toolchain, Unit, available, select

SPEC = {
    "cpu": "CortexM4F",
    "ram": {"address": 0x20000000, "sizeBytes": 65536},
    "flash": {
        "address": 0x08000000,
        "sizeBytes": 65536,
        "eraseBlockBytes": 4096,
        "writeBlockBytes": 4,
        "boot": {"address": 0, "sizeBytes": 4096},
        "code": {"primaryOffset": 0, "secondaryOffset": 16384, "sizeBytes": 16384},
        "weights": {"primaryOffset": 32768, "secondaryOffset": 49152, "sizeBytes": 16384},
    },
}
M4 = Target.from_spec("m4", SPEC)
HOST = Target.from_spec("host", {**SPEC, "cpu": "Host"})


@pytest.fixture
def gcc_here(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"-dumpfullversion": "12.2.1", "-print-file-name=libc.a": "/usr/lib/libc.a"}
    monkeypatch.setattr(toolchain, "_output_of", lambda *command: answers[command[-1]])
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def names(target: Target) -> list[str]:
    return [found.name.rpartition("-")[0] for found in available(target)]


@pytest.mark.usefixtures("gcc_here")
def test_gcc_goes_first_for_microcontrollers_and_zig_for_the_host() -> None:
    assert names(M4) == ["arm-none-eabi-gcc", "ziglang"]
    assert names(HOST) == ["ziglang", "gcc"]


@pytest.mark.usefixtures("gcc_here")
def test_a_toolchain_is_pinned_by_kind_or_by_kind_and_version() -> None:
    assert select(M4).name == "arm-none-eabi-gcc-12.2.1"
    assert select(M4, "arm-none-eabi-gcc-12.2.1").command == ("/usr/bin/arm-none-eabi-gcc",)
    assert select(M4, "ziglang").is_zig
    with pytest.raises(ToolchainMissingError, match=r"'ziglang-0\.1' .* found .*ziglang-"):
        select(M4, "ziglang-0.1")


def test_without_a_static_c_library_gcc_is_not_taken_for_the_host(
    gcc_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gcc answers with the bare name of a library that it does not find.
    monkeypatch.setattr(toolchain, "_output_of", lambda *command: "libc.a")
    assert names(HOST) == ["ziglang"]


@pytest.mark.usefixtures("nothing_here")
def test_a_missing_toolchain_names_what_was_looked_for_and_how_to_install_it() -> None:
    with pytest.raises(ToolchainMissingError) as refused:
        select(M4)
    for part in ("CortexM4F", "'m4'", "arm-none-eabi-gcc", "pip install ziglang", "apt-get"):
        assert part in str(refused.value)


def test_what_the_compiler_refuses_is_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "wrong.c").write_text("int f(void) { return missing; }\n")
    with pytest.raises(CompileFailedError, match=r"wrong\.c(.|\n)*missing"):
        select(HOST).compile([Unit("wrong.c", "wrong.o")], tmp_path)


def test_a_compiler_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    gone = Toolchain("gone-1.0", M4.cpu, ("/nowhere/gcc",), is_zig=False)
    with pytest.raises(CompileFailedError, match=r"cannot start gone-1\.0"):
        gone.compile([Unit("a.c", "a.o")], tmp_path)
