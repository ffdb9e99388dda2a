"""The late delete (docs/block-life.md, 3; docs/object-storage.md, 4): a collector's delete arrives when somebody has
put the same block again. On S3 nothing keeps it from hitting the new object: note and trash do that nothing is lost.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from pathlib import Path

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.reclaimer import ObjectBlockReclaimer
from graviton.backends.sqlite.config import SqliteConfig
from graviton.backends.sqlite.kv import SqliteKeyValueStore
from graviton.core.chunking import ChunkerSpec, Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.errors import Retry, Unavailable
from graviton.metadata.audit import audit
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.ports.block_index import BlockState
from graviton.ports.blocks import DEFAULT_WRITE_PLAN, BlockBatchResult, BlockWritePlan, CanonicalBlock, WriteMode
from graviton.ports.kv import KeyValueStore
from graviton.ports.reclaimer import TrashEntry
from graviton.stores.cas import CasBlobStore
from graviton.stores.results import CasDefaults
from tests.faults.harness.s3_operations import bucket_at
from tests.s3_faults import hold
from tests.s3_proxy import Kind, S3Proxy
from tests.s3_server import default_server
from tests.support import some_bytes

pytestmark = pytest.mark.s3

DATA = some_bytes(40_000, seed=8)
"""One block, with the default chunker."""
RUN = "ab" * 16
MOVED_AT = 1_700_000_000_000_000_000


class Ending(Enum):
    """What becomes of the collector whose delete is not answered."""

    GIVES_UP = "gives up"
    IS_CANCELLED = "is cancelled"


class Blocks(S3BlockStore):
    """Lets a test do something between the write of a block and the commit."""

    async def put_blocks(
        self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
    ) -> BlockBatchResult:
        result = await super().put_blocks(blocks, plan)
        await self.after_writing()
        return result

    async def after_writing(self) -> None:
        """By default nothing."""


class Story:
    """A blob of one block was put, deleted and condemned; a collector moves the block, its deletes are held back."""

    def __init__(self, kernel: Kernel, kv: KeyValueStore, proxy: S3Proxy, bucket: str) -> None:
        prefix = f"run-{secrets.token_hex(6)}/blocks"
        self.kv = kv
        self.proxy = proxy
        self.index = KvBlockIndex(kv)
        self.blocks = Blocks(default_server().config(bucket, prefix=prefix))
        self.reclaimer = ObjectBlockReclaimer(self.blocks)
        self.store = CasBlobStore(
            kernel,
            self.blocks,
            self.index,
            KvBlobManifestRepo(kv),
            self.reclaimer,
            defaults=CasDefaults(HashAlgo.BLAKE3, ChunkerSpec.parse("fixed-v1:65536")),
        )
        self.frozen = S3BlockStore(proxy.server.config(bucket, prefix=prefix, request_seconds=0.2, retry_seconds=0.25))
        self.key = BlockKey(HashAlgo.BLAKE3.digest(DATA), len(DATA))

    async def begin(self, ending: Ending) -> None:
        """Up to the collector's end, whose deletes are on their way."""
        blob = (await self.store.put(DATA)).key
        assert await self.store.delete(blob)
        async for _ in self.index.release(0.0):
            pass
        condemned = await self.index.condemn(RUN)
        assert [note.key for note in condemned.notes] == [self.key]
        self.proxy.plan(Kind.DELETE, hold, times=None)
        move = asyncio.ensure_future(ObjectBlockReclaimer(self.frozen).move_to_trash(self.key, MOVED_AT))
        if ending is Ending.IS_CANCELLED:
            while not self.proxy.held:
                await asyncio.sleep(0.01)
            move.cancel()
            with pytest.raises(asyncio.CancelledError):
                await move
        else:
            with pytest.raises(Unavailable) as told:
                await move
            assert told.value.retry is Retry.EXHAUSTED
        assert await self.blocks.exists(self.key), "the delete has not arrived"

    async def read(self, blob: BlobKey) -> bytes:
        async with await self.store.get(blob) as reader:
            return await reader.read()

    async def noted(self) -> list[BlockKey]:
        return [note.key async for note in self.index.notes()]

    async def trash(self) -> list[TrashEntry]:
        return [entry async for entry in self.reclaimer.trash_entries()]

    async def state(self) -> tuple[BlockState, bool]:
        [record] = await self.index.records([self.key])
        assert record is not None
        return record.state, record.wanted_back

    async def close(self) -> None:
        await self.store.aclose()
        await self.frozen.aclose()


