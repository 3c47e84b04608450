"""The operator's metrics: bounded labels, base units. docs/operator.md lists them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """One registry, so that tests and several operators in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.passes = Histogram(
            "tinyml_reconcile_duration_seconds",
            "Duration of a reconcile pass.",
            ["kind", "outcome"],
            buckets=(0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0),
            registry=self.registry,
        )
        self.builds = Counter(
            "tinyml_builds_finished_total",
            "Builds that ended, by reason (Built, or why not).",
            ["reason"],
            registry=self.registry,
        )
        self.attempts = Counter(
            "tinyml_build_attempts_total", "Jobs started for builds.", registry=self.registry
        )
        self.models = Gauge(
            "tinyml_tinymodels",
            "TinyModels by status of Ready.",
            ["ready"],
            registry=self.registry,
        )
        self.devices = Gauge(
            "tinyml_devices", "Devices of all gateways by state.", ["state"], registry=self.registry
        )
        self.gateways = Gauge(
            "tinyml_gateways",
            "EdgeGateways by reason of Ready.",
            ["reason"],
            registry=self.registry,
        )
        self.artifacts = Counter(
            "tinyml_artifact_requests_total",
            "Requests of agents for artifacts, by HTTP status.",
            ["code"],
            registry=self.registry,
        )
        self.depth = Gauge(
            "tinyml_work_queue_depth", "Objects due for a pass.", registry=self.registry
        )

    def watch_depth(self, read: Callable[[], int]) -> None:
        self.depth.set_function(read)
