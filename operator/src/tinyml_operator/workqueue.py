"""The operator's bell and its workers: which object is looked at, when, and never twice at once.

Whatever happens only rings a key; a worker then reconciles that object from what is there. Rings
that come while a key waits are one ring; rings that come while it is worked on are worked on
after it. A pass that raises is tried again with back-off. Nothing here must survive a restart.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tinyml_kube.errors import ClusterError

log = logging.getLogger(__name__)

GATHER_S = 0.05  # rings of one burst become one pass
FIRST_RETRY_S = 0.5
MOST_RETRY_S = 60.0
PASS_LIMIT_S = 300.0  # a pass that hangs must not keep its worker for ever


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One object to look at. `name` may be empty where `kind` means something wider."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


Reconcile = Callable[[Key], Awaitable[float | None]]


class WorkQueue:
    """Calls `reconcile(key)`, which returns seconds after which to look again, or None."""

    def __init__(
        self, reconcile: Reconcile, *, on_error: Callable[[Key, Exception], None] = lambda *_: None
    ) -> None:
        self._reconcile = reconcile
        self._on_error = on_error
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._busy: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()

    def ring(self, key: Key, *, after_s: float = GATHER_S) -> None:
        """Look at `key` after this time, or earlier if it is due earlier already."""
        due = asyncio.get_running_loop().time() + after_s
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))
            self._wake.set()

    @property
    def depth(self) -> int:
        """Return how many keys are due now or being worked on."""
        now = asyncio.get_running_loop().time()
        return sum(due <= now for due in self._due.values()) + len(self._busy)

    async def run(self, workers: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._next()
            self._busy.add(key)
            try:
                await self._once(key)
            finally:
                self._busy.discard(key)
                self._wake.set()

    async def _once(self, key: Key) -> None:
        try:
            async with asyncio.timeout(PASS_LIMIT_S):
                again_s = await self._reconcile(key)
        except Exception as error:  # the outermost loop: a pass must not end the operator
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            wait_s = min(FIRST_RETRY_S * 2 ** (failures - 1), MOST_RETRY_S)
            expected = isinstance(error, ClusterError)
            log.log(
                logging.WARNING if expected else logging.ERROR,
                "pass failed key=%s failures=%d retry_s=%.1f error=%s",
                key,
                failures,
                wait_s,
                error,
                exc_info=not expected,
            )
            self._on_error(key, error)
            self.ring(key, after_s=wait_s * random.uniform(0.8, 1.2))
        else:
            self._failures.pop(key, None)
            if again_s is not None:
                self.ring(key, after_s=again_s)

    async def _next(self) -> Key:
        """Return the next key that is due and that nobody works on."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            later: list[tuple[float, Key]] = []
            found: Key | None = None
            while self._heap and self._heap[0][0] <= loop.time():
                due, key = heapq.heappop(self._heap)
                if self._due.get(key) != due:
                    continue  # rung for an earlier time since
                if key in self._busy:
                    later.append((due, key))
                    continue
                found = key
                break
            for entry in later:
                heapq.heappush(self._heap, entry)
            if found is not None:
                del self._due[found]
                self._wake.set()  # another worker may have work too
                return found
            await self._sleep(loop)

    async def _sleep(self, loop: asyncio.AbstractEventLoop) -> None:
        free = [due for due, key in self._heap if key not in self._busy]
        timeout = max(min(free) - loop.time(), 0.0) if free else None
        try:
            async with asyncio.timeout(timeout):  # wait_for loses cancellations in 3.11
                await self._wake.wait()
        except TimeoutError:
            return
