"""Leases, sweeps, the census, and how large a full gateway's deployment is."""

from __future__ import annotations

import json

from tinyml_kube.cluster import Ref
from tinyml_kube.resources import EDGE_GATEWAY, GATEWAY_DEPLOYMENT, LEASE, TINY_MODEL
from tinyml_operator.shell import SWEEP_KIND
from tinyml_operator.workqueue import Key

from tests.support.operator_world import (
    NAMESPACE,
    World,
    a_gateway,
    a_group,
    a_tiny_model,
)

SWEEP = Key(SWEEP_KIND, "", "")
GATEWAY = Key(EDGE_GATEWAY.kind, NAMESPACE, "site")
MODEL = Key(TINY_MODEL.kind, NAMESPACE, "digits")


async def a_world() -> World:
    world = World()
    await world.classes("posix")
    await world.add(a_gateway(), a_tiny_model())
    await world.settle()
    return world


async def renew(world: World, seconds: int = 40) -> None:
    lease = {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {"name": "tinyml-gateway-site", "namespace": NAMESPACE},
        "spec": {
            "leaseDurationSeconds": seconds,
            "renewTime": world.clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }
    await world.cluster.apply(lease, field_manager="agent")


async def sweep(world: World) -> set[Key]:
    world.due.clear()
    await world.shell.reconcile(SWEEP)
    return set(world.due)


async def test_a_gateway_follows_its_agents_lease_by_sweeps_alone() -> None:
    world = await a_world()
    assert (await world.condition("site", "Ready", EDGE_GATEWAY))["reason"] == "AgentNotSeen"
    assert GATEWAY in await sweep(world), "the first sweep is a full one"
    assert GATEWAY not in await sweep(world)

    await renew(world)
    assert GATEWAY in await sweep(world)
    await world.reconcile_all()
    assert (await world.condition("site", "Ready", EDGE_GATEWAY))["reason"] == "AgentConnected"
    world.clock.pass_by(50)
    assert GATEWAY not in await sweep(world)

    world.clock.pass_by(20)
    assert GATEWAY in await sweep(world)
    await world.reconcile_all()
    silent = await world.condition("site", "Ready", EDGE_GATEWAY)
    assert silent["reason"] == "AgentSilent"
    assert "2026-11-22T10:00:00Z" in silent["message"]

    await renew(world)
    await sweep(world)
    await world.reconcile_all()
    assert (await world.condition("site", "Ready", EDGE_GATEWAY))["status"] == "True"


async def test_a_sweep_rings_what_is_not_ready_and_leaves_the_rest() -> None:
    world = await a_world()
    await sweep(world)
    assert MODEL not in await sweep(world)
    await world.cluster.patch_status(Ref(TINY_MODEL, NAMESPACE, "digits"), None)
    assert MODEL in await sweep(world)


async def test_every_tenth_sweep_looks_at_everything() -> None:
    world = await a_world()
    full = [MODEL in await sweep(world) for _ in range(11)]
    assert full == [True, *([False] * 9), True]


async def test_the_census_counts_models_gateways_and_devices() -> None:
    world = await a_world()
    await sweep(world)
    metrics = world.shell._metrics
    assert metrics.models.labels("True")._value.get() == 1
    assert metrics.devices.labels("running")._value.get() == 2
    assert metrics.gateways.labels("AgentNotSeen")._value.get() == 1


async def test_a_full_gateways_deployment_keeps_the_size_budget() -> None:
    world = World()
    await world.classes("posix")
    groups = [a_group(f"line-{i}-of-the-whole-site", devices=125) for i in range(4)]
    await world.add(a_gateway("site", *groups), a_tiny_model())
    await world.settle()
    deployment = await world.get(GATEWAY_DEPLOYMENT, "site")
    message = "arena needs 71680 bytes, device class has 65536: lower the input size"
    deployment["status"]["failures"] = [
        {"device": f"line-1-of-the-whole-site-{i}", "reason": "UploadFailed", "message": message}
        for i in range(50)
    ]
    assert sum(len(g["devices"]) for g in deployment["spec"]["groups"]) == 500
    assert len(json.dumps(deployment)) <= 32 * 1024
    model = await world.get(TINY_MODEL, "digits")
    assert model["status"]["devices"]["running"] == 500
    assert len(json.dumps(model["status"])) < 4096
