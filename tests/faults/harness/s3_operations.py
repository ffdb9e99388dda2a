"""Operations on object storage for the fault matrix: one class for each, and what must hold whatever becomes of it."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from graviton.backends.objectstore._driver import Driver
from graviton.backends.objectstore.blocks import ObjectBlockStore, S3BlockStore
from graviton.backends.objectstore.clients import data_store
from graviton.backends.objectstore.config import S3Config
from graviton.backends.objectstore.reclaimer import ObjectBlockReclaimer
from graviton.backends.objectstore.requests import Requests
from graviton.core.keys import BlockKey
from graviton.core.locators import CasLocatorStrategy
from graviton.errors import NotFound
from graviton.ports.blocks import BlockStatus, BlockWritePlan, CanonicalBlock, WriteMode
from graviton.ports.capabilities import Capabilities
from graviton.ports.metrics import MetricsRegistry
from graviton.ports.reclaimer import TrashEntry
from graviton.testing.conformance.block_values import block, many_blocks
from tests.s3_faults import FaultRow
from tests.s3_proxy import Kind, Seen
from tests.s3_server import S3Server, default_server, moto_server
from tests.support import some_bytes

__all__ = ["BLOCK_OPERATIONS", "List", "Operation", "TrashEntries", "bucket_at"]


@functools.cache
def bucket_at(server: S3Server) -> str:
    """One for all cases, whose prefixes differ: making one takes a while."""
    return server.new_bucket()


class Operation(ABC):
    """One operation, made anew for each case; a bucket and prefix of its own are in the settings."""

    requests: ClassVar[tuple[Kind, ...]]
    """What it sends, in this order, when nothing goes wrong."""
    server: ClassVar[Callable[[], S3Server]] = staticmethod(default_server)
    left_out: ClassVar[frozenset[str]] = frozenset()
    """Faults that say nothing which others do not say of it, by name."""
    seen: Sequence[Seen] = ()
    """What the proxy has seen so far."""
    metrics: MetricsRegistry | None = None
    """For the store that does it."""

    @staticmethod
    def means(kind: Kind, fault: FaultRow) -> FaultRow:
        """What a fault of one of the requests means for this operation, if that is something special."""
        return fault

    @abstractmethod
    async def prepare(self, straight: S3Config) -> None:
        """What is there before, made past the proxy."""

    @abstractmethod
    async def call(self, broken: S3Config) -> None:
        """Do it; what it says when it succeeds must be true."""

    @abstractmethod
    async def check(self, straight: S3Config, succeeded: bool) -> None:
        """What must hold afterwards, looked at past the proxy."""


OURS, OTHER = block(some_bytes(20_000, 1)), block(some_bytes(20_000, 2))


@functools.cache
def _driver(bucket: S3Config) -> Driver:
    """Of a bucket; making one takes a while."""
    return Driver(data_store(bucket), Requests(bucket.bucket, max_requests=64, max_bytes=1 << 28, retry_seconds=10.0))


class _OnBlocks(Operation):
    """`look` is the store past the proxy, `blocks` the one behind it; `OTHER` is there and stays."""

    look: ObjectBlockStore
    entry: TrashEntry

    async def prepare(self, straight: S3Config) -> None:
        layout = CasLocatorStrategy("s3", straight.bucket, straight.prefix)
        self.look = ObjectBlockStore(_driver(replace(straight, prefix="")), layout, Capabilities())
        await self.write(OTHER)
        await self.begin()

    async def begin(self) -> None:
        """What else is there."""

    async def call(self, broken: S3Config) -> None:
        blocks = S3BlockStore(broken, metrics=self.metrics)
        try:
            await self.act(blocks)
        finally:
            await blocks.aclose()

    async def check(self, straight: S3Config, succeeded: bool) -> None:
        assert await self.bytes_of(OTHER.key) == OTHER.payload, "something else was touched"
        await self.end(succeeded)

    @abstractmethod
    async def act(self, blocks: S3BlockStore) -> None: ...

    async def end(self, succeeded: bool) -> None:
        """By default: what was there is there."""
        assert await self.bytes_of(OURS.key) == OURS.payload
        assert await self.trash() == []

    async def write(self, one: CanonicalBlock) -> None:
        await self.look.put_blocks([one], BlockWritePlan(WriteMode.ALWAYS))

    async def bytes_of(self, key: BlockKey) -> bytes | None:
        """Of a block; None if there is none. Half a block raises."""
        try:
            return await self.look.get(key)
        except NotFound:
            return None

    async def trash(self) -> list[TrashEntry]:
        """Every entry for our block; its bytes must be right."""
        reclaimer = ObjectBlockReclaimer(self.look)
        entries = [entry async for entry in reclaimer.trash_entries(OURS.key)]
        for entry in entries:
            assert await reclaimer.read_trash(entry) == OURS.payload
        return entries


class _Puts(_OnBlocks):
    async def end(self, succeeded: bool) -> None:
        found = await self.bytes_of(OURS.key)
        assert found == OURS.payload or (found is None and not succeeded), "absent or whole"
        assert {key async for key in self.look.list()} <= {OURS.key, OTHER.key}


class PutAlways(_Puts):
    """As with the block index."""

    requests = (Kind.PUT,)

    async def act(self, blocks: S3BlockStore) -> None:
        result = await blocks.put_blocks([OURS], BlockWritePlan(WriteMode.ALWAYS))
        assert [one.status for one in result.stored] == [BlockStatus.FRESH]


def _of_absence(kind: Kind, fault: FaultRow) -> FaultRow:
    """Nothing tells an answer about a bucket from a page."""
    is_page = kind is Kind.HEAD_BUCKET and fault.name.startswith("200 of")
    return replace(fault, kind=None) if is_page else fault


class PutFirst(_Puts):
    """If absent, while it is not known whether the server honours conditions. This one does not."""

    requests = (Kind.HEAD, Kind.HEAD_BUCKET, Kind.PUT, Kind.PUT)
    means = staticmethod(_of_absence)
    honours = False

    async def act(self, blocks: S3BlockStore) -> None:
        result = await blocks.put_blocks([OURS])
        assert [one.status for one in result.stored] == [BlockStatus.FRESH]
        before = len(self.seen)
        again = await blocks.put_blocks([OURS])
        tries = sum(one.kind is Kind.PUT for one in self.seen[before:])
        # After an open try nobody can tell: on a machine that stands still, a time-out is enough for one.
        assert [one.status for one in again.stored] == [BlockStatus.DUPLICATE] or tries > 1


class PutFirstWithConditions(PutFirst):
    """Of this one it is learnt that it does. Its answers have no number, so a listing makes sure of absence."""

    requests = (Kind.HEAD, Kind.LIST, Kind.PUT, Kind.PUT)
    server = staticmethod(moto_server)
    honours = True


class PutIfAbsent(_Puts):
    """With the condition."""

    requests = (Kind.PUT,)
    server = staticmethod(moto_server)

    async def act(self, blocks: S3BlockStore) -> None:
        blocks._honours_conditions = True
        result = await blocks.put_blocks([OURS])
        assert [one.status for one in result.stored] == [BlockStatus.FRESH], "a conflict with ourselves"


class PutLooking(_Puts):
    """Without it."""

    requests = (Kind.HEAD, Kind.HEAD_BUCKET, Kind.PUT)
    means = staticmethod(_of_absence)

    async def act(self, blocks: S3BlockStore) -> None:
        blocks._honours_conditions = False
        result = await blocks.put_blocks([OURS])
        assert [one.status for one in result.stored] == [BlockStatus.FRESH]


class PutDuplicate(_OnBlocks):
    """Of a block that is there."""

    requests = (Kind.PUT,)
    server = staticmethod(moto_server)

    async def begin(self) -> None:
        await self.write(OURS)

    async def act(self, blocks: S3BlockStore) -> None:
        blocks._honours_conditions = True
        assert len((await blocks.put_blocks([OURS])).stored) == 1  # FRESH after an open try: as far as anybody can tell


class Get(_OnBlocks):
    """A block that is there."""

    requests = (Kind.GET,)

    async def begin(self) -> None:
        await self.write(OURS)

    async def act(self, blocks: S3BlockStore) -> None:
        assert await blocks.get(OURS.key) == OURS.payload


class GetLarge(Get):
    """One that comes in many pieces."""

    LARGE = block(some_bytes(3_000_000, 3))

    async def begin(self) -> None:
        await super().begin()
        await self.write(self.LARGE)

    async def act(self, blocks: S3BlockStore) -> None:
        assert await blocks.get(self.LARGE.key) == self.LARGE.payload


class Exists(_OnBlocks):
    """Of one that is there; a failure is not taken for absence."""

    requests = (Kind.HEAD,)

    async def begin(self) -> None:
        await self.write(OURS)

    async def act(self, blocks: S3BlockStore) -> None:
        assert await blocks.exists(OURS.key)


class List(_OnBlocks):
    """Several pages, whose names come once each. The proxy makes the pages small."""

    requests = (Kind.LIST, Kind.LIST)
    server = staticmethod(moto_server)  # looks at no signature, which covers the size of a page
    MORE: ClassVar = many_blocks(4)

    async def begin(self) -> None:
        await self.write(OURS)
        await self.look.put_blocks(self.MORE, BlockWritePlan(WriteMode.ALWAYS))

    async def act(self, blocks: S3BlockStore) -> None:
        found = [key async for key in blocks.list("blake3")]
        assert sorted(found) == sorted(one.key for one in [OURS, OTHER, *self.MORE])


class TrashEntries(_OnBlocks):
    """The same, of trash."""

    requests = (Kind.LIST, Kind.LIST)
    server = staticmethod(moto_server)

    async def begin(self) -> None:
        reclaimer = ObjectBlockReclaimer(self.look)
        self.entries = []
        for moved_at in range(5):
            await self.write(OURS)
            self.entries.append(await reclaimer.move_to_trash(OURS.key, moved_at))

    async def act(self, blocks: S3BlockStore) -> None:
        assert [entry async for entry in ObjectBlockReclaimer(blocks).trash_entries(OURS.key)] == self.entries

    async def end(self, succeeded: bool) -> None:
        assert await self.trash() == self.entries


class MoveToTrash(_OnBlocks):
    """Copy, then delete: an object is left whatever happens, and a copy is found as an entry."""

    requests = (Kind.COPY, Kind.DELETE)

    async def begin(self) -> None:
        await self.write(OURS)

    async def act(self, blocks: S3BlockStore) -> None:
        entry = await ObjectBlockReclaimer(blocks).move_to_trash(OURS.key, 77)
        assert entry is not None, "an error was taken for absence"
        self.entry = entry

    async def end(self, succeeded: bool) -> None:
        found, trash = await self.bytes_of(OURS.key), await self.trash()
        assert found == OURS.payload or trash, "the block is lost"
        assert len(trash) <= 1, "a move has one name, however often it is tried"
        if succeeded:
            assert found is None
            assert trash == [self.entry]


class _InTrash(_OnBlocks):
    async def begin(self) -> None:
        await self.write(OURS)
        entry = await ObjectBlockReclaimer(self.look).move_to_trash(OURS.key, 77)
        assert entry is not None
        self.entry = entry


class PutBack(_InTrash):
    """Get, put, then delete."""

    requests = (Kind.GET, Kind.PUT, Kind.DELETE)

    async def act(self, blocks: S3BlockStore) -> None:
        assert await ObjectBlockReclaimer(blocks).put_back(self.entry), "an error was taken for absence"

    async def end(self, succeeded: bool) -> None:
        found, trash = await self.bytes_of(OURS.key), await self.trash()
        assert found == OURS.payload or trash == [self.entry], "the block is lost"
        if succeeded:
            assert found == OURS.payload
            assert trash == []


class ReadTrash(_InTrash):
    """The bytes of an entry."""

    requests = (Kind.GET,)

    async def act(self, blocks: S3BlockStore) -> None:
        assert await ObjectBlockReclaimer(blocks).read_trash(self.entry) == OURS.payload

    async def end(self, succeeded: bool) -> None:
        assert await self.trash() == [self.entry]


class Purge(_InTrash):
    """One entry."""

    requests = (Kind.HEAD, Kind.DELETE)

    async def act(self, blocks: S3BlockStore) -> None:
        assert await ObjectBlockReclaimer(blocks).purge(self.entry), "an error was taken for absence"

    async def end(self, succeeded: bool) -> None:
        assert not succeeded or await self.trash() == []


class PurgeMany(Purge):
    """Several at once, of which one is not there."""

    requests = (Kind.BULK_DELETE,)

    async def act(self, blocks: S3BlockStore) -> None:
        await ObjectBlockReclaimer(blocks).purge_many([self.entry, TrashEntry.new(OTHER.key, 5)])


BLOCK_OPERATIONS: tuple[type[Operation], ...] = (
    PutAlways,
    PutFirst,
    PutFirstWithConditions,
    PutIfAbsent,
    PutLooking,
    PutDuplicate,
    Get,
    GetLarge,
    Exists,
    List,
    TrashEntries,
    MoveToTrash,
    PutBack,
    ReadTrash,
    Purge,
    PurgeMany,
)
