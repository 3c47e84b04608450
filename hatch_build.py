"""What a wheel carries besides Python; an editable installation reads it from the checkout."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DATA = {"crds": "tinyml_local/_crds", "device_runtime": "tinyml_compiler/_device_runtime"}


class DataHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"].update(DATA)
