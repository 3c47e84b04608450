"""Jobs as processes: what a pod sees, what it leaves behind, retries, deadlines, and that
everything ends.

The contract suite cannot hold these to a real cluster: it has no node that runs pods.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tinyml_local.jobs import JobRunner
from tinyml_local.kubeapi.controllers import Controllers
from tinyml_local.kubeapi.errors import ApiError, Object
from tinyml_local.kubeapi.kinds import Kinds
from tinyml_local.kubeapi.registry import DeleteOptions, Registry
from tinyml_local.kubeapi.store import Store

from tests.unit.tinyml_local.kubeapi.harness import OPTIONS, kind, named

PATIENCE_S = 20.0


@dataclass
class Place:
    """A registry in which Jobs run."""

    registry: Registry
    runner: JobRunner
    folder: Path

    def create(self, plural: str, body: Object) -> Object:
        return self.registry.create(kind(self.registry, plural), "default", body, OPTIONS)

    def run(self, *command: str, name: str = "j", container: Any = None, **spec: Any) -> None:
        """Create a Job of one container."""
        main = {"name": "main", "image": "none", "command": list(command), **(container or {})}
        volumes = spec.pop("volumes", [])
        init = spec.pop("init", [])
        pod = {"restartPolicy": "Never", "containers": [main], "volumes": volumes}
        template = {"spec": {**pod, **({"initContainers": init} if init else {})}}
        self.create("jobs", named(name, spec={"template": template, **spec}))

    def get(self, plural: str, name: str) -> Object | None:
        return self.registry.store.get(kind(self.registry, plural).key, ("default", name))

    def pods(self) -> list[Object]:
        return self.registry.store.items(("", "pods"), "default")

    def condition(self, name: str = "j") -> tuple[str, str] | None:
        """Return type and reason of the Job's last word, if it has spoken."""
        found = ((self.get("jobs", name) or {}).get("status") or {}).get("conditions")
        return (found[0]["type"], found[0]["reason"]) if found else None

    async def until(self, look: Callable[[], Any], what: str) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := look()):  # noqa: ASYNC110  tests may poll
                await asyncio.sleep(0.02)
        assert found, what
        return found

    async def finished(self, name: str = "j") -> tuple[str, str]:
        found: tuple[str, str] = await self.until(lambda: self.condition(name), "the end")
        return found

    def log(self, pod: Object, container: str = "main") -> str:
        path = self.runner.log_file(pod, container)
        return path.read_text() if path else ""

    def terminated(self, pod: Object) -> Object:
        ended: Object = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        return ended


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    registry = Registry(Store(), Kinds())
    controllers = Controllers(registry)
    runner = JobRunner(registry, tmp_path, backoff_first_s=0.01)
    controllers.start()
    runner.start()
    yield Place(registry, runner, tmp_path)
    await runner.stop()
    await controllers.stop()


async def test_a_job_that_succeeds_is_complete(place: Place) -> None:
    place.run("sh", "-c", "echo out; echo err >&2")
    assert await place.finished() == ("Complete", "CompletionsReached")
    (pod,) = place.pods()
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["metadata"]["ownerReferences"][0]["name"] == "j"
    assert pod["metadata"]["labels"]["job-name"] == "j"
    assert place.terminated(pod)["exitCode"] == 0
    assert place.log(pod).splitlines() == ["out", "err"]
    status = (place.get("jobs", "j") or {})["status"]
    assert status["succeeded"] == 1
    assert status["startTime"] <= status["completionTime"]


