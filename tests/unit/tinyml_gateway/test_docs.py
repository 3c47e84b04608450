"""docs/gateway.md names every reason, metric and option."""

from __future__ import annotations

import inspect
from pathlib import Path

from tinyml_gateway.__main__ import main
from tinyml_gateway.errors import Reason
from tinyml_gateway.metrics import Metrics

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "gateway.md").read_text()


def test_every_reason_is_explained() -> None:
    assert [r for r in Reason if f"| `{r}` |" not in PAGE] == []


def test_every_metric_is_listed() -> None:
    names = {
        m.name + ("_total" if m.type == "counter" else "") for m in Metrics().registry.collect()
    }
    assert len(names) == 7
    assert [n for n in names if n not in PAGE] == []


def test_every_option_is_listed() -> None:
    options = ["--" + name.replace("_", "-") for name in inspect.signature(main).parameters]
    assert [o for o in options if f"`{o}`" not in PAGE] == []
