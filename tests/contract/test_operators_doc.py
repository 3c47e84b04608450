"""docs/operators.md, the list of kernels and what the importer takes say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from tinyml_compiler import operators_doc
from tinyml_compiler.errors import UnsupportedOperatorError
from tinyml_compiler.frontends.tflite import import_model

from tests.support.tflite_builder import Quant, a_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"


def test_the_page_is_what_the_kernel_list_makes() -> None:
    assert PAGE.read_text() == operators_doc.render(), (
        "write it anew: python -m tinyml_compiler.operators_doc > docs/operators.md"
    )


def test_the_page_names_the_operators_that_the_importer_takes() -> None:
    model = a_model().input("x", (1, 4), Quant(0.1)).unary("LOGISTIC", Quant(1 / 256, -128))
    with pytest.raises(UnsupportedOperatorError) as refusal:
        import_model(model.build(), "with-logistic")
    taken = str(refusal.value).split("supported operators: ")[1].rstrip(")").split(", ")
    assert set(taken) == operators_doc.operators()


def test_every_row_of_the_kernel_list_is_read() -> None:
    bodies = operators_doc.kernel_bodies()
    assert len(bodies) == len(set(bodies)) >= 12
    assert {body.isa for body in bodies} >= {"ref"}
