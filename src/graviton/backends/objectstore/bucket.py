"""Buckets themselves: whether one is there, and making it, which only `graviton store init` does."""

from __future__ import annotations

from typing import Any

from graviton.backends.objectstore.clients import s3_client
from graviton.backends.objectstore.config import S3Config
from graviton.backends.objectstore.requests import Requests
from graviton.concurrency.executors import in_own_thread
from graviton.errors import AlreadyExists, ConfigError, GravitonError, NotFound, PermissionDenied

__all__ = ["make_bucket"]

_DEFAULT_REGION = "us-east-1"
"""The one that must not be named. https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html"""


async def make_bucket(config: S3Config, requests: Requests) -> bool:
    """Make the bucket unless it is there; whether it was made. Raises ConfigError if it is somebody else's,
    PermissionDenied, Unavailable."""
    client = await in_own_thread(s3_client, config, 1)
    try:
        await _call(requests, config, client.head_bucket, Bucket=config.bucket)
    except PermissionDenied:
        return False  # it is there, or nobody may say: the first use tells
    except (ConfigError, NotFound):
        pass
    else:
        return False
    arguments: dict[str, Any] = {"Bucket": config.bucket}
    if config.region != _DEFAULT_REGION:
        arguments["CreateBucketConfiguration"] = {"LocationConstraint": config.region}
    try:
        await _call(requests, config, client.create_bucket, **arguments)
    except AlreadyExists as error:
        await _check_ours(requests, config, client, error)
        return False
    return True


async def _check_ours(requests: Requests, config: S3Config, client: Any, error: AlreadyExists) -> None:
    """Somebody made it at the same moment, or long ago. Raises ConfigError unless we may use it."""
    try:
        await _call(requests, config, client.head_bucket, Bucket=config.bucket)
    except GravitonError:
        raise ConfigError(
            f"the bucket {config.bucket} is somebody else's",
            operation="store.init",
            subject="GRAVITON_S3_BLOCK_BUCKET",
            hint="Names of buckets are shared by everybody at AWS: choose another one.",
        ) from error


async def _call(requests: Requests, config: S3Config, method: Any, **arguments: Any) -> None:
    await requests.run("bucket", f"bucket {config.bucket}", lambda: in_own_thread(lambda: method(**arguments)))
