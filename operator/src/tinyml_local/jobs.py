"""The Jobs of the local API: each pod is a process of this machine.

A Job waits for one of the free slots, gets a Pod object, and its containers run one after the
other (init) and together (main). The Job's conditions, retries, deadline and TTL are as
Kubernetes has them; the pod's output is a file that `pods/<name>/log` serves. Every process is
in a group of its own, which ends with its pod, its Job, or this process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .kubeapi import pods
from .kubeapi.errors import ApiError, Object
from .kubeapi.kinds import Kind
from .kubeapi.registry import DeleteOptions, Registry, WriteOptions
from .kubeapi.store import Change, ResourceKey

logger = logging.getLogger(__name__)

BACKOFF_FIRST_S = 1.0
BACKOFF_LIMIT_S = 60.0
GRACE_LIMIT_S = 5.0
CONFIG_POLL_S = 0.5
SIGKILL_EXIT_CODE = 137

_JOBS: ResourceKey = ("batch", "jobs")
_PODS: ResourceKey = ("", "pods")
_EVENTS: ResourceKey = ("", "events")
_OPTIONS = WriteOptions(manager="tinyml-local-jobs")

# Run by the child before the command: it dies with its parent, even if that is killed.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit(137)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as e:
    sys.exit(f"cannot start {sys.argv[2]}: {e}")
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a pod ended: the exit code of the container that failed (0: none did) and its name."""

    exit_code: int
    container: str = ""
    pod: str = ""


