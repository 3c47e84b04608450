"""The pair of images that a device runs, as status and spec of several kinds name it."""

from __future__ import annotations

from dataclasses import dataclass

from tinyml_api.codec import Record


@dataclass(frozen=True, slots=True)
class ImageFile(Record):
    """One MCUboot image: `digest` of the file, `image_hash` that the device reports, bytes."""

    digest: str
    image_hash: str
    size_bytes: int
