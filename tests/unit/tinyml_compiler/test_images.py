"""Images are MCUboot's, bind class and ABI, are the same each time, and say what does not fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from imgtool.image import Image, VerifyResult
from tinyml_compiler.errors import CodeTooLargeError, WeightsTooLargeError
from tinyml_compiler.images import HEADER_BYTES, NO_ABI, ImageInvalidError, pack_image, read_image

ABI = bytes(range(32))
PAYLOAD = bytes(range(256)) * 4 + b"xyz"


def packed(**changes: object) -> bytes:
    arguments: dict[str, object] = {
        "slot_bytes": 65536,
        "device_class": "mps2-an386",
        "abi_hash": ABI,
        **changes,
    }
    return pack_image(PAYLOAD, **arguments).data  # type: ignore[arg-type]


def test_an_image_reads_back_as_it_was_packed() -> None:
    fields = read_image(packed(version="1.2.3+4"))
    assert fields.payload == PAYLOAD + b"\xff"
    assert fields.version == "1.2.3+4"
    assert fields.device_class == "mps2-an386"
    assert fields.abi_hash == ABI
    assert fields.flags == 0


def test_the_hash_is_over_header_payload_and_protected_tlvs() -> None:
    image = pack_image(PAYLOAD, slot_bytes=65536, device_class="c", abi_hash=NO_ABI)
    protected = 4 + (4 + 1) + (4 + 32)
    hashed = image.data[: HEADER_BYTES + len(PAYLOAD) + 1 + protected]
    assert (
        image.image_hash == hashlib.sha256(hashed).hexdigest() == read_image(image.data).image_hash
    )


def test_imgtool_itself_accepts_the_image(tmp_path: Path) -> None:
    path = tmp_path / "code.bin"
    path.write_bytes(packed())
    assert Image.verify(str(path), None)[0] == VerifyResult.OK


def test_the_same_input_gives_the_same_bytes() -> None:
    assert packed() == packed()
    assert packed() != packed(device_class="mps2-an385")
    assert packed() != packed(abi_hash=NO_ABI)


@pytest.mark.parametrize(
    ("kind", "error"), [("code", CodeTooLargeError), ("weights", WeightsTooLargeError)]
)
def test_an_image_larger_than_its_slot_is_refused_with_the_numbers(
    kind: str, error: type[Exception]
) -> None:
    size = len(packed())
    assert len(packed(slot_bytes=size, kind=kind)) == size
    with pytest.raises(error, match=rf"needs {size} bytes, .* has {size - 1}: "):
        packed(slot_bytes=size - 1, kind=kind)


def test_any_changed_byte_is_noticed() -> None:
    good = packed()
    ends = [0, 9, 25, HEADER_BYTES, HEADER_BYTES + 100]
    for at in [*ends, *range(HEADER_BYTES + len(PAYLOAD), len(good))]:
        bad = bytearray(good)
        bad[at] ^= 0x40
        with pytest.raises(ImageInvalidError, match=r"image|TLV"):
            read_image(bytes(bad))


def test_any_truncation_is_noticed() -> None:
    good = packed()
    for length in range(0, len(good), 7):
        with pytest.raises(ImageInvalidError, match=r"image|TLV"):
            read_image(good[:length])


@pytest.mark.parametrize("name", ["", "x" * 64, "a\0b"])
def test_a_class_name_that_a_tlv_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 63"):
        packed(device_class=name)
