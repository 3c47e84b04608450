"""The store: versions, a window of history, and a thousand objects."""

from __future__ import annotations

import time

import pytest
from tinyml_local.kubeapi.errors import ApiError
from tinyml_local.kubeapi.store import Store

from .harness import OPTIONS, a_registry, kind, named

KEY = ("example.com", "things")


def _put(store: Store, name: str, **rest: object) -> None:
    store.put(KEY, ("ns", name), {"metadata": {"name": name, "namespace": "ns"}, **rest})


def test_every_write_has_a_version_of_its_own() -> None:
    store = Store()
    _put(store, "a")
    first = store.version
    _put(store, "b")
    assert store.version == first + 1
    store.remove(KEY, ("ns", "a"))
    assert [c.type for c in store.since(KEY, 1)] == ["ADDED", "ADDED", "DELETED"]


def test_a_version_that_is_forgotten_is_expired() -> None:
    store = Store(window=3)
    start = store.version
    for i in range(5):
        _put(store, f"o{i}")
    with pytest.raises(ApiError) as caught:
        store.since(KEY, start)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    assert len(store.since(KEY, store.version - 3)) == 3


def test_an_object_that_was_read_never_changes() -> None:
    registry = a_registry()
    config_maps = kind(registry, "configmaps")
    made = registry.create(config_maps, "ns", named("c", data={"k": "1"}), OPTIONS)
    registry.patch(config_maps, "ns", "c", lambda o: {**o, "data": {"k": "2"}}, OPTIONS)
    assert made["data"] == {"k": "1"}


def test_a_thousand_objects_are_written_and_listed_in_seconds() -> None:
    registry = a_registry()
    config_maps = kind(registry, "configmaps")
    begin = time.process_time()
    for i in range(1000):
        registry.create(config_maps, "ns", named(f"c{i}", data={"k": "v" * 100}), OPTIONS)
    assert len(registry.store.items(config_maps.key, "ns")) == 1000
    assert len(registry.store.since(config_maps.key, 0)) == 1000
    assert time.process_time() - begin < 5.0
