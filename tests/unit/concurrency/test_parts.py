"""Sources in parts: sizes, order, and what is in memory meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from graviton.concurrency.parts import PartPlan, Parts, parts_of, write_parts


class Sink:
    """Takes parts as slowly as it is told."""

    def __init__(self) -> None:
        self.taken: dict[int, bytes] = {}
        self.order: list[int] = []
        self.now = self.most = 0

    async def write(self, number: int, part: memoryview) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.002)
        self.taken[number] = bytes(part)
        self.order.append(number)
        self.now -= 1

    def whole(self) -> bytes:
        return b"".join(self.taken[number] for number in range(len(self.taken)))


class Counted(Parts):
    """Counts parts that were given out and not given back."""

    out = most = 0

    async def next(self, size: int) -> memoryview:
        self.out += 1
        self.most = max(self.most, self.out)
        return await super().next(size)

    def release(self, part: memoryview) -> None:
        self.out -= 1
        super().release(part)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def put(parts: Parts, plan: PartPlan, sink: Sink) -> int:
    try:
        first = await parts.next(plan.part_bytes)
        return await write_parts(first, parts, plan, sink.write)
    finally:
        await parts.aclose()


@pytest.mark.parametrize("size", [1, 9, 10, 11, 20, 95, 100])
@pytest.mark.parametrize("plan", [PartPlan(10), PartPlan(10, 4, 4), PartPlan(10, 1, 1), PartPlan(10, 3, 3, 4)])
async def test_every_byte_is_written_once_and_in_its_place(size: int, plan: PartPlan) -> None:
    data = bytes(range(size))
    for parts in (parts_of(data), parts_of(pieces(data, 7)), parts_of([data[:3], b"", data[3:]])):
        sink = Sink()
        assert await put(parts, plan, sink) == size
        assert sink.whole() == data
        assert sink.most <= plan.writers
        if plan.writers == 1:
            assert sink.order == sorted(sink.order)


async def test_no_more_parts_are_held_than_planned() -> None:
    data = bytes(1000)
    for held in (1, 2, 5):
        filler = parts_of(pieces(data, 33))._filler
        assert filler is not None
        parts, sink = Counted(filler), Sink()
        await put(parts, PartPlan(10, held, held), sink)
        assert parts.most == sink.most == held


async def test_source_that_fails_ends_the_writers_and_its_error_comes_back() -> None:
    ended: list[int] = []

    async def write(number: int, part: memoryview) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(number)

    async def failing() -> AsyncIterator[bytes]:
        yield bytes(20)
        raise KeyError("planned")

    parts = parts_of(failing())
    with pytest.raises(KeyError, match="planned"):
        await write_parts(await parts.next(10), parts, PartPlan(10, 4, 4), write)
    await parts.aclose()
    assert sorted(ended) == [0, 1]


async def test_writer_that_fails_ends_the_wait_for_a_silent_source() -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield bytes(10)
        await asyncio.sleep(60)

    async def write(number: int, part: memoryview) -> None:
        raise KeyError("planned")

    parts = parts_of(silent())
    with pytest.raises(KeyError, match="planned"):
        async with asyncio.timeout(10):
            await write_parts(await parts.next(10), parts, PartPlan(10, 4, 4), write)
    await parts.aclose()


async def test_writer_that_fails_is_told_before_a_source_gives_way_in_its_thread() -> None:
    stands, go_on = threading.Event(), threading.Event()

    def stuck() -> Iterator[bytes]:
        yield bytes(10)
        stands.set()
        go_on.wait(30)
        yield bytes(10)

    async def write(number: int, part: memoryview) -> None:
        while not stands.is_set():
            await asyncio.sleep(0.001)
        raise KeyError("planned")

    parts = parts_of(stuck())
    with pytest.raises(KeyError, match="planned"):
        async with asyncio.timeout(10):
            await write_parts(await parts.next(10), parts, PartPlan(10, 4, 4), write)
    closing = asyncio.ensure_future(parts.aclose())
    await asyncio.sleep(0.02)
    assert not closing.done(), "the thread has the source"
    go_on.set()
    await closing
    await parts.aclose()


def test_parts_grow_only_beyond_what_is_expected() -> None:
    plan = PartPlan(8, growth=10, grows_after=1000)
    assert [plan.next_bytes(done) for done in (0, 1000, 1001)] == [8, 8, 101]


def test_parts_that_grow_hold_what_they_are_allowed() -> None:
    plan = PartPlan(8, held=4, writers=4, growth=10, held_bytes=64)
    assert [plan.next_bytes(done) for done in (0, 80, 81, 1000)] == [8, 8, 9, 100]
    assert [plan.may_hold(size) for size in (8, 16, 17, 32, 33, 1000)] == [4, 4, 3, 2, 2, 2]
    assert PartPlan(8).next_bytes(1 << 40) == 8
