"""Children are started anew when they die, and never outlive who started them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tinyml_local.processes import ProcessFailedError, Supervised, run

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
WITH_GRANDCHILD = (
    sys.executable,
    "-c",
    "import subprocess, sys, time; "
    "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print(p.pid, flush=True); time.sleep(60)",
)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


async def until(what: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def test_killed_child_is_started_anew(tmp_path: Path) -> None:
    child = Supervised("sleeper", SLEEPER, env=os.environ, log=tmp_path / "log")
    child.start()
    try:
        await until(lambda: child.pid is not None)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.pid not in (None, first))
        assert child.restarts == 1
    finally:
        await child.stop()
    assert child.pid is None


async def test_stop_ends_grandchildren_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = Supervised("parent", WITH_GRANDCHILD, env=os.environ, log=log)
    child.start()
    await until(lambda: log.exists() and log.read_text().strip() != "")
    grandchild = int(log.read_text())
    await child.stop()
    await until(lambda: not alive(grandchild))


def test_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = (
        "import asyncio, os, sys; from pathlib import Path; "
        "from tinyml_local.processes import Supervised\n"
        "async def main():\n"
        " c = Supervised('x', [sys.executable, '-c', "
        "'import os, time; print(os.getpid(), flush=True); time.sleep(60)'],"
        f" env=os.environ, log=Path({str(log)!r}))\n"
        " c.start()\n"
        " await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        deadline = time.monotonic() + 15
        while not (log.exists() and log.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    child = int(log.read_text())
    deadline = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


async def test_failed_command_is_named_with_its_last_lines(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "print('the reason'); raise SystemExit(3)")
    with pytest.raises(ProcessFailedError, match=r"(?s)status 3.*the reason"):
        await run(command, env=os.environ, log=tmp_path / "log", timeout_s=20)


async def test_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailedError, match="longer than 0 s"):
        await run(SLEEPER, env=os.environ, log=tmp_path / "log", timeout_s=0.3)
