"""A tiny model, its images, and a client that speaks SMP to a device: what firmware tests share."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import select
import struct
import subprocess
import sys
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
from smp import packet
from tinyml_compiler.images import PackedImage, pack_image
from tinyml_compiler.link import FactoryFlash, build_firmware, factory_flash
from tinyml_compiler.target import Target
from tinyml_compiler.toolchain import Toolchain

REPO = Path(__file__).resolve().parents[2]
READ, WRITE = 0, 2
OS, IMAGE, TINYML = 0, 1, 64
TIMEOUT_S = 10.0

_SLOTS = {
    "eraseBlockBytes": 4096,
    "writeBlockBytes": 4,
    "boot": {"address": 0, "sizeBytes": 32768},
    "code": {"primaryOffset": 0, "secondaryOffset": 262144, "sizeBytes": 262144},
    "weights": {"primaryOffset": 524288, "secondaryOffset": 589824, "sizeBytes": 65536},
}
SPECS: Mapping[str, Mapping[str, Any]] = {
    "posix": {
        "cpu": "Host",
        "board": "posix",
        "ram": {"address": 0, "sizeBytes": 65536},
        "flash": {"address": 0, "sizeBytes": 655360, **_SLOTS},
    },
    "mps2-an386": {
        "cpu": "CortexM4F",
        "board": "mps2-an386",
        "ram": {"address": 0x20000000, "sizeBytes": 65536},
        "flash": {"address": 0x21000000, "sizeBytes": 655360, **_SLOTS},
    },
    "mps2-an385": {
        "cpu": "CortexM3",
        "board": "mps2-an385",
        "ram": {"address": 0x20000000, "sizeBytes": 65536},
        "flash": {"address": 0x21000000, "sizeBytes": 655360, **_SLOTS},
    },
}

ABI = hashlib.sha256(b"tiny").digest()
INPUT_BYTES, OUTPUT_BYTES = 12, 8
# out[i] = in[i] + in[8 + i % 4] + weights[48 + i], input tensors of 8 and 4 bytes.
MODEL_C = """
#include "tml/model.h"
static const tml_tensor_io_t inputs[2] = {{0u, 8u}, {16u, 4u}};
static const tml_tensor_io_t outputs[1] = {{24u, 8u}};
static tml_status_t invoke(const uint8_t *weights, uint8_t *arena) {
  for (uint32_t i = 0; i < 8u; i++) {
    arena[24u + i] = (uint8_t)(arena[i] + arena[16u + i % 4u] + weights[48u + i]);
  }
  return TML_OK;
}
const tml_model_t tml_model = {
    .abi_hash = {@ABI@}, .arena_bytes = 32u, .weights_bytes = 64u,
    .input_count = 2, .output_count = 1, .inputs = inputs, .outputs = outputs, .invoke = invoke};
