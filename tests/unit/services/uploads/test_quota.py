"""What uploads ask of a quota: room before bytes are taken, and nothing that stays when they are gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from graviton.constraints.quota import Quota, QuotaLimits, Usage
from graviton.core.chunking import Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import NotFound, StorageFull, TooManyRequests
from graviton.ports.kv import Transaction
from graviton.services.uploads import UploadId, Uploads, UploadState, UploadWishes, beats, quota, records
from graviton.testing.fake_clock import FakeClock
from tests.support import SMALL_SPEC, some_bytes
from tests.upload_worlds import TINY, UploadWorld, pieces

DATA = some_bytes(30_000, 2)


class Room:
    """A reservation of a `Books`."""

    def __init__(self, books: Books, id: str, holder: str, size: int) -> None:
        self.books, self.id, self.holder, self.size = books, id, holder, size
        self.promised: tuple[BlobKey, ...] = ()

    async def grow(self, total_bytes: int) -> None:
        self.books.check(self)
        self.books.admit(self, max(self.size, total_bytes))

    async def promise(self, *keys: BlobKey) -> None:
        self.books.check(self)
        self.books.admit(self, sum(key.size for key in keys))
        self.promised = keys

    async def settle(self, key: BlobKey | None = None) -> None:
        if self.books.open.pop(self.id, None) is not None and key is not None:
            assert self.promised == (key,)
            self.books.used[self.holder, key] = key.size

    async def release(self) -> None:
        await self.settle()


class Books:
    """A quota of so many bytes, in memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open: dict[str, Room] = {}
        self.used: dict[tuple[str, BlobKey], int] = {}
        self.most = 0

    def check(self, room: Room) -> None:
        if room.id not in self.open:
            raise NotFound(f"no reservation {room.id}")

    def admit(self, room: Room, size: int) -> None:
        others = sum(one.size for one in self.open.values() if one is not room) + sum(self.used.values())
        if others + size > self.limit:
            raise StorageFull(f"no room for {size} bytes beside {others}")
        room.size = size
        self.most = max(self.most, others + size)

    async def reserve(
        self,
        holder: str,
        size: int,
        *,
        domain: str,
        lifetime_seconds: float,
        id: str,
        blobs: int,
        keys: Sequence[BlobKey] = (),
        instead_of: Sequence[str] = (),
    ) -> Room:
        before = dict(self.open)
        for one in instead_of:
            self.open.pop(one, None)
        assert id not in self.open
        assert lifetime_seconds > 0
        room = Room(self, id, holder, 0)
        try:
            self.admit(room, size)
        except StorageFull:
            self.open = before
            raise
        self.open[id] = room
        room.promised = tuple(keys)
        return room

    async def largest_possible(self, holder: str, domain: str, claimed: BlobKey | None) -> int:
        return -1

    async def resume(self, id: str) -> Room:
        if id not in self.open:
            raise NotFound(f"no reservation {id}")
        return self.open[id]


@pytest.fixture
async def world(kernel: Kernel) -> AsyncIterator[UploadWorld]:
    world = UploadWorld(kernel)
    world.quota = Books(50_000)
    yield world
    await world.aclose()


@pytest.fixture
async def uploads(world: UploadWorld) -> AsyncIterator[Uploads]:
    uploads = world.server()
    yield uploads
    await uploads.aclose()


def books_of(world: UploadWorld) -> Books:
    assert isinstance(world.quota, Books)
    return world.quota


async def test_a_declared_length_is_reserved_and_settled(world: UploadWorld, uploads: Uploads) -> None:
    books = books_of(world)
    upload = await uploads.create(UploadWishes(30_000, BlobWritePlan(holder="me")))
    with pytest.raises(StorageFull):
        await uploads.create(UploadWishes(20_001))
    assert [one.size for one in books.open.values()] == [30_000]
    await uploads.append(upload.id, 0, pieces(DATA))
    done = await uploads.finish(upload.id, 30)
    assert done.key is not None
    assert (books.open, books.used) == ({}, {("me", done.key): 30_000})
    await uploads.terminate(upload.id)
    assert books.used


