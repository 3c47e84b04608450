"""`library.tar.gz`: the model as portable C that a firmware of somebody else can link.

Generated sources, the weights as a C array, just those kernels that are used, a CMake file, a
README and an example. Called by `build`. The same model gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tinyml_compiler import runtime_sources
from tinyml_compiler.pipeline import COMPILER, CompiledModel, TensorSpec

FOLDER = "tinyml-model"

_TEMPLATES = "src/library"
_BYTES_A_LINE = 20


def make_library(compiled: CompiledModel, *, model_sha256: str, device_class: str) -> bytes:
    """Return the archive. `model_sha256` and `device_class` are named in its README."""
    files = dict(_files(compiled, model_sha256, device_class))
    buffer = io.BytesIO()
    # Nothing of this machine or this moment: no times, no owners, one order.
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size = len(files[name])
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return buffer.getvalue()


def _files(
    compiled: CompiledModel, model_sha256: str, device_class: str
) -> Iterator[tuple[str, bytes]]:
    runtime = runtime_sources.runtime_folder()
    sources = []
    for name, text in compiled.sources.items():
        yield f"model/{name}", text.encode()
        sources.append(f"model/{name}")
    yield "model/tml_weights.h", _weights_h(compiled)
    yield "model/tml_weights.c", _weights_c(compiled.weights)
    sources.append("model/tml_weights.c")
    yield "weights.bin", compiled.weights
    folders = ["src/core", *(f"src/kernels/{name}" for name in sorted(compiled.kernel_sources))]
    for path in _runtime_files(runtime, folders):
        name = path.relative_to(runtime).as_posix()
        yield name, path.read_bytes()
        sources.append(name)
    templates = runtime / _TEMPLATES
    yield "example/main.c", (templates / "example.c").read_bytes()
    listed = "\n".join(f"  {name}" for name in sorted(sources) if name.endswith(".c"))
    yield "CMakeLists.txt", _filled(templates / "CMakeLists.txt.in", {"SOURCES": listed})
    yield (
        "README.md",
        _filled(
            templates / "README.md.in",
            {
                "COMPILER": COMPILER,
                "MODEL": model_sha256,
                "CLASS": device_class,
                "ARENA": str(compiled.arena_bytes),
                "WEIGHTS": str(len(compiled.weights)),
                "TENSORS": _tensors(compiled),
            },
        ),
    )


def _runtime_files(runtime: Path, folders: list[str]) -> Iterator[Path]:
    yield from sorted((runtime / "include" / "tml").glob("*.h"))
    yield from sorted((runtime / "src" / "kernels").glob("*.[hi]*"))
    for folder in folders:
        yield from sorted((runtime / folder).glob("*.[ch]"))


def _weights_h(compiled: CompiledModel) -> bytes:
    return (
        "/* The weights blob of the model, and the sizes that a caller needs at compile time. */\n"
        "#ifndef TML_WEIGHTS_H\n#define TML_WEIGHTS_H\n\n#include <stdint.h>\n\n"
        f"#define TML_WEIGHTS_BYTES {len(compiled.weights)}u\n"
        f"#define TML_ARENA_BYTES {compiled.arena_bytes}u\n\n"
        "extern const uint8_t tml_weights[TML_WEIGHTS_BYTES]; /* aligned to 16 */\n\n#endif\n"
    ).encode()


def _weights_c(weights: bytes) -> bytes:
    lines = [
        ",".join(map(str, weights[at : at + _BYTES_A_LINE]))
        for at in range(0, len(weights), _BYTES_A_LINE)
    ]
    body = ",\n  ".join(lines)
    return (
        '#include "tml_weights.h"\n\n'
        f"_Alignas(16) const uint8_t tml_weights[TML_WEIGHTS_BYTES] = {{\n  {body},\n}};\n"
    ).encode()


def _tensors(compiled: CompiledModel) -> str:
    rows = [
        "| | type | shape | scale | zero point | arena offset | bytes |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, tensors in (("input", compiled.inputs), ("output", compiled.outputs)):
        rows += [_tensor(f"{title} {index}", each) for index, each in enumerate(tensors)]
    return "\n".join(rows)


def _tensor(title: str, tensor: TensorSpec) -> str:
    shape = " × ".join(map(str, tensor.shape))
    scale, zero = ("", "") if tensor.scale is None else (repr(tensor.scale), str(tensor.zero_point))
    return (
        f"| {title} | {tensor.dtype} | {shape} | {scale} | {zero} "
        f"| {tensor.arena_offset} | {tensor.bytes} |"
    )


def _filled(template: Path, values: Mapping[str, str]) -> bytes:
    text = template.read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()
