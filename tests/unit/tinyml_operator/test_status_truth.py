"""What a status must not say: things of another object, another revision, another time."""

from __future__ import annotations

from typing import Any

import pytest
from tinyml_api.build import Outcome, Termination, sha256_digest
from tinyml_kube.cluster import Ref
from tinyml_kube.errors import ConflictError, ForbiddenError, InvalidError
from tinyml_kube.resources import (
    EDGE_GATEWAY,
    EVENT,
    GATEWAY_DEPLOYMENT,
    JOB,
    MODEL_BUILD,
    POD,
    SECRET,
    TINY_MODEL,
    TINY_MODEL_REVISION,
    ref_of,
)
from tinyml_operator.workqueue import Key

from tests.support.operator_world import (
    MODEL_SHA,
    NAMESPACE,
    World,
    a_gateway,
    a_group,
    a_tiny_model,
    device_class,
)

OTHER = sha256_digest(b"another model").removeprefix("sha256:")
DIGITS = Key("TinyModel", NAMESPACE, "digits")


async def a_world(*objects: dict[str, Any], classes: tuple[str, ...] = ("posix",)) -> World:
    world = World()
    world.storage.objects[("models", "other.tflite")] = b"another model"
    await world.classes(*classes)
    await world.add(*objects)
    return world


def another_model(**spec: Any) -> dict[str, Any]:
    return a_tiny_model(source={"uri": "s3://models/other.tflite", "sha256": OTHER}, **spec)


async def test_a_status_is_not_written_on_a_namesake_that_came_in_between() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    model = await world.get(TINY_MODEL, "digits")
    plan = await world.shell._plan("TinyModel", model)
    await world.cluster.delete(Ref(TINY_MODEL, NAMESPACE, "digits"))
    await world.add(another_model())
    with pytest.raises(ConflictError):
        await world.shell._carry_out({**model, "status": {}}, plan)
    assert "status" not in await world.get(TINY_MODEL, "digits")


async def test_devices_that_run_a_namesakes_revision_are_pending() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    await world.cluster.delete(Ref(TINY_MODEL, NAMESPACE, "digits"))
    await world.add(another_model())
    for _ in range(3):  # all but the gateway's composer
        await world.shell.reconcile(DIGITS)
        for build in await world.cluster.list(MODEL_BUILD):
            await world.shell.reconcile(Key("ModelBuild", NAMESPACE, build["metadata"]["name"]))
        await world.run_jobs()
    status = (await world.get(TINY_MODEL, "digits"))["status"]
    assert status["rolledOutRevision"] == "digits-1"
    assert (status["devices"]["running"], status["devices"]["pending"]) == (0, 2)
    assert (await world.condition("digits", "Ready"))["status"] == "False"


async def test_devices_of_a_group_whose_class_was_edited_are_pending_until_composed() -> None:
    groups = a_group("line-a"), a_group("line-b", "mps2-an386")
    world = await a_world(
        a_gateway("site", *groups), a_tiny_model(), classes=("posix", "mps2-an386")
    )
    await world.settle()
    await world.add(a_gateway("site", a_group("line-a", "mps2-an386"), groups[1]))
    await world.shell.reconcile(DIGITS)
    devices = (await world.get(TINY_MODEL, "digits"))["status"]["devices"]
    assert (devices["running"], devices["pending"]) == (2, 2)


async def test_the_former_revision_is_not_told_as_the_new_specs_rollout() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    await world.add(another_model())
    await world.shell.reconcile(DIGITS)
    rolled_out = await world.condition("digits", "RolledOut")
    assert (rolled_out["status"], rolled_out["reason"]) == ("Unknown", "Building")
    assert "2 of 2 devices run digits-1" in rolled_out["message"]
    await world.settle()
    assert (await world.condition("digits", "RolledOut"))["status"] == "True"


async def test_a_store_that_is_away_takes_nothing_back() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    before = [await world.get(TINY_MODEL, "digits"), *await world.cluster.list(MODEL_BUILD)]
    world.storage.down = "the store does not answer"
    world.clock.pass_by(600)
    await world.settle()
    assert before == [
        await world.get(TINY_MODEL, "digits"),
        *await world.cluster.list(MODEL_BUILD),
    ]
    (build,) = await world.cluster.list(MODEL_BUILD)
    assert world.due[Key("ModelBuild", NAMESPACE, build["metadata"]["name"])] > 0


