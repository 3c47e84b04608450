"""FakeCluster keeps what callers of the port rely on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tinyml_kube.cluster import Object, Ref
from tinyml_kube.errors import AlreadyExistsError, InvalidError, NotFoundError
from tinyml_kube.fake import FakeCluster
from tinyml_kube.resources import CONFIG_MAP, EDGE_GATEWAY, SERVICE_ACCOUNT, TINY_MODEL, ref_of


def a_map(name: str = "m", **metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "ns", **metadata},
        "data": {"a": "1"},
    }


def a_model(**spec: Any) -> Object:
    return {
        "apiVersion": TINY_MODEL.api_version,
        "kind": "TinyModel",
        "metadata": {"name": "t", "namespace": "ns"},
        "spec": spec,
        "status": {"ignored": True},
    }


async def test_create_gives_identity_and_refuses_a_second() -> None:
    cluster = FakeCluster()
    made = await cluster.create(a_map())
    assert made["metadata"]["uid"]
    assert made["metadata"]["generation"] == 1
    with pytest.raises(AlreadyExistsError):
        await cluster.create(a_map())


async def test_what_is_returned_is_a_copy() -> None:
    cluster = FakeCluster()
    (await cluster.create(a_map()))["data"]["a"] = "2"
    found = await cluster.get(ref_of(a_map()))
    assert found is not None
    assert found["data"] == {"a": "1"}


async def test_status_and_spec_are_written_by_their_own_ways_only() -> None:
    cluster = FakeCluster()
    made = await cluster.create(a_model(x=1))
    assert "status" not in made
    ref = ref_of(made)
    after = await cluster.patch_status(ref, {"ready": True})
    assert after["metadata"]["generation"] == 1
    after = await cluster.patch(ref, {"spec": {"x": 2}, "status": {"ready": False}})
    assert (after["metadata"]["generation"], after["status"]) == (2, {"ready": True})
    assert "status" not in await cluster.patch_status(ref, None)


async def test_applying_the_same_again_changes_nothing() -> None:
    cluster = FakeCluster()
    first = await cluster.apply(a_map(), field_manager="x")
    writes = len(cluster.writes)
    assert await cluster.apply(a_map(), field_manager="x") == first
    assert len(cluster.writes) == writes


async def test_apply_forgets_what_its_manager_stops_sending_and_keeps_what_others_wrote() -> None:
    cluster = FakeCluster()
    await cluster.apply({**a_map(), "data": {"a": "1", "b": "2"}}, field_manager="x")
    await cluster.patch(ref_of(a_map()), {"data": {"c": "3"}})
    after = await cluster.apply({**a_map(), "data": {"b": "2"}}, field_manager="x")
    assert after["data"] == {"b": "2", "c": "3"}


async def test_an_owned_object_goes_with_its_owner_and_finalizers_hold() -> None:
    cluster = FakeCluster()
    owner = await cluster.create(a_map("owner"))
    reference = [{"uid": owner["metadata"]["uid"], "kind": "ConfigMap", "name": "owner"}]
    await cluster.create(a_map("child", ownerReferences=reference))
    await cluster.create(a_map("held", ownerReferences=reference, finalizers=["x"]))
    await cluster.delete(ref_of(owner))
    assert [o["metadata"]["name"] for o in await cluster.list(CONFIG_MAP)] == ["held"]
    held = Ref(CONFIG_MAP, "ns", "held")
    assert "deletionTimestamp" in ((await cluster.get(held)) or {})["metadata"]
    await cluster.patch(held, {"metadata": {"finalizers": None}})
    assert await cluster.get(held) is None


async def test_delete_spares_another_uid_and_the_absent() -> None:
    cluster = FakeCluster()
    made = await cluster.create(a_map())
    await cluster.delete(ref_of(made), uid="another")
    assert await cluster.get(ref_of(made)) is not None
    await cluster.delete(ref_of(made), uid=made["metadata"]["uid"])
    await cluster.delete(ref_of(made))
    assert await cluster.get(ref_of(made)) is None


async def test_lists_select_by_label_name_and_namespace() -> None:
    cluster = FakeCluster()
    await cluster.create(a_map("a", labels={"x": "1", "y": "2"}))
    await cluster.create(a_map("b", labels={"x": "1"}))
    assert len(await cluster.list(CONFIG_MAP, labels={"x": "1"})) == 2
    assert len(await cluster.list(CONFIG_MAP, "ns", labels={"y": "2"})) == 1
    assert len(await cluster.list(CONFIG_MAP, "ns", name="b")) == 1
    assert await cluster.list(CONFIG_MAP, "other") == []


async def test_a_watch_tells_what_is_there_and_then_what_changes() -> None:
    cluster = FakeCluster()
    await cluster.create(a_map("a"))
    watch = cluster.watch(CONFIG_MAP, "ns")
    assert (await anext(watch)).type == "ADDED"

    async def change() -> None:
        await cluster.patch(Ref(CONFIG_MAP, "ns", "a"), {"data": {"a": "2"}})
        await cluster.delete(Ref(CONFIG_MAP, "ns", "a"))

    task = asyncio.create_task(change())
    assert [(await anext(watch)).type for _ in range(2)] == ["MODIFIED", "DELETED"]
    await task


async def test_writes_to_what_is_not_there_say_so() -> None:
    cluster = FakeCluster()
    with pytest.raises(NotFoundError):
        await cluster.patch_status(Ref(EDGE_GATEWAY, "ns", "x"), {})
    with pytest.raises(NotFoundError):
        await cluster.create_token("ns", "nobody", seconds=600)
    with pytest.raises(InvalidError):
        await cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})


async def test_a_token_is_reviewed_as_its_service_account() -> None:
    cluster = FakeCluster()
    account = {
        "apiVersion": "v1",
        "kind": SERVICE_ACCOUNT.kind,
        "metadata": {"name": "a", "namespace": "ns"},
    }
    await cluster.create(account)
    token = await cluster.create_token("ns", "a", seconds=600)
    assert await cluster.review_token(token) == "system:serviceaccount:ns:a"
    assert await cluster.review_token("other") is None
