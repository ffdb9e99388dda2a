"""The laws of `BlobStore`, over blocks in a bucket and metadata in SQLite."""

from __future__ import annotations

import os
import secrets

import pytest

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.backends.objectstore import ObjectBlockStore
from graviton.core.chunking.spec import ChunkerSpec
from graviton.core.keys import BlobKey
from graviton.core.locators import parse_block_name
from graviton.ports.blobs import BlobStore
from graviton.ports.capabilities import Capabilities
from tests.conformance.test_embedded_blobs import TestEmbeddedStore as _Embedded
from tests.s3_server import S3Server, default_server, moto_server

pytestmark = pytest.mark.s3

_SPEC = ChunkerSpec.parse("w16-v1:4096:16384:65536")
"""Fewer blocks than elsewhere: each is a request, and laws cancel at each step."""


class TestStoreOnS3(_Embedded):
    capabilities = Capabilities(persistent=True, durable=True, multi_process=True)
    bucket = ""

    @staticmethod
    def server() -> S3Server:
        return default_server()

    async def set_up(self) -> None:
        if not type(self).bucket:
            type(self).bucket = self.server().new_bucket()
        self.prefix = f"run-{secrets.token_hex(6)}/blocks"

    def make_store(self) -> Store:
        self.store = Store(
            Settings(
                blob_backend="s3",
                s3=self.server().config(self.bucket, prefix=self.prefix),
                fs_root=self.scratch / "store",
                kernel=os.environ.get("GRAVITON_KERNEL", "auto"),
                chunker=_SPEC,
            )
        )
        return self.store

    async def damage(self, store: BlobStore, key: BlobKey) -> None:
        blocks, path = await self._place(key)
        data = await blocks.driver.get_small(path, "raw", 1 << 25)
        assert data is not None
        await blocks.driver.put(path, data[:-1] + bytes((data[-1] ^ 1,)), "raw")

    async def lose(self, store: BlobStore, key: BlobKey) -> None:
        blocks, path = await self._place(key)
        await blocks.driver.delete([path], "raw")

    async def _place(self, key: BlobKey) -> tuple[ObjectBlockStore, str]:
        file = await self._a_block(key)
        block = parse_block_name(key.algo, file.name)
        blocks = self.store.sides.blocks
        assert isinstance(blocks, ObjectBlockStore)
        return blocks, blocks.path(block)


class TestStoreOnMoto(TestStoreOnS3):
    bucket = ""

    @staticmethod
    def server() -> S3Server:
        return moto_server()


del _Embedded  # collected where it is defined
