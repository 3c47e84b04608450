"""Settings from the environment, and what a build's Job may do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tinyml_operator import manifests
from tinyml_operator.reconcile.plan import Meta
from tinyml_operator.settings import Settings, SettingsError
from tinyml_operator.shell import merge_diff

BUCKET = {"TINYML_S3_BUCKET": "b"}
META = Meta("mb-x", "ns", "uid-1", datetime(2026, 1, 1, tzinfo=UTC), 1, {}, False)


def test_defaults_are_those_of_the_class() -> None:
    settings = Settings.from_env(BUCKET)
    assert settings.builder_command == ("python3", "-m", "tinyml_compiler")
    assert settings == Settings(s3_bucket="b", compiler=settings.compiler)


def test_lists_commands_and_numbers_are_parsed() -> None:
    env = BUCKET | {
        "TINYML_NAMESPACES": "a, b",
        "TINYML_BUILDER_COMMAND": "'/my python' -m tinyml_compiler",
        "TINYML_SWEEP_S": "2.5",
        "TINYML_HTTP_PORT": "0",
    }
    settings = Settings.from_env(env)
    assert settings.namespaces == ("a", "b")
    assert settings.builder_command[0] == "/my python"
    assert (settings.sweep_s, settings.http_port) == (2.5, 0)


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({}, "TINYML_S3_BUCKET is not set"),
        ({**BUCKET, "TINYML_WORKERS": "0"}, "TINYML_WORKERS is '0', not a whole number"),
        ({**BUCKET, "TINYML_SWEEP_S": "soon"}, "TINYML_SWEEP_S is 'soon'"),
        ({**BUCKET, "TINYML_SWEEP_S": "nan"}, "TINYML_SWEEP_S is 'nan'"),
        ({**BUCKET, "TINYML_BUILDER_COMMAND": "'open"}, "TINYML_BUILDER_COMMAND"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(env: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Settings.from_env(env)


def test_a_build_job_has_no_credentials_and_no_privileges() -> None:
    settings = Settings(s3_bucket="b", build_deadline_s=77)
    job = manifests.build_job(META, manifests.Attempt(2, 1, "s"), settings)
    assert job["metadata"]["name"] == "mb-x-2"
    assert job["spec"]["activeDeadlineSeconds"] == 77
    assert job["spec"]["backoffLimit"] == 2
    pod = job["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    assert not any("valueFrom" in e for e in container["env"])


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"d": {"x": 1, "y": 2}}, {"d": {"x": 3}}, {"d": {"x": 3, "y": None}}),
        ({"l": [1, 2]}, {"l": [2]}, {"l": [2]}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, {}),
    ],
)
def test_the_status_patch_is_only_what_differs(
    before: dict[str, object], after: dict[str, object], patch: dict[str, object]
) -> None:
    assert merge_diff(before, after) == patch
