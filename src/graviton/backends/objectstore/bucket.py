"""Buckets themselves: whether one is there, and making it, which only `graviton store init` does."""

from __future__ import annotations

from typing import Any

from graviton.backends.objectstore.clients import s3_client
from graviton.backends.objectstore.config import S3Config
from graviton.backends.objectstore.requests import Requests
from graviton.concurrency.executors import in_own_thread
from graviton.errors import AlreadyExists, ConfigError, NotFound, PermissionDenied

__all__ = ["make_bucket"]

_DEFAULT_REGION = "us-east-1"
"""The one that must not be named. https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html"""


async def make_bucket(config: S3Config, requests: Requests) -> bool:
    """Make the bucket unless it is there; whether it was made. Raises ConfigError if it is somebody else's or in
    another region, PermissionDenied, Unavailable."""
    client = await in_own_thread(s3_client, config, 1)
    try:
        return await _Bucket(config, requests, client).make()
    finally:
        await in_own_thread(client.close)


class _Bucket:
    def __init__(self, config: S3Config, requests: Requests, client: Any) -> None:
        self._config, self._requests, self._client = config, requests, client

    async def make(self) -> bool:
        try:
            await self._call(self._client.head_bucket)
        except PermissionDenied:
            return False  # it is there, or nobody may say: the first use tells
        except NotFound:
            pass
        else:
            return False
        arguments: dict[str, Any] = {}
        if self._config.region != _DEFAULT_REGION:
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": self._config.region}
        try:
            await self._call(self._client.create_bucket, **arguments)
        except AlreadyExists as error:
            await self._check_ours(error)
            return False
        return True

    async def _check_ours(self, error: AlreadyExists) -> None:
        """Somebody made it at the same moment, or long ago. Raises ConfigError unless we may use it."""
        try:
            await self._call(self._client.head_bucket)
        except (PermissionDenied, NotFound):
            raise ConfigError(
                f"the bucket {self._config.bucket} is somebody else's",
                operation="store.init",
                subject="GRAVITON_S3_BLOCK_BUCKET",
                hint="Names of buckets are shared by everybody at AWS: choose another one.",
            ) from error

    async def _call(self, method: Any, **arguments: Any) -> None:
        bucket = self._config.bucket

        async def attempt() -> None:
            await in_own_thread(lambda: method(Bucket=bucket, **arguments))

        await self._requests.run("bucket", bucket, attempt)
