"""Named groups of tests that need a tool: deselected, counted and named where the tool is not
there.

CI sets `TINYML_REQUIRE_GROUPS=1`: then a missing tool is an error, never a silent gap.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # tests.support
os.environ.setdefault("TINYML_MODELS", str(REPO.parent / "shared" / "models"))

KUBE_TOOLS = REPO.parent / "shared" / "tools" / "kube"


def _have(*programs: str) -> Callable[[], bool]:
    return lambda: all(shutil.which(p) for p in programs)


def _kubernetes() -> bool:
    home = Path(os.environ.get("KUBE_HOME", Path.home() / ".cache" / "tinyml-kube"))
    built = (home / "bin" / "kube-apiserver").exists() and KUBE_TOOLS.is_dir()
    return bool(os.environ.get("KUBECONFIG")) or (built and shutil.which("kubectl") is not None)


def _models() -> bool:
    return Path(os.environ["TINYML_MODELS"]).is_dir()


# marker: (what it needs, in words for a person; is it here?)
GROUPS: dict[str, tuple[str, Callable[[], bool]]] = {
    "needs_gcc": (
        "cross compilers arm-none-eabi-gcc and riscv64-unknown-elf-gcc",
        _have("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc"),
    ),
    "needs_host_cc": ("gcc, cmake and ninja on the host", _have("gcc", "cmake", "ninja")),
    "needs_clang": ("clang on the host", _have("clang")),
    "needs_qemu": (
        "qemu-system-arm and qemu-system-riscv32",
        _have("qemu-system-arm", "qemu-system-riscv32"),
    ),
    "needs_kubectl": ("kubectl", _have("kubectl")),
    "needs_kubernetes": (
        "a real Kubernetes API server (shared/tools/kube/build.sh, or KUBECONFIG)",
        _kubernetes,
    ),
    "needs_models": ("the reference models (TINYML_MODELS)", _models),
}

_left_out: Counter[str] = Counter()


def pytest_configure(config: pytest.Config) -> None:
    for marker, (what, _) in GROUPS.items():
        config.addinivalue_line("markers", f"{marker}: needs {what}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {marker for marker, (_, present) in GROUPS.items() if not present()}
    if missing and os.environ.get("TINYML_REQUIRE_GROUPS"):
        raise pytest.UsageError(
            "TINYML_REQUIRE_GROUPS is set, but this machine lacks: "
            + "; ".join(f"{GROUPS[m][0]} ({m})" for m in sorted(missing))
        )
    kept: list[pytest.Item] = []
    out: list[pytest.Item] = []
    for item in items:
        lacking = sorted(m for m in missing if item.get_closest_marker(m))
        _left_out.update(lacking[:1])
        (out if lacking else kept).append(item)
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for marker, count in sorted(_left_out.items()):
        terminalreporter.write_line(
            f"left out: {count} tests of group '{marker}', which needs {GROUPS[marker][0]}"
        )