async def test_a_build_that_stands_still_is_not_started_by_an_outage_of_the_store() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    world.build = lambda request: Termination(Outcome.FAILED, "ModelInvalid", "no model")
    await world.settle()
    for job in await world.cluster.list(JOB):
        await world.cluster.delete(ref_of(job))
    await world.settle()
    world.storage.down = "the store does not answer"
    await world.settle()
    assert (await world.condition("digits", "Stalled"))["reason"] == "ModelInvalid"
    world.storage.down = None
    await world.settle()
    assert len(world.built) == 1


async def test_more_classes_than_a_revision_holds_is_said() -> None:
    names = [f"class-{i}" for i in range(33)]
    groups = [a_group(f"g{i}", name, devices=1) for i, name in enumerate(names)]
    world = await a_world(
        a_gateway("one", *groups[:16]),
        a_gateway("two", *groups[16:32]),
        a_gateway("three", *groups[32:]),
        a_tiny_model(),
    )
    for name in names:
        made = device_class("posix")
        made["metadata"]["name"] = name
        await world.add(made)
    await world.settle()
    stalled = await world.condition("digits", "Stalled")
    assert stalled["reason"] == "TooManyDeviceClasses"
    assert "33 device classes" in stalled["message"]
    assert "32" in stalled["message"]
    assert len((await world.get(TINY_MODEL, "digits"))["status"]["classes"]) == 32
    assert await world.cluster.list(TINY_MODEL_REVISION) == []
    await world.cluster.delete(Ref(EDGE_GATEWAY, NAMESPACE, "three"))
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"


@pytest.mark.parametrize("kind", ["TinyModelRevision", "ModelBuild", "Secret", "Job"])
async def test_a_write_that_the_api_refuses_is_said_and_recovers(kind: str) -> None:
    world = await a_world(a_gateway(), a_tiny_model())

    def refuse(verb: str, ref: Ref) -> None:
        if ref.resource.kind == kind:
            raise InvalidError(f"{kind} refused: exceeded quota: builds")

    world.cluster.hook = refuse
    for _ in range(3):
        for resource in (TINY_MODEL, TINY_MODEL_REVISION, MODEL_BUILD):
            for obj in await world.cluster.list(resource):
                key = Key(resource.kind, NAMESPACE, obj["metadata"]["name"])
                try:
                    await world.shell.reconcile(key)
                except InvalidError:
                    continue
    before = len(world.cluster.writes)
    ready = await world.condition("digits", "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "WriteRefused")
    assert "exceeded quota" in ready["message"]
    with pytest.raises(InvalidError):
        await world.reconcile_all()
    assert len(world.cluster.writes) == before
    world.cluster.hook = None
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"requestDigest": "x", "artifacts": {}, "summary": []}',
        b'{"requestDigest": "x", "artifacts": {}, "summary": {"flashBytes": "much"}}',
        b'{"requestDigest": "x", "artifacts": {}, "summary": {}, "code": 7}',
        b'{"requestDigest": "x", "artifacts": {}, "summary": {},'
        b' "code": {"digest": "x", "imageHash": "y", "sizeBytes": 1}}',
        b"\xff\xfe",
        b"x" * 2_000_000,
    ],
)
async def test_a_result_that_is_none_is_said(data: bytes) -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    await world.wipe_statuses()
    (key,) = (k for k in world.storage.objects if k[1].endswith("result.json"))
    world.storage.objects[key] = data.replace(b'"x"', f'"{world.built[0]}"'.encode(), 1)
    await world.settle()
    ready = await world.condition("digits", "Ready")
    assert ready["reason"] == "InternalError"
    assert "result.json" in ready["message"]
    assert len(ready["message"]) < 1000


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (r'{"outcome": "Failed", "reason": "ModelInvalid", "message": "\ud800"}', "ModelInvalid"),
        (r'{"outcome": "Failed", "reason": "ModelInvalid", "message": null}', "ModelInvalid"),
        (r'{"outcome": "Failed", "reason": ["?"], "message": "\u0000"}', "InternalError"),
        ("[" * 4000, "BuildJobFailed"),
        ("", "BuildJobFailed"),
    ],
)
async def test_last_words_of_any_kind_end_in_a_condition(words: str, reason: str) -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    world.build = lambda request: Termination(Outcome.FAILED, "ModelInvalid", "")
    await world.reconcile_all()
    await world.reconcile_all()
    await world.run_jobs()
    (pod,) = await world.cluster.list(POD)
    ended = {"exitCode": 1, "message": words}
    beside = {"name": "a-proxy", "state": {"running": {}}}
    builder = {"name": "builder", "state": {"terminated": ended}}
    await world.cluster.patch_status(ref_of(pod), {"containerStatuses": [beside, builder]})
    await world.reconcile_all()
    await world.reconcile_all()
    ready = await world.condition("digits", "Ready")
    assert ready["reason"] == reason
    ready["message"].encode()


