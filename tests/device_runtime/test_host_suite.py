"""Builds and runs the C tests of this folder (CTest) under AddressSanitizer and UBSan."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.c_kernels import RUNTIME


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.needs_host_cc
@pytest.mark.parametrize("compiler", ["gcc", pytest.param("clang", marks=pytest.mark.needs_clang)])
def test_the_c_tests_pass_under_sanitizers(compiler: str, tmp_path: Path) -> None:
    found = shutil.which(compiler)
    assert found is not None
    _run(
        *("cmake", "-S", str(RUNTIME), "-B", str(tmp_path), "-G", "Ninja"),
        *(f"-DCMAKE_C_COMPILER={found}", "-DTML_TESTS=ON", "-DTML_SANITIZE=ON"),
    )
    _run("cmake", "--build", str(tmp_path), "-j", "2")
    _run("ctest", "--test-dir", str(tmp_path), "--output-on-failure", "--no-tests=error")
