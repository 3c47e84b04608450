"""What an MCUboot file says of itself, as far as the agent must know before it touches a device.
Called by `visit`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from smpclient.mcuboot import IMAGE_TLV, ImageInfo, MCUBootImageError
from tinyml_api.images import ImageFile

from tinyml_gateway.errors import DeviceClassMismatchError, ImageInvalidError

TLV_DEVICE_CLASS: Final = 0xA0


def check_image(path: Path, artifact: ImageFile, device_class: str) -> None:
    """Raise where the file can never become what the spec says: another hash inside, or another
    class.

    `ImageInvalidError`, or `DeviceClassMismatchError` naming both classes.
    """
    try:
        info = ImageInfo.load_file(str(path))
    except (MCUBootImageError, struct.error, ValueError) as error:
        raise ImageInvalidError(f"{artifact.digest} is no MCUboot image: {error}") from error
    hashes = [tlv.value.hex() for tlv in info.tlvs if tlv.header.type == IMAGE_TLV.SHA256]
    if hashes != [artifact.image_hash]:
        raise ImageInvalidError(
            f"{artifact.digest} holds image hash {hashes[0] if hashes else 'none'}, the spec says "
            f"{artifact.image_hash}: no device could ever report that"
        )
    classes = [
        tlv.value.decode(errors="replace")
        for tlv in info.protected_tlvs or []
        if tlv.header.type == TLV_DEVICE_CLASS
    ]
    if classes != [device_class]:
        raise DeviceClassMismatchError(
            f"{artifact.digest} is an image for device class "
            f"'{classes[0] if classes else 'none'}', the spec says '{device_class}'"
        )