async def test_what_was_not_declared_is_reserved_before_it_is_taken(
    world: UploadWorld, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "_STEP_BYTES", 4_000)
    books = books_of(world)
    books.limit = 20_000
    upload = await uploads.create(UploadWishes())
    await uploads.put_part(upload.id, Span(15_000, 16_000), pieces(DATA[15_000:16_000]))
    with pytest.raises(StorageFull):
        await uploads.put_part(upload.id, Span(25_000, 45_000), pieces(bytes(20_000)))
    await uploads.append(upload.id, 0, pieces(DATA[:15_000], 500))
    with pytest.raises(StorageFull):
        await uploads.append(upload.id, 16_000, pieces(DATA[16_000:], 500))
    status = await uploads.status(upload.id)
    assert status.offset == 20_000
    assert books.most == 20_000
    with pytest.raises(StorageFull):
        await uploads.declare_length(upload.id, 30_000)
    await uploads.declare_length(upload.id, 20_000)
    assert (await uploads.finish(upload.id, 30)).state is UploadState.DONE
    assert books.open == {}


async def test_no_room_at_the_end_is_told_and_the_upload_stays(world: UploadWorld, uploads: Uploads) -> None:
    """It can be finished when there is room again, and nothing is read twice for it."""
    books = books_of(world)
    upload = await uploads.create(UploadWishes(30_000))
    books.open.clear()  # its time was past, and somebody else took the room
    await uploads.append(upload.id, 0, pieces(DATA[:29_999]))
    books.open.clear()
    books.limit = 10_000
    with pytest.raises(StorageFull):
        await uploads.append(upload.id, 29_999, pieces(DATA[29_999:]))
    books.limit = 50_000
    await uploads.append(upload.id, 29_999, pieces(DATA[29_999:]))
    done = await uploads.finish(upload.id, 30)
    assert done.state is UploadState.DONE
    assert books.open == {}


async def test_whatever_goes_gives_its_room_back(world: UploadWorld, uploads: Uploads) -> None:
    books = books_of(world)
    wrong = BlobKey(done_digest(), 30_000)
    failing = await uploads.create(UploadWishes(30_000, expected=wrong))
    await uploads.append(failing.id, 0, pieces(DATA))
    assert (await uploads.finish(failing.id, 30)).state is UploadState.FAILED
    assert books.open == {}
    gone = await uploads.create(UploadWishes(30_000))
    assert await uploads.terminate(gone.id)
    assert books.open == {}


def done_digest():  # type: ignore[no-untyped-def]
    from graviton.core.hashing import HashAlgo

    return HashAlgo.BLAKE3.digest(b"something else")


async def test_partial_uploads_hand_their_room_on(world: UploadWorld, uploads: Uploads) -> None:
    books = books_of(world)
    ids = []
    for start in (0, 15_000):
        one = await uploads.create(UploadWishes(15_000, is_partial=True))
        await uploads.append(one.id, 0, pieces(DATA[start : start + 15_000]))
        ids.append(one.id)
    whole = await uploads.concatenate(ids, UploadWishes())
    assert (await uploads.finish(whole.id, 30)).state is UploadState.DONE
    assert books.most == 30_000
    for id in ids:
        await uploads.terminate(id)
    assert books.open == {}


async def test_partial_uploads_that_do_not_become_one_keep_their_room(world: UploadWorld, uploads: Uploads) -> None:
    """Else whoever fails at it again and again fills the disk beyond any quota."""
    books = books_of(world)
    one = await uploads.create(UploadWishes(15_000, is_partial=True))
    await uploads.append(one.id, 0, pieces(DATA[:15_000]))
    with pytest.raises(StorageFull):
        await uploads.concatenate([one.id] * 4, UploadWishes())
    assert [room.size for room in books.open.values()] == [15_000]
    whole = await uploads.concatenate([one.id] * 3, UploadWishes())
    assert (await uploads.finish(whole.id, 30)).state is UploadState.DONE
    assert books.open == {}


async def partial(world: UploadWorld, uploads: Uploads, data: bytes) -> UploadId:
    """A partial upload that is complete."""
    one = await uploads.create(UploadWishes(len(data), is_partial=True))
    await uploads.append(one.id, 0, pieces(data))
    return one.id


