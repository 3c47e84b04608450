"""`MemoryStorage`: the artifact store in memory, for tests. `down` makes it fail."""

from __future__ import annotations

from tinyml_operator.storage import StorageError


class MemoryStorage:
    """URLs are `memory://bucket/key`; `objects` maps (bucket, key) to bytes."""

    def __init__(self, bucket: str = "tinyml") -> None:
        self.bucket = bucket
        self.objects: dict[tuple[str, str], bytes] = {}
        self.down: str | None = None

    async def get(self, key: str, *, most: int) -> bytes | None:
        self._check()
        found = self.objects.get((self.bucket, key))
        return found[:most] if found is not None else None

    async def put(self, key: str, data: bytes) -> None:
        self._check()
        self.objects[(self.bucket, key)] = data

    async def size(self, bucket: str, key: str) -> int | None:
        self._check()
        found = self.objects.get((bucket, key))
        return len(found) if found is not None else None

    async def get_url(self, bucket: str, key: str, *, seconds: int) -> str:
        return f"memory://{bucket}/{key}?for={seconds}"

    async def put_url(self, key: str, *, seconds: int) -> str:
        return f"memory://{self.bucket}/{key}?put&for={seconds}"

    def _check(self) -> None:
        if self.down:
            raise StorageError(self.down)
