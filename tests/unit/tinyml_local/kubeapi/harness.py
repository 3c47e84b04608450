"""A registry without HTTP, for tests: kinds by name, a clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tinyml_local.kubeapi.kinds import Kind, Kinds
from tinyml_local.kubeapi.registry import Registry, WriteOptions
from tinyml_local.kubeapi.store import Store

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
OPTIONS = WriteOptions(manager="test")


def a_registry(window: int = 4096) -> Registry:
    """Return a registry with the namespace `ns`."""
    registry = Registry(Store(window), Kinds(), clock=lambda: NOW)
    registry.create(kind(registry, "namespaces"), "", named("ns"), OPTIONS)
    return registry


def kind(registry: Registry, plural: str) -> Kind:
    """Return the kind of this plural."""
    return next(k for k in registry.kinds if k.plural == plural)


def named(name: str, **rest: Any) -> dict[str, Any]:
    """Return an object with this name."""
    return {"metadata": {"name": name}, **rest}