@pytest.mark.parametrize("ends", ["failed", "terminated", "refused", "too many"])
async def test_bytes_of_partial_uploads_have_room_whatever_becomes_of_the_whole(kernel: Kernel, ends: str) -> None:
    """They are stored; else whoever puts them together wrongly, again and again, fills the disk beyond any quota."""
    world = UploadWorld(kernel)
    world.quota = quota = Quota(world.kv, QuotaLimits(bytes=60_000, blobs=1))
    if ends == "refused":
        await world.store.put(DATA)
    uploads = world.server()
    ids = [await partial(world, uploads, some_bytes(10_000, seed)) for seed in (7, 8)]
    wrong = BlobKey(done_digest(), 20_000)
    if ends == "too many":
        with pytest.raises(TooManyRequests):
            await world.server(max_open=1).concatenate(ids, UploadWishes())
    else:
        whole = await uploads.concatenate(ids, UploadWishes(expected=None if ends == "refused" else wrong))
        assert (await quota.usage()).reserved_bytes == 20_000
        if ends == "terminated":
            await uploads.terminate(whole.id)
        else:
            assert (await uploads.finish(whole.id, 30)).state is UploadState.FAILED
    assert (await quota.usage())[2:] == (20_000, 0)
    for id in ids:
        await uploads.terminate(id)
    assert (await quota.usage())[2:] == (0, 0)
    await uploads.aclose()
    await world.aclose()


@pytest.mark.parametrize("is_ahead", [False, True])
async def test_room_stays_while_bytes_come_however_long_that_takes(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, is_ahead: bool
) -> None:
    """In one request of a slow client, in order or ahead of what is missing."""
    monkeypatch.setattr(beats, "BEAT_SECONDS", 0.001)
    clock = FakeClock()
    world = UploadWorld(kernel, clock=clock)
    world.quota = quota = Quota(world.kv, QuotaLimits(bytes=30_001), clock)
    uploads = world.server()
    upload = await uploads.create(UploadWishes(30_001))

    async def slow(data: bytes) -> AsyncIterator[bytes]:
        async for piece in pieces(data, 3_000):
            yield piece
            clock.advance(6 * 3600)
            while (await uploads.status(upload.id)).expires_at_ns < clock.now_ns() + 86_400 * 10**9:
                await asyncio.sleep(0.001)
            await quota.recover()
            assert (await quota.usage()).reserved_bytes == 30_001

    if is_ahead:
        await uploads.put_part(upload.id, Span(1, 30_001), slow(DATA))
    else:
        await uploads.append(upload.id, 0, slow(DATA))
    await uploads.aclose()
    await world.aclose()


# What is there already: with the quota itself.


@pytest.fixture
async def full(kernel: Kernel) -> AsyncIterator[UploadWorld]:
    """Room for 10,000 bytes beside a blob of 30,000."""
    world = UploadWorld(kernel)
    world.quota = Quota(world.kv, QuotaLimits(bytes=40_000, holder_bytes=40_000))
    await world.store.put(DATA)
    yield world
    await world.aclose()


async def stored(world: UploadWorld) -> int:
    """Bytes of blocks and parts."""
    blocks = sum(map(len, world.blocks.blocks.values()))
    return blocks + sum([found.size async for found in world.objects.list()])


@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize("step", [300, 7000, 30_000])
async def test_what_is_there_is_uploaded_again_where_there_is_no_room(
    full: UploadWorld, is_declared: bool, step: int
) -> None:
    quota = full.quota
    assert isinstance(quota, Quota)
    uploads = full.server()
    before = await stored(full)
    upload = await uploads.create(UploadWishes(30_000 if is_declared else None))
    for start in range(0, 30_000, step):
        await uploads.append(upload.id, start, pieces(DATA[start : start + step]))
        assert await stored(full) - before < 10_000 + 2 * SMALL_SPEC.max_bytes
    await uploads.declare_length(upload.id, 30_000)
    done = await uploads.finish(upload.id, 30)
    assert (done.state, done.created) == (UploadState.DONE, False)
    assert await quota.usage() == Usage(30_000, 1, 0, 0)
    await uploads.aclose()