def in_memory(folder: Path) -> KeyValueStore:
    return InMemoryKeyValueStore()


def on_sqlite(folder: Path) -> KeyValueStore:
    return SqliteKeyValueStore(SqliteConfig(folder / "meta.sqlite"))


@pytest.fixture(params=[in_memory, on_sqlite])
async def kv(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyValueStore]:
    made = request.param(tmp_path)
    yield made
    await made.aclose()


@pytest.fixture
async def story(kernel: Kernel, kv: KeyValueStore) -> AsyncIterator[Story]:
    async with S3Proxy(default_server()) as proxy:
        made = Story(kernel, kv, proxy, bucket_at(default_server()))
        yield made
        await made.close()


@pytest.mark.parametrize("ending", Ending, ids=lambda one: one.value)
async def test_delete_that_arrives_after_a_new_put_loses_nothing(story: Story, ending: Ending) -> None:
    await story.begin(ending)
    again = await story.store.put(DATA)
    assert again.stats.fresh_bytes == len(DATA), "a condemned block is written, whatever lies there"
    assert await story.proxy.deliver() < 300
    assert not await story.blocks.exists(story.key), "it hit what was put after it was sent"

    assert await story.noted() == [story.key], "nobody heard an answer, so nothing of the key may be purged"
    assert await story.read(again.key) == DATA, "served from the trash"
    assert await story.state() == (BlockState.STORED, True)
    [entry] = await story.trash()
    assert await story.reclaimer.put_back(entry)
    assert await story.blocks.get(story.key) == DATA
    assert [finding async for finding in audit(story.kv)] == []


async def test_delete_that_arrives_between_the_write_and_the_commit_loses_nothing(story: Story) -> None:
    await story.begin(Ending.GIVES_UP)

    async def deliver() -> None:
        assert await story.proxy.deliver() < 300

    story.blocks.after_writing = deliver  # type: ignore[method-assign]
    again = await story.store.put(DATA)
    assert not await story.blocks.exists(story.key)
    assert await story.read(again.key) == DATA
    assert await story.noted() == [story.key]


async def test_every_one_of_several_late_deletes_is_made_good(story: Story) -> None:
    """Each try of the collector may arrive on its own. Who puts the block back while its key has a note writes it anew
    and leaves the entry: there may be another delete on its way."""
    await story.begin(Ending.GIVES_UP)
    again = await story.store.put(DATA)
    [entry] = await story.trash()
    assert len(story.proxy.held) >= 2
    while story.proxy.held:
        assert await story.proxy.deliver() < 300
        assert not await story.blocks.exists(story.key)
        assert await story.read(again.key) == DATA
        saved = CanonicalBlock(story.key, await story.reclaimer.read_trash(entry))
        await story.blocks.put_blocks([saved], BlockWritePlan(WriteMode.ALWAYS))
        assert await story.trash() == [entry]
    assert await story.blocks.get(story.key) == DATA


async def test_late_delete_of_a_block_that_nobody_wants_is_what_was_meant(story: Story) -> None:
    await story.begin(Ending.GIVES_UP)
    assert await story.proxy.deliver() < 300
    assert not await story.blocks.exists(story.key)
    assert [entry.moved_at_ns for entry in await story.trash()] == [MOVED_AT]
    assert await story.noted() == [story.key]
    assert (await story.state())[0] is BlockState.CONDEMNED
