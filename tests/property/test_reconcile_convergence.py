"""The operator dies before or after any of its writes, and still comes to the same end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tinyml_kube.cluster import Ref
from tinyml_kube.resources import EDGE_GATEWAY, GATEWAY_DEPLOYMENT, MODEL_BUILD, TINY_MODEL
from tinyml_operator.shell import FIELD_MANAGER

from tests.support.operator_world import (
    KillError,
    World,
    a_gateway,
    a_group,
    a_tiny_model,
)

# What tells of the way, not of the end: a death may spare a write or cost an attempt.
HISTORY = ("conditions", "startTime", "completionTime", "attempts", "job", "observedGeneration")


class Assassin:
    """Kills at the given writes of the operator, counted from 0; once each."""

    def __init__(self, *moments: int) -> None:
        self.moments = set(moments)
        self.count = 0
        self.armed = False
        self.killed = 0

    def __call__(self, verb: str, ref: Ref) -> None:
        if not self.armed:
            return
        moment, self.count = self.count, self.count + 1
        if moment in self.moments:
            self.moments.discard(moment)
            self.killed += 1
            raise KillError(f"{verb} {ref.resource.kind} {ref.name}")


async def a_world(assassin: Assassin) -> World:
    world = World()
    await world.classes("posix", "mps2-an386")
    await world.add(
        a_gateway("site", a_group("a"), a_group("b", "mps2-an386")), a_tiny_model("first")
    )
    world.clock.pass_by(5)
    await world.add(a_tiny_model("second"))
    world.cluster.hook = assassin
    return world


async def live(world: World, assassin: Assassin) -> None:
    """Reconcile to the end; at each death a new process starts from nothing."""
    for _ in range(40):
        before = len(world.cluster.writes), assassin.killed
        assassin.armed = True
        try:
            await world.reconcile_all()
        except KillError:
            world.restart()
        finally:
            assassin.armed = False
        await world.run_jobs()
        await world.run_agents()
        world.clock.pass_by(1)
        if (len(world.cluster.writes), assassin.killed) == before:
            return
    raise AssertionError("it does not come to an end")


async def the_end(world: World) -> dict[str, Any]:
    """What must be the same however often it died. Times and retries may differ."""
    end: dict[str, Any] = {"built": sorted(world.built)}
    for resource in (TINY_MODEL, EDGE_GATEWAY, MODEL_BUILD, GATEWAY_DEPLOYMENT):
        for obj in await world.cluster.list(resource):
            status = dict(obj.get("status") or {})
            conditions = status.get("conditions", [])
            for name in HISTORY:
                status.pop(name, None)
            kinds = {c["type"]: (c["status"], c["reason"], c["message"]) for c in conditions}
            spec = obj["spec"]
            end[f"{resource.kind}/{obj['metadata']['name']}"] = (spec, status, kinds)
    return end


async def undisturbed() -> tuple[dict[str, Any], int]:
    nobody = Assassin()
    world = await a_world(nobody)
    await live(world, nobody)
    return await the_end(world), nobody.count


async def test_the_undisturbed_end_is_the_right_one() -> None:
    end, writes = await undisturbed()
    assert end["TinyModel/first"][2]["Ready"][0] == "True"
    assert end["TinyModel/second"][2]["Ready"][1] == "DevicesContested"
    assert len(end["built"]) == 2
    assert writes > 30
    assert FIELD_MANAGER == "tinyml-operator"


async def test_a_death_before_or_after_any_single_write_changes_nothing_in_the_end() -> None:
    expected, writes = await undisturbed()
    for moment in range(writes):
        assassin = Assassin(moment)
        world = await a_world(assassin)
        await live(world, assassin)
        assert assassin.killed == 1, f"moment {moment} never came"
        assert await the_end(world) == expected, f"killed at {moment}"


@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(moments=st.sets(st.integers(0, 60), min_size=2, max_size=12))
def test_many_deaths_change_nothing_in_the_end(moments: set[int]) -> None:
    async def check() -> None:
        expected, _ = await undisturbed()
        assassin = Assassin(*moments)
        world = await a_world(assassin)
        await live(world, assassin)
        assert await the_end(world) == expected

    asyncio.run(check())


@pytest.mark.parametrize("rounds", range(1, 7))
async def test_statuses_wiped_at_any_stage_come_back(rounds: int) -> None:
    expected, _ = await undisturbed()
    nobody = Assassin()
    world = await a_world(nobody)
    for _ in range(rounds):
        await world.reconcile_all()
        await world.wipe_statuses()
        await world.run_jobs()
        await world.wipe_statuses()
        world.restart()
    await live(world, nobody)
    assert await the_end(world) == expected
