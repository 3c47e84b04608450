"""The operator's whole flow on the in-memory world: what a user sees at each end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tinyml_api.build import BuildRequest, Outcome, Termination, sha256_digest
from tinyml_kube.cluster import Ref
from tinyml_kube.resources import (
    CONFIG_MAP,
    EDGE_GATEWAY,
    EVENT,
    GATEWAY_DEPLOYMENT,
    JOB,
    MODEL_BUILD,
    TINY_MODEL,
    TINY_MODEL_REVISION,
    ref_of,
)

from tests.support.operator_world import (
    MODEL_SHA,
    NAMESPACE,
    World,
    a_gateway,
    a_group,
    a_tiny_model,
    device_class,
)


async def a_world(*objects: dict[str, Any], classes: tuple[str, ...] = ("posix",)) -> World:
    world = World()
    await world.classes(*classes)
    await world.add(*objects)
    return world


def fails(reason: str, message: str = "why") -> Any:
    return lambda request: Termination(Outcome.FAILED, reason, message)


async def test_a_tiny_model_ends_ready_with_every_device_running() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()

    model = await world.get(TINY_MODEL, "digits")
    status = model["status"]
    assert {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]} == {
        "ModelValid": ("True", "ModelAccepted"),
        "Compiled": ("True", "Compiled"),
        "DevicesClaimed": ("True", "DevicesClaimed"),
        "RolledOut": ("True", "RolledOut"),
        "Ready": ("True", "RolledOut"),
    }
    assert status["rolledOutRevision"] == "digits-1"
    assert status["devices"]["running"] == 2
    assert status["classes"][0]["flashBytes"] == 5000
    deployment = await world.get(GATEWAY_DEPLOYMENT, "site")
    assert deployment["spec"]["groups"][0]["devices"] == ["line-a-0", "line-a-1"]
    assert len(world.built) == 1


async def test_the_second_reconcile_writes_nothing() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    before = list(world.cluster.writes)
    world.clock.pass_by(3600)
    await world.reconcile_all()
    assert world.cluster.writes == before


async def test_classes_of_devices_and_named_classes_are_built_once_each() -> None:
    gateway = a_gateway("site", a_group("a", "posix"), a_group("b", "mps2-an386"))
    model = a_tiny_model(deviceClasses=["stm32f405", "posix"])
    world = await a_world(gateway, model, classes=("posix", "mps2-an386", "stm32f405"))
    await world.settle()
    builds = await world.cluster.list(MODEL_BUILD)
    assert sorted(b["spec"]["deviceClass"] for b in builds) == ["mps2-an386", "posix", "stm32f405"]
    assert len(world.built) == len(set(world.built)) == 3


async def test_the_same_request_of_two_models_builds_once() -> None:
    world = await a_world(
        a_tiny_model("one", deploy=None, deviceClasses=["posix"]),
        a_tiny_model("two", deploy=None, deviceClasses=["posix"]),
    )
    await world.settle()
    assert len(world.built) == 1
    for name in ("one", "two"):
        assert (await world.condition(name, "Ready"))["reason"] == "BuildOnly"


async def test_applying_a_deleted_model_again_does_not_build_again() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    await world.cluster.delete(Ref(TINY_MODEL, NAMESPACE, "digits"))
    await world.settle()
    await world.add(a_tiny_model())
    await world.settle()
    assert len(world.built) == 1
    assert (await world.condition("digits", "Ready"))["status"] == "True"


async def test_deleting_a_model_releases_its_devices_and_leaves_nothing_stuck() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    await world.cluster.delete(Ref(TINY_MODEL, NAMESPACE, "digits"))
    await world.settle()
    assert (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"]["groups"] == []
    assert await world.cluster.list(TINY_MODEL) == []
    assert await world.cluster.list(TINY_MODEL_REVISION) == []
    gateway = await world.get(EDGE_GATEWAY, "site")
    assert gateway["status"]["devices"]["unassigned"] == 2


async def test_the_older_model_keeps_a_contested_device() -> None:
    world = await a_world(a_gateway(), a_tiny_model("older"))
    world.clock.pass_by(10)
    await world.add(a_tiny_model("a-newer"))
    await world.settle()
    assert (await world.condition("older", "Ready"))["status"] == "True"
    claimed = await world.condition("a-newer", "DevicesClaimed")
    assert claimed["reason"] == "DevicesContested"
    assert "2 of 2 selected devices" in claimed["message"]
    assert "'older'" in claimed["message"]
    assert (await world.get(TINY_MODEL, "a-newer"))["status"]["devices"]["contested"] == 2


async def test_the_newer_model_gets_the_device_when_the_older_is_deleted() -> None:
    world = await a_world(a_gateway(), a_tiny_model("older"))
    world.clock.pass_by(10)
    await world.add(a_tiny_model("newer"))
    await world.settle()
    await world.cluster.delete(Ref(TINY_MODEL, NAMESPACE, "older"))
    await world.settle()
    assert (await world.condition("newer", "Ready"))["status"] == "True"
    image = (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"]["images"][0]
    assert image["tinyModel"] == "newer"


async def test_a_failed_build_says_why_and_is_not_tried_again() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    world.build = fails("ArenaTooLarge", "arena needs 71680 bytes, class has 65536")
    await world.settle()
    compiled = await world.condition("digits", "Compiled")
    assert compiled["reason"] == "ArenaTooLarge"
    assert "71680" in compiled["message"]
    assert (await world.condition("digits", "ModelValid"))["status"] == "True"
    assert (await world.condition("digits", "Stalled"))["status"] == "True"
    assert not await world.condition("digits", "Reconciling")
    world.clock.pass_by(86400)
    await world.settle()
    assert len(world.built) == 1


async def test_a_bad_model_is_a_matter_of_model_valid() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    world.build = fails("UnsupportedOperator", "op 3: LSTM")
    await world.settle()
    assert (await world.condition("digits", "ModelValid"))["reason"] == "UnsupportedOperator"
    assert (await world.condition("digits", "Ready"))["reason"] == "UnsupportedOperator"


async def test_a_corrected_manifest_recovers() -> None:
    world = await a_world(a_gateway(), a_tiny_model())

    def build(request: BuildRequest) -> Termination | None:
        if request.model.sha256 == f"sha256:{MODEL_SHA}":
            return Termination(Outcome.FAILED, "DigestMismatch", "found another")
        return None

    world.build = build
    await world.settle()
    assert (await world.condition("digits", "ModelValid"))["reason"] == "DigestMismatch"
    right = sha256_digest(b"right").removeprefix("sha256:")
    await world.add(a_tiny_model(source={"uri": "s3://models/m.tflite", "sha256": right}))
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"
    assert not await world.condition("digits", "Stalled")


async def test_a_corrected_address_of_the_same_content_is_tried_again() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    world.build = fails("SourceUnreachable", "404")
    await world.settle()
    assert (await world.condition("digits", "Stalled"))["reason"] == "SourceUnreachable"
    world.storage.objects[("models", "other.tflite")] = b"a model"
    world.build = lambda request: None
    await world.add(a_tiny_model(source={"uri": "s3://models/other.tflite", "sha256": MODEL_SHA}))
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"
    assert len(world.built) == 2


async def test_a_newer_revision_that_fails_leaves_the_former_rolled_out() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    spec = (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"]
    world.build = fails("BudgetExceeded", "flash 5000 bytes, budget 10")
    await world.add(a_tiny_model(budget={"flashBytes": 10}))
    await world.settle()
    assert (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"] == spec
    status = (await world.get(TINY_MODEL, "digits"))["status"]
    assert (status["revision"], status["rolledOutRevision"]) == ("digits-2", "digits-1")
    assert status["devices"]["running"] == 2
    assert "digits-1 stays rolled out" in (await world.condition("digits", "Ready"))["message"]


async def test_a_retry_follows_a_failure_that_can_pass_and_ends_after_some() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    attempts = world.settings.build_attempts
    await world.reconcile_all()
    await world.reconcile_all()
    for number in range(1, attempts + 1):
        jobs = await world.cluster.list(JOB)
        assert len(jobs) == number
        newest = max(jobs, key=lambda j: int(j["metadata"]["name"].rpartition("-")[2]))
        time = world.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
        failed["lastTransitionTime"] = time
        await world.cluster.patch_status(ref_of(newest), {"conditions": [failed]})
        await world.reconcile_all()
        assert len(await world.cluster.list(JOB)) == number, "it waits first"
        world.clock.pass_by(world.settings.retry_most_s)
        await world.reconcile_all()
    assert len(await world.cluster.list(JOB)) == attempts
    await world.reconcile_all()
    stalled = await world.condition("digits", "Stalled")
    assert stalled["reason"] == "BuildJobFailed"
    assert f"gave up after {attempts} attempts" in stalled["message"]


async def test_a_deleted_job_is_created_anew() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.reconcile_all()
    await world.reconcile_all()
    (job,) = await world.cluster.list(JOB)
    await world.cluster.delete(ref_of(job))
    await world.reconcile_all()
    (again,) = await world.cluster.list(JOB)
    assert again["metadata"]["name"] == job["metadata"]["name"]
    assert again["metadata"]["uid"] != job["metadata"]["uid"]


async def test_wiped_statuses_come_back_without_a_build_or_a_change_of_devices() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    deployment = await world.get(GATEWAY_DEPLOYMENT, "site")
    status = (await world.get(TINY_MODEL, "digits"))["status"]
    await world.wipe_statuses()
    world.restart()
    await world.settle()
    assert len(world.built) == 1
    assert (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"] == deployment["spec"]
    assert (await world.get(TINY_MODEL, "digits"))["status"] == status


async def test_a_wiped_build_with_jobs_gone_needs_no_new_job_where_the_result_is_stored() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    for job in await world.cluster.list(JOB):
        await world.cluster.delete(ref_of(job))
    await world.wipe_statuses()
    await world.settle()
    assert await world.cluster.list(JOB) == []
    assert (await world.condition("digits", "Ready"))["status"] == "True"


async def test_an_unreachable_store_is_told_and_recovers_by_itself() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    world.storage.down = "bucket 'tinyml' does not exist at http://s3: create it"
    await world.settle()
    ready = await world.condition("digits", "Ready")
    assert ready["reason"] == "StorageUnreachable"
    assert "create it" in ready["message"]
    assert (await world.condition("digits", "Reconciling"))["status"] == "True"
    assert any(after_s > 0 for after_s in world.due.values())
    world.storage.down = None
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"


async def test_a_missing_source_is_told_before_a_job_is_made_and_recovers() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    del world.storage.objects[("models", "m.tflite")]
    await world.settle()
    valid = await world.condition("digits", "ModelValid")
    assert valid["reason"] == "SourceUnreachable"
    assert "'m.tflite'" in valid["message"]
    assert await world.cluster.list(JOB) == []
    world.storage.objects[("models", "m.tflite")] = b"a model"
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("https://evil.example/m.tflite", "allowed hosts (none)"),
        ("s3://tinyml/other/builds/abc/code.img", "namespace 'other'"),
        ("s3://tinyml/team/../other/builds/abc/code.img", "'..' segments"),
        ("s3://another-teams/m.tflite", "allowed buckets (models, tinyml)"),
        ("s3://tinyml//other/builds/abc/code.img", "empty"),
        ("https://[/m.tflite", "allowed hosts"),
        ("https://evil.example\\@good.example/m.tflite", "host None"),
    ],
)
async def test_a_source_that_is_not_allowed_stalls(uri: str, why: str) -> None:
    world = await a_world(a_gateway(), a_tiny_model(source={"uri": uri, "sha256": MODEL_SHA}))
    await world.settle()
    stalled = await world.condition("digits", "Stalled")
    assert stalled["reason"] == "SourceNotAllowed"
    assert why in stalled["message"]
    assert world.built == []


async def test_a_config_map_source_is_checked_and_copied_into_the_store() -> None:
    source = {"uri": "configmap://models/m.tflite", "sha256": MODEL_SHA}
    world = await a_world(a_gateway(), a_tiny_model(source=source))
    await world.settle()
    assert "create it" in (await world.condition("digits", "ModelValid"))["message"]
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "models", "namespace": NAMESPACE},
        "binaryData": {"m.tflite": "YSBtb2RlbA=="},
    }
    await world.add({**config_map, "binaryData": {"m.tflite": "d3Jvbmc="}})
    await world.settle()
    assert (await world.condition("digits", "ModelValid"))["reason"] == "DigestMismatch"
    await world.add(config_map)
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"
    assert world.storage.objects[("tinyml", f"{NAMESPACE}/inputs/{MODEL_SHA}")] == b"a model"
    assert await world.cluster.get(Ref(CONFIG_MAP, NAMESPACE, "models")) is not None


async def test_a_missing_device_class_stalls_until_it_is_applied() -> None:
    world = await a_world(a_gateway(), a_tiny_model(), classes=("mps2-an386",))
    await world.settle()
    stalled = await world.condition("digits", "Stalled")
    assert stalled["reason"] == "DeviceClassMissing"
    assert "'posix'" in stalled["message"]
    assert "mps2-an386" in stalled["message"]
    assert (await world.condition("site", "Ready", EDGE_GATEWAY))["reason"] == "DeviceClassMissing"
    await world.classes("posix")
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"


async def test_a_selector_without_devices_says_where_it_looked() -> None:
    selector = {"selector": {"matchLabels": {"use": "nothing"}}}
    world = await a_world(a_gateway(), a_tiny_model(deploy=selector))
    await world.settle()
    claimed = await world.condition("digits", "DevicesClaimed")
    assert claimed["reason"] == "NoDevicesSelected"
    assert "use=nothing" in claimed["message"]
    assert "1 groups of 1 EdgeGateways" in claimed["message"]


async def test_a_gateway_selector_narrows_the_gateways() -> None:
    deploy = {
        "selector": {"matchLabels": {"use": "digits"}},
        "gatewaySelector": {"matchLabels": {"region": "south"}},
    }
    south = a_gateway("south-1")
    south["metadata"]["labels"] = {"region": "south"}
    world = await a_world(a_gateway("north-1"), south, a_tiny_model(deploy=deploy))
    await world.settle()
    assert (await world.get(GATEWAY_DEPLOYMENT, "north-1"))["spec"]["groups"] == []
    assert (await world.get(GATEWAY_DEPLOYMENT, "south-1"))["spec"]["groups"] != []


async def test_a_class_without_a_port_is_built_and_said_to_have_no_firmware() -> None:
    gateway = a_gateway("site", a_group("a", "stm32f405"))
    world = await a_world(gateway, a_tiny_model(), classes=("stm32f405",))
    await world.settle()
    assert (await world.condition("digits", "Compiled"))["status"] == "True"
    rolled_out = await world.condition("digits", "RolledOut")
    assert rolled_out["reason"] == "NoFirmware"
    assert "stm32f405" in rolled_out["message"]


async def test_a_suspended_model_starts_nothing() -> None:
    world = await a_world(a_gateway(), a_tiny_model(suspend=True))
    await world.settle()
    assert (await world.condition("digits", "Ready"))["reason"] == "Suspended"
    assert await world.cluster.list(TINY_MODEL_REVISION) == []
    assert await world.cluster.list(JOB) == []


async def test_a_suspended_models_devices_stay_and_none_joins() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    await world.add(a_tiny_model(suspend=True), a_gateway("site", a_group("line-a", devices=3)))
    await world.settle()
    group = (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"]["groups"][0]
    assert group["devices"] == ["line-a-0", "line-a-1"]
    await world.add(a_tiny_model(suspend=False))
    await world.settle()
    group = (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"]["groups"][0]
    assert len(group["devices"]) == 3


async def test_a_suspended_gateways_deployment_stays_as_it_is() -> None:
    world = await a_world(a_gateway(suspend=True), a_tiny_model())
    await world.settle()
    assert await world.cluster.list(GATEWAY_DEPLOYMENT) == []
    assert (await world.condition("site", "Ready", EDGE_GATEWAY))["reason"] == "Suspended"


async def test_a_new_class_among_the_devices_makes_a_new_revision() -> None:
    world = await a_world(a_gateway(), a_tiny_model(), classes=("posix", "mps2-an386"))
    await world.settle()
    await world.add(a_gateway("site", a_group("line-a"), a_group("line-b", "mps2-an386")))
    await world.settle()
    status = (await world.get(TINY_MODEL, "digits"))["status"]
    assert status["rolledOutRevision"] == "digits-2"
    assert status["devices"]["running"] == 4
    assert len(world.built) == 2, "posix is not built again"


async def test_a_changed_class_is_built_again_under_another_name() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    changed = device_class("posix")
    changed["spec"]["ram"]["sizeBytes"] *= 2
    await world.add(changed)
    await world.settle()
    assert (await world.get(TINY_MODEL, "digits"))["status"]["rolledOutRevision"] == "digits-2"
    assert len(set(world.built)) == 2


async def test_failed_devices_are_named() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    deployment = await world.get(GATEWAY_DEPLOYMENT, "site")
    failure = {
        "device": "line-a-1",
        "reason": "DeviceClassMismatch",
        "message": "found mps2-an386, expected posix",
    }
    await world.cluster.patch_status(
        ref_of(deployment),
        {
            "groups": [{"image": deployment["spec"]["images"][0]["name"], "states": "RF"}],
            "failures": [failure],
        },
    )
    await world.reconcile_all()
    rolled_out = await world.condition("digits", "RolledOut")
    assert rolled_out["reason"] == "DevicesFailed"
    assert "found mps2-an386, expected posix" in rolled_out["message"]
    failures = (await world.get(TINY_MODEL, "digits"))["status"]["failures"]
    assert failures == [{"gateway": "site", **failure}]


async def test_a_report_of_an_older_generation_counts_as_pending() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    deployment = await world.get(GATEWAY_DEPLOYMENT, "site")
    await world.cluster.patch_status(ref_of(deployment), {"observedGeneration": 0})
    await world.reconcile_all()
    devices = (await world.get(TINY_MODEL, "digits"))["status"]["devices"]
    assert (devices["running"], devices["pending"]) == (0, 2)


async def test_presigned_urls_are_renewed_while_the_job_runs() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.reconcile_all()
    await world.reconcile_all()
    before = len(world.cluster.writes)
    world.clock.pass_by(world.settings.url_lifetime_s * 0.4)
    await world.reconcile_all()
    assert len(world.cluster.writes) == before
    world.clock.pass_by(world.settings.url_lifetime_s * 0.2)
    await world.reconcile_all()
    assert [(verb, ref.resource.kind) for verb, ref in world.cluster.writes[before:]] == [
        ("apply", "Secret")
    ]


async def test_transitions_leave_events_and_repetitions_only_count() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    reasons = {e["reason"] for e in await world.cluster.list(EVENT)}
    assert {"RevisionCreated", "Building", "Built", "Compiled", "Released", "RolledOut"} <= reasons
    count = len(await world.cluster.list(EVENT))
    await world.wipe_statuses()
    await world.settle()
    events = await world.cluster.list(EVENT)
    assert len(events) <= count + 2
    assert any(e["count"] > 1 for e in events)


async def test_an_attempt_that_the_builder_refuses_counts_in_the_metrics() -> None:
    world = World()
    world.settings = replace(world.settings, build_attempts=1)
    world.restart()
    await world.classes("posix")
    await world.add(a_gateway(), a_tiny_model())
    world.build = fails("CodeTooLarge")
    await world.settle()
    metrics = world.shell._metrics
    assert metrics.builds.labels("CodeTooLarge")._value.get() == 1
