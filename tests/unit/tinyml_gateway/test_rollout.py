"""`decide`: one named case per check, by values alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tinyml_api.gatewaydeployment import DeviceState as State
from tinyml_api.images import ImageFile
from tinyml_gateway.errors import Reason
from tinyml_gateway.rollout import (
    Action,
    ArtifactRecord,
    Cancel,
    Decision,
    Desired,
    DesiredDevice,
    Fetch,
    Flash,
    Job,
    Observed,
    Pair,
    Policy,
    Probe,
    Record,
    Seen,
    Trouble,
    Work,
    decide,
)
from tinyml_gateway.workshop import Pace

NOW = 1_000_000.0
CODE = ImageFile("sha256:" + "a" * 64, "c" * 64, 1000)
WEIGHTS = ImageFile("sha256:" + "b" * 64, "d" * 64, 500)
PRESENT = {f.digest: ArtifactRecord(present=True) for f in (CODE, WEIGHTS)}
POLICY = Policy(parallel_flash=2, parallel_probe=3, parallel_fetch=2, verify_s=60)


def a_device(name: str = "a", address: str | None = "serial:///dev/a") -> DesiredDevice:
    return DesiredDevice(name, "line", address, "posix", CODE, WEIGHTS)


def desired(*devices: DesiredDevice, suspended: bool = False) -> Desired:
    return Desired(1, (), {d.name: d for d in devices or (a_device(),)}, suspended)


def seen(pair: Pair | None = None, *, ago: float = 1.0, cls: str = "posix") -> Seen:
    return Seen(NOW - ago, "serial:///dev/a", cls, pair)


def trouble(state: State, reason: Reason, *, retry_in: float, attempts: int = 1) -> Trouble:
    return Trouble(state, reason, "why", a_device().target, attempts, NOW + retry_in)


def decided(
    record: Record | None = None,
    *,
    job: Job | None = None,
    artifacts: dict[str, ArtifactRecord] | None = None,
    device: DesiredDevice | None = None,
    suspended: bool = False,
) -> tuple[State, Reason | None, list[type[Action]], float | None]:
    """Return state, reason, kinds of actions and the wait until the next look, of one device."""
    device = device or a_device()
    decision = decide(
        desired(device, suspended=suspended),
        Observed(
            records={} if record is None else {"a": record},
            jobs={} if job is None else {"a": job},
            artifacts=PRESENT if artifacts is None else artifacts,
        ),
        NOW,
        POLICY,
    )
    view = decision.views["a"]
    wait = None if decision.wake_at is None else decision.wake_at - NOW
    return view.state, view.reason, [type(a) for a in decision.actions], wait


RUNS = a_device().pair
OTHER = Pair("e" * 64, "f" * 64)
OFFLINE = trouble(State.OFFLINE, Reason.DEVICE_OFFLINE, retry_in=5)
NOT_ACTIVATED = trouble(State.FAILED, Reason.NOT_ACTIVATED, retry_in=5)


def test_a_device_never_seen_is_looked_at() -> None:
    assert decided() == (State.PENDING, None, [Probe], None)


def test_a_device_that_runs_the_pair_is_running_and_looked_at_again_later() -> None:
    assert decided(Record(seen(RUNS, ago=10))) == (State.RUNNING, None, [], 50)


def test_a_running_device_is_looked_at_when_the_verify_interval_is_over() -> None:
    assert decided(Record(seen(RUNS, ago=60))) == (State.RUNNING, None, [Probe], None)


def test_a_device_with_another_pair_is_flashed_and_updating() -> None:
    assert decided(Record(seen(OTHER))) == (State.UPDATING, None, [Flash], None)


def test_a_factory_device_without_weights_is_flashed() -> None:
    assert decided(Record(seen(None)))[2] == [Flash]


def test_what_was_seen_at_another_address_does_not_count() -> None:
    moved = replace(seen(RUNS), address="serial:///dev/b")
    assert decided(Record(moved)) == (State.PENDING, None, [Probe], None)


def test_a_device_of_another_class_fails_and_is_never_flashed() -> None:
    state, reason, actions, wait = decided(Record(seen(OTHER, cls="stm32f405")))
    assert (state, reason, actions, wait) == (
        State.FAILED,
        Reason.DEVICE_CLASS_MISMATCH,
        [],
        59,
    )


def test_a_class_mismatch_names_both_classes() -> None:
    record = Record(seen(OTHER, cls="stm32f405"))
    decision = decide(desired(), Observed(records={"a": record}), NOW, POLICY)
    assert "'stm32f405'" in decision.views["a"].message
    assert "'posix'" in decision.views["a"].message


def test_a_device_that_the_gateway_does_not_list_fails_without_being_touched() -> None:
    state, reason, actions, _ = decided(device=a_device(address=None))
    assert (state, reason, actions) == (State.FAILED, Reason.DEVICE_UNKNOWN, [])


def test_missing_artifacts_are_fetched_and_the_device_waits() -> None:
    assert decided(Record(seen(OTHER)), artifacts={}) == (State.PENDING, None, [Fetch, Fetch], 59)


def test_artifacts_on_their_way_are_not_fetched_twice() -> None:
    coming = {digest: ArtifactRecord(fetching=True) for digest in PRESENT}
    assert decided(Record(seen(OTHER)), artifacts=coming)[2] == []


def test_an_artifact_is_fetched_once_for_many_devices() -> None:
    devices = [replace(a_device(n), address="serial:///dev/a") for n in "abcdef"]
    records = {d.name: Record(seen(OTHER)) for d in devices}
    actions = decide(desired(*devices), Observed(records=records), NOW, POLICY).actions
    assert sorted(a.artifact.digest for a in actions if isinstance(a, Fetch)) == sorted(PRESENT)


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (Reason.DIGEST_MISMATCH, State.FAILED),
        (Reason.ARTIFACT_UNAVAILABLE, State.PENDING),
    ],
)
def test_a_failed_download_is_said_and_retried_later(reason: Reason, state: State) -> None:
    failed = PRESENT | {CODE.digest: ArtifactRecord(reason=reason, message="why", retry_at=NOW + 7)}
    assert decided(Record(seen(OTHER)), artifacts=failed) == (state, reason, [], 7)


def test_a_failed_download_is_retried_when_its_time_has_come() -> None:
    failed = PRESENT | {
        CODE.digest: ArtifactRecord(reason=Reason.DIGEST_MISMATCH, message="", retry_at=NOW)
    }
    assert decided(Record(seen(OTHER)), artifacts=failed)[2] == [Fetch]


def test_an_offline_device_waits_for_its_retry_time() -> None:
    record = Record(seen(RUNS), OFFLINE)
    assert decided(record) == (State.OFFLINE, Reason.DEVICE_OFFLINE, [], 5)


def test_an_offline_device_stays_offline_while_it_is_looked_at() -> None:
    due = replace(OFFLINE, retry_at=NOW)
    job = Job(Work.PROBE, a_device().target)
    assert decided(Record(None, due))[:3] == (State.OFFLINE, Reason.DEVICE_OFFLINE, [Probe])
    assert decided(Record(None, due), job=job)[:3] == (State.OFFLINE, Reason.DEVICE_OFFLINE, [])


def test_after_a_failure_the_device_is_looked_at_before_it_is_flashed_again() -> None:
    due = replace(NOT_ACTIVATED, retry_at=NOW - 1)
    assert decided(Record(seen(OTHER, ago=5), due))[2] == [Probe]
    assert decided(Record(seen(OTHER, ago=0.5), due))[2] == [Flash]


def test_a_pair_that_was_refused_is_uploaded_afresh() -> None:
    due = replace(NOT_ACTIVATED, retry_at=NOW - 1)
    observed = Observed(records={"a": Record(seen(OTHER, ago=0.5), due)}, artifacts=PRESENT)
    assert decide(desired(), observed, NOW, POLICY).actions == (Flash(a_device(), afresh=True),)


def test_a_failure_of_an_older_wish_does_not_count() -> None:
    old = replace(NOT_ACTIVATED, target="another")
    assert decided(Record(seen(OTHER), old)) == (State.UPDATING, None, [Flash], None)


def test_a_job_in_hand_is_left_alone() -> None:
    job = Job(Work.FLASH, a_device().target)
    assert decided(Record(seen(OTHER)), job=job) == (State.UPDATING, None, [], None)


def test_a_job_for_an_older_wish_is_stopped() -> None:
    assert decided(Record(seen(OTHER)), job=Job(Work.FLASH, "another"))[2] == [Cancel]


def test_a_job_on_a_device_that_nobody_names_is_stopped() -> None:
    job = {"gone": Job(Work.FLASH, "x")}
    assert decide(desired(), Observed(jobs=job), NOW, POLICY).actions[0] == Cancel("gone")


def test_what_waits_in_a_slot_and_is_not_wanted_is_overwritten_while_the_device_runs() -> None:
    leftover = replace(seen(RUNS), waiting=Pair("", OTHER.weights))
    assert decided(Record(leftover))[:3] == (State.RUNNING, None, [Flash])
    harmless = replace(seen(RUNS), waiting=Pair(RUNS.code, ""))
    assert decided(Record(harmless))[:3] == (State.RUNNING, None, [])


def test_a_suspended_gateway_looks_but_does_not_flash() -> None:
    assert decided(Record(seen(OTHER)), suspended=True)[:3] == (State.PENDING, None, [])
    assert decided(suspended=True)[2] == [Probe]


def many(count: int, record: Record) -> Decision:
    devices = [replace(a_device(f"d{i}"), address="serial:///dev/a") for i in range(count)]
    records = {d.name: record for d in devices}
    return decide(desired(*devices), Observed(records=records, artifacts=PRESENT), NOW, POLICY)


def test_no_more_devices_are_flashed_at_once_than_the_limit() -> None:
    decision = many(10, Record(seen(OTHER)))
    states = [v.state for v in decision.views.values()]
    assert len(decision.actions) == POLICY.parallel_flash
    assert states.count(State.UPDATING) == POLICY.parallel_flash
    assert states.count(State.PENDING) == 8


def test_no_more_devices_are_looked_at_at_once_than_the_limit() -> None:
    assert len(many(10, Record()).actions) == POLICY.parallel_probe


def test_jobs_in_hand_use_up_the_limit() -> None:
    devices = [replace(a_device(f"d{i}"), address="serial:///dev/a") for i in range(5)]
    busy = {d.name: Job(Work.FLASH, d.target) for d in devices[:2]}
    records = {d.name: Record(seen(OTHER)) for d in devices}
    observed = Observed(records=records, jobs=busy, artifacts=PRESENT)
    assert decide(desired(*devices), observed, NOW, POLICY).actions == ()


def test_devices_that_failed_less_often_come_first() -> None:
    bad, good = a_device("bad"), replace(a_device("good"), address="serial:///dev/a")
    due = replace(NOT_ACTIVATED, attempts=9, retry_at=NOW - 1, target=bad.target)
    records = {"bad": Record(seen(OTHER, ago=0), due), "good": Record(seen(OTHER))}
    policy = replace(POLICY, parallel_flash=1)
    observed = Observed(records=records, artifacts=PRESENT)
    actions = decide(desired(bad, good), observed, NOW, policy).actions
    assert actions == (Flash(good, afresh=False),)


def test_nothing_wanted_means_nothing_done() -> None:
    assert decide(Desired(1, (), {}), Observed(), NOW, POLICY) == Decision({}, (), None)


HOUR = 3600.0


def test_no_back_off_is_longer_than_the_longest_wait() -> None:
    assert Pace().longest_s <= Policy().longest_wait_s


def test_a_look_from_before_the_clock_was_set_back_is_repeated_at_once() -> None:
    assert decided(Record(seen(RUNS, ago=-HOUR))) == (State.RUNNING, None, [Probe], None)


def test_a_retry_from_before_the_clock_was_set_back_does_not_wait_for_the_old_time() -> None:
    offline = trouble(State.OFFLINE, Reason.DEVICE_OFFLINE, retry_in=HOUR)
    refused = trouble(State.FAILED, Reason.NOT_ACTIVATED, retry_in=HOUR)
    assert decided(Record(None, offline))[2] == [Probe]
    assert decided(Record(seen(OTHER), refused))[2] == [Flash]


def test_a_fetch_from_before_the_clock_was_set_back_is_begun_at_once() -> None:
    broken = ArtifactRecord(reason=Reason.ARTIFACT_UNAVAILABLE, message="why", retry_at=NOW + HOUR)
    artifacts = {**PRESENT, CODE.digest: broken}
    assert decided(Record(seen(OTHER)), artifacts=artifacts)[2] == [Fetch]
