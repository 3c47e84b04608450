"""Make what a new device of a class starts with: `boot.elf` and `flash.bin` with the factory image.

`python -m tinyml_compiler.factory --class-name NAME --class-spec FILE --output DIR`: FILE holds a
DeviceClass or its spec, as YAML or JSON. Called by the local environment as a program, because it
must not import the compiler. Exit status 1 with one sentence on standard error where it cannot.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tinyml_compiler.errors import CompilerError, TargetInvalidError
from tinyml_compiler.link import factory_flash
from tinyml_compiler.target import Target
from tinyml_compiler.toolchain import select


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tinyml_compiler.factory", description=__doc__)
    parser.add_argument("--class-name", required=True)
    parser.add_argument("--class-spec", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--toolchain", default="auto")
    options = parser.parse_args(arguments)
    try:
        target = Target.from_spec(options.class_name, _read_spec(options.class_spec))
        toolchain = select(target, options.toolchain)
        with tempfile.TemporaryDirectory(prefix="tinyml-factory-") as work:
            made = factory_flash(target, toolchain, Path(work))
        options.output.mkdir(parents=True, exist_ok=True)
        _write(options.output / "boot.elf", made.boot, mode=0o755)
        _write(options.output / "flash.bin", made.flash, mode=0o644)
    except (CompilerError, OSError, yaml.YAMLError) as error:
        print(f"factory image of device class {options.class_name!r}: {error}", file=sys.stderr)
        return 1
    return 0


def _read_spec(path: Path) -> Mapping[str, Any]:
    content = yaml.safe_load(path.read_text())
    if isinstance(content, Mapping) and isinstance(content.get("spec"), Mapping):
        content = content["spec"]
    if not isinstance(content, Mapping):
        raise TargetInvalidError(f"{path} holds neither a DeviceClass nor its spec")
    return content


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Whole or not at all: a device may be started from it at any moment."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.chmod(mode)
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
