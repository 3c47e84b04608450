"""Child processes of the local environment: started, logged, started anew when they die, always
ended.

Called by `environment` and `edge`. A child dies with its parent even if that is killed
(PR_SET_PDEATHSIG), so nothing outlives `tinyml up`.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

RESTART_FIRST_S = 0.5
RESTART_LIMIT_S = 10.0
STOP_GRACE_S = 8.0


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class ProcessFailedError(Exception):
    """A command of the environment ended with an error; the message has its last lines."""


async def run(argv: Sequence[str], *, env: Mapping[str, str], log: Path, timeout_s: float) -> None:
    """Run a command to its end, its output appended to `log`. Raises ProcessFailedError."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = await _spawn(argv, env, out)
        try:
            async with asyncio.timeout(timeout_s):  # asyncio.wait_for loses cancellations in 3.11
                code = await process.wait()
        except TimeoutError:
            raise ProcessFailedError(
                f"{_shown(argv)} took longer than {timeout_s:.0f} s, see {log}"
            ) from None
        finally:
            await _end(process)
    if code != 0:
        text = await asyncio.to_thread(log.read_text, errors="replace")
        tail = text.strip().splitlines()[-8:]
        free = shutil.disk_usage(log.parent).free
        said = "\n".join(tail) or f"it wrote nothing, and {free:,} bytes are free in {log.parent}"
        raise ProcessFailedError(f"{_shown(argv)} ended with status {code}, see {log}:\n{said}")


def _shown(argv: Sequence[str]) -> str:
    """The command without its interpreter and without most of its options."""
    return " ".join(argv[1:5])


class Supervised:
    """One long-running child: started anew with back-off whenever it ends, until `stop`."""

    def __init__(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.restarts = 0
        self._argv = tuple(argv)
        self._env = dict(env)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running child, None between two lives."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._task = asyncio.create_task(self._keep(), name=f"supervise {self.name}")

    async def stop(self) -> None:
        """End the child (SIGTERM, then SIGKILL to its whole group) and do not start it again."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _keep(self) -> None:
        delay = RESTART_FIRST_S
        while True:
            loop = asyncio.get_running_loop()
            started = loop.time()
            with self._log.open("ab") as out:
                self._process = await _spawn(self._argv, self._env, out)
            try:
                code = await self._process.wait()
            finally:
                await _end(self._process)
            if loop.time() - started > RESTART_LIMIT_S:
                delay = RESTART_FIRST_S
            self.restarts += 1
            logger.warning(
                "process ended, starting it anew: name=%s status=%s delay_s=%.1f log=%s",
                self.name,
                code,
                delay,
                self._log,
            )
            await asyncio.sleep(delay)
            delay = min(delay * 2, RESTART_LIMIT_S)


async def _spawn(
    argv: Sequence[str], env: Mapping[str, str], out: IO[bytes]
) -> asyncio.subprocess.Process:
    """Start a child in a session of its own, which ends when this process does."""
    return await asyncio.create_subprocess_exec(
        *argv,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a child and whatever it started (they share its session); returns when it is gone."""
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE_S):
                await process.wait()
    _signal_group(process.pid, signal.SIGKILL)
    if process.returncode is None:
        await process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
