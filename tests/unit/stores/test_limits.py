"""A store with limits: every way in and out obeys them, and nothing stays reserved."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.constraints.quota import CHANGE_LIFETIME_SECONDS, Quota, QuotaLimits, Usage
from graviton.constraints.throttle import Throttle
from graviton.core.chunking import select_kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import DigestMismatch, IntegrityError, LimitExceeded, StorageFull, Unavailable
from graviton.ports.blobs import BlobSource, SmallBlob
from graviton.ports.kv import Durability
from graviton.ports.metrics import MetricKeys, Series
from graviton.stores import put_many
from graviton.stores.intake import Parts
from graviton.stores.limits import arrivals
from graviton.stores.limits.limits import StoreLimits
from graviton.stores.put_many import Item
from graviton.testing.fake_clock import FakeClock
from tests.support import World, YieldingBlocks, YieldingKv, some_bytes
from tests.unit.stores.puts import advertise, pieces

ANN = BlobWritePlan(holder="ann")
LARGE = some_bytes(400_000)
"""More than goes with the small ones."""


class InPlaceBlocks(YieldingBlocks):
    """So that small `bytes` take the way of small puts."""

    capabilities = YieldingBlocks.capabilities._replace(runs_in_place=True)


class InPlaceKv(YieldingKv):
    capabilities = YieldingKv.capabilities._replace(runs_in_place=True)


class Limited(World):
    """A store with a quota and whatever else."""

    def __init__(
        self, *, in_place: bool = False, max_blob_bytes: int | None = None, sleep: Any = asyncio.sleep, **quota: int
    ) -> None:
        kv = InPlaceKv() if in_place else YieldingKv()
        self.clock = FakeClock()
        self.quota = Quota(kv, QuotaLimits(**quota), self.clock)
        limits = StoreLimits(quota=self.quota if quota else None, max_blob_bytes=max_blob_bytes, sleep=sleep)
        blocks = InPlaceBlocks() if in_place else YieldingBlocks()
        super().__init__(select_kernel("auto"), kv=kv, blocks=blocks, limits=limits)

    async def nothing_reserved(self) -> bool:
        used = await self.quota.usage()
        return (used.reserved_bytes, used.reserved_blobs) == (0, 0) and self.budget.used == 0


def as_path(folder: Path, data: bytes) -> BlobSource:
    (folder / "source").write_bytes(data)
    return folder / "source"


def as_file(folder: Path, data: bytes) -> BlobSource:
    return io.FileIO(os.fspath(as_path(folder, data)))  # type: ignore[arg-type]


def as_pipe(folder: Path, data: bytes) -> BlobSource:
    reading, writing = os.pipe()
    asyncio.get_running_loop().run_in_executor(None, lambda: _feed(writing, data))
    return io.FileIO(reading)


def _feed(fd: int, data: bytes) -> None:
    with io.FileIO(fd, "w") as pipe:
        try:
            view = memoryview(data)
            while view:
                view = view[pipe.write(view) :]
        except BrokenPipeError:
            pass


SOURCES: dict[str, Callable[[Path, bytes], BlobSource]] = {
    "bytes": lambda folder, data: data,
    "bytearray": lambda folder, data: bytearray(data),
    "path": as_path,
    "file": as_file,
    "pipe": as_pipe,
    "file object": lambda folder, data: io.BytesIO(data),
    "pieces": lambda folder, data: [data[: len(data) // 2], data[len(data) // 2 :]],
    "async pieces": lambda folder, data: pieces(data, 10_000),
}


def closed(source: BlobSource) -> None:
    if isinstance(source, io.FileIO):
        source.close()


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("size", [0, 5000, len(LARGE)])
@pytest.mark.parametrize("kind", SOURCES)
async def test_every_kind_of_source_counts_and_is_refused(kind: str, size: int, in_place: bool, tmp_path: Path) -> None:
    """Exactly what fits is taken; one byte less of room, and it is refused and leaves nothing."""
    data = LARGE[:size]
    world = Limited(in_place=in_place, bytes=size, blobs=1)
    source = SOURCES[kind](tmp_path, data)
    result = await world.store.put(source, ANN)
    closed(source)
    assert result.key.size == size
    assert await world.quota.usage() == await world.quota.usage("ann") == Usage(size, 1, 0, 0)
    await world.store.aclose()

    for limits in ({"bytes": size - 1} if size else {"blobs": 0}, {"holder_blobs": 0}):
        tight = Limited(in_place=in_place, **limits)
        source = SOURCES[kind](tmp_path, data)
        with pytest.raises(StorageFull):
            await tight.store.put(source, ANN)
        closed(source)
        assert await tight.nothing_reserved()
        assert await tight.open_sessions() == 0
        assert [stat async for stat in tight.store.list()] == []
        await tight.store.aclose()


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("size", [5000, len(LARGE)])
async def test_a_blob_that_is_too_large_is_refused_while_it_streams(kind: str, size: int, tmp_path: Path) -> None:
    world = Limited(max_blob_bytes=size - 1)
    source = SOURCES[kind](tmp_path, LARGE[:size])
    with pytest.raises(LimitExceeded, match=f"at most {size - 1} bytes"):
        await world.store.put(source)
    closed(source)
    assert await world.open_sessions() == 0
    await world.store.put(LARGE[: size - 1])
    with pytest.raises(LimitExceeded):
        [result async for result in world.store.put_many([b"small", LARGE[:size]])]
    await world.store.aclose()


async def test_a_source_of_unknown_size_is_not_read_far_beyond_the_room() -> None:
    world = Limited(bytes=3_000_000)
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 100_000
            yield bytes(100_000)

    with pytest.raises(StorageFull):
        await world.store.put(endless())
    assert given < 40_000_000
    assert sum(map(len, world.blocks.blocks.values())) <= 3_000_000
    assert await world.nothing_reserved()
    await world.store.aclose()


async def test_a_file_that_is_larger_than_it_said_is_counted_as_it_is(tmp_path: Path) -> None:
    world = Limited(bytes=1_000_000)

    class Growing(io.FileIO):
        def readinto(self, buffer: object, /) -> int:
            count = super().readinto(buffer)  # type: ignore[arg-type]
            with open(tmp_path / "source", "ab") as more:
                more.write(bytes(400_000))
            return count

    (tmp_path / "source").write_bytes(LARGE)
    with Growing(tmp_path / "source") as file, pytest.raises(StorageFull):
        await world.store.put(file)
    assert await world.nothing_reserved()
    await world.store.aclose()


@pytest.mark.parametrize("in_place", [True, False])
async def test_many_small_blobs_are_no_way_around(in_place: bool) -> None:
    world = Limited(in_place=in_place, bytes=10_000, blobs=5)
    many = [SmallBlob(bytes([n]) * 1000) for n in range(6)]
    with pytest.raises(StorageFull):
        [result async for result in world.store.put_many(many, ANN)]
    assert await world.quota.usage() == Usage(0, 0, 0, 0), "a group is stored whole or not at all"
    assert len([result async for result in world.store.put_many(many[:5], ANN)]) == 5
    assert await world.quota.usage() == await world.quota.usage("ann") == Usage(5000, 5, 0, 0)
    with pytest.raises(StorageFull):
        await world.store.put(b"one more")
    await world.store.aclose()


async def test_groups_that_fit_stay_when_a_later_one_does_not() -> None:
    world = Limited(blobs=1500)
    results = []
    with pytest.raises(StorageFull):
        async for result in world.store.put_many(n.to_bytes(4, "big") for n in range(2000)):
            results.append(result.key)  # noqa: PERF401 - what came before the error counts
    assert len(results) == 1000
    assert await world.quota.usage() == Usage(4000, 1000, 0, 0)
    await world.store.aclose()


@pytest.mark.parametrize("how", ["left early", "broken source", "too little memory"])
async def test_groups_that_come_to_nothing_leave_nothing_reserved(how: str) -> None:
    world = Limited(blobs=5000)
    results = world.store.put_many(_blobs(how))
    if how == "left early":
        await anext(results)
        await results.aclose()
    else:
        if how == "too little memory":
            world.store.budget.for_puts = 1
        with pytest.raises(ZeroDivisionError if how == "broken source" else LimitExceeded):
            [result async for result in results]
    used = await world.quota.usage()
    assert (used.reserved_bytes, used.reserved_blobs) == (0, 0)
    assert used.blobs == {"left early": 1000, "broken source": 2001, "too little memory": 0}[how]
    assert await world.open_sessions() == 0
    await world.store.aclose()


def _blobs(how: str) -> Iterator[bytes]:
    for number in range(1000):
        yield number.to_bytes(4, "big")
    yield LARGE
    for number in range(1000):
        yield number.to_bytes(5, "big")
    if how == "broken source":
        raise ZeroDivisionError


async def test_small_puts_that_wait_together_do_not_fail_for_each_other() -> None:
    world = Limited(in_place=True, holder_bytes=1000)
    puts = [world.store.put(bytes([n]) * (200 + n), BlobWritePlan(holder=str(n % 2))) for n in range(12)]
    results = await asyncio.gather(*puts, return_exceptions=True)
    refused = [one for one in results if isinstance(one, StorageFull)]
    assert len(refused) == len([one for one in results if isinstance(one, Exception)]) == 4
    for holder in "01":
        used = await world.quota.usage(holder)
        assert (used.blobs, used.reserved_bytes) == (4, 0)
        assert used.bytes <= 1000
    await world.store.aclose()


async def test_what_is_deleted_is_free_and_what_comes_back_needs_room() -> None:
    world = Limited(bytes=1000, holder_bytes=1000)
    first = await world.store.put(b"a" * 600, ANN)
    assert await world.store.delete(first.key, "ben") is False
    assert await world.quota.usage("ann") == Usage(600, 1, 0, 0)
    assert await world.store.delete(first.key, "ann") is True
    assert await world.quota.usage() == await world.quota.usage("ann") == Usage(0, 0, 0, 0)
    second = await world.store.put(b"b" * 600, ANN)
    with pytest.raises(StorageFull):
        await world.store.undelete(first.key, "ann")
    assert await world.store.stat(first.key) is None
    await world.store.delete(second.key, "ann")
    assert await world.store.undelete(BlobKey(first.key.digest, 0), "ann") is False
    assert await world.store.undelete(first.key, "ann") is True
    assert await world.quota.usage() == await world.quota.usage("ann") == Usage(600, 1, 0, 0)
    await world.store.aclose()


async def test_what_fails_is_free_again() -> None:
    world = Limited(bytes=1000)
    with pytest.raises(DigestMismatch):
        await world.store.put(b"a" * 600, advertise({"graviton.size": 601}))
    with pytest.raises(DigestMismatch):
        await world.store.put(pieces(b"a" * 600, 100), advertise({"graviton.size": 601}))

    async def broken() -> AsyncIterator[bytes]:
        yield b"a" * 600
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await world.store.put(broken())
    assert await world.nothing_reserved()
    await world.store.put(b"b" * 1000)
    await world.store.aclose()


@pytest.mark.parametrize("is_taken", [True, False])
@pytest.mark.parametrize("when", ["while it streams", "before its commit"])
async def test_a_put_that_was_silent_for_too_long_asks_again(when: str, is_taken: bool) -> None:
    world = Limited(bytes=100_000)

    async def silence() -> None:
        world.clock.advance(CHANGE_LIFETIME_SECONDS)
        if is_taken:
            await world.quota.reserve("other", 90_000)
        else:
            assert await world.quota.recover() == 1

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(50_000)
        await silence()
        if when == "while it streams":
            yield bytes(20_000)

    if is_taken:
        with pytest.raises(StorageFull):
            await world.store.put(slow())
        assert (await world.quota.usage()).reserved_bytes == 90_000
        assert await world.open_sessions() == 0
    else:
        result = await world.store.put(slow())
        assert await world.quota.usage() == Usage(result.key.size, 1, 0, 0)
    await world.store.aclose()


async def test_a_silent_put_gives_signs_of_life() -> None:
    beats: list[float] = []

    async def sleep(seconds: float) -> None:
        beats.append(seconds)
        world.clock.advance(seconds)
        await asyncio.sleep(0)

    world = Limited(bytes=100_000, sleep=sleep)

    async def silent() -> AsyncIterator[bytes]:
        yield bytes(50_000)
        while len(beats) < 20:
            assert await world.quota.recover() == 0
            await asyncio.sleep(0)
        yield bytes(50_000)

    await world.store.put(silent())
    assert sum(beats) > 4 * CHANGE_LIFETIME_SECONDS
    assert await world.quota.usage() == Usage(100_000, 1, 0, 0)
    ended = len(beats)
    await asyncio.sleep(0.01)
    assert len(beats) == ended, "nothing beats on"
    await world.store.aclose()


async def test_nothing_is_asked_per_piece_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Limited(bytes=10**9)
    asked: list[Durability] = []
    transact = world.kv.transact

    async def counted(fn, durability=Durability.FULL):  # type: ignore[no-untyped-def]
        if durability is Durability.RELAXED and "quota" in getattr(getattr(fn, "func", fn), "__module__", ""):
            asked.append(durability)
        return await transact(fn, durability)

    monkeypatch.setattr(world.kv, "transact", counted)
    await world.store.put(pieces(LARGE, 1000))
    assert len(asked) <= 4, "reserve, grow by a step, promise, settle"
    await world.store.aclose()


async def test_a_put_is_not_failed_by_its_last_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blob is durable, the books cannot be reached: the promise tells the next one who looks."""
    world = Limited(bytes=1000)

    async def unreachable(self: object, key: object = None) -> None:
        raise Unavailable("not now")

    monkeypatch.setattr("graviton.constraints.quota.Reservation.settle", unreachable)
    result = await world.store.put(b"a" * 600, ANN)
    assert await world.store.delete(result.key, "ann") is True
    await world.store.put(b"b" * 300, ANN)
    monkeypatch.undo()
    world.clock.advance(CHANGE_LIFETIME_SECONDS)
    assert await world.quota.recover() == 3
    assert await world.quota.usage("ann") == await world.quota.usage() == Usage(300, 1, 0, 0)
    await world.store.aclose()


