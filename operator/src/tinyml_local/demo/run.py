"""The demo's steps in order; each is timed and says what it did. Called by `tinyml demo` and by an
e2e test.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tinyml_gateway.infer import classify_all
from tinyml_kube.cluster import Object, Ref
from tinyml_kube.resources import TINY_MODEL

from tinyml_local.environment import Environment, Settings, child_env, load_manifests
from tinyml_local.processes import ProcessFailedError, run
from tinyml_local.samples import local_gateway, tiny_model

MODEL = "digits"
GATEWAY = "factory-1"
NAMESPACE = "default"
LABELS = {"line": "a"}
DEVICES = {"posix": 3, "mps2-an386": 1}
CALIBRATION_SAMPLES = 128
TRAIN_TIMEOUT_S = 300.0
READY_TIMEOUT_S = 300.0
POLL_S = 0.3
EMULATED_CLASS = "mps2-an386"
SHOWN_STAGE_S = 0.1


class DemoFailedError(Exception):
    """A step did not reach its end; the message says which, and what the system said of it."""


@dataclass(slots=True)
class Steps:
    """Prints each step as it goes and keeps its seconds."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        self.console.print(
            f"[dim]{time.monotonic() - self.begun:6.1f} s[/dim]  {escape(text)}", highlight=False
        )

    def done(self, name: str, since: float) -> None:
        self.seconds[name] = time.monotonic() - since


@dataclass(frozen=True, slots=True)
class Answers:
    """What one device said to `samples` test digits."""

    device: str
    device_class: str
    samples: int
    correct: int
    outputs: tuple[bytes, ...]


async def run_demo(console: Console, folder: Path, *, keep: bool, emulator: str) -> None:
    """Run every step and stop everything. Raises DemoFailedError, CannotStartError."""
    steps = Steps(console)
    settings = Settings(state_dir=folder / "state", emulator=emulator)
    trained = folder / "training"
    steps.say("training a small CNN on scikit-learn's handwritten digits")
    training = asyncio.create_task(_train(steps, settings, trained), name="train")
    try:
        async with Environment(settings, lambda part: steps.say(f"starting {part}")) as environment:
            steps.done("start the local environment", steps.begun)
            await _apply(steps, environment, await training, trained)
            model = await _follow(steps, environment)
            reports = await _reports(environment, model)
            answers = await _ask(steps, environment, reports, trained)
            _print(console, steps, training.result(), reports, answers)
            _print_next(console, environment if keep else None)
            if keep:
                await asyncio.Event().wait()
    except ProcessFailedError as error:
        raise DemoFailedError(str(error)) from error
    finally:
        training.cancel()
        await asyncio.gather(training, return_exceptions=True)
    steps.say("everything is stopped")


async def _train(steps: Steps, settings: Settings, output: Path) -> dict[str, Any]:
    since = time.monotonic()
    await run(
        (settings.python, "-m", "tinyml_local.demo.train", str(output)),
        env=child_env(settings.python),
        log=output / "train.log",
        timeout_s=TRAIN_TIMEOUT_S,
    )
    training: dict[str, Any] = json.loads((output / "training.json").read_text())
    steps.done("train (beside it)", since)
    return training


async def _apply(
    steps: Steps, environment: Environment, training: dict[str, Any], trained: Path
) -> None:
    since = time.monotonic()
    steps.say(
        f"trained: {training['parameters']} parameters, "
        f"float accuracy {training['float_accuracy']:.1%}"
    )
    put = environment.storage.put
    model_uri, model_sha = await put("demo/digits.keras", (trained / "digits.keras").read_bytes())
    data_uri, data_sha = await put(
        "demo/calibration.npz", (trained / "calibration.npz").read_bytes()
    )
    for device_class in load_manifests("catalogue"):
        if device_class["metadata"]["name"] in DEVICES:
            await environment.apply(device_class)
    await environment.apply(
        local_gateway(environment.devices_dir, DEVICES, name=GATEWAY, labels=LABELS)
    )
    await environment.apply(
        tiny_model(
            MODEL,
            source_uri=model_uri,
            source_sha256=model_sha,
            calibration_uri=data_uri,
            calibration_sha256=data_sha,
            calibration_samples=CALIBRATION_SAMPLES,
            selector=LABELS,
        )
    )
    steps.done("apply the manifests", since)
    steps.say(
        f"applied DeviceClasses {', '.join(DEVICES)}, EdgeGateway {GATEWAY} "
        f"with {sum(DEVICES.values())} devices, TinyModel {MODEL}"
    )


