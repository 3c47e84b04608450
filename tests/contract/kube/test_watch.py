"""A watch tells every change once, from where it was asked to begin."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from .kube import AS_TABLE, Kube, config_map, config_maps, eventually, widget, widgets


def _labelled(name: str, team: str) -> dict[str, object]:
    body = widget(name)
    body["metadata"]["labels"] = {"team": team}
    return body


def _first(kube: Kube, namespace: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the first two events of a watch, or nothing where it ends before."""
    with kube.watch(widgets(namespace), **query) as events:
        found = list(islice(events, 2))
    return found if len(found) == 2 else []


def test_a_watch_goes_on_from_a_list(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("before"))
    version = kube.get(widgets(namespace))["metadata"]["resourceVersion"]
    kube.create(widgets(namespace), widget("a"))
    with kube.watch(widgets(namespace), resourceVersion=version) as events:
        first = next(events)
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")
        kube.merge(widgets(namespace, "a"), {"spec": {"size": 2}})
        second = next(events)
        assert (second["type"], second["object"]["spec"]["size"]) == ("MODIFIED", 2)
        kube.delete(widgets(namespace, "a"))
        third = next(events)
        assert (third["type"], third["object"]["metadata"]["name"]) == ("DELETED", "a")
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in (first, second, third)]
    assert int(version) < versions[0] < versions[1] < versions[2]


def test_a_watch_from_an_objects_version_tells_what_came_later(kube: Kube, namespace: str) -> None:
    made = kube.create(widgets(namespace), widget("a"))
    kube.merge(widgets(namespace, "a"), {"spec": {"size": 2}})
    version = made["metadata"]["resourceVersion"]
    with kube.watch(widgets(namespace), resourceVersion=version) as events:
        event = next(events)
    assert (event["type"], event["object"]["spec"]["size"]) == ("MODIFIED", 2)


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}], ids=["none", "zero"])
def test_a_watch_from_nowhere_begins_with_what_is_there(
    kube: Kube, namespace: str, query: dict[str, Any]
) -> None:
    kube.create(widgets(namespace), widget("a"))
    kube.create(widgets(namespace), widget("b"))
    found = eventually(lambda: _first(kube, namespace, query), "two events")
    assert {e["type"] for e in found} == {"ADDED"}
    assert {e["object"]["metadata"]["name"] for e in found} == {"a", "b"}


def test_objects_enter_and_leave_a_selective_watch(kube: Kube, namespace: str) -> None:
    version = kube.get(widgets(namespace))["metadata"]["resourceVersion"]
    kube.create(widgets(namespace), _labelled("a", "other"))
    kube.merge(widgets(namespace, "a"), {"metadata": {"labels": {"team": "mine"}}})
    kube.merge(widgets(namespace, "a"), {"spec": {"size": 2}})
    kube.merge(widgets(namespace, "a"), {"metadata": {"labels": {"team": "other"}}})
    query = {"resourceVersion": version, "labelSelector": "team=mine"}
    with kube.watch(widgets(namespace), **query) as events:
        types = [next(events)["type"] for _ in range(3)]
    assert types == ["ADDED", "MODIFIED", "DELETED"]


def test_a_watch_of_one_object_hears_of_no_other(kube: Kube, namespace: str) -> None:
    version = kube.get(widgets(namespace))["metadata"]["resourceVersion"]
    kube.create(widgets(namespace), widget("a"))
    kube.create(widgets(namespace), widget("b"))
    query = {"resourceVersion": version, "fieldSelector": "metadata.name=b"}
    with kube.watch(widgets(namespace), **query) as events:
        assert next(events)["object"]["metadata"]["name"] == "b"


def test_a_watch_of_one_namespace_hears_of_no_other(kube: Kube, namespace: str) -> None:
    version = kube.get(config_maps(namespace))["metadata"]["resourceVersion"]
    kube.create(config_maps("default"), config_map(f"c-{namespace}"))
    kube.create(config_maps(namespace), config_map("mine"))
    with kube.watch(config_maps(namespace), resourceVersion=version) as events:
        names = {next(events)["object"]["metadata"]["namespace"]}
    kube.delete(config_maps("default", f"c-{namespace}"))
    assert names == {namespace}


def test_a_watch_ends_in_time_and_can_be_gone_on_from(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    version = kube.get(widgets(namespace))["metadata"]["resourceVersion"]
    query = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": 3}
    with kube.watch(widgets(namespace), **query) as events:
        found = list(events)
    assert all(e["type"] == "BOOKMARK" for e in found)
    # A server may send bookmarks when it likes; those that it sends can be gone on from.
    at = found[-1]["object"]["metadata"]["resourceVersion"] if found else version
    heads = {(e["object"]["kind"], e["object"]["apiVersion"]) for e in found}
    assert heads <= {("Widget", "contract.tinymlaas.dev/v1")}
    kube.create(widgets(namespace), widget("b"))
    with kube.watch(widgets(namespace), resourceVersion=at) as events:
        assert next(events)["object"]["metadata"]["name"] == "b"


def test_a_watch_can_be_of_tables(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    headers = {"Accept": AS_TABLE}
    kube.session.headers.update(headers)
    try:
        with kube.watch(widgets(namespace)) as events:
            event = next(events)
    finally:
        del kube.session.headers["Accept"]
    assert (event["type"], event["object"]["kind"]) == ("ADDED", "Table")
    assert event["object"]["rows"][0]["cells"][:2] == ["a", 1]


def test_many_objects_are_listed_and_watched(kube: Kube, namespace: str) -> None:
    version = kube.get(config_maps(namespace))["metadata"]["resourceVersion"]
    for i in range(300):
        kube.create(config_maps(namespace), config_map(f"c{i}", k="v" * 100))
    with kube.watch(config_maps(namespace), resourceVersion=version) as events:
        names = [next(events)["object"]["metadata"]["name"] for _ in range(300)]
    assert {n for n in names if n != "kube-root-ca.crt"} <= {f"c{i}" for i in range(300)}
    listed = [o["metadata"]["name"] for o in kube.get(config_maps(namespace))["items"]]
    assert {f"c{i}" for i in range(300)} <= set(listed)
    assert kube.request("DELETE", config_maps(namespace)).code == 200
    eventually(
        lambda: (
            not [
                o
                for o in kube.get(config_maps(namespace))["items"]
                if o["metadata"]["name"].startswith("c")
            ]
        ),
        "all go",
    )
