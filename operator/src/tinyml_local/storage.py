"""The local S3 endpoint: moto's server in a process of its own, and the few calls that the
environment makes.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config


@dataclass(slots=True)
class LocalStorage:
    """`endpoint` serves `bucket`. Nothing survives the server."""

    port: int
    bucket: str
    access_key: str = "tinyml-local"
    secret_key: str = "tinyml-local"  # noqa: S105 - moto takes any
    _client: Any = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def server_command(self, python: str) -> tuple[str, ...]:
        return (python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port))

    def credentials(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    async def ensure_bucket(self) -> None:
        """Make the bucket; raises botocore's errors while the server is not up."""
        await asyncio.to_thread(lambda: self._s3().create_bucket(Bucket=self.bucket))

    async def put(self, key: str, data: bytes) -> tuple[str, str]:
        """Store `data` and return its `s3://` URI and its `sha256:` digest."""
        await asyncio.to_thread(
            lambda: self._s3().put_object(Bucket=self.bucket, Key=key, Body=data)
        )
        return f"s3://{self.bucket}/{key}", "sha256:" + hashlib.sha256(data).hexdigest()

    async def get(self, key: str) -> bytes:
        """Return what is stored under `key`; botocore's ClientError where there is nothing."""

        def read() -> bytes:
            body: bytes = self._s3().get_object(Bucket=self.bucket, Key=key)["Body"].read()
            return body

        return await asyncio.to_thread(read)

    def _s3(self) -> Any:
        if self._client is None:
            self._client = boto3.client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                region_name="us-east-1",
                config=Config(
                    connect_timeout=2,
                    read_timeout=30,
                    retries={"max_attempts": 1},
                    s3={"addressing_style": "path"},
                ),
            )
        return self._client
