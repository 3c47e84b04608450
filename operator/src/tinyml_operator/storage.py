"""The port to the artifact store: what the operator asks of S3. Real: `s3.S3Storage`; for tests:
`storage_fake.MemoryStorage`.

Keys of ours, in the operator's bucket: `<namespace>/builds/<request digest>/<artifact>` and
`<namespace>/inputs/<sha256>`.
"""

from __future__ import annotations

from typing import Protocol


class StorageError(Exception):
    """The store does not answer, or has no such bucket, or refuses. It may pass."""


class Storage(Protocol):
    @property
    def bucket(self) -> str:
        """Return the bucket for artifacts."""

    async def get(self, key: str, *, most: int) -> bytes | None:
        """Return the first `most` bytes of an object of our bucket, None where there is none.
        Raises StorageError.
        """

    async def put(self, key: str, data: bytes) -> None:
        """Store an object in our bucket. Raises StorageError."""

    async def size(self, bucket: str, key: str) -> int | None:
        """Return the bytes of an object, None where there is none. Raises StorageError."""

    async def get_url(self, bucket: str, key: str, *, seconds: int) -> str:
        """Return a presigned URL to GET the object. Raises StorageError."""

    async def put_url(self, key: str, *, seconds: int) -> str:
        """Return a presigned URL to PUT the object into our bucket with `If-None-Match: *`.
        Raises StorageError.
        """


def build_prefix(namespace: str, request_digest: str) -> str:
    return f"{namespace}/builds/{request_digest}/"


def input_key(namespace: str, sha256: str) -> str:
    """Return the key of an input by its digest (`sha256:<hex>`)."""
    return f"{namespace}/inputs/{sha256.removeprefix('sha256:')}"