class JobRunner:
    """Runs the Jobs of one registry, `concurrent` pods at a time, with files under `folder`."""

    def __init__(
        self,
        registry: Registry,
        folder: Path,
        *,
        concurrent: int = 2,
        backoff_first_s: float = BACKOFF_FIRST_S,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._backoff_first_s = backoff_first_s
        self._slots = asyncio.Semaphore(concurrent)
        self._changes: asyncio.Queue[Change] = asyncio.Queue()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pod_gone: dict[str, asyncio.Event] = {}
        self._loop_task: asyncio.Task[None] | None = None
        registry.store.listen(self._note)

    def start(self) -> None:
        """Begin to run Jobs, those that are there first."""
        self._loop_task = asyncio.get_running_loop().create_task(self._run(), name="jobs")

    async def stop(self) -> None:
        """End every process and task."""
        tasks = [*self._tasks.values(), *([self._loop_task] if self._loop_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    def log_file(self, pod: Object, container: str) -> Path | None:
        """Return the file with the container's output; None if it never ran."""
        path = self._pod_folder(pod) / f"{container}.log"
        return path if path.is_file() else None

    # -- what to run ---------------------------------------------------------------------------

    def _note(self, change: Change) -> None:
        if change.resource == _JOBS or (change.resource == _PODS and change.type == "DELETED"):
            self._changes.put_nowait(change)

    async def _run(self) -> None:
        while True:
            change = await self._changes.get()
            uid = change.object["metadata"]["uid"]
            if change.resource == _PODS:
                if uid in self._pod_gone:
                    self._pod_gone[uid].set()
                await asyncio.to_thread(_remove_folder, self._pod_folder(change.object))
            elif change.type == "DELETED" or "deletionTimestamp" in change.object["metadata"]:
                task = self._tasks.pop(uid, None)
                if task is not None:
                    task.cancel()
            elif uid not in self._tasks and _wants_to_run(change.object):
                task = asyncio.get_running_loop().create_task(self._job(change.object))
                self._tasks[uid] = task

    async def _job(self, job: Object) -> None:
        """Run one Job to its end, then wait for its TTL."""
        try:
            async with self._slots:
                status: Object = {**(job.get("status") or {}), "startTime": self._registry.now()}
                self._write(_JOBS, job, status)
                deadline = job["spec"].get("activeDeadlineSeconds")
                try:
                    async with asyncio.timeout(deadline):
                        condition = await self._attempts(job, status)
                except TimeoutError:
                    status["failed"] = status.get("failed", 0) + status.get("active", 0)
                    text = "Job was active longer than specified deadline"
                    condition = self._condition("Failed", "DeadlineExceeded", text)
            status.pop("active", None)
            if condition["type"] == "Complete":
                status["completionTime"] = self._registry.now()
            status["conditions"] = [condition]
            self._write(_JOBS, job, status)
            bad = condition["type"] == "Failed"
            reason = condition["reason"] if bad else "Completed"
            self._event(job, "Warning" if bad else "Normal", reason, condition["message"])
            ttl = job["spec"].get("ttlSecondsAfterFinished")
            if ttl is not None:
                await asyncio.sleep(ttl)
                self._delete(job)
        except Exception:
            logger.exception("job failed to run name=%s", job["metadata"]["name"])

    async def _attempts(self, job: Object, status: Object) -> Object:
        """Run pods until enough have succeeded or too many failed; return the Job's condition."""
        spec = job["spec"]
        status |= {"succeeded": 0, "failed": 0}
        while status["succeeded"] < spec["completions"]:
            status["active"] = 1
            self._write(_JOBS, job, status)
            ended = await self._pod(job)
            status["active"] = 0
            if ended.exit_code == 0:
                status["succeeded"] += 1
                continue
            action, text = _failure_action(job, ended)
            if action != "Ignore":
                status["failed"] += 1
            if action == "FailJob":
                return self._condition("Failed", "PodFailurePolicy", text)
            if status["failed"] > spec["backoffLimit"]:
                text = "Job has reached the specified backoff limit"
                return self._condition("Failed", "BackoffLimitExceeded", text)
            self._write(_JOBS, job, status)
            delay = self._backoff_first_s * 2.0 ** max(0, status["failed"] - 1)
            await asyncio.sleep(min(delay, BACKOFF_LIMIT_S))
        return self._condition(
            "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        )

    # -- one pod -------------------------------------------------------------------------------

    async def _pod(self, job: Object) -> Ended:
        """Run one pod of `job` to its end. Its status says how it went."""
        pod = self._new_pod(job)
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        self._event(job, "Normal", "SuccessfulCreate", f"Created pod: {name}")
        gone = self._pod_gone[uid] = asyncio.Event()
        run = asyncio.create_task(self._containers(pod))
        waiting = asyncio.create_task(gone.wait())
        try:
            await asyncio.wait((run, waiting), return_when=asyncio.FIRST_COMPLETED)
            return run.result() if run.done() else Ended(SIGKILL_EXIT_CODE, pod=name)
        finally:
            for task in (run, waiting):
                task.cancel()
            await asyncio.gather(run, waiting, return_exceptions=True)
            self._pod_gone.pop(uid, None)
            live = self._registry.store.get(_PODS, (pod["metadata"]["namespace"], name))
            if live is not None and live["status"]["phase"] in ("Pending", "Running"):
                reason = "DeadlineExceeded" if _past_deadline(job, self._registry) else "Terminated"
                self._write(_PODS, pod, {**live["status"], "phase": "Failed", "reason": reason})
            await asyncio.to_thread(_remove_folder, self._pod_folder(pod) / "volumes")

    async def _containers(self, pod: Object) -> Ended:
        spec, name = pod["spec"], pod["metadata"]["name"]
        folder = self._pod_folder(pod)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status: Object = {**pod["status"], "startTime": self._registry.now(), "hostIP": "127.0.0.1"}
        await self._until_configured(pod, folder, status)
        for container in spec.get("initContainers") or ():
            code = await self._container(pod, container, folder, status, "initContainerStatuses")
            if code != 0:
                self._write(_PODS, pod, {**status, "phase": "Failed"})
                return Ended(code, container["name"], name)
        status["phase"] = "Running"
        codes = await asyncio.gather(
            *(
                self._container(pod, c, folder, status, "containerStatuses")
                for c in spec["containers"]
            )
        )
        failed = [
            (c["name"], code) for c, code in zip(spec["containers"], codes, strict=True) if code
        ]
        self._write(_PODS, pod, {**status, "phase": "Failed" if failed else "Succeeded"})
        if failed:
            return Ended(failed[0][1], failed[0][0], name)
        return Ended(0, pod=name)

    async def _until_configured(self, pod: Object, folder: Path, status: Object) -> None:
        """Write the volumes, waiting for Secrets and ConfigMaps that are not there yet."""
        said = ""
        while True:
            try:
                await asyncio.to_thread(pods.make_volumes, pod, folder, self._lookup(pod))
                for container in pod["spec"]["containers"]:
                    pods.environment(pod, container, self._lookup(pod))
                return
            except pods.NotYetError as e:
                if str(e) != said:
                    said = str(e)
                    waiting = {"reason": "CreateContainerConfigError", "message": said}
                    self._set_state(pod, pod["spec"]["containers"][0], status, {"waiting": waiting})
                    self._event(pod, "Warning", "FailedMount", said)
                await asyncio.sleep(CONFIG_POLL_S)
            except pods.ConfigError as e:
                logger.info("pod cannot be configured name=%s", pod["metadata"]["name"])
                self._event(pod, "Warning", "Failed", str(e))
                return

    async def _container(
        self, pod: Object, container: Object, folder: Path, status: Object, group: str
    ) -> int:
        """Run one container to its end; return its exit code."""
        log = folder / f"{container['name']}.log"
        started = self._registry.now()
        try:
            await asyncio.to_thread(pods.make_volumes, pod, folder, self._lookup(pod))
            command = pods.prepare(pod, container, folder, base_environment(), self._lookup(pod))
        except pods.ConfigError as e:
            await asyncio.to_thread(log.write_text, f"{e}\n")
            ended = {"exitCode": 128, "reason": "CreateContainerConfigError", "message": str(e)}
            ended |= {"startedAt": started, "finishedAt": self._registry.now()}
            self._set_state(pod, container, status, {"terminated": ended}, group)
            return 128
        running = {"running": {"startedAt": started}}
        self._set_state(pod, container, status, running, group)
        code = await _run_process(command, log, _grace(pod))
        message = await asyncio.to_thread(pods.last_word, command, container, log, code)
        ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
        if message:
            ended["message"] = message
        ended |= {"startedAt": started, "finishedAt": self._registry.now()}
        self._set_state(pod, container, status, {"terminated": ended}, group)
        return code

    def _set_state(
        self,
        pod: Object,
        container: Object,
        status: Object,
        state: Object,
        group: str = "containerStatuses",
    ) -> None:
        name = container["name"]
        entry: Object = {
            "name": name,
            "image": container.get("image", ""),
            "imageID": "",
            "ready": "running" in state,
            "restartCount": 0,
            "state": state,
        }
        others = [s for s in status.get(group) or () if s["name"] != name]
        status[group] = [*others, entry]
        self._write(_PODS, pod, dict(status))

    # -- objects -------------------------------------------------------------------------------

    def _new_pod(self, job: Object) -> Object:
        meta, template = job["metadata"], job["spec"]["template"]
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        template_meta = template.get("metadata") or {}
        pod_meta: Object = {"generateName": f"{meta['name']}-", "ownerReferences": [owner]}
        for field in ("labels", "annotations"):
            if template_meta.get(field):
                pod_meta[field] = template_meta[field]
        spec = {**template["spec"], "nodeName": "local"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": pod_meta, "spec": spec}
        return self._registry.create(self._kind(_PODS), meta["namespace"], pod, _OPTIONS)

    def _write(self, resource: ResourceKey, obj: Object, status: Object) -> None:
        self._registry.write_status(self._kind(resource), obj, dict(status))

    def _delete(self, job: Object) -> None:
        meta = job["metadata"]
        options = DeleteOptions(policy="Background", uid=meta["uid"])
        with suppress(ApiError):
            self._registry.delete(self._kind(_JOBS), meta["namespace"], meta["name"], options)

    def _event(self, about: Object, type_: str, reason: str, message: str) -> None:
        meta, now = about["metadata"], self._registry.now()
        body = {
            "metadata": {"generateName": f"{meta['name'][:50]}."},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "type": type_,
            "reason": reason,
            "message": message,
            "source": {"component": "job-controller"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        with suppress(ApiError):  # the namespace is going
            self._registry.create(self._kind(_EVENTS), meta["namespace"], body, _OPTIONS)

    def _condition(self, type_: str, reason: str, message: str) -> Object:
        now = self._registry.now()
        times = {"lastProbeTime": now, "lastTransitionTime": now}
        return {"type": type_, "status": "True", "reason": reason, "message": message, **times}

    def _lookup(self, pod: Object) -> pods.Lookup:
        namespace = pod["metadata"]["namespace"]
        return lambda plural, name: self._registry.store.get(("", plural), (namespace, name))

    def _kind(self, resource: ResourceKey) -> Kind:
        kind = self._registry.kinds.of(resource)
        assert kind is not None, resource
        return kind

    def _pod_folder(self, pod: Object) -> Path:
        return self._folder / str(pod["metadata"]["uid"])


def base_environment() -> dict[str, str]:
    """Return what every container inherits: this process's environment without credentials."""
    hidden = ("AWS_", "KUBE", "TINYML_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), env.get("PATH", os.defpath)))
    env["PYTHONUNBUFFERED"] = "1"
    return env


async def _run_process(command: pods.Command, log: Path, grace_s: float) -> int:
    """Run the command to its end and return its exit code; on cancellation end its whole group."""
    launcher: Sequence[Any] = (sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()))
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *launcher,
            *command.argv,
            env=dict(command.env),
            cwd=command.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        code = await process.wait()
        return code if code >= 0 else 128 - code
    finally:
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):  # wait_for loses cancellations in 3.11
                    await process.wait()
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _wants_to_run(job: Object) -> bool:
    finished = any(
        c["type"] in ("Complete", "Failed") and c["status"] == "True"
        for c in (job.get("status") or {}).get("conditions") or ()
    )
    return not finished and not job["spec"].get("suspend")


def _failure_action(job: Object, ended: Ended) -> tuple[str, str]:
    """Return what the Job's podFailurePolicy says of this end: FailJob, Ignore or Count, and
    why.
    """
    policy = job["spec"].get("podFailurePolicy") or {}
    for i, rule in enumerate(policy.get("rules") or ()):
        codes = rule.get("onExitCodes")
        if codes is None or codes.get("containerName") not in (None, ended.container):
            continue
        if (ended.exit_code in codes["values"]) == (codes["operator"] == "In"):
            where = f"{job['metadata']['namespace']}/{ended.pod}"
            text = (
                f"Container {ended.container} for pod {where} failed with exit code"
                f" {ended.exit_code} matching {rule['action']} rule at index {i}"
            )
            return str(rule["action"]), text
    return "Count", ""


def _past_deadline(job: Object, registry: Registry) -> bool:
    live = registry.store.get(_JOBS, (job["metadata"]["namespace"], job["metadata"]["name"]))
    return live is not None and "activeDeadlineSeconds" in live["spec"]


def _grace(pod: Object) -> float:
    return float(min(pod["spec"].get("terminationGracePeriodSeconds", 30), GRACE_LIMIT_S))


def _remove_folder(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
