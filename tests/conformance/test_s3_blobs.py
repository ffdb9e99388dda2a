"""The laws of `BlobStore` on whole blobs in a bucket: two servers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import pytest

from graviton.backends.objectstore.blobs import S3BlobStore
from graviton.constraints.budget import ByteBudget
from graviton.core.keys import BlobKey
from graviton.core.ranges import Span
from graviton.ports.blobs import BlobStore
from graviton.testing.conformance.blobs import BlobStoreContract
from tests.s3_server import S3Server, default_server, moto_server

pytestmark = pytest.mark.s3


class TestS3BlobStore(BlobStoreContract):
    implementation = S3BlobStore
    backend = "s3"
    bucket = ""
    large_bytes = 12_000_000
    """Three pieces to be verified, and three parts of an upload."""

    @staticmethod
    def server() -> S3Server:
        return moto_server()

    async def set_up(self) -> None:
        if not type(self).bucket:
            type(self).bucket = self.server().new_bucket()
        self.prefix = f"run-{secrets.token_hex(6)}/blobs"
        self.budget = ByteBudget()

    def make_store(self) -> S3BlobStore:
        config = self.server().config(self.bucket, retry_seconds=2, part_bytes=5 * 1024 * 1024)
        return S3BlobStore(config, prefix=self.prefix, budget=self.budget)

    async def damage(self, store: BlobStore, key: BlobKey) -> None:
        assert isinstance(store, S3BlobStore)
        data = bytearray(await self._bytes(store, key))
        data[len(data) // 2] ^= 1
        await store.api.put(store.names.place(key, "").bytes, "raw", memoryview(data))

    async def lose(self, store: BlobStore, key: BlobKey) -> None:
        assert isinstance(store, S3BlobStore)
        half = (await self._bytes(store, key))[: key.size // 2]
        await store.api.put(store.names.place(key, "").bytes, "raw", memoryview(half))

    @staticmethod
    async def _bytes(store: S3BlobStore, key: BlobKey) -> bytes:
        return (await store.api.get(store.names.place(key, "").bytes, "raw", Span(0, key.size))).data

    async def leftovers(self, store: BlobStore) -> Sequence[str]:
        assert isinstance(store, S3BlobStore)
        records = {
            found.key.split(".records/")[-1] async for found in store.api.objects(f"{self.prefix}.records/", "raw")
        }
        everything = [found.key async for found in store.api.objects(self.prefix, "raw")]
        left = [key for key in everything if key.removeprefix(self.prefix).partition("/")[2] not in records]
        left += [upload.key for upload in await store.api.uploads(self.prefix, "raw")]
        return left + [f"{self.budget.used} bytes of memory"] * bool(self.budget.used)


class TestS3BlobStoreOnFiles(TestS3BlobStore):
    """A server that knows no conditions."""

    bucket = ""

    @staticmethod
    def server() -> S3Server:
        return default_server()
