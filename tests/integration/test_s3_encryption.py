"""Server-side encryption is on everything that is written: puts, parts, copies, blocks, trash, records."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from graviton.backends.objectstore._s3_api import S3Api
from graviton.backends.objectstore.blobs import S3BlobStore
from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.clients import s3_client
from graviton.backends.objectstore.config import S3Config, S3Encryption, SseMode
from graviton.backends.objectstore.objects import S3MutableObjectStore
from graviton.backends.objectstore.reclaimer import ObjectBlockReclaimer
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.ports.blocks import CanonicalBlock
from tests.s3_server import moto_server

pytestmark = pytest.mark.s3

PART = 5 * 1024 * 1024
KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/00000000-1111-2222-3333-444444444444"

MODES = {
    "sse-s3": S3Encryption(SseMode.S3),
    "sse-kms": S3Encryption(SseMode.KMS),
    "sse-kms-key": S3Encryption(SseMode.KMS, KMS_KEY),
    "sse-kms-bucket-key": S3Encryption(SseMode.KMS, KMS_KEY, bucket_key=True),
}


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture(params=MODES)
def config(request: pytest.FixtureRequest) -> S3Config:
    bucket = moto_server().new_bucket()
    settings: dict[str, Any] = {"part_bytes": PART, "copy_part_bytes": PART, "retry_seconds": 1}
    return moto_server().config(bucket, encryption=MODES[request.param], **settings)


def check_all_encrypted(config: S3Config, count: int) -> None:
    """Ask the server, with a driver of our own, about every object there is."""
    client = s3_client(config, 1)
    found = client.list_objects_v2(Bucket=config.bucket).get("Contents", [])
    assert len(found) == count, [one["Key"] for one in found]
    for one in found:
        head = client.head_object(Bucket=config.bucket, Key=one["Key"])
        assert head.get("ServerSideEncryption") == config.encryption.mode.value, one["Key"]
        if config.encryption.kms_key:
            assert head.get("SSEKMSKeyId") == config.encryption.kms_key, one["Key"]
        if "-" not in head["ETag"]:  # of objects made of parts this server forgets it: see `Uploads`
            assert bool(head.get("BucketKeyEnabled")) is config.encryption.bucket_key, one["Key"]
    client.close()


class Uploads:
    """What is said when a multipart upload begins."""

    def __init__(self, api: S3Api) -> None:
        self.begun = 0
        self._encryption = api.config.encryption
        api._opened().meta.events.register("before-send.s3.CreateMultipartUpload", self._sent)

    def _sent(self, request: Any, **_: object) -> None:
        self.begun += 1
        headers = {name.lower(): _text(request.headers[name]) for name in request.headers}
        said = {name.removeprefix("x-amz-server-side-encryption"): value for name, value in headers.items()}
        assert said[""] == self._encryption.mode.value
        assert said.get("-aws-kms-key-id", "") == self._encryption.kms_key
        assert said.get("-bucket-key-enabled", "false") == str(self._encryption.bucket_key).lower()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


async def test_objects_and_their_copies(config: S3Config) -> None:
    store = S3MutableObjectStore(config)
    uploads = Uploads(store.api)

    def at(path: str) -> Locator:
        return Locator("s3", config.bucket, path)

    async def pieces() -> AsyncIterator[bytes]:
        yield noise(2 * PART + 7)

    await store.put(at("small"), b"x")
    await store.put(at("parts"), pieces())
    await store.copy(at("small"), at("small-copy"))
    await store.copy(at("parts"), at("parts-copy"))
    check_all_encrypted(config, 4)
    assert uploads.begun == 2
    assert b"".join([piece async for piece in await store.get(at("parts-copy"))]) == noise(2 * PART + 7)
    await store.aclose()


async def test_blocks_and_trash(config: S3Config) -> None:
    store = S3BlockStore(config)
    data = b"a block"
    key = BlockKey(HashAlgo.BLAKE3.digest(data), len(data))
    await store.put_blocks([CanonicalBlock(key, data)])
    check_all_encrypted(config, 1)
    reclaimer = ObjectBlockReclaimer(store)
    entry = await reclaimer.move_to_trash(key, 1)
    assert entry is not None
    check_all_encrypted(config, 1)
    await reclaimer.put_back(entry)
    assert await store.get(key) == data
    check_all_encrypted(config, 1)
    await store.aclose()


async def test_blobs_with_their_records_and_digests(config: S3Config) -> None:
    store = S3BlobStore(config)
    uploads = Uploads(store.api)
    await store.put(b"small")
    large = await store.put([noise(2 * PART + 7)])
    check_all_encrypted(config, 5)
    assert uploads.begun == 2
    async with await store.get(large.key) as reader:
        assert await reader.read() == noise(2 * PART + 7)
    await store.aclose()