async def test_the_environment_comes_from_where_it_is_asked_from(place: Place) -> None:
    place.create("secrets", named("s", stringData={"word": "secret"}))
    place.create("configmaps", named("c", data={"A": "1", "B": "2"}))
    place.run(
        *("sh", "-c", "env"),
        container={
            "envFrom": [{"configMapRef": {"name": "c"}, "prefix": "C_"}],
            "env": [
                {"name": "PLAIN", "value": "x"},
                {"name": "BUILT", "value": "$(PLAIN)-$(NOBODY)-$$"},
                {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                {
                    "name": "LESS",
                    "valueFrom": {
                        "configMapKeyRef": {"name": "none", "key": "k", "optional": True}
                    },
                },
            ],
        },
    )
    await place.finished()
    lines = place.log(place.pods()[0]).splitlines()
    assert {"C_A=1", "C_B=2", "PLAIN=x", "BUILT=x-$(NOBODY)-$", "WORD=secret"} <= set(lines)
    assert "POD=default" in lines
    assert not [line for line in lines if line.startswith(("LESS=", "KUBECONFIG=", "AWS_"))]


async def test_volumes_are_folders_at_replaced_paths(place: Place) -> None:
    place.create("secrets", named("s", stringData={"request.json": "{}"}))
    place.create("configmaps", named("c", data={"k": "v", "other": "w"}))
    mounts = {"req": "/etc/request", "conf": "/etc/conf", "work": "/work"}
    place.run(
        *("sh", "-c", 'cat "$1" "${2#--conf=}"; echo; ls "$CONF"; touch "$3/new"; echo $PWD', "x"),
        container={
            "args": ["/etc/request/request.json", "--conf=/etc/conf/picked", "/work"],
            "workingDir": "/work",
            "env": [{"name": "CONF", "value": "/etc/conf"}],
            "volumeMounts": [{"name": n, "mountPath": p} for n, p in mounts.items()],
        },
        volumes=[
            {"name": "req", "secret": {"secretName": "s"}},
            {
                "name": "conf",
                "configMap": {"name": "c", "items": [{"key": "k", "path": "picked"}]},
            },
            {"name": "work", "emptyDir": {}},
        ],
    )
    assert (await place.finished())[0] == "Complete"
    (pod,) = place.pods()
    lines = place.log(pod).splitlines()
    assert lines[:2] == ["{}v", "picked"]
    assert lines[2].endswith("volumes/work")
    folder = place.folder / pod["metadata"]["uid"]
    await place.until(lambda: not (folder / "volumes").exists(), "secrets are not left behind")


async def test_the_termination_message_is_kept(place: Place) -> None:
    place.run(
        *("sh", "-c", 'printf \'{"reason": "Bad"}\' > "$T"; exit 1'),
        container={"env": [{"name": "T", "value": "/dev/termination-log"}]},
        backoffLimit=0,
    )
    assert await place.finished() == ("Failed", "BackoffLimitExceeded")
    ended = place.terminated(place.pods()[0])
    assert (ended["exitCode"], ended["reason"]) == (1, "Error")
    assert ended["message"] == '{"reason": "Bad"}'


async def test_the_log_can_stand_in_for_the_message(place: Place) -> None:
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    place.run("sh", "-c", "echo last words; exit 3", container=policy, backoffLimit=0)
    await place.finished()
    assert place.terminated(place.pods()[0])["message"] == "last words\n"


async def test_a_job_is_retried_until_its_limit(place: Place) -> None:
    place.run("sh", "-c", "exit 75", backoffLimit=2)
    assert await place.finished() == ("Failed", "BackoffLimitExceeded")
    assert len(place.pods()) == 3
    assert (place.get("jobs", "j") or {})["status"]["failed"] == 3


async def test_a_job_that_recovers_is_complete(place: Place) -> None:
    mark = place.folder / "mark"
    place.run("sh", "-c", f"test -e {mark} || {{ touch {mark}; exit 75; }}")
    assert (await place.finished())[0] == "Complete"
    assert [p["status"]["phase"] for p in place.pods()].count("Failed") == 1


async def test_an_exit_code_can_end_the_retries(place: Place) -> None:
    codes = {"operator": "In", "values": [1]}
    rules = [{"action": "FailJob", "onExitCodes": codes}]
    place.run("sh", "-c", "exit 1", podFailurePolicy={"rules": rules}, backoffLimit=3)
    assert await place.finished() == ("Failed", "PodFailurePolicy")
    assert len(place.pods()) == 1


async def test_a_deadline_ends_the_process(place: Place) -> None:
    pid = place.folder / "pid"
    place.run("sh", "-c", f"echo $$$$ > {pid}; sleep 60 & wait", activeDeadlineSeconds=1)
    assert await place.finished() == ("Failed", "DeadlineExceeded")
    (pod,) = place.pods()
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert not _alive(int(pid.read_text()))


async def test_deleting_a_job_ends_its_whole_process_group(place: Place) -> None:
    pids = place.folder / "pids"
    place.run("sh", "-c", f"sleep 60 & echo $! $$$$ > {pids}; wait")
    await place.until(lambda: pids.exists() and pids.read_text().strip(), "it runs")
    jobs = kind(place.registry, "jobs")
    place.registry.delete(jobs, "default", "j", DeleteOptions(policy="Background"))
    await place.until(lambda: not place.pods(), "the pod goes")
    running = [int(p) for p in pids.read_text().split()]
    await place.until(lambda: not any(_alive(p) for p in running), "the processes end")


async def test_deleting_a_pod_makes_the_job_try_again(place: Place) -> None:
    mark = place.folder / "mark"
    place.run("sh", "-c", f"test -e {mark} && exit 0; touch {mark}; sleep 60")
    await place.until(mark.exists, "it runs")
    (pod,) = place.pods()
    name = pod["metadata"]["name"]
    place.registry.delete(kind(place.registry, "pods"), "default", name, DeleteOptions())
    assert (await place.finished())[0] == "Complete"
    assert [p["metadata"]["name"] for p in place.pods()] != [name]


async def test_a_finished_job_goes_after_its_time(place: Place) -> None:
    place.run("true", ttlSecondsAfterFinished=0)
    await place.until(lambda: place.get("jobs", "j") is None, "the job goes")
    await place.until(lambda: not place.pods(), "and its pod")
    await place.until(lambda: not list(place.folder.iterdir()), "and its files")


async def test_a_pod_waits_for_its_secret(place: Place) -> None:
    place.run("true", volumes=[{"name": "v", "secret": {"secretName": "late"}}])

    def reason() -> str:
        states = [p["status"].get("containerStatuses") for p in place.pods()]
        return str(states[0][0]["state"]["waiting"]["message"]) if states and states[0] else ""

    assert await place.until(reason, "it says why") == 'secret "late" not found'
    place.create("secrets", named("late"))
    assert (await place.finished())[0] == "Complete"


@pytest.mark.parametrize(
    ("container", "volumes", "message"),
    [
        ({"command": []}, [], "has no command"),
        ({"command": ["/no/such/program"]}, [], "cannot start /no/such/program"),
        ({}, [{"name": "v", "hostPath": {"path": "/"}}], "is of kind hostPath"),
        (
            {"env": [{"name": "X", "valueFrom": {"resourceFieldRef": {"resource": "cpu"}}}]},
            [],
            "takes its value from ['resourceFieldRef']",
        ),
    ],
)
async def test_what_cannot_run_says_why(
    place: Place, container: Object, volumes: list[Object], message: str
) -> None:
    place.run("true", container=container, volumes=volumes, backoffLimit=0)
    assert (await place.finished())[0] == "Failed"
    assert message in place.log(place.pods()[0])


async def test_init_containers_run_first_and_can_fail(place: Place) -> None:
    init = {"name": "first", "image": "none", "command": ["sh", "-c", "echo no; exit 4"]}
    place.run("true", init=[init], backoffLimit=0)
    assert (await place.finished())[0] == "Failed"
    (pod,) = place.pods()
    assert place.log(pod, "first") == "no\n"
    assert place.log(pod, "main") == ""


async def test_a_suspended_job_waits(place: Place) -> None:
    place.run("true", suspend=True)
    await asyncio.sleep(0.1)
    assert not place.pods()
    jobs = kind(place.registry, "jobs")
    place.registry.patch(
        jobs, "default", "j", lambda o: {**o, "spec": {**o["spec"], "suspend": False}}, OPTIONS
    )
    assert (await place.finished())[0] == "Complete"


async def test_no_more_jobs_run_than_there_are_slots(place: Place) -> None:
    for i in range(4):
        place.run("sleep", "0.3", name=f"j{i}")
    most = 0
    while not all(place.condition(f"j{i}") for i in range(4)):
        active = [p for p in place.pods() if p["status"]["phase"] in ("Pending", "Running")]
        most = max(most, len(active))
        await asyncio.sleep(0.02)
    assert most == 2


async def test_stopping_ends_every_process(place: Place) -> None:
    pid = place.folder / "pid"
    place.run("sh", "-c", f"echo $$$$ > {pid}; sleep 60")
    await place.until(lambda: pid.exists() and pid.read_text().strip(), "it runs")
    await place.runner.stop()
    assert not _alive(int(pid.read_text()))


def test_a_process_dies_with_the_api_even_if_that_is_killed(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from tinyml_local.jobs import _run_process
from tinyml_local.kubeapi.pods import Command
folder = Path(sys.argv[1])
argv = ("sh", "-c", "echo $$ > pid; exec sleep 60")
command = Command(argv, {"PATH": "/usr/bin:/bin"}, folder, folder / "t")
asyncio.run(_run_process(command, folder / "log", 1.0))
"""
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    pid = tmp_path / "pid"
    _wait(lambda: pid.exists() and bool(pid.read_text().strip()))
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    _wait(lambda: not _alive(int(pid.read_text())))


def test_a_pod_needs_no_running_api_to_be_refused() -> None:
    registry = Registry(Store(), Kinds())
    registry.create(kind(registry, "namespaces"), "", named("default"), OPTIONS)
    mount = {"name": "none", "mountPath": "/x"}
    main = {"name": "m", "image": "i", "volumeMounts": [mount]}
    pod = {"restartPolicy": "Never", "containers": [main]}
    body = named("j", spec={"template": {"spec": pod}})
    with pytest.raises(ApiError, match=r"volumeMounts\[0\].name: Not found"):
        registry.create(kind(registry, "jobs"), "default", body, OPTIONS)


def _alive(pid: int) -> bool:
    """Return whether the process runs (one that is dead but not yet waited for does not)."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def _wait(look: Callable[[], bool]) -> None:
    async def poll() -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not look():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    asyncio.run(poll())