""".replace("@ABI@", ", ".join(str(byte) for byte in ABI))


def weights_blob(start: int) -> bytes:
    """A blob whose eight weights are start, start + 1, …"""
    blob = struct.pack("<IHHII32s", 0x574C4D54, 1, 48, 64, 0, ABI)
    return blob + bytes((start + i) % 256 for i in range(16))


def expected_output(data: bytes, start: int) -> bytes:
    return bytes((data[i] + data[8 + i % 4] + start + i) % 256 for i in range(OUTPUT_BYTES))


@dataclass(frozen=True)
class Product:
    """All that a device class needs: boot, factory flash, a code image, weights images."""

    target: Target
    boot: Path
    flash: bytes
    code: PackedImage

    def weights(self, start: int = 0, *, abi: bytes = ABI) -> PackedImage:
        return pack_image(
            weights_blob(start),
            slot_bytes=self.target.flash.weights.size_bytes,
            device_class=self.target.name,
            abi_hash=abi,
            kind="weights",
        )


def make_product(name: str, toolchain: Toolchain, target: Target, folder: Path) -> Product:
    factory: FactoryFlash = factory_flash(target, toolchain, folder / "factory")
    boot = folder / "boot.elf"
    boot.write_bytes(factory.boot)
    boot.chmod(0o755)
    linked = build_firmware(target, toolchain, {"model.c": MODEL_C}, (), folder / "model")
    code = pack_image(
        linked.payload,
        slot_bytes=target.flash.code.size_bytes,
        device_class=name,
        abi_hash=linked.abi_hash,
    )
    (folder / "class.json").write_text(json.dumps(SPECS[name]))
    return Product(target, boot, factory.flash, code)


class Client:
    """SMP over a pseudo terminal, one request at a time."""

    def __init__(self, link: Path) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self._fd = os.open(link, os.O_RDWR | os.O_NOCTTY)
                break
            except OSError:  # not there yet, or the link of a device that was killed
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        tty.setraw(self._fd)
        self._sequence = itertools.count()

    def close(self) -> None:
        os.close(self._fd)

    def send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]

    def receive_line(self, timeout_s: float = TIMEOUT_S) -> bytes | None:
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._fd], [], [], timeout_s)[0]:
                return None
            line += os.read(self._fd, 1)
        return line

    def exchange(self, message: bytes, timeout_s: float = TIMEOUT_S) -> bytes | None:
        """The answer's message, or None where none comes in time."""
        for line in packet.encode(message):
            self.send(line)
        decoder = packet.decode()
        next(decoder)
        while True:
            answer = self.receive_line(timeout_s)
            if answer is None:
                return None
            try:
                decoder.send(answer)
            except StopIteration as done:
                return bytes(done.value)

    def request(
        self, op: int, group: int, command: int, body: Any = None, *, version: int = 1
    ) -> dict[str, Any]:
        sequence = next(self._sequence) % 256
        payload = cbor2.dumps({} if body is None else body)
        header = struct.pack(
            ">BBHHBB", version << 3 | op, 0, len(payload), group, sequence, command
        )
        answer = self.exchange(header + payload)
        assert answer is not None, "no answer"
        ver_op, flags, length, got_group, got_sequence, got_command = struct.unpack(
            ">BBHHBB", answer[:8]
        )
        assert (ver_op, flags, got_group, got_sequence, got_command) == (
            version << 3 | op + 1,
            0,
            group,
            sequence,
            command,
        )
        assert length == len(answer) - 8
        decoded: dict[str, Any] = cbor2.loads(answer[8:])
        return decoded

    def upload(self, image: int, data: bytes, *, until: int | None = None) -> dict[str, Any]:
        """Upload as smpclient does; stop once `until` bytes have been taken."""
        body: dict[str, Any] = {
            "image": image,
            "len": len(data),
            "off": 0,
            "sha": hashlib.sha256(data).digest(),
            "data": data[:1000],
        }
        while True:
            answer = self.request(WRITE, IMAGE, 1, body)
            if "off" not in answer or answer["off"] >= (len(data) if until is None else until):
                return answer
            off = answer["off"]
            body = {"off": off, "data": data[off : off + 1500]}

    def reset(self) -> None:
        assert self.request(WRITE, OS, 5) == {}

    def slots(self) -> dict[tuple[int, int], dict[str, Any]]:
        images = self.request(READ, IMAGE, 0)["images"]
        return {(found["image"], found["slot"]): found for found in images}

    def infer(self, data: bytes) -> bytes:
        off = 0
        while off < len(data):
            off = self.request(WRITE, TINYML, 1, {"off": off, "data": data[off : off + 5]})["off"]
        assert "ticks" in self.request(WRITE, TINYML, 2)
        answer = self.request(READ, TINYML, 3, {"off": 0})
        assert answer["len"] == OUTPUT_BYTES
        return bytes(answer["data"])


@contextmanager
def device(
    product: Product, flash: Path, link: Path, *, emulator: str = "auto"
) -> Iterator[subprocess.Popen[bytes]]:
    """A running device, killed at the end. Its flash file is made if it is not there."""
    if not flash.exists():
        flash.write_bytes(product.flash)
    spec = product.boot.with_name("class.json")
    command = [sys.executable, "-m", "tinyml_local.emulator", "--class-spec", str(spec)]
    command += ["--boot", str(product.boot), "--flash", str(flash), "--link", str(link)]
    command += ["--emulator", emulator, "--hardware-id", "unit-7"]
    with subprocess.Popen(command, cwd=REPO) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def client(link: Path) -> Iterator[Client]:
    made = Client(link)
    try:
        yield made
    finally:
        made.close()
