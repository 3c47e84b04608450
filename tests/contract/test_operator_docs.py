"""The operator's documents name every reason, metric and setting; reasons have one home."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from tinyml_api.build import BuildReason
from tinyml_api.conditions import REASONS, ConditionType, Reason
from tinyml_compiler.pipeline import COMPILER
from tinyml_operator.metrics import Metrics
from tinyml_operator.settings import Settings, compiler_version

from tests.conftest import REPO

OPERATOR = (REPO / "docs" / "operator.md").read_text()
SPEC_DOCS = {
    "tinymodel": "TinyModel",
    "deviceclass": "DeviceClass",
    "edgegateway": "EdgeGateway",
    "tinymodelrevision": "TinyModelRevision",
    "modelbuild": "ModelBuild",
    "gatewaydeployment": "GatewayDeployment",
}


def test_every_reason_has_a_sentence_and_is_in_the_documents() -> None:
    assert set(REASONS) == set(Reason)
    assert [r.value for r in Reason if f"`{r.value}`" not in OPERATOR] == []


def test_every_reason_of_the_builder_is_a_reason_of_conditions() -> None:
    assert {r.value for r in BuildReason} <= {r.value for r in Reason}


def test_every_condition_type_is_in_the_documents() -> None:
    assert [t.value for t in ConditionType if f"`{t.value}`" not in OPERATOR] == []


def test_every_metric_is_in_the_documents_and_begins_with_our_prefix() -> None:
    names = {m.name for m in Metrics().registry.collect()}
    assert all(name.startswith("tinyml_") for name in names)
    assert [name for name in names if name not in OPERATOR] == []


def test_every_setting_is_in_the_documents_and_no_other() -> None:
    fields = {f"TINYML_{f.name.upper()}" for f in dataclasses.fields(Settings)}
    documented = set(re.findall(r"`(TINYML_[A-Z0-9_]+)`", OPERATOR))
    assert documented == fields


@pytest.mark.parametrize("name", SPEC_DOCS)
def test_every_kind_has_a_page_that_names_its_spec_fields(name: str) -> None:
    page = (REPO / "docs" / f"{name}.md").read_text()
    crd = yaml.safe_load((REPO / "crds" / f"{name}.yaml").read_text())
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields = root["properties"]["spec"]["properties"]
    assert [f for f in fields if f"`{f}" not in page] == []


def test_the_operator_pins_the_compiler_that_this_distribution_carries() -> None:
    assert compiler_version() == COMPILER


def test_documented_sentences_of_reasons_are_those_of_the_code() -> None:
    assert [
        r.value for r, text in REASONS.items() if f"| `{r.value}` | {text} |" not in OPERATOR
    ] == []
