"""Each product is built once a session."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tinyml_compiler.target import Target
from tinyml_compiler.toolchain import Unit, select

from tests.device_runtime_firmware.devices import REPO, SPECS, Product, make_product


@pytest.fixture(scope="session")
def product_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Product]:
    @functools.cache
    def make(name: str, toolchain: str = "auto") -> Product:
        target = Target.from_spec(name, SPECS[name])
        folder = tmp_path_factory.mktemp(name)
        return make_product(name, select(target, toolchain), target, folder)

    return make


@pytest.fixture(scope="session")
def boot_harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """boot_harness.c with the boot stage's own sources."""
    folder = tmp_path_factory.mktemp("harness")
    for name in ("include", "src/boot"):
        shutil.copytree(REPO / "device_runtime" / name, folder / name)
    shutil.copy(Path(__file__).with_name("boot_harness.c"), folder)
    toolchain = select(Target.from_spec("posix", SPECS["posix"]))
    sources = [f"src/boot/{name}.c" for name in ("flash", "image", "sha256", "update")]
    units = [
        Unit(source, f"{source}.o", ("include",), flags=("-O1",))
        for source in ["boot_harness.c", *sources]
    ]
    toolchain.compile(units, folder)
    toolchain.link([unit.output for unit in units], "harness", folder)
    return folder / "harness"
