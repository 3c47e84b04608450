"""Wish in, status out: the objects of the cluster, by values alone."""

from __future__ import annotations

import json
from typing import Any

from tinyml_api.gatewaydeployment import DeviceState as State
from tinyml_gateway.desired import NOTHING, read_desired
from tinyml_gateway.errors import Reason
from tinyml_gateway.report import is_published, micro_timestamp, status_of, timestamp
from tinyml_gateway.rollout import Decision, Desired, DesiredGroup, View

FILE = {"digest": "sha256:" + "a" * 64, "imageHash": "c" * 64, "sizeBytes": 10}
DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "g", "generation": 3},
    "spec": {
        "gateway": "g",
        "images": [
            {
                "name": "m-1",
                "tinyModel": "digits",
                "revision": "digits-1",
                "build": "mb-1",
                "deviceClass": "posix",
                "code": FILE,
                "weights": FILE,
            }
        ],
        "groups": [{"image": "m-1", "deviceGroup": "line", "devices": ["a", "b"]}],
    },
}
EDGE: dict[str, Any] = {
    "spec": {
        "deviceGroups": [
            {"name": "line", "deviceClass": "posix", "devices": {"a": "serial:///dev/a"}},
            {"name": "hall", "deviceClass": "posix", "devices": {"b": "serial:///dev/b"}},
        ]
    }
}


def test_a_wish_joins_images_with_the_addresses_of_the_same_group() -> None:
    desired = read_desired(DEPLOYMENT, EDGE)
    assert desired.generation == 3
    assert desired.groups == (DesiredGroup("m-1", ("a", "b")),)
    assert desired.devices["a"].address == "serial:///dev/a"
    assert desired.devices["b"].address is None, "it is in another group"
    assert desired.devices["a"].code.size_bytes == 10


def test_without_a_deployment_nothing_is_wanted() -> None:
    assert read_desired(None, EDGE) == NOTHING


def test_without_an_edge_gateway_no_device_has_an_address() -> None:
    assert read_desired(DEPLOYMENT, None).devices["a"].address is None


def test_a_group_whose_image_is_not_listed_is_reported_as_pending() -> None:
    broken = DEPLOYMENT | {"spec": DEPLOYMENT["spec"] | {"images": []}}
    desired = read_desired(broken, EDGE)
    assert desired.devices == {}
    assert status_of(desired, Decision({}, (), None)).groups[0].states == "PP"


def views(**states: View) -> Decision:
    return Decision(states, (), None)


def test_letters_follow_the_order_of_the_spec() -> None:
    desired = Desired(3, (DesiredGroup("m", ("b", "a", "c")), DesiredGroup("n", ("d",))), {})
    decision = views(
        a=View(State.RUNNING), b=View(State.UPDATING), c=View(State.PENDING), d=View(State.OFFLINE)
    )
    assert [(g.image, g.states) for g in status_of(desired, decision).groups] == [
        ("m", "URP"),
        ("n", "O"),
    ]


def test_the_worst_failures_come_first_and_are_at_most_fifty() -> None:
    offline = {f"o{i}": View(State.OFFLINE, Reason.DEVICE_OFFLINE, "away") for i in range(60)}
    failed = {"f": View(State.FAILED, Reason.NOT_ACTIVATED, "refused")}
    failures = status_of(Desired(1, (), {}), views(**offline, **failed)).failures
    assert len(failures) == 50
    assert (failures[0].device, failures[0].reason) == ("f", "NotActivated")


def test_a_running_device_is_no_failure_even_if_its_port_is_busy() -> None:
    busy = views(a=View(State.RUNNING, Reason.DEVICE_BUSY, "held"))
    assert status_of(Desired(1, (), {}), busy).failures == ()


def test_five_hundred_devices_with_fifty_long_failures_fit_into_32_kib() -> None:
    names = tuple(f"device-{i:024d}" for i in range(500))
    states = {n: View(State.FAILED, Reason.DEVICE_CLASS_MISMATCH, "x" * 2000) for n in names}
    status = status_of(Desired(1, (DesiredGroup("m", names),), {}), views(**states))
    spec = {"groups": [{"image": "m", "deviceGroup": "line", "devices": names}]}
    assert len(json.dumps({"spec": spec, "status": status.to_dict()})) < 36_000
    assert len(json.dumps(status.to_dict())) < 20_000


def test_a_status_is_published_when_only_its_time_differs() -> None:
    status = status_of(Desired(3, (DesiredGroup("m", ("a",)),), {}), views(a=View(State.RUNNING)))
    written = status.to_dict() | {"lastReportTime": "2026-01-01T00:00:00Z"}
    assert is_published(status, {"status": written})
    assert not is_published(status, {"status": None})
    assert not is_published(status, {"status": written | {"observedGeneration": 2}})


def test_times_are_written_as_kubernetes_writes_them() -> None:
    assert timestamp(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert micro_timestamp(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"
