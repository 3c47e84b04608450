"""`S3Storage`: the artifact store on S3 through boto3, whose blocking calls run in threads.

Credentials are found as boto3 does (environment, shared files, the pod's role). They never leave
the operator: builders and gateways get presigned URLs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tinyml_operator.storage import StorageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 30


class S3Storage:
    """A `Storage` on S3. `public_endpoint` is what presigned URLs name, if it is another."""

    def __init__(
        self, bucket: str, *, endpoint: str | None = None, public_endpoint: str | None = None
    ) -> None:
        self._bucket = bucket
        self._where = endpoint or "AWS S3"
        self._client = _client(endpoint)
        self._signer = _client(public_endpoint) if public_endpoint else self._client

    @property
    def bucket(self) -> str:
        return self._bucket

    async def get(self, key: str, *, most: int) -> bytes | None:
        def read() -> bytes:
            with self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as body:
                return body.read(most)

        return await self._call(read, self._bucket)

    async def put(self, key: str, data: bytes) -> None:
        def write() -> bool:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data)
            return True

        if await self._call(write, self._bucket) is None:
            raise StorageError(f"{self._where} answered 404 to a PUT of s3://{self._bucket}/{key}")

    async def size(self, bucket: str, key: str) -> int | None:
        def read() -> int:
            return self._client.head_object(Bucket=bucket, Key=key)["ContentLength"]

        size = await self._call(read, bucket)
        if size is None:  # a HEAD does not say whether the object or the bucket is missing
            await self._call(lambda: self._client.list_objects_v2(Bucket=bucket, MaxKeys=1), bucket)
        return size

    async def get_url(self, bucket: str, key: str, *, seconds: int) -> str:
        return self._sign("get_object", {"Bucket": bucket, "Key": key}, seconds)

    async def put_url(self, key: str, *, seconds: int) -> str:
        params = {"Bucket": self._bucket, "Key": key, "IfNoneMatch": "*"}
        return self._sign("put_object", params, seconds)

    def _sign(self, operation: str, params: dict[str, str], seconds: int) -> str:
        try:
            return self._signer.generate_presigned_url(operation, Params=params, ExpiresIn=seconds)
        except BotoCoreError as error:  # no credentials, or a name that S3 does not take
            raise StorageError(
                f"no URL can be presigned for bucket {params['Bucket']!r}: {error}"
            ) from error

    async def _call(self, function: Callable[[], T], bucket: str) -> T | None:
        """Run in a thread; None for a missing key. Raises StorageError with a next step."""
        try:
            return await asyncio.to_thread(function)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in ("NoSuchKey", "404", "NotFound"):
                return None
            if code == "NoSuchBucket":
                raise StorageError(
                    f"bucket {bucket!r} does not exist at {self._where}: create it"
                ) from error
            if code in ("AccessDenied", "403", "Forbidden"):
                raise StorageError(
                    f"{self._where} refuses the operator bucket {bucket!r} (AccessDenied): "
                    "look at its credentials and at the bucket's policy"
                ) from error
            raise StorageError(f"{self._where} answered {code} for bucket {bucket!r}") from error
        except (BotoCoreError, OSError) as error:
            raise StorageError(f"{self._where} cannot be reached: {error}") from error


def _client(endpoint: str | None) -> S3Client:
    session = boto3.session.Session()
    return session.client(
        "s3",
        endpoint_url=endpoint,
        region_name=session.region_name or "us-east-1",
        config=Config(
            signature_version="s3v4",
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"max_attempts": 2, "mode": "standard"},
            s3={"addressing_style": "path" if endpoint else "auto"},
        ),
    )