async def _follow(steps: Steps, environment: Environment) -> Object:
    """Say every change of the TinyModel until it is Ready. Raises DemoFailedError."""
    since = time.monotonic()
    told: tuple[str, ...] = ()
    compiled = False
    with steps.console.status("building and rolling out …"):
        while True:
            model = await environment.cluster.get(Ref(TINY_MODEL, NAMESPACE, MODEL))
            if model is None:
                raise DemoFailedError(f"TinyModel {MODEL} is gone: somebody deleted it")
            status = model.get("status") or {}
            conditions = {c["type"]: c for c in status.get("conditions", ())}
            lines = _progress(status, conditions)
            for line in lines:
                if line not in told:
                    steps.say(line)
            told = lines
            if not compiled and conditions.get("Compiled", {}).get("status") == "True":
                compiled = True
                steps.done("build (one Job a device class)", since)
                since = time.monotonic()
            if _ready(model, conditions):
                steps.done("roll out", since)
                return model
            stalled = conditions.get("Stalled")
            if stalled is not None and stalled["status"] == "True":
                raise DemoFailedError(
                    f"TinyModel {MODEL} is stalled: {stalled['reason']}: {stalled['message']}"
                )
            if time.monotonic() - since > READY_TIMEOUT_S:
                raise DemoFailedError(
                    f"TinyModel {MODEL} is not Ready after {READY_TIMEOUT_S:.0f} s; it says: "
                    + "; ".join(
                        f"{c['type']}={c['status']} {c['message']}" for c in conditions.values()
                    )
                )
            await asyncio.sleep(POLL_S)


def _ready(model: Object, conditions: dict[str, Any]) -> bool:
    ready = conditions.get("Ready", {})
    return bool(
        ready.get("status") == "True"
        and ready.get("observedGeneration") == model["metadata"]["generation"]
    )


def _progress(status: dict[str, Any], conditions: dict[str, Any]) -> tuple[str, ...]:
    lines = [
        f"{name}: {conditions[name]['message']}"
        for name in ("ModelValid", "Compiled", "DevicesClaimed")
        if name in conditions and conditions[name]["status"] != "Unknown"
    ]
    lines += [
        f"build for {c['deviceClass']}: {c['state']}"
        for c in status.get("classes", ())
        if c.get("state")
    ]
    devices = status.get("devices") or {}
    if devices.get("total") and conditions.get("Compiled", {}).get("status") == "True":
        states = ", ".join(
            f"{devices[s]} {s}"
            for s in ("pending", "updating", "running", "offline", "failed")
            if devices.get(s)
        )
        lines.append(f"devices: {states}")
    return tuple(lines)


async def _reports(environment: Environment, model: Object) -> dict[str, dict[str, Any]]:
    """Return report.json of each device class's build."""
    reports: dict[str, dict[str, Any]] = {}
    for entry in model["status"]["classes"]:
        build = await environment.build_digest(NAMESPACE, entry["build"])
        data = await environment.storage.get(f"{NAMESPACE}/builds/{build}/report.json")
        reports[entry["deviceClass"]] = json.loads(data)
    return reports


async def _ask(
    steps: Steps, environment: Environment, reports: dict[str, dict[str, Any]], trained: Path
) -> list[Answers]:
    since = time.monotonic()
    with np.load(trained / "test.npz") as test:
        x, y = test["x"], test["y"]
    jobs = []
    for device_class, count in DEVICES.items():
        spec = reports[device_class]["inputs"][0]
        quantized = np.clip(np.round(x / spec["scale"]) + spec["zero_point"], -128, 127).astype(
            np.int8
        )
        jobs += [
            _ask_one(environment, device_class, f"{device_class}-{i + 1}", quantized, y)
            for i in range(count)
        ]
    steps.say(f"asking {len(jobs)} devices to classify test digits")
    answers: Sequence[Answers] = await asyncio.gather(*jobs)
    steps.done("ask the devices", since)
    return list(answers)