class Sleeps:
    """A sleep that moves a clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()

    async def __call__(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    def throttle(self, rate: int) -> Throttle:
        return Throttle(rate, self.clock, self)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("size", [5000, len(LARGE)])
async def test_puts_keep_the_rate(kind: str, size: int, tmp_path: Path) -> None:
    sleeps, metrics = Sleeps(), InMemoryMetrics()
    limits = StoreLimits(uploads=sleeps.throttle(1000), metrics=metrics, clock=sleeps.clock)
    world = World(select_kernel("auto"), blocks=InPlaceBlocks(), kv=InPlaceKv(), limits=limits)
    source = SOURCES[kind](tmp_path, LARGE[:size])
    await world.store.put(source)
    closed(source)
    assert sleeps.clock.monotonic() == pytest.approx(size / 1000, rel=0.02)
    assert len([result async for result in world.store.put_many([b"x" * 2000])]) == 1
    assert sleeps.clock.monotonic() == pytest.approx(size / 1000 + 2, rel=0.02)
    name = Series(MetricKeys.THROTTLED_SECONDS, (("direction", "upload"),))
    assert metrics.snapshot().counters[name] == pytest.approx(sleeps.clock.monotonic(), rel=0.02)
    await world.store.aclose()


async def test_gets_keep_the_rate_and_give_the_same_bytes() -> None:
    sleeps = Sleeps()
    limits = StoreLimits(downloads=sleeps.throttle(8000), clock=sleeps.clock)
    world = World(select_kernel("auto"), limits=limits)
    result = await world.store.put(LARGE)
    async with await world.store.get(result.key) as reader:
        assert (reader.key, reader.size) == (result.key, len(LARGE))
        assert reader.attributes == result.attributes
        sizes = []
        got = b""
        async for piece in reader:
            sizes.append(len(piece))
            got += bytes(piece)
    assert got == LARGE
    assert max(sizes) <= 1000
    assert sleeps.clock.monotonic() == pytest.approx(50, rel=0.01)
    async with await world.store.get(result.key, Span(100, 300)) as reader:
        assert await reader.read() == LARGE[100:300]
    reader = await world.store.get(result.key)
    await anext(aiter(reader))
    await reader.aclose()
    await reader.aclose()
    assert world.budget.used == 0
    await world.store.aclose()


async def test_large_and_small_share_the_rate_by_turns() -> None:
    """A large put does not hold up a small one for as long as it takes itself."""
    sleeps = Sleeps()
    limits = StoreLimits(uploads=sleeps.throttle(8000), clock=sleeps.clock)
    world = World(select_kernel("auto"), limits=limits)
    large = asyncio.ensure_future(world.store.put(LARGE))
    await asyncio.sleep(0)
    began = sleeps.clock.monotonic()
    await limits.pace(500)  # of a small one
    assert sleeps.clock.monotonic() - began < 2
    await large
    await world.store.aclose()


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("size", [0, 5000, len(LARGE)])
@pytest.mark.parametrize("kind", SOURCES)
async def test_what_is_there_is_put_again_where_there_is_no_room(
    kind: str, size: int, in_place: bool, tmp_path: Path
) -> None:
    data = LARGE[:size]
    full = {"bytes": size, "blobs": 1}
    world = Limited(in_place=in_place, **full, **{f"holder_{unit}": limit for unit, limit in full.items()})
    first = await world.store.put(data, ANN)
    source = SOURCES[kind](tmp_path, data)
    again = await world.store.put(source, ANN)
    closed(source)
    assert (again.key, again.created, again.stats.fresh_blocks) == (first.key, False, 0)
    many = [result async for result in world.store.put_many([data, data], ANN)]
    assert [(result.key, result.created) for result in many] == [(first.key, False)] * 2
    assert (await world.store.put(pieces(data, 10_000), BlobWritePlan(holder="ben"))).created is False
    for holder in (None, "ann", "ben"):
        assert await world.quota.usage(holder) == Usage(size, 1, 0, 0)
    assert await world.open_sessions() == 0
    await world.store.aclose()


async def test_what_is_there_is_refused_to_another_holder_who_has_no_room() -> None:
    world = Limited(holder_bytes=len(LARGE))
    await world.store.put(LARGE, ANN)
    await world.store.put(b"b", BlobWritePlan(holder="ben"))
    for source in (LARGE, pieces(LARGE, 10_000)):
        with pytest.raises(StorageFull):
            await world.store.put(source, BlobWritePlan(holder="ben"))
    assert await world.quota.usage("ben") == Usage(1, 1, 0, 0)
    await world.store.aclose()


async def test_a_blob_for_which_there_is_no_room_stores_none_of_its_blocks() -> None:
    """It is read as long as it may be one that is there, and no further: at most to its first new block."""
    world = Limited(bytes=len(LARGE) + 1000)
    await world.store.put(LARGE)
    stored = dict(world.blocks.blocks)
    given = 0

    async def longer(first: bytes) -> AsyncIterator[bytes]:
        nonlocal given
        async for piece in pieces(first, 10_000):
            given += len(piece)
            yield piece
        for _ in range(1000):
            given += 100_000
            yield bytes(100_000)

    for first in (LARGE, some_bytes(60_000, 9)):
        given = 0
        with pytest.raises(StorageFull):
            await world.store.put(longer(first))
        assert given < 30_000_000, "a segment or two, which were read ahead"
        assert world.blocks.blocks == stored
    assert await world.nothing_reserved()
    assert await world.open_sessions() == 0
    await world.store.aclose()


async def test_blocks_that_are_there_do_not_make_a_blob_that_is_not() -> None:
    world = Limited(bytes=2 * len(LARGE) - 1)
    await world.store.put(LARGE)
    with pytest.raises(StorageFull):
        await world.store.put(pieces(LARGE[:-1] + LARGE[-1:] * 2, 10_000))
    await world.store.put(LARGE[:200_000])
    with pytest.raises(StorageFull):
        await world.store.put(pieces(LARGE[:300_000], 10_000))
    assert await world.quota.usage() == Usage(600_000, 2, 0, 0)
    await world.store.aclose()


async def test_a_damaged_blob_is_repaired_where_there_is_no_room() -> None:
    world = Limited(bytes=len(LARGE))
    first = await world.store.put(LARGE)
    key = next(iter(world.blocks.blocks))
    world.blocks.blocks[key] = bytes(key.size)
    with pytest.raises(IntegrityError):
        async with await world.store.get(first.key) as reader:
            await reader.read()
    again = await world.store.put(pieces(LARGE, 10_000))
    assert again.stats.repaired_blocks == 1
    async with await world.store.get(first.key) as reader:
        assert await reader.read() == LARGE
    await world.store.aclose()


async def test_what_can_neither_fit_nor_be_there_is_not_read() -> None:
    """The size was said before: by the source, or by what the client claims."""
    world = Limited(bytes=len(LARGE) + 1000)
    kept = await world.store.put(LARGE)
    read = False

    async def source() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b"x"

    digest = HashAlgo.BLAKE3.digest(b"not there")
    claims = {"graviton.size": len(LARGE) - 1, "graviton.digest.blake3": digest}
    for wanted, plan in (
        (Announcing(source(), len(LARGE) + 1001), None),
        (source(), advertise({"graviton.size": len(LARGE) + 1001})),
        (source(), advertise(claims)),
    ):
        with pytest.raises(StorageFull):
            await world.store.put(wanted, plan)
        assert not read
    claims = {"graviton.size": len(LARGE), "graviton.digest.blake3": kept.key.digest}
    assert (await world.store.put(pieces(LARGE, 10_000), advertise(claims))).created is False
    with pytest.raises(StorageFull):
        await world.store.put(pieces(some_bytes(len(LARGE), 7), 10_000), advertise(claims))
    assert await world.nothing_reserved()
    await world.store.aclose()


class Announcing:
    """A source that says how many bytes it will be, as a client says it."""

    def __init__(self, source: AsyncIterator[bytes], announced: int) -> None:
        self._source, self.announced = source, announced

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._source


async def test_a_group_of_what_is_there_takes_no_room_from_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is known when its keys are, and these may be known later than those of a smaller group."""
    cut_all = put_many._cut_all

    def slow(parts: Parts, group: Sequence[Item]) -> Any:
        time.sleep(0.002 * len(group))
        return cut_all(parts, group)

    monkeypatch.setattr(put_many, "_cut_all", slow)
    old = [some_bytes(200_000, seed) for seed in range(10)]  # a group is full of them
    world = Limited(bytes=2 * sum(map(len, old)) + 100)
    for one in old:
        await world.store.put(one)
    results = [result async for result in world.store.put_many([*old, bytes(200_000), b"x"])]
    assert [result.created for result in results] == [False] * 10 + [True] * 2
    assert await world.nothing_reserved()
    await world.store.aclose()


