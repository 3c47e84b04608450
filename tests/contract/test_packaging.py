"""What is installed where, and what the lock may hold."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tinyml_compiler.pipeline import COMPILER
from tinyml_operator.settings import compiler_version

REPO = Path(__file__).resolve().parents[2]
HEAVY = {"numpy", "tensorflow", "tensorflow-cpu", "tflite", "tflite-micro", "keras", "scikit-learn"}


def closure(extra: str) -> set[str]:
    """Return the names of all distributions that `tinymlaas[extra]` installs."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(f"tinymlaas[{extra}]")]
    while todo:
        wanted = todo.pop()
        key = (re.sub(r"[-_.]+", "-", wanted.name).lower(), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            needs = requires(wanted.name) or []
        except PackageNotFoundError:
            continue  # of another platform
        for text in needs:
            need = Requirement(text)
            extras = wanted.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras):
                todo.append(need)
    return {name for name, _ in seen}


@pytest.mark.parametrize("extra", ["operator", "gateway"])
def test_operator_and_gateway_install_without_numpy_and_tensorflow(extra: str) -> None:
    assert closure(extra) & HEAVY == set()


def test_builder_installs_what_the_check_looks_for() -> None:
    assert {"numpy", "tensorflow-cpu", "tflite"} <= closure("builder")


def test_operator_folder_does_not_shadow_the_standard_library() -> None:
    assert not (REPO / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("name", ["dev.lock", "uv.lock"])
def test_lock_pins_versions_and_hashes_and_no_addresses(name: str) -> None:
    text = (REPO / "requirements" / name).read_text()
    pins = re.findall(r"^[A-Za-z0-9].*$", text, re.MULTILINE)
    assert pins
    assert all("==" in pin for pin in pins)
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text


def test_operator_asks_for_the_compiler_that_is_installed_with_it() -> None:
    assert compiler_version() == COMPILER
