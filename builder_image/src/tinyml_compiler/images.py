"""How a payload becomes an MCUboot image that boots on one device class only.

Called by `build` for the two images of a build (0 code, 1 weights), by the firmware's factory
image and by tests. The format is imgtool's; this module decides the fields: header of 0x200 bytes,
SHA-256, no key, and two protected TLVs that bind an image to its device class and a code image to
its weights. The operator signs later.
Contract: docs/decisions/001-spine-contracts.md, "Images".
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imgtool.image import Image
from imgtool.version import decode_version

from tinyml_compiler.errors import CodeTooLargeError, WeightsTooLargeError

HEADER_BYTES = 0x200
TLV_DEVICE_CLASS = 0x00A0
TLV_ABI_HASH = 0x00A1
ABI_HASH_BYTES = 32
NO_ABI = bytes(ABI_HASH_BYTES)  # of the factory image: needs no weights

DEVICE_CLASS_LIMIT_BYTES = 63  # the firmware keeps the name with its NUL in 64 bytes

_HEADER = struct.Struct("<IIHHIIBBHII")
_MAGIC = 0x96F3B83D
_TLV_PROTECTED = 0x6908
_TLV_PLAIN = 0x6907
_TLV_SHA256 = 0x10

ImageKind = Literal["code", "weights"]


class ImageInvalidError(ValueError):
    """Bytes that are not an image of ours."""


@dataclass(frozen=True, slots=True)
class PackedImage:
    """An image as it is uploaded; `image_hash` is the value of its SHA-256 TLV in hex."""

    data: bytes
    image_hash: str


@dataclass(frozen=True, slots=True)
class ImageFields:
    """What `read_image` finds. `version` is `major.minor.revision+build`; TLVs are type → value."""

    payload: bytes
    version: str
    flags: int
    protected: Mapping[int, bytes]
    image_hash: str

    @property
    def device_class(self) -> str:
        return self.protected[TLV_DEVICE_CLASS].decode()

    @property
    def abi_hash(self) -> bytes:
        return self.protected[TLV_ABI_HASH]


def pack_image(
    payload: bytes,
    *,
    slot_bytes: int,
    device_class: str,
    abi_hash: bytes,
    version: str = "0.1.0",
    align: int = 4,
    kind: ImageKind = "code",
) -> PackedImage:
    """Return `payload` as an MCUboot image for `device_class`; the same input gives the same bytes.

    `align` is the flash's write block in bytes: the payload is filled up to it with 0xFF.
    Raises `CodeTooLargeError` or `WeightsTooLargeError` (by `kind`) where the image exceeds
    `slot_bytes`, ValueError for a class name or an ABI hash that the format cannot hold.
    """
    name = device_class.encode()
    if not 0 < len(name) <= DEVICE_CLASS_LIMIT_BYTES or b"\0" in name:
        raise ValueError(
            f"device class name {device_class!r} has {len(name)} bytes, "
            f"an image holds 1 to {DEVICE_CLASS_LIMIT_BYTES} without NUL"
        )
    if len(abi_hash) != ABI_HASH_BYTES:
        raise ValueError(f"ABI hash has {len(abi_hash)} bytes, it must have {ABI_HASH_BYTES}")
    image = Image(
        version=decode_version(version),
        header_size=HEADER_BYTES,
        pad_header=True,
        align=align,
        overwrite_only=True,  # boot copies, it never swaps: no trailer at the slot's end
        endian="little",
    )
    # imgtool reads its payload from a file and from nowhere else.
    with tempfile.TemporaryDirectory(prefix="tinyml-image-") as folder:
        path = Path(folder, "payload.bin")
        path.write_bytes(payload + b"\xff" * (-len(payload) % align))
        image.load(str(path))
    image.create(
        key=None,
        public_key_format="hash",
        enckey=None,
        custom_tlvs={TLV_DEVICE_CLASS: name, TLV_ABI_HASH: abi_hash},
        user_sha="256",
    )
    data = bytes(image.payload)
    _check_slot(len(data), slot_bytes, device_class, kind)
    return PackedImage(data=data, image_hash=image.image_hash.hex())


def read_image(data: bytes) -> ImageFields:
    """Return the fields of an image after checking all of it: header, both TLV areas, SHA-256.

    Raises `ImageInvalidError` naming what is wrong.
    """
    if len(data) < HEADER_BYTES:
        raise ImageInvalidError(f"image has {len(data)} bytes, its header alone has {HEADER_BYTES}")
    (
        magic,
        _,
        header_bytes,
        protected_bytes,
        payload_bytes,
        flags,
        major,
        minor,
        revision,
        build,
        _,
    ) = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ImageInvalidError(f"image magic is 0x{magic:08x}, not 0x{_MAGIC:08x}")
    if header_bytes != HEADER_BYTES:
        raise ImageInvalidError(f"image header has {header_bytes} bytes, not {HEADER_BYTES}")
    payload_end = header_bytes + payload_bytes
    protected, hashed_end = _read_tlvs(data, payload_end, _TLV_PROTECTED)
    if hashed_end - payload_end != protected_bytes:
        raise ImageInvalidError(
            f"image header says {protected_bytes} bytes of protected TLVs, "
            f"there are {hashed_end - payload_end}"
        )
    plain, end = _read_tlvs(data, hashed_end, _TLV_PLAIN)
    if end != len(data):
        raise ImageInvalidError(f"image ends at byte {end}, the file has {len(data)}")
    digest = hashlib.sha256(data[:hashed_end]).digest()
    if plain.get(_TLV_SHA256) != digest:
        found = plain.get(_TLV_SHA256, b"").hex() or "missing"
        raise ImageInvalidError(f"image hash is {found}, its content has {digest.hex()}")
    for tlv in (TLV_DEVICE_CLASS, TLV_ABI_HASH):
        if tlv not in protected:
            raise ImageInvalidError(f"image has no protected TLV 0x{tlv:04x}")
    return ImageFields(
        payload=data[header_bytes:payload_end],
        version=f"{major}.{minor}.{revision}+{build}",
        flags=flags,
        protected=protected,
        image_hash=digest.hex(),
    )


def _check_slot(found: int, slot_bytes: int, device_class: str, kind: ImageKind) -> None:
    if found <= slot_bytes:
        return
    if kind == "weights":
        raise WeightsTooLargeError(
            f"weights image needs {found} bytes, the weights slot of device class {device_class!r} "
            f"has {slot_bytes}: use a smaller model, or drop the class"
        )
    raise CodeTooLargeError(
        f"code image needs {found} bytes, the code slot of device class {device_class!r} "
        f"has {slot_bytes}: use fewer kinds of layers, or drop the class"
    )


def _read_tlvs(data: bytes, start: int, magic: int) -> tuple[dict[int, bytes], int]:
    """Return the TLVs of the area at `start` and where it ends."""
    if start + 4 > len(data):
        raise ImageInvalidError(f"image ends at byte {len(data)}, TLVs should begin at {start}")
    found_magic, total = struct.unpack_from("<HH", data, start)
    if found_magic != magic:
        raise ImageInvalidError(f"TLV magic at {start} is 0x{found_magic:04x}, not 0x{magic:04x}")
    end = start + total
    if end > len(data):
        raise ImageInvalidError(f"TLVs end at byte {end}, the image has {len(data)}")
    values: dict[int, bytes] = {}
    at = start + 4
    while at < end:
        if at + 4 > end:
            raise ImageInvalidError(f"TLV at {at} is cut off at {end}")
        kind, length = struct.unpack_from("<HH", data, at)
        if at + 4 + length > end:
            raise ImageInvalidError(f"TLV 0x{kind:04x} at {at} runs over its area's end {end}")
        if kind in values:
            raise ImageInvalidError(f"TLV 0x{kind:04x} occurs twice")
        values[kind] = data[at + 4 : at + 4 + length]
        at += 4 + length
    return values, end
