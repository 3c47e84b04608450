"""Prometheus metrics of one agent: base units, labels from closed sets, no series per device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from tinyml_api.gatewaydeployment import DeviceState

from tinyml_gateway.errors import Reason


class Metrics:
    """The agent's metrics in a registry of their own: several agents fit into one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._devices = Gauge(
            "tinyml_gateway_devices",
            "Devices that this gateway's deployment names, by state.",
            ["state"],
            registry=self.registry,
        )
        self.flashed_bytes = Counter(
            "tinyml_gateway_flashed_bytes_total",
            "Bytes of images sent to devices.",
            registry=self.registry,
        )
        self.flashes = Counter(
            "tinyml_gateway_flashes_total",
            "Updates of a device, by outcome.",
            ["outcome"],
            registry=self.registry,
        )
        self.flash_seconds = Histogram(
            "tinyml_gateway_flash_seconds",
            "Time of an update that succeeded, until the device ran the new images.",
            buckets=(1, 2, 5, 10, 20, 60, 120, 300, 900, 1800),
            registry=self.registry,
        )
        self.failures = Counter(
            "tinyml_gateway_failures_total",
            "Failed attempts on devices and artifacts, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.fetched_bytes = Counter(
            "tinyml_gateway_fetched_bytes_total",
            "Bytes of artifacts that came over the network.",
            registry=self.registry,
        )
        self.status_writes = Counter(
            "tinyml_gateway_status_writes_total",
            "Writes of the GatewayDeployment's status.",
            registry=self.registry,
        )
        for reason in Reason:
            self.failures.labels(reason=reason.value)
        for outcome in ("succeeded", "failed", "cancelled"):
            self.flashes.labels(outcome=outcome)
        self.set_devices(())

    def set_devices(self, states: Iterable[DeviceState]) -> None:
        """Set the counts by state, zeros too."""
        found = list(states)
        for state in DeviceState:
            self._devices.labels(state=state.name.lower()).set(found.count(state))

    @contextlib.contextmanager
    def serving(self, address: tuple[str, int] | None) -> Iterator[int | None]:
        """Serve `/metrics` from a thread of its own; gives the port. Without an address nothing."""
        if address is None:
            yield None
            return
        host, port = address
        server, thread = start_http_server(port, host, self.registry)
        try:
            yield int(server.server_port)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
