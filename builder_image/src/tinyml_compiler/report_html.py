"""`report.html`: the report as one page that needs nothing else, for eyes and for printing.

Drawn from the dictionary of `report.json` alone. All text that comes from a model is escaped: names
of layers are a stranger's. No scripts, no external resources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { --ink: #1d2733; --soft: #5d6b7a; --line: #d9e0e7; --paper: #fff; --bar: #2f6fb2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4eaf0; --soft: #9fb0c0; --line: #34424f; --paper: #141a20; --bar: #6aa8e8; }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.note { color: var(--soft); margin: .2rem 0 .8rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td.n, th.n { text-align: right; }
.cards { display: flex; flex-wrap: wrap; gap: .6rem; margin-bottom: .6rem; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem; min-width: 8rem; }
.card b { display: block; font-size: 1.35rem; } .card span { color: var(--soft); }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
.bar { fill: var(--bar); } .wide { overflow-x: auto; } .wide td { white-space: nowrap; }
td.name { max-width: 13rem; overflow: hidden; text-overflow: ellipsis; }
code { overflow-wrap: anywhere; }
"""

# Readable behind dark and light text, and apart for most kinds of colour vision.
_COLOURS = ("#7fb3de", "#f0b36a", "#8fc98b", "#d99bc0", "#b8a6e0", "#d8cf78", "#8fd0cc", "#e0988a")

_PLAN_WIDTH = 960
_PLAN_HEIGHT = 320
_PLAN_LEFT = 80
_PLAN_BOTTOM = 24
_BOX_MIN_HEIGHT = 3  # its border is 1
_LABEL_MIN_WIDTH = 60
_LABEL_MIN_HEIGHT = 13


def render(report: Mapping[str, Any]) -> bytes:
    """Return the page for the dictionary of a `report.json`."""
    title = f"{report['device_class']}: build report"
    body = [
        f"<h1>{escape(title)}</h1>",
        _cards(report),
        _exactness(report),
        _identity(report),
        _memory_plan(report),
        _layers(report),
        _tensors("Inputs", report["inputs"]),
        _tensors("Outputs", report["outputs"]),
        _sizes(report),
        _stages(report["stages"]),
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
    )
    return (page + "\n".join(part for part in body if part) + "\n</body></html>\n").encode()


def _cards(report: Mapping[str, Any]) -> str:
    flash, ram = report["flash_bytes"], report["ram_bytes"]
    instructions = report["instructions_per_inference"]
    cards = (
        ("flash", f"{flash['total']:,} B"),
        ("RAM", f"{ram['total']:,} B"),
        ("multiply-accumulates", f"{report['macs']:,}"),
        ("instructions", "—" if instructions is None else f"{instructions:,}"),
        ("mismatches", f"{report['oracle']['mismatches']}"),
    )
    inner = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in cards
    )
    return f'<div class="cards">{inner}</div>'


def _exactness(report: Mapping[str, Any]) -> str:
    oracle, emulator = report["oracle"], report["emulator"]
    if emulator["name"]:
        core = (
            f"{emulator['vectors']} vectors on {emulator['name']}: "
            f"{emulator['mismatches']} mismatches."
        )
    else:
        core = f"No emulated core: {report['instructions_reason']}."
    text = (
        f"Bit for bit against {oracle['name']} {oracle['version']} "
        f"({oracle['rounding']} rounding): {oracle['vectors']} vectors on the host, "
        f"{oracle['mismatches']} mismatches. {core}"
    )
    return f'<p class="note">{escape(text)}</p>'


def _identity(report: Mapping[str, Any]) -> str:
    rows = [
        ("model", report["model_sha256"]),
        ("compiled model", report["compiled_sha256"]),
        ("quantized by", report["quantizer"] or "as it came"),
        ("device class", f"{report['device_class']} ({report['cpu']})"),
        ("board", report["board"] or "none: library and bare inference"),
        ("compiler", report["compiler"]),
        ("toolchain", report["toolchain"]),
        ("ABI hash", report["abi_hash"]),
    ]
    lines = "".join(
        f"<tr><th>{escape(name)}</th><td><code>{escape(str(value))}</code></td></tr>"
        for name, value in rows
    )
    return f"<table>{lines}</table>"


