"""`tinyml compile`: the very pipeline of a build Job, on this machine and with no cluster."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tinyml_api.build import BuildRequest, Input, ModelFormat, QuantizationMode, sha256_digest

if TYPE_CHECKING:
    from tinyml_compiler.build import Progress

_KERAS_SUFFIXES = frozenset({".keras", ".h5", ".hdf5"})


def compile_model(
    model: Annotated[
        Path, typer.Argument(help="An int8 .tflite file, or a Keras model (.keras, .h5).")
    ],
    device_class: Annotated[
        str,
        typer.Option(help="Name of a DeviceClass of the catalogue, or a YAML file with one."),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the artifacts; made if missing.")],
    calibration: Annotated[
        Path | None,
        typer.Option(help="For a Keras model: .npy or .npz of float32 inputs [n, …]."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Use the first of the calibration data only.")
    ] = None,
    toolchain: Annotated[
        str,
        typer.Option(help="auto, or a name such as ziglang or arm-none-eabi-gcc-12.2.1."),
    ] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print report.json instead of a table.")
    ] = False,
) -> None:
    """Compile a model for a kind of microcontroller and check it bit for bit.

    Leaves firmware, images, the model as a C library and a report in the output folder, by the
    pipeline of a build in the cluster: with the same toolchain they are the same bytes.
    """
    from tinyml_compiler.errors import CompilerError

    console = Console(stderr=as_json)
    try:
        request = _request(model, device_class, calibration, samples, toolchain)
        report = _build(console, request, output)
    except _UnusableError as error:
        _fail(console, str(error))
    except CompilerError as error:
        _fail(console, f"{error.reason}: {error}")
    except OSError as error:
        _fail(console, f"{error.filename or output}: {error.strerror or error}")
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    console.print(_figures(report))
    console.print(
        f"artifacts in {output}; open {output / 'report.html'}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


class _UnusableError(Exception):
    """An argument that names nothing usable."""


def _fail(console: Console, message: str) -> None:
    # Names in a model are a stranger's: no markup of theirs.
    console.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def _request(
    model: Path, device_class: str, calibration: Path | None, samples: int | None, toolchain: str
) -> BuildRequest:
    from tinyml_compiler.pipeline import COMPILER

    name, spec = _device_class(device_class)
    is_keras = model.suffix.lower() in _KERAS_SUFFIXES
    if calibration is not None and not is_keras:
        raise _UnusableError(
            f"calibration data is for Keras models ({', '.join(sorted(_KERAS_SUFFIXES))}), "
            f"{model.name} is used as it is: leave --calibration out"
        )
    mode = QuantizationMode.POST_TRAINING if is_keras else QuantizationMode.AS_IS
    return BuildRequest(
        model=_input(model),
        format=ModelFormat.AUTO,
        quantization=mode,
        calibration=_input(calibration) if calibration is not None else None,
        calibration_samples=samples,
        device_class=name,
        device_class_spec=spec,
        compiler=COMPILER,
        toolchain=toolchain,
    )


def _input(path: Path) -> Input:
    return Input(url=str(path), sha256=sha256_digest(path.read_bytes()))


def _device_class(wanted: str) -> tuple[str, dict[str, Any]]:
    """Return name and spec of the class that `wanted` names, or that is in the file `wanted`."""
    path = Path(wanted)
    if path.suffix in (".yaml", ".yml", ".json"):
        return _from_file(path)
    from tinyml_local.environment import load_manifests

    catalogue = {each["metadata"]["name"]: each["spec"] for each in load_manifests("catalogue")}
    if wanted not in catalogue:
        raise _UnusableError(
            f"device class {wanted!r} is not in the catalogue, which has "
            f"{', '.join(sorted(catalogue))}; a class of your own is given as a YAML file"
        )
    return wanted, catalogue[wanted]


def _from_file(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        found = [each for each in yaml.safe_load_all(path.read_text()) if each]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _UnusableError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    classes = [
        each for each in found if isinstance(each, dict) and each.get("kind") == "DeviceClass"
    ]
    if len(classes) != 1:
        raise _UnusableError(f"{path} has {len(classes)} DeviceClasses, it must have one")
    try:
        return str(classes[0]["metadata"]["name"]), dict(classes[0]["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise _UnusableError(f"{path}: DeviceClass without metadata.name or spec") from error


def _build(console: Console, request: BuildRequest, output: Path) -> dict[str, Any]:
    from tinyml_compiler.__main__ import execute

    with tempfile.TemporaryDirectory(prefix="tinyml-compile-") as work, _live(console) as progress:
        _, done = execute(request, work=Path(work), output=output, progress=progress)
    return done.report.to_dict()


@contextmanager
def _live(console: Console) -> Iterator[Progress]:
    """Show the stage that runs; on a terminal alone."""
    with console.status("starting") as status:

        def show(stage: str, seconds: float | None) -> None:
            if seconds is None:
                status.update(stage)

        yield show


def _figures(report: dict[str, Any]) -> Table:
    flash, ram, oracle = report["flash_bytes"], report["ram_bytes"], report["oracle"]
    emulator, firmware = report["emulator"], report["firmware"]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    instructions = report["instructions_per_inference"]
    core = (
        f"{emulator['vectors']} vectors on {emulator['name']}, {emulator['mismatches']} mismatches"
        if emulator["name"]
        else f"none: {report['instructions_reason']}"
    )
    slowest = sorted(report["stages"], key=lambda stage: -float(stage["seconds"]))[:4]
    rows = {
        "device class": f"{report['device_class']} ({report['cpu']}), {report['toolchain']}",
        "flash": f"{flash['total']:,} bytes: weights {flash['weights']:,}, code {flash['code']:,}",
        "RAM": f"{ram['total']:,} bytes: arena {ram['arena']:,}, static {ram['static']:,}, "
        f"stack {ram['stack']:,}",
        "firmware around it": f"flash {firmware['flash_bytes']:,}, RAM {firmware['ram_bytes']:,}, "
        f"stack reserve {firmware['stack_reserved_bytes']:,}",
        "multiply-accumulates": f"{report['macs']:,} in {len(report['layers'])} layers",
        "instructions": "—" if instructions is None else f"{instructions:,} per inference",
        "exact on the host": f"{oracle['vectors']} vectors against {oracle['name']} "
        f"{oracle['version']}, {oracle['mismatches']} mismatches",
        "exact on the core": core,
        "time": f"{sum(stage['seconds'] for stage in report['stages']):.1f} s: "
        + ", ".join(f"{stage['name']} {stage['seconds']:.1f}" for stage in slowest),
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table
