"""The operations that are measured, each with its seconds."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence

from benchmarks.postgres.build import BLOBS, blob_of, block_of
from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import MAX_PAGE_ENTRIES, paginate
from graviton.core.ranges import Span
from graviton.ports.manifests import BlobCommit

__all__ = ["Work"]

SPEC = "fixed-v1:4096"


def new_block(size: int = 4096) -> BlockKey:
    """A block that nobody has."""
    return BlockKey(Digest(HashAlgo.BLAKE3, os.urandom(32)), size)


def new_blob(blocks: Sequence[BlockKey]) -> BlobKey:
    """A blob that nobody has."""
    return BlobKey(Digest(HashAlgo.BLAKE3, os.urandom(32)), sum(key.size for key in blocks))


class Work:
    """Operations on one database that holds `blocks` blocks already."""

    def __init__(self, database: PgDatabase, blocks: int, seed: int) -> None:
        self.database = database
        self.index, self.repo = PgBlockIndex(database), PgBlobManifestRepo(database)
        self.blocks = blocks
        self.draw = random.Random(seed)
        self.large: BlobKey | None = None

    def old(self, count: int) -> list[BlockKey]:
        """Blocks that are there, from anywhere."""
        return [block_of(number) for number in self.draw.sample(range(1, self.blocks + 1), count)]

    async def put(self, blocks: Sequence[BlockKey]) -> BlobKey:
        """All transactions of a put."""
        [opened] = await self.index.open([blocks])
        confirm = [claim.key for claim in opened.claims if claim.must_write]
        key = new_blob(blocks)
        await self.repo.commit([self._commit(opened.session, key, blocks, confirm)])
        return key

    def _commit(
        self, session: int, key: BlobKey, blocks: Sequence[BlockKey], confirm: Sequence[BlockKey]
    ) -> BlobCommit:
        return BlobCommit(session, key, paginate(blocks), confirm, BinaryAttributes.EMPTY, SPEC)

    async def claim_known(self) -> float:
        """Claims of 1,000 blocks that are there, from anywhere."""
        return await self._claim(self.old(1000))

    async def claim_together(self) -> float:
        """Claims of 1,000 blocks that were put together, as of a blob that is put again."""
        first = self.draw.randint(1, self.blocks - 1000)
        return await self._claim([block_of(number) for number in range(first, first + 1000)])

    async def claim_new(self) -> float:
        """Claims of 1,000 blocks that are not."""
        return await self._claim([new_block() for _ in range(1000)])

    async def _claim(self, keys: Sequence[BlockKey]) -> float:
        began = time.perf_counter()
        [opened] = await self.index.open([keys])
        seconds = time.perf_counter() - began
        await self.index.end(opened.session)
        return seconds

    async def put_thousand(self) -> float:
        """A put of 1,000 blocks, half of which are there."""
        blocks = self.old(500) + [new_block() for _ in range(500)]
        began = time.perf_counter()
        await self.put(blocks)
        return time.perf_counter() - began

    async def put_one(self) -> float:
        """A put of one block, the mean of 50 one after the other."""
        began = time.perf_counter()
        for _ in range(50):
            await self.put([new_block()])
        return (time.perf_counter() - began) / 50

    async def put_by_eight(self) -> float:
        """A put of one block, the mean of 400 by 8 tasks."""

        async def task() -> None:
            for _ in range(50):
                await self.put([new_block()])

        began = time.perf_counter()
        await asyncio.gather(*(task() for _ in range(8)))
        return (time.perf_counter() - began) / 400

    async def put_batches(self) -> float:
        """A put of one block, the mean of 512 in two batches at once: so `put_many` does it."""
        began = time.perf_counter()
        await asyncio.gather(self._put_batch(), self._put_batch())
        return (time.perf_counter() - began) / 512

    async def _put_batch(self) -> None:
        batches = [[new_block()] for _ in range(256)]
        opened = await self.index.open(batches)
        await self.repo.commit(
            [
                self._commit(one.session, new_blob(blocks), blocks, blocks)
                for one, blocks in zip(opened, batches, strict=True)
            ]
        )

    async def stat(self) -> float:
        """The record of a blob, the mean of 200."""
        keys = [blob_of(self.draw.randint(1, BLOBS), self.blocks) for _ in range(200)]
        began = time.perf_counter()
        for key in keys:
            await self.repo.get(key)
        return (time.perf_counter() - began) / 200

    async def page(self) -> float:
        """A page of 4,096 entries out of many, checked; the mean of 10."""
        if self.large is None:
            self.large = await self._put_large(5 * MAX_PAGE_ENTRIES)
        record = await self.repo.get(self.large)
        middle = 2 * MAX_PAGE_ENTRIES * 4096 + 5
        began = time.perf_counter()
        for _ in range(10):
            [page] = [page async for page in self.repo.pages(record, Span(middle, middle + 1))]
            assert len(page.keys) == MAX_PAGE_ENTRIES
        return (time.perf_counter() - began) / 10

    async def _put_large(self, count: int) -> BlobKey:
        blocks = [new_block() for _ in range(count)]
        [opened] = await self.index.open([blocks[:1]])
        for at in range(0, count, 1000):
            await self.index.claim(opened.session, blocks[at : at + 1000])
        for page in paginate(blocks):
            await self.repo.add_pages(opened.session, [page], page.keys)
        key = new_blob(blocks)
        await self.repo.commit([BlobCommit(opened.session, key, [], [], BinaryAttributes.EMPTY, SPEC)])
        return key

    async def delete(self) -> float:
        """Delete and bring back, each the mean of 20."""
        keys = [await self.put([new_block()]) for _ in range(20)]
        began = time.perf_counter()
        for key in keys:
            await self.repo.delete(key)
        for key in keys:
            await self.repo.undelete(key)
        return (time.perf_counter() - began) / 40

    async def list_hundred(self) -> float:
        """A listing of 100 blobs from anywhere."""
        after = blob_of(self.draw.randint(1, BLOBS), self.blocks)
        began = time.perf_counter()
        await self.repo.list(after=after, limit=100)
        return time.perf_counter() - began