@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize("step", [300, 30_000])
async def test_an_upload_for_which_there_is_no_room_stores_little_more_than_a_block(
    full: UploadWorld, is_declared: bool, step: int
) -> None:
    """Whatever the sizes of its requests, and whether it is cut by them or in the background."""
    uploads = full.server()
    data = some_bytes(30_000, 9)
    before = await stored(full)
    upload = await uploads.create(UploadWishes(30_000 if is_declared else None))
    with pytest.raises(StorageFull):
        for start in range(0, 30_000, step):
            await uploads.append(upload.id, start, pieces(data[start : start + step], 300))
            if uploads._background.of(upload.id) is not None:
                await asyncio.wait([uploads._background.of(upload.id)])
    with pytest.raises(StorageFull):
        await uploads.put_part(upload.id, Span(15_000, 29_000), pieces(data[15_000:29_000]))
    room = 0 if is_declared else 10_000
    assert await stored(full) - before <= room + 2 * SMALL_SPEC.max_bytes + TINY.lazy_bytes
    await uploads.terminate(upload.id)
    assert (await full.quota.usage()).reserved_bytes == 0
    await uploads.aclose()


async def test_what_can_neither_fit_nor_be_there_is_not_begun(full: UploadWorld) -> None:
    uploads = full.server()
    there, other = (BlobKey(HashAlgo.BLAKE3.digest(data), 30_000) for data in (DATA, b"other"))
    for wishes in (
        UploadWishes(30_001),
        UploadWishes(30_000, expected=other),
        UploadWishes(10_001, is_partial=True),
    ):
        with pytest.raises(StorageFull):
            await uploads.create(wishes)
    assert await full.left_over() == []
    upload = await uploads.create(UploadWishes(30_000, expected=there))
    await uploads.append(upload.id, 0, pieces(DATA))
    assert (await uploads.finish(upload.id, 30)).state is UploadState.DONE
    await uploads.aclose()


async def test_an_upload_goes_on_when_there_is_room_again(full: UploadWorld) -> None:
    uploads = full.server()
    data = some_bytes(30_000, 9)
    upload = await uploads.create(UploadWishes(30_000))
    with pytest.raises(StorageFull):
        await uploads.append(upload.id, 0, pieces(data))
    await full.store.delete(BlobKey(HashAlgo.BLAKE3.digest(DATA), 30_000))
    offset = (await uploads.status(upload.id)).offset
    await uploads.append(upload.id, offset, pieces(data[offset:]))
    done = await uploads.finish(upload.id, 30)
    assert done.key is not None
    assert await full.read(done.key) == data
    assert await full.quota.usage() == Usage(30_000, 1, 0, 0)
    await uploads.aclose()


async def test_parts_of_what_is_there_go_on_after_a_writer_that_died(full: UploadWorld) -> None:
    """Beside him they would have to be put by first, for which there is no room."""
    uploads = full.server()
    upload = await uploads.create(UploadWishes(30_000))
    await uploads.put_part(upload.id, Span(0, 10_000), pieces(DATA[:10_000]))

    def dies(tx: Transaction) -> None:
        records.save(tx, upload.id, records.load(tx, upload.id)._replace(token="d1ed", reach=20_000))

    await full.kv.transact(dies)
    for start in (10_000, 20_000):
        await uploads.put_part(upload.id, Span(start, start + 10_000), pieces(DATA[start : start + 10_000]))
    assert (await uploads.finish(upload.id, 30)).state is UploadState.DONE
    await uploads.aclose()


async def test_what_is_refused_at_its_end_stays_nowhere(full: UploadWorld) -> None:
    """All its blocks are there, and the blob is not: nothing of it is kept, and nobody tries again for ever."""
    [blob] = [stat.key async for stat in full.store.list()]
    [end, *_] = [entry.end async for entry in full.store.manifest(blob) if entry.end > 10_000]
    uploads = full.server()
    upload = await uploads.create(UploadWishes(end))
    await uploads.append(upload.id, 0, pieces(DATA[:end]))
    refused = await uploads.finish(upload.id, 30)
    assert (refused.state, type(refused.error)) == (UploadState.FAILED, StorageFull)
    assert (await uploads.sweep()).resumed == 0
    assert [left for left in await full.left_over() if not left.startswith("uploads ")] == []
    assert await full.quota.usage() == Usage(30_000, 1, 0, 0)
    await uploads.aclose()