async def _ask_one(
    environment: Environment,
    device_class: str,
    device: str,
    inputs: NDArray[np.int8],
    expected: NDArray[np.int64],
) -> Answers:
    address = f"serial://{environment.devices_dir / device}"
    rows = [row.tobytes() for row in inputs]
    outputs = tuple([reply.outputs async for reply in classify_all(address, rows)])
    best = [int(np.frombuffer(output, np.int8).argmax()) for output in outputs]
    correct = sum(int(b == e) for b, e in zip(best, expected, strict=True))
    return Answers(device, device_class, len(inputs), correct, outputs)


def _print(
    console: Console,
    steps: Steps,
    training: dict[str, Any],
    reports: dict[str, dict[str, Any]],
    answers: list[Answers],
) -> None:
    devices = Table(title="what the devices answer", title_justify="left")
    for column in ("device", "class", "digits", "int8 accuracy"):
        devices.add_column(column, justify="left" if column in ("device", "class") else "right")
    for a in answers:
        accuracy = f"{a.correct / a.samples:.1%}"
        devices.add_row(a.device, a.device_class, str(a.samples), accuracy)
    builds = Table(title="what was built", title_justify="left")
    for column in ("class", "flash", "weights", "RAM", "instructions", "oracle mismatches"):
        builds.add_column(column, justify="left" if column == "class" else "right")
    for device_class, r in reports.items():
        instructions = r["instructions_per_inference"]
        builds.add_row(
            device_class,
            f"{r['flash_bytes']['total']:,} B",
            f"{r['flash_bytes']['weights']:,} B",
            f"{r['ram_bytes']['total']:,} B",
            "–" if instructions is None else f"{instructions:,}",
            f"{r['oracle']['mismatches']} of {r['oracle']['vectors']}",
        )
    stages = Table(title="seconds", title_justify="left")
    stages.add_column("step")
    stages.add_column("s", justify="right")
    for name, seconds in steps.seconds.items():
        stages.add_row(name, f"{seconds:.1f}")
    for stage in reports[EMULATED_CLASS]["stages"]:
        if stage["seconds"] >= SHOWN_STAGE_S:
            stages.add_row(f"  build {EMULATED_CLASS}: {stage['name']}", f"{stage['seconds']:.1f}")
    same = len({a.outputs for a in answers}) == 1
    first = answers[0]
    board = reports[EMULATED_CLASS]
    console.print(builds, devices, stages)
    console.print(
        f"float accuracy            {training['float_accuracy']:.1%}\n"
        f"int8 accuracy on devices  {first.correct / first.samples:.1%} "
        f"({first.samples} digits)\n"
        f"flash, RAM                {board['flash_bytes']['total']:,} B, "
        f"{board['ram_bytes']['total']:,} B ({EMULATED_CLASS}, inference)\n"
        f"instructions              {board['instructions_per_inference']:,} per inference "
        f"({EMULATED_CLASS})\n"
        f"all devices agree         {'bit for bit' if same else 'NO'} "
        f"({first.samples} digits, {len(answers)} devices)",
        highlight=False,
    )
    if not same:
        raise DemoFailedError("devices gave different answers to the same digits")


def _print_next(console: Console, environment: Environment | None) -> None:
    if environment is None:
        console.print(
            "\nTo look around, run [bold].venv/bin/tinyml demo --keep[/bold] (the same, then it "
            "stays until Ctrl-C) and, in another terminal, what it prints:",
            highlight=False,
        )
        kubeconfig = "<printed by --keep>"
    else:
        kubeconfig = str(environment.kubeconfig)
    console.print(
        f"  export KUBECONFIG={kubeconfig}\n"
        "  kubectl get tinymodels,tinymodelrevisions,modelbuilds,gatewaydeployments,edgegateways\n"
        f"  kubectl describe tinymodel {MODEL}\n"
        f"  kubectl get gatewaydeployment {GATEWAY} -o yaml\n"
        "  kubectl get jobs,pods,events\n"
        "  kubectl logs job/<name of a build's job>",
        highlight=False,
        soft_wrap=True,
    )
    if environment is not None:
        console.print("Ctrl-C stops everything.")
