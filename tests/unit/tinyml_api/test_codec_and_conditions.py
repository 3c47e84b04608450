"""tinyml_api: dataclasses to JSON and back, and conditions that keep their times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tinyml_api.build import BuildRequest, Input, ModelFormat, QuantizationMode
from tinyml_api.conditions import (
    MESSAGE_LIMIT,
    REASONS,
    Condition,
    ConditionStatus,
    ConditionType,
    Finding,
    Reason,
    find,
    is_true,
    settle,
)
from tinyml_api.gatewaydeployment import DeviceState
from tinyml_api.modelbuild import ModelBuildSpec, build_name
from tinyml_api.tinymodel import LabelSelector, TinyModelSpec, TinyModelStatus, digest_of

NOW = datetime(2026, 11, 22, 10, 0, 0, 999999, tzinfo=UTC)
READY, YES, NO = ConditionType.READY, ConditionStatus.TRUE, ConditionStatus.FALSE


def test_defaults_are_taken_for_what_is_absent_or_null() -> None:
    spec = TinyModelSpec.from_dict(
        {"source": {"uri": "s3://a/b", "sha256": "0" * 64}, "budget": None, "unknown": 1}
    )
    assert spec.source.format is ModelFormat.AUTO
    assert spec.quantization.mode is QuantizationMode.AS_IS
    assert (spec.budget, spec.deploy, spec.device_classes) == (None, None, ())


def test_an_absent_required_field_is_named() -> None:
    with pytest.raises(KeyError, match=r"Source: sha256"):
        TinyModelSpec.from_dict({"source": {"uri": "s3://a/b"}})


def test_none_is_not_written_and_enums_are_words() -> None:
    raw: dict[str, Any] = {"source": {"uri": "s3://a/b", "sha256": "0" * 64}}
    written = TinyModelSpec.from_dict(raw).to_dict()
    assert "deploy" not in written
    assert written["source"]["format"] == "Auto"


def test_labels_select_what_has_all_of_them() -> None:
    selector = LabelSelector({"a": "1", "b": "2"})
    assert selector.matches({"a": "1", "b": "2", "c": "3"})
    assert not selector.matches({"a": "1"})


def test_digests_are_the_same_with_and_without_prefix() -> None:
    assert digest_of("ab") == digest_of("sha256:ab") == "sha256:ab"


def test_letters_of_states_are_those_of_the_contract() -> None:
    assert "".join(s.value for s in DeviceState) == "RUPOF"


@pytest.mark.parametrize("samples", [None, 100])
def test_a_build_spec_keeps_the_digest_of_its_request(samples: int | None) -> None:
    request = BuildRequest(
        model=Input("https://anywhere", "sha256:" + "1" * 64),
        device_class="posix",
        device_class_spec={"cpu": "Host", "ram": {"sizeBytes": 1}},
        compiler="c",
        toolchain="t",
        quantization=QuantizationMode.POST_TRAINING if samples else QuantizationMode.AS_IS,
        calibration=Input("u", "sha256:" + "2" * 64) if samples else None,
        calibration_samples=samples,
    )
    spec = ModelBuildSpec.of_request(request)
    again = ModelBuildSpec.from_dict(spec.to_dict())
    assert again.request(model_url="other").digest() == request.digest() == spec.request_digest
    assert build_name(spec.request_digest) == "mb-" + request.digest()[:20]


def test_the_time_of_a_condition_moves_only_when_its_status_flips() -> None:
    first = settle((), [Finding(READY, NO, Reason.BUILDING)], generation=1, now=NOW)
    assert first[0].last_transition_time == "2026-11-22T10:00:00Z"
    later = NOW + timedelta(hours=1)
    same = settle(first, [Finding(READY, NO, Reason.RETRYING, "x")], generation=2, now=later)
    assert same[0].last_transition_time == first[0].last_transition_time
    assert (same[0].reason, same[0].observed_generation) == ("Retrying", 2)
    flipped = settle(same, [Finding(READY, YES, Reason.BUILT)], generation=2, now=later)
    assert flipped[0].last_transition_time == "2026-11-22T11:00:00Z"


def test_conditions_that_are_not_found_any_more_are_gone() -> None:
    before = settle((), [Finding(ConditionType.STALLED, YES, Reason.BUILT)], generation=1, now=NOW)
    assert is_true(before, ConditionType.STALLED)
    assert settle(before, [], generation=1, now=NOW) == ()


def test_a_finding_without_a_message_takes_its_reasons_sentence_and_long_ones_are_cut() -> None:
    (short,) = settle((), [Finding(READY, YES, Reason.BUILT)], generation=1, now=NOW)
    assert short.message == REASONS[Reason.BUILT]
    (long,) = settle((), [Finding(READY, NO, Reason.BUILT, "x" * 9999)], generation=1, now=NOW)
    assert len(long.message) == MESSAGE_LIMIT


def test_conditions_are_found_by_type() -> None:
    status = TinyModelStatus.from_dict(
        {"conditions": [Condition("Ready", "True", "Built", "", "2026-11-22T10:00:00Z").to_dict()]}
    )
    assert find(status.conditions, READY) == status.conditions[0]
    assert find(status.conditions, ConditionType.STALLED) is None
