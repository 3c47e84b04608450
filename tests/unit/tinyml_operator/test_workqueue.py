"""The work queue: rings are joined, one pass at a time, errors are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest
from tinyml_kube.errors import UnavailableError
from tinyml_operator.workqueue import Key, WorkQueue

A, B = Key("Kind", "ns", "a"), Key("Kind", "ns", "b")


@asynccontextmanager
async def running(queue: WorkQueue, workers: int = 2) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run(workers))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_burst_of_rings_is_one_pass() -> None:
    seen: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        seen.append(key)
        return None

    queue = WorkQueue(reconcile)
    for _ in range(50):
        queue.ring(A)
        queue.ring(B)
    async with running(queue):
        await asyncio.sleep(0.15)
    assert sorted(seen) == [A, B]
    assert queue.depth == 0


async def test_a_key_is_never_worked_on_twice_at_once_and_a_ring_meanwhile_is_not_lost() -> None:
    active, most, passes = 0, 0, 0

    async def reconcile(key: Key) -> float | None:
        nonlocal active, most, passes
        active, passes = active + 1, passes + 1
        most = max(most, active)
        if passes == 1:
            queue.ring(key, after_s=0)
        await asyncio.sleep(0.05)
        active -= 1
        return None

    queue = WorkQueue(reconcile)
    queue.ring(A, after_s=0)
    async with running(queue, 4):
        await asyncio.sleep(0.3)
    assert (most, passes) == (1, 2)


async def test_different_keys_are_worked_on_together() -> None:
    meet = asyncio.Barrier(2)

    async def reconcile(key: Key) -> float | None:
        await asyncio.wait_for(meet.wait(), 2)
        return None

    queue = WorkQueue(reconcile)
    queue.ring(A, after_s=0)
    queue.ring(B, after_s=0)
    async with running(queue, 2):
        await asyncio.sleep(0.2)
    assert meet.n_waiting == 0
    assert queue.depth == 0


@pytest.mark.parametrize("error", [UnavailableError("away"), ValueError("a bug")])
async def test_a_pass_that_raises_is_tried_again_with_back_off(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyml_operator.workqueue.FIRST_RETRY_S", 0.01)
    tries: list[float] = []
    failed: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        tries.append(asyncio.get_running_loop().time())
        if len(tries) < 4:
            raise error
        return None

    queue = WorkQueue(reconcile, on_error=lambda key, _: failed.append(key))
    queue.ring(A, after_s=0)
    async with running(queue):
        await asyncio.sleep(0.3)
    assert len(tries) == 4
    assert failed == [A, A, A]
    gaps = [b - a for a, b in pairwise(tries)]
    assert gaps[2] > gaps[0]


async def test_a_pass_may_ask_to_be_called_again() -> None:
    count = 0

    async def reconcile(key: Key) -> float | None:
        nonlocal count
        count += 1
        return 0.02 if count < 3 else None

    queue = WorkQueue(reconcile)
    queue.ring(A, after_s=0)
    async with running(queue):
        await asyncio.sleep(0.3)
    assert count == 3


async def test_an_earlier_ring_wins_over_a_later_one() -> None:
    seen: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        seen.append(key)
        return None

    queue = WorkQueue(reconcile)
    queue.ring(A, after_s=30)
    queue.ring(A, after_s=0)
    queue.ring(A, after_s=60)
    async with running(queue):
        await asyncio.sleep(0.1)
    assert seen == [A]
