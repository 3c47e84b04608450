"""The boot stage's decisions, by its own C over a flash in RAM: power cuts, strangers' bytes."""

from __future__ import annotations

import hashlib
import random
import struct
import subprocess
from pathlib import Path

import pytest
from tinyml_compiler.images import NO_ABI, pack_image

CLASS = "unit-class"
ERASE, WRITE = 1024, 8
SLOT = 4096
CODE_PRIMARY, CODE_SECONDARY, WEIGHTS_PRIMARY, WEIGHTS_SECONDARY = (SLOT * i for i in range(4))
ABI_OLD, ABI_NEW = b"o" * 32, b"n" * 32


def an_image(seed: int, abi: bytes, *, size: int = 2000, device_class: str = CLASS) -> bytes:
    payload = random.Random(seed).randbytes(size)
    image = pack_image(payload, slot_bytes=SLOT, device_class=device_class, abi_hash=abi)
    return image.data


def hash_of(image: bytes) -> str:
    return hashlib.sha256(image[: 0x200 + _word(image, 12) + _half(image, 10)]).hexdigest()


def a_flash(**slots: bytes) -> bytes:
    places = {
        "code": CODE_PRIMARY,
        "new_code": CODE_SECONDARY,
        "weights": WEIGHTS_PRIMARY,
        "new_weights": WEIGHTS_SECONDARY,
    }
    flash = bytearray(b"\xff" * (4 * SLOT))
    for name, image in slots.items():
        flash[places[name] : places[name] + len(image)] = image
    return bytes(flash)


def cut_power(harness: Path, tmp_path: Path, flash: bytes, mode: int) -> list[list[str]]:
    """One row a cut: operation, second operation, code hash, weights hash, status afterwards."""
    path = tmp_path / "flash.bin"
    path.write_bytes(flash)
    slots = (CODE_PRIMARY, CODE_SECONDARY, SLOT, WEIGHTS_PRIMARY, WEIGHTS_SECONDARY, SLOT)
    numbers = [str(number) for number in (ERASE, WRITE, mode, *slots)]
    result = subprocess.run(
        [harness, "cut", CLASS, path, *numbers], capture_output=True, text=True, check=True
    )
    return [line.split() for line in result.stdout.splitlines()]


CODE_OLD, CODE_NEW = an_image(1, ABI_OLD), an_image(2, ABI_NEW)
WEIGHTS_OLD, WEIGHTS_NEW = an_image(3, ABI_OLD, size=1500), an_image(4, ABI_NEW, size=2501)
RETRAINED = an_image(5, ABI_OLD, size=1777)
FACTORY = an_image(6, NO_ABI, size=900)


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["nothing", "half", "garbage"])
@pytest.mark.parametrize(
    ("flash", "code", "weights"),
    [
        (
            a_flash(code=CODE_OLD, weights=WEIGHTS_OLD, new_code=CODE_NEW, new_weights=WEIGHTS_NEW),
            CODE_NEW,
            WEIGHTS_NEW,
        ),
        (
            a_flash(code=CODE_OLD, weights=WEIGHTS_OLD, new_weights=RETRAINED),
            CODE_OLD,
            RETRAINED,
        ),
        (
            a_flash(code=FACTORY, new_code=CODE_NEW, new_weights=WEIGHTS_NEW),
            CODE_NEW,
            WEIGHTS_NEW,
        ),
        (
            a_flash(code=CODE_OLD, weights=WEIGHTS_OLD, new_code=FACTORY),
            FACTORY,
            WEIGHTS_OLD,
        ),
    ],
    ids=["pair", "weights alone", "first pair after the factory's", "back to the factory's"],
)
def test_an_update_survives_a_power_cut_in_every_operation(
    boot_harness: Path, tmp_path: Path, flash: bytes, code: bytes, weights: bytes, mode: int
) -> None:
    rows = cut_power(boot_harness, tmp_path, flash, mode)

    assert len({row[0] for row in rows}) > 8  # there were operations to cut
    assert {tuple(row[2:]) for row in rows} == {(hash_of(code), hash_of(weights), "0")}


@pytest.mark.parametrize(
    "flash",
    [
        a_flash(code=CODE_OLD, weights=WEIGHTS_OLD, new_code=CODE_NEW),
        a_flash(code=CODE_OLD, weights=WEIGHTS_OLD, new_weights=WEIGHTS_NEW),
        a_flash(
            code=CODE_OLD,
            weights=WEIGHTS_OLD,
            new_code=an_image(7, ABI_NEW, device_class="another"),
            new_weights=an_image(8, ABI_NEW, device_class="another"),
        ),
        a_flash(code=CODE_OLD, weights=WEIGHTS_OLD, new_code=CODE_NEW[:-1] + b"?"),
        a_flash(
            code=CODE_OLD, weights=WEIGHTS_OLD, new_code=CODE_NEW[:700] + b"\x00" + CODE_NEW[701:]
        ),
    ],
    ids=["code without weights", "weights without code", "other class", "hash", "payload"],
)
def test_what_does_not_fit_is_left_alone(boot_harness: Path, tmp_path: Path, flash: bytes) -> None:
    rows = cut_power(boot_harness, tmp_path, flash, 0)

    assert [row[2:] for row in rows] == [[hash_of(CODE_OLD), hash_of(WEIGHTS_OLD), "0"]]


def test_sha256_equals_hashlib(boot_harness: Path, tmp_path: Path) -> None:
    for size in (0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 5000):
        path = tmp_path / "data"
        path.write_bytes(random.Random(size).randbytes(size))
        result = subprocess.run(
            [boot_harness, "sha256", path], capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_damaged_image_is_taken_for_whole(boot_harness: Path, tmp_path: Path) -> None:
    path = tmp_path / "flash.bin"

    def found(image: bytes) -> str:
        path.write_bytes(image.ljust(SLOT, b"\xff"))
        arguments = [str(boot_harness), "check", CLASS, str(path), "0", str(SLOT)]
        result = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=10)
        return result.stdout.strip()

    assert found(CODE_NEW) == hash_of(CODE_NEW)
    chance = random.Random(9)
    lengths = (0, 2, 8, 10, 12, 13, 14, 15, 0x200 + 2000 + 2, len(CODE_NEW) - 38)
    damaged = [CODE_NEW[:at] + b"\xff\xff" + CODE_NEW[at + 2 :] for at in lengths]
    for _ in range(80):
        at = chance.randrange(len(CODE_NEW))
        damaged.append(CODE_NEW[:at] + bytes([CODE_NEW[at] ^ 0x41]) + CODE_NEW[at + 1 :])
    assert {found(image) for image in damaged} == {"none"}


def _word(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _half(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])
