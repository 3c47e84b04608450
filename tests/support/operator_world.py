"""A small world for the operator: FakeCluster, MemoryStorage, a clock, a Job runner, an agent.

Everything happens at `World.settle`: keys are reconciled until nothing is due, in a fixed order,
with no sleep. `KillError` raised from the cluster's hook stands for the operator's death.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import yaml
from tinyml_api.build import BuildRequest, BuildResult, Image, Outcome, Termination, sha256_digest
from tinyml_api.group import API_VERSION
from tinyml_kube.cluster import Object, Ref
from tinyml_kube.fake import FakeCluster
from tinyml_kube.resources import (
    DEVICE_CLASS,
    EDGE_GATEWAY,
    GATEWAY_DEPLOYMENT,
    JOB,
    MODEL_BUILD,
    POD,
    SECRET,
    TINY_MODEL,
    TINY_MODEL_REVISION,
    ref_of,
)
from tinyml_operator.settings import Settings
from tinyml_operator.shell import Shell
from tinyml_operator.storage import build_prefix
from tinyml_operator.storage_fake import MemoryStorage
from tinyml_operator.workqueue import Key

from tests.conftest import REPO

NAMESPACE = "team"
MODEL = b"a model"
MODEL_SHA = sha256_digest(MODEL).removeprefix("sha256:")


class KillError(Exception):
    """The operator dies here."""


def device_class(name: str) -> Object:
    return copy.deepcopy(_catalogue(name))


@cache
def _catalogue(name: str) -> Object:
    path = REPO / "crds" / "catalogue" / f"{name}.yaml"
    obj: Object = yaml.safe_load(path.read_text())
    return obj


def a_tiny_model(name: str = "digits", **spec: Any) -> Object:
    base: dict[str, Any] = {
        "source": {"uri": "s3://models/m.tflite", "sha256": MODEL_SHA, "format": "Auto"},
        "quantization": {"mode": "AsIs"},
        "deploy": {"selector": {"matchLabels": {"use": "digits"}}},
        "suspend": False,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "TinyModel",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {k: v for k, v in (base | spec).items() if v is not None},
    }


def a_group(
    name: str, device_class: str = "posix", devices: int = 2, use: str = "digits"
) -> dict[str, Any]:
    return {
        "name": name,
        "deviceClass": device_class,
        "labels": {"use": use},
        "devices": {f"{name}-{i}": f"serial:///dev/{name}-{i}" for i in range(devices)},
    }


def a_gateway(name: str = "site", *groups: dict[str, Any], **spec: Any) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "EdgeGateway",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"region": "north"}},
        "spec": {"deviceGroups": list(groups or (a_group("line-a"),)), "suspend": False} | spec,
    }


@dataclass
class Clock:
    time: datetime = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def pass_by(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def good_build(request: BuildRequest) -> Termination | None:
    """Every build succeeds."""
    return None


@dataclass
class World:
    """`build` says how a Job ends: None for success, else what the builder leaves behind."""

    settings: Settings = field(
        default_factory=lambda: Settings(
            s3_bucket="tinyml",
            compiler="tinyml-1",
            toolchain="cc-1",
            allowed_buckets=("models",),
        )
    )
    build: Callable[[BuildRequest], Termination | None] = good_build
    built: list[str] = field(default_factory=list)  # request digests of Jobs that ran

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.cluster = FakeCluster(now=self.clock)
        self.storage = MemoryStorage()
        self.storage.objects[("models", "m.tflite")] = MODEL
        self.due: dict[Key, float] = {}
        self.pods = 0
        self.restart()

    def restart(self) -> None:
        """A new operator process: nothing but the cluster and the store is left."""
        self.due.clear()
        self.shell = Shell(self.cluster, self.storage, self.settings, now=self.clock)
        self.shell.ring = self._ring

    async def add(self, *objects: Object) -> None:
        for obj in objects:
            await self.cluster.apply(obj, field_manager="user")

    async def settle(self, rounds: int = 8) -> None:
        """Reconcile everything, run Jobs and agents, until a whole round writes nothing."""
        for _ in range(rounds):
            before = len(self.cluster.writes)
            await self.reconcile_all()
            await self.run_jobs()
            await self.run_agents()
            if len(self.cluster.writes) == before:
                return
        raise AssertionError(f"not settled after {rounds} rounds: {self.cluster.writes[-6:]}")

    async def reconcile_all(self) -> None:
        for resource in (TINY_MODEL, TINY_MODEL_REVISION, MODEL_BUILD, EDGE_GATEWAY):
            for obj in await self.cluster.list(resource):
                metadata = obj["metadata"]
                key = Key(resource.kind, metadata["namespace"], metadata["name"])
                after_s = await self.shell.reconcile(key)
                if after_s is not None:
                    self.due[key] = after_s

    async def run_jobs(self) -> None:
        """Be Kubernetes and the builder: end every active Job."""
        for job in await self.cluster.list(JOB):
            if not (job.get("status") or {}).get("conditions"):
                await self._run_job(job)

    async def run_agents(self) -> None:
        """Be the agents: every device runs what it shall run."""
        for obj in await self.cluster.list(GATEWAY_DEPLOYMENT):
            groups = [
                {"image": g["image"], "states": "R" * len(g["devices"])}
                for g in obj["spec"]["groups"]
            ]
            generation = obj["metadata"]["generation"]
            status = {"observedGeneration": generation, "groups": groups}
            await self.cluster.patch_status(ref_of(obj), status)

    async def get(self, resource: Any, name: str) -> Object:
        found = await self.cluster.get(Ref(resource, NAMESPACE, name))
        assert found is not None, f"{resource.kind} {name} is not there"
        return found

    async def condition(self, name: str, kind: str, resource: Any = TINY_MODEL) -> dict[str, Any]:
        obj = await self.get(resource, name)
        found = [c for c in obj["status"]["conditions"] if c["type"] == kind]
        return found[0] if found else {}

    async def classes(self, *names: str) -> None:
        await self.add(*(device_class(n) for n in names))

    async def wipe_statuses(self) -> None:
        for resource in (TINY_MODEL, TINY_MODEL_REVISION, MODEL_BUILD, EDGE_GATEWAY):
            for obj in await self.cluster.list(resource):
                await self.cluster.patch_status(ref_of(obj), None)
        assert not any("status" in o for o in await self.cluster.list(DEVICE_CLASS))

    def _ring(self, key: Key) -> None:
        self.due[key] = 0.0

    async def _run_job(self, job: Object) -> None:
        name = job["metadata"]["name"]
        volume = job["spec"]["template"]["spec"]["volumes"][0]
        secret = await self.get(SECRET, volume["secret"]["secretName"])
        request = BuildRequest.from_dict(json.loads(secret["stringData"]["request.json"]))
        self.built.append(request.digest())
        said = self.build(request)
        if said is None:
            self._store_result(request)
        exit_code = 0 if said is None else 1
        termination = said or Termination(Outcome.SUCCEEDED)
        self.pods += 1
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-{self.pods}",
                "namespace": NAMESPACE,
                "labels": job["spec"]["template"]["metadata"]["labels"] | {"job-name": name},
                "ownerReferences": [
                    {
                        "apiVersion": "batch/v1",
                        "kind": "Job",
                        "name": name,
                        "uid": job["metadata"]["uid"],
                    }
                ],
            },
            "spec": {},
        }
        made = await self.cluster.create(pod)
        ended = {"exitCode": exit_code, "message": termination.to_json().decode()}
        await self.cluster.patch_status(
            Ref(POD, NAMESPACE, made["metadata"]["name"]),
            {"containerStatuses": [{"state": {"terminated": ended}}]},
        )
        condition = {
            "type": "Complete" if said is None else "Failed",
            "status": "True",
            "reason": "Completed" if said is None else "BackoffLimitExceeded",
            "lastTransitionTime": self.clock().strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        await self.cluster.patch_status(ref_of(job), {"conditions": [condition]})

    def _store_result(self, request: BuildRequest) -> None:
        digest = request.digest()
        has_board = bool(request.device_class_spec.get("board"))
        images = [
            Image(sha256_digest(f"{digest}{part}".encode()), digest, 1000) if has_board else None
            for part in ("code", "weights")
        ]
        summary = {"flashBytes": 5000, "ramBytes": 900, "macs": 7, "vectors": 32, "mismatches": 0}
        result = BuildResult(digest, {}, images[0], images[1], summary)
        key = build_prefix(NAMESPACE, digest) + "result.json"
        self.storage.objects[("tinyml", key)] = result.to_json()
