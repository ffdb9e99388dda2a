"""Buckets themselves: whether one is there, and making it, which only `graviton store init` does."""

from __future__ import annotations

from copy import copy
from typing import Any, Final

from graviton.backends.objectstore._s3_calls import S3Calls
from graviton.backends.objectstore.config import S3Config
from graviton.backends.objectstore.requests import Requests
from graviton.errors import AlreadyExists, ConfigError, NotFound, PermissionDenied

__all__ = ["make_bucket"]

_DEFAULT_REGION: Final = "us-east-1"
"""The one that must not be named. https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html"""


async def make_bucket(config: S3Config, requests: Requests) -> bool:
    """Make the bucket unless it is there; whether it was made. Raises ConfigError if it is somebody else's or in
    another region, PermissionDenied, Unavailable."""
    calls = S3Calls(config, copy(requests))  # their end is not that of the others
    try:
        return await _make(calls)
    finally:
        await calls.aclose()


async def _make(calls: S3Calls) -> bool:
    try:
        await _call(calls, "head_bucket")
    except PermissionDenied:
        return False  # it is there, or nobody may say: the first use tells
    except NotFound:
        pass
    else:
        return False
    arguments: dict[str, Any] = {}
    if calls.config.region != _DEFAULT_REGION:
        arguments["CreateBucketConfiguration"] = {"LocationConstraint": calls.config.region}
    try:
        await _call(calls, "create_bucket", **arguments)
    except AlreadyExists as error:
        await _check_ours(calls, error)
        return False
    return True


async def _check_ours(calls: S3Calls, error: AlreadyExists) -> None:
    """Somebody made it at the same moment, or long ago. Raises ConfigError unless we may use it."""
    try:
        await _call(calls, "head_bucket")
    except (PermissionDenied, NotFound):
        raise ConfigError(
            f"the bucket {calls.config.bucket} is somebody else's",
            operation="store.init",
            subject="GRAVITON_S3_BLOCK_BUCKET",
            hint="Names of buckets are shared by everybody at AWS: choose another one.",
        ) from error


async def _call(calls: S3Calls, method: str, **arguments: Any) -> None:
    """All of them in bounded time: a bucket that is made late is the one that was wanted."""
    await calls.call("bucket", calls.config.bucket, method, reads=True, **arguments)