async def test_a_message_over_the_limit_leaves_one_event() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    world.build = lambda request: Termination(Outcome.FAILED, "ModelInvalid", "ä" * 5000)
    await world.settle()
    assert len((await world.condition("digits", "Ready"))["message"]) <= 4096
    events = await world.cluster.list(EVENT)
    for _ in range(5):
        await world.reconcile_all()
    assert await world.cluster.list(EVENT) == events


async def test_the_secret_with_the_urls_goes_when_the_build_has_ended() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    assert await world.cluster.list(SECRET) == []
    assert (await world.condition("digits", "Ready"))["status"] == "True"
    world.build = lambda request: Termination(Outcome.FAILED, "ModelInvalid", "no model")
    await world.add(another_model())
    await world.settle()
    assert await world.cluster.list(SECRET) == []
    assert len(world.built) == 2


async def test_a_build_that_no_model_asks_for_is_not_tried_again() -> None:
    world = await a_world(a_gateway(), a_tiny_model(budget={"flashBytes": 10}))
    world.build = lambda request: Termination(Outcome.FAILED, "BudgetExceeded", "5000, budget 10")
    await world.settle()
    world.build = lambda request: None
    await world.add(a_tiny_model(budget={"flashBytes": 9999}))
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"
    world.storage.objects[("models", "moved.tflite")] = b"a model"
    source = {"uri": "s3://models/moved.tflite", "sha256": MODEL_SHA}
    await world.add(a_tiny_model(source=source, budget={"flashBytes": 9999}))
    await world.settle()
    assert len(world.built) == 2


async def test_a_job_with_a_final_verdict_keeps_its_log() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.reconcile_all()
    await world.reconcile_all()
    (job,) = await world.cluster.list(JOB)
    world.build = lambda request: Termination(Outcome.FAILED, "ModelInvalid", "no model")
    await world.run_jobs()
    await world.cluster.patch_status(ref_of(job), {"conditions": None})  # the pod is first to end
    await world.reconcile_all()
    await world.reconcile_all()
    assert (await world.condition("digits", "Stalled"))["reason"] == "ModelInvalid"
    assert [ref_of(j) for j in await world.cluster.list(JOB)] == [ref_of(job)]


async def test_revisions_that_a_namesake_left_behind_are_passed_over_in_time() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    (left,) = await world.cluster.list(TINY_MODEL_REVISION)
    await world.cluster.patch(ref_of(left), {"metadata": {"ownerReferences": None}})
    await world.cluster.delete(Ref(TINY_MODEL, NAMESPACE, "digits"))
    await world.add(another_model())
    await world.settle()
    assert (await world.condition("digits", "Compiled"))["reason"] == "RevisionNameTaken"
    world.clock.pass_by(60)
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"
    status = (await world.get(TINY_MODEL, "digits"))["status"]
    assert status["rolledOutRevision"] == "digits-2"
    image = (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"]["images"][0]
    assert image["revision"] == "digits-2"


async def test_why_a_pod_waits_is_said() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.reconcile_all()
    await world.reconcile_all()
    (job,) = await world.cluster.list(JOB)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p",
            "namespace": NAMESPACE,
            "labels": job["metadata"]["labels"],
            "ownerReferences": [owner | {"uid": job["metadata"]["uid"]}],
        },
        "spec": {},
    }
    made = await world.cluster.create(pod)
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    why["message"] = "0/3 nodes are available: 3 Insufficient memory."
    await world.cluster.patch_status(ref_of(made), {"conditions": [why]})
    await world.reconcile_all()
    (build,) = await world.cluster.list(MODEL_BUILD)
    ready = await world.condition(build["metadata"]["name"], "Ready", MODEL_BUILD)
    assert (ready["status"], ready["reason"]) == ("Unknown", "Queued")
    assert "3 Insufficient memory" in ready["message"]