def _memory_plan(report: Mapping[str, Any]) -> str:
    plan = report["memory_plan"]
    layers = report["layers"]
    arena = plan["arena_bytes"]
    note = (
        f"Arena {arena:,} bytes; no plan needs fewer than {plan['lower_bound_bytes']:,}. "
        "Left to right: the layers in the order that they run. Upwards: bytes of the arena."
    )
    head = f'<h2>Memory plan</h2><p class="note">{escape(note)}</p>'
    if not plan["buffers"] or not arena:
        return head
    # Before the first layer (-1) and after the last are columns of their own.
    columns = len(layers) + 2
    column = _PLAN_WIDTH / columns
    boxes = [
        _buffer_box(buffer, index, column, arena) for index, buffer in enumerate(plan["buffers"])
    ]
    grid = [
        f'<line x1="{_PLAN_LEFT}" x2="{_PLAN_LEFT + _PLAN_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" '
        f'stroke="var(--line)"/><text x="{_PLAN_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
        f"{arena * part // 4:,}</text>"
        for part in range(5)
        for y in [_PLAN_HEIGHT * (1 - part / 4) + 8]
    ]
    step = max(1, columns // 24)
    ticks = [
        f'<text x="{_PLAN_LEFT + (index + 1.5) * column:.1f}" y="{_PLAN_HEIGHT + 22}" '
        f'text-anchor="middle">{index}</text>'
        for index in range(0, len(layers), step)
    ]
    width, height = _PLAN_LEFT + _PLAN_WIDTH + 8, _PLAN_HEIGHT + 8 + _PLAN_BOTTOM
    return (
        f'{head}<svg viewBox="0 0 {width} {height}" role="img" aria-label="memory plan">'
        f"{''.join(grid)}{''.join(boxes)}{''.join(ticks)}</svg>"
    )


def _buffer_box(buffer: Mapping[str, Any], index: int, column: float, arena: int) -> str:
    x = _PLAN_LEFT + (buffer["first"] + 1) * column
    width = (buffer["last"] - buffer["first"] + 1) * column
    height = max(_PLAN_HEIGHT * buffer["bytes"] / arena, _BOX_MIN_HEIGHT)
    y = 8 + _PLAN_HEIGHT * (1 - buffer["offset"] / arena) - height
    names = ", ".join(buffer["tensors"])
    told = (
        f"{names}: {buffer['bytes']:,} bytes at {buffer['offset']:,}, "
        f"layers {buffer['first']} to {buffer['last']}"
    )
    label = ""
    if width >= _LABEL_MIN_WIDTH and height >= _LABEL_MIN_HEIGHT:
        text = f"{buffer['bytes']:,}"
        label = (
            f'<text x="{x + width / 2:.1f}" y="{y + height / 2 + 4:.1f}" text-anchor="middle" '
            f'style="fill:#1d2733">{text}</text>'
        )
    return (
        f'<g><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{_COLOURS[index % len(_COLOURS)]}" stroke="var(--paper)">'
        f"<title>{escape(told)}</title></rect>{label}</g>"
    )


def _layers(report: Mapping[str, Any]) -> str:
    layers = report["layers"]
    most = max((layer["macs"] for layer in layers), default=0) or 1
    rows = [
        (
            str(index),
            layer["name"],
            layer["op"],
            " × ".join(map(str, layer["shape"])),
            layer["kernel"],
            f"{layer['weights_bytes']:,}",
            f"{layer['macs']:,}",
            layer["macs"] / most,
        )
        for index, layer in enumerate(layers)
    ]
    lines = "".join(
        "<tr>"
        + f'<td class="n">{row[0]}</td>'
        + _name(row[1])
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[2:5])
        + f'<td class="n">{row[5]}</td><td class="n">{row[6]}</td><td>{_bar(row[7])}</td></tr>'
        for row in rows
    )
    head = (
        '<tr><th class="n">#</th><th>layer</th><th>operator</th><th>output</th><th>kernel</th>'
        '<th class="n">weights, B</th><th class="n">MACs</th><th></th></tr>'
    )
    return f'<h2>Layers</h2><div class="wide"><table>{head}{lines}</table></div>'


def _name(name: str) -> str:
    """A cell; converters join hundreds of characters to a name: the end is in the tool tip."""
    return f'<td class="name" title="{escape(name)}">{escape(name)}</td>'


def _bar(share: float) -> str:
    return (
        '<svg viewBox="0 0 100 10" style="width:100px" aria-hidden="true">'
        f'<rect class="bar" width="{100 * share:.1f}" height="10"/></svg>'
    )


def _tensors(title: str, tensors: Sequence[Mapping[str, Any]]) -> str:
    lines = "".join(
        f"<tr>{_name(tensor['name'])}<td>{escape(tensor['dtype'])}</td>"
        f"<td>{escape(' × '.join(map(str, tensor['shape'])))}</td>"
        f'<td class="n">{tensor["scale"]}</td><td class="n">{tensor["zero_point"]}</td>'
        f'<td class="n">{tensor["arena_offset"]:,}</td><td class="n">{tensor["bytes"]:,}</td></tr>'
        for tensor in tensors
    )
    head = (
        '<tr><th>name</th><th>type</th><th>shape</th><th class="n">scale</th>'
        '<th class="n">zero point</th><th class="n">arena offset</th><th class="n">bytes</th></tr>'
    )
    return f'<h2>{escape(title)}</h2><div class="wide"><table>{head}{lines}</table></div>'


def _sizes(report: Mapping[str, Any]) -> str:
    flash, ram, firmware = report["flash_bytes"], report["ram_bytes"], report["firmware"]
    rows = [
        ("inference: weights", flash["weights"], "flash"),
        ("inference: code", flash["code"], "flash"),
        ("inference: arena", ram["arena"], "RAM"),
        ("inference: static data", ram["static"], "RAM"),
        ("inference: stack, as measured", ram["stack"], "RAM"),
    ]
    if firmware:
        rows += [
            ("firmware around it", firmware["flash_bytes"], "flash"),
            ("firmware: static data", firmware["ram_bytes"], "RAM"),
            ("firmware: stack, reserved", firmware["stack_reserved_bytes"], "RAM"),
        ]
        if firmware["boot_bytes"] is not None:
            rows.append(("boot stage", firmware["boot_bytes"], "flash"))
    rows += [
        (f"image: {name}, of {image['slot_bytes']:,} in its slot", image["size_bytes"], "slot")
        for name, image in report["images"].items()
    ]
    lines = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{size:,}</td><td>{where}</td></tr>'
        for name, size, where in rows
    )
    return (
        '<h2>Sizes</h2><table><tr><th>part</th><th class="n">bytes</th><th>in</th></tr>'
        f"{lines}</table>"
    )


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    longest = max((stage["seconds"] for stage in stages), default=0) or 1
    lines = "".join(
        f'<tr><td>{escape(stage["name"])}</td><td class="n">{stage["seconds"]:.3f}</td>'
        f"<td>{_bar(stage['seconds'] / longest)}</td></tr>"
        for stage in stages
    )
    return (
        '<h2>Stages</h2><table><tr><th>stage</th><th class="n">seconds</th><th></th></tr>'
        f"{lines}</table>"
    )
