"""The range tracker: a merge touches the ranges it meets and no others."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span
from graviton.errors import IntegrityError
from graviton.metadata import range_tracker
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.rows import RANGE_HEADS, RANGES

PLACE, OTHER = Locator("file", "a", "x"), Locator("file", "a", "xy")


async def rows(kv: InMemoryKeyValueStore) -> int:
    return len([key async for key, _ in kv.scan(RANGES)])


async def test_unknown_locator_has_no_ranges_and_none_are_made() -> None:
    kv = InMemoryKeyValueStore()
    tracker = KvRangeTracker(kv)
    assert await tracker.current(PLACE) == RangeSet()
    assert await tracker.merge(PLACE, Span(5, 5)) == RangeSet()
    assert await tracker.clear(PLACE) is False
    assert await kv.namespaces() == []


async def test_hundred_thousand_bytes_in_random_order_are_one_range() -> None:
    kv = InMemoryKeyValueStore()
    tracker = KvRangeTracker(kv)
    order = list(range(100_000))
    random.Random(7).shuffle(order)
    for start in order[:-1]:
        last = await tracker.merge(PLACE, Span(start, start + 1))
    assert len(last) == 2 if 0 < order[-1] < 99_999 else 1
    assert await tracker.merge(PLACE, Span(order[-1], order[-1] + 1)) == RangeSet([Span(0, 100_000)])
    assert await rows(kv) == 1
    assert await KvRangeTracker(kv).current(PLACE) == RangeSet([Span(0, 100_000)])


async def test_a_merge_reads_and_writes_only_what_it_meets() -> None:
    class Counting(InMemoryKeyValueStore):
        touched = 0

        async def transact(self, fn, *args):  # type: ignore[no-untyped-def]
            def counted(tx):  # type: ignore[no-untyped-def]
                scan = tx.scan

                def seen(*arguments):  # type: ignore[no-untyped-def]
                    for row in scan(*arguments):
                        self.touched += 1
                        yield row

                tx.scan = seen
                return fn(tx)

            return await super().transact(counted, *args)

    kv = Counting()
    tracker = KvRangeTracker(kv)
    await tracker.merge_many(PLACE, [Span(n * 10, n * 10 + 5) for n in range(5000)])
    for span, met in ((Span(25_006, 25_008), 0), (Span(25_005, 25_006), 2), (Span(30_004, 30_011), 2)):
        kv.touched = 0
        await tracker.merge(PLACE, span)
        assert kv.touched <= met + 1  # and the first one beyond


async def test_another_process_may_merge_too() -> None:
    kv = InMemoryKeyValueStore()
    one, two = KvRangeTracker(kv), KvRangeTracker(kv)
    assert await one.merge(PLACE, Span(0, 5)) == RangeSet([Span(0, 5)])
    assert await two.merge(PLACE, Span(10, 15)) == RangeSet([Span(0, 5), Span(10, 15)])
    assert await one.merge(PLACE, Span(5, 10)) == RangeSet([Span(0, 15)])
    assert await two.clear(PLACE) is True
    assert await one.current(PLACE) == RangeSet()
    assert await one.merge(PLACE, Span(1, 2)) == RangeSet([Span(1, 2)])
    results = await asyncio.gather(*(tracker.merge(PLACE, Span(n, n + 1)) for n in range(50) for tracker in (one, two)))
    assert await one.current(PLACE) == RangeSet([Span(0, 50)]) == max(results, key=lambda found: found.covered_length)


async def test_locators_share_nothing() -> None:
    kv = InMemoryKeyValueStore()
    tracker = KvRangeTracker(kv)
    await tracker.merge(PLACE, Span(0, 5))
    await tracker.merge(OTHER, Span(5, 9))
    assert await tracker.clear(PLACE) is True
    assert await tracker.current(PLACE) == RangeSet()
    assert await tracker.current(OTHER) == RangeSet([Span(5, 9)])


async def test_clear_takes_any_number_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_tracker, "_CLEAR_ROWS", 10)
    for count in (9, 10, 11, 20, 35):
        kv = InMemoryKeyValueStore()
        tracker = KvRangeTracker(kv)
        await tracker.merge_many(PLACE, [Span(2 * n, 2 * n + 1) for n in range(count)])
        assert await tracker.clear(PLACE) is True
        assert await rows(kv) == 0
        assert [key async for key, _ in kv.scan(RANGE_HEADS)] == []
        assert await tracker.clear(PLACE) is False


async def test_memory_of_many_locators_is_bounded() -> None:
    tracker = KvRangeTracker(InMemoryKeyValueStore())
    for number in range(100):
        await tracker.merge(Locator("file", "a", f"x{number}"), Span(0, 5))
    assert len(tracker._known) == 16
    assert await tracker.current(Locator("file", "a", "x0")) == RangeSet([Span(0, 5)])


@pytest.mark.parametrize("value", [b"", b"1234567", b"123456789", (9).to_bytes(8, "big"), b"\xff" * 8])
async def test_damaged_rows_are_an_integrity_error(value: bytes) -> None:
    kv = InMemoryKeyValueStore()
    await KvRangeTracker(kv).merge(PLACE, Span(0, 5))
    ((key, _),) = [row async for row in kv.scan(RANGES)]
    await kv.put(RANGES, key, value)
    with pytest.raises(IntegrityError):
        await KvRangeTracker(kv).current(PLACE)


spans = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: Span(pair[0], pair[0] + pair[1]))


@given(st.lists(st.lists(spans, max_size=4), max_size=12), st.booleans())
def test_merges_are_the_union(batches: list[list[Span]], remembering: bool) -> None:
    async def run() -> None:
        kv = InMemoryKeyValueStore()
        tracker = KvRangeTracker(kv)
        expected: list[Span] = []
        for batch in batches:
            expected += batch
            if not remembering:
                tracker = KvRangeTracker(kv)
            assert await tracker.merge_many(PLACE, batch) == RangeSet(expected)
        assert await KvRangeTracker(kv).current(PLACE) == RangeSet(expected)
        assert await rows(kv) == len(RangeSet(expected))

    asyncio.run(run())