async def test_a_source_that_goes_while_the_builder_runs_is_no_trouble() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.reconcile_all()
    await world.reconcile_all()
    (job,) = await world.cluster.list(JOB)
    labels = job["metadata"]["labels"] | {"job-name": job["metadata"]["name"]}
    metadata = {"name": "p", "namespace": NAMESPACE, "labels": labels}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}
    made = await world.cluster.create(pod)
    running = {"containerStatuses": [{"name": "builder", "state": {"running": {}}}]}
    await world.cluster.patch_status(ref_of(made), running)
    del world.storage.objects[("models", "m.tflite")]
    world.clock.pass_by(world.settings.url_lifetime_s * 0.6)
    await world.reconcile_all()
    await world.reconcile_all()
    ready = await world.condition("digits", "Ready")
    assert (ready["status"], ready["reason"]) == ("Unknown", "Building")


@pytest.mark.parametrize("verb", ["create", "after-create"])
async def test_an_event_that_cannot_be_written_stops_nothing(verb: str) -> None:
    world = await a_world(a_gateway(), a_tiny_model())

    def refuse(done: str, ref: Ref) -> None:
        if done == verb and ref.resource == EVENT:
            raise ForbiddenError("events is forbidden")

    world.cluster.hook = refuse
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"


async def test_failures_of_a_former_revision_are_not_named_after_the_next_is_released() -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await world.settle()
    deployment = await world.get(GATEWAY_DEPLOYMENT, "site")
    failure = {"device": "line-a-1", "reason": "UploadFailed", "message": "of the former"}
    report = [{"image": deployment["spec"]["images"][0]["name"], "states": "RF"}]
    status = {"groups": report, "failures": [failure]}
    await world.cluster.patch_status(ref_of(deployment), status)
    await world.reconcile_all()
    assert (await world.get(TINY_MODEL, "digits"))["status"]["failures"] != []
    await world.add(another_model())
    for _ in range(4):  # the agent says nothing yet
        await world.reconcile_all()
        await world.run_jobs()
    found = (await world.get(TINY_MODEL, "digits"))["status"]
    assert found["rolledOutRevision"] == "digits-2"
    assert found["devices"]["pending"] == 2
    assert "failures" not in found


async def step(world: World, number: int) -> None:
    """Bring a world on by this many half rounds."""
    for half in range(number):
        await (world.reconcile_all() if half % 2 == 0 else world.run_jobs())


@pytest.mark.parametrize("steps", range(9))
async def test_suspended_at_any_stage_it_starts_nothing_and_goes_on_later(steps: int) -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await step(world, steps)
    await world.add(a_tiny_model(suspend=True))
    kinds = JOB, TINY_MODEL_REVISION, MODEL_BUILD
    before = [ref_of(o) for kind in kinds for o in await world.cluster.list(kind)]
    given = [g["spec"]["groups"] for g in await world.cluster.list(GATEWAY_DEPLOYMENT)]
    await world.settle()
    assert [ref_of(o) for kind in kinds for o in await world.cluster.list(kind)] == before
    after = [g["spec"]["groups"] for g in await world.cluster.list(GATEWAY_DEPLOYMENT)]
    assert after == (given or [[]])
    ready = await world.condition("digits", "Ready")
    assert ready["reason"] == ("RolledOut" if given and given[0] else "Suspended")
    await world.add(a_tiny_model(suspend=False))
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"
    assert len(world.built) == 1


@pytest.mark.parametrize("steps", range(9))
async def test_deleted_at_any_stage_it_leaves_nothing_and_comes_again(steps: int) -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await step(world, steps)
    await world.cluster.delete(Ref(TINY_MODEL, NAMESPACE, "digits"))
    await world.settle()
    assert await world.cluster.list(TINY_MODEL_REVISION) == []
    assert await world.cluster.list(SECRET) == []
    assert (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"]["groups"] == []
    await world.add(a_tiny_model())
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"
    assert len(world.built) == 1


@pytest.mark.parametrize("steps", range(9))
async def test_a_class_edited_at_any_stage_ends_in_builds_of_the_newer(steps: int) -> None:
    world = await a_world(a_gateway(), a_tiny_model())
    await step(world, steps)
    changed = device_class("posix")
    changed["spec"]["ram"]["sizeBytes"] *= 2
    await world.add(changed)
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"
    image = (await world.get(GATEWAY_DEPLOYMENT, "site"))["spec"]["images"][0]
    build = await world.get(MODEL_BUILD, image["build"])
    assert build["spec"]["deviceClassSpec"] == changed["spec"]
    assert len(world.built) <= 2
    assert await world.cluster.list(SECRET) == []