async def test_what_is_announced_and_does_not_come_takes_no_memory_from_others() -> None:
    """A few clients that announce a terabyte, and send a little, would keep all others from putting anything."""
    world = Limited()
    gone = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(100)
        await gone.wait()

    puts = [asyncio.ensure_future(world.store.put(Announcing(slow(), 1 << 40))) for _ in range(200)]
    await asyncio.sleep(0.05)
    assert world.budget.used < 200 * 20 * 1024
    await asyncio.wait_for(world.store.put(pieces(LARGE, 10_000)), 10)
    gone.set()
    await asyncio.gather(*puts)
    await world.store.aclose()


async def test_a_blob_that_is_deleted_while_it_is_put_again_needs_room() -> None:
    world = Limited(bytes=len(LARGE))
    first = await world.store.put(LARGE)

    async def interrupted(takes: bool) -> AsyncIterator[bytes]:
        async for piece in pieces(LARGE, 10_000):
            yield piece
        await world.store.delete(first.key)
        if takes:
            await world.store.put(b"x")

    with pytest.raises(StorageFull):
        await world.store.put(interrupted(True))
    assert await world.quota.usage() == Usage(1, 1, 0, 0)
    await world.store.aclose()


async def test_without_limits_nothing_is_asked() -> None:
    world = World(select_kernel("auto"), limits=StoreLimits())
    result = await world.store.put(LARGE)
    async with await world.store.get(result.key) as reader:
        assert type(reader).__name__ == "CasBlobReader"
    assert await world.store.delete(result.key) is True
    assert await world.store.undelete(result.key) is True
    assert [name for name in await world.kv.namespaces() if name.startswith("quota")] == []
    await world.store.aclose()


def test_steps_are_larger_than_what_is_read_at_once() -> None:
    from graviton.stores.segments import FILL_BYTES

    assert arrivals._STEP_BYTES >= 4 * FILL_BYTES
