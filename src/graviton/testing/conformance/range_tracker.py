"""The laws of `RangeTracker`."""

from __future__ import annotations

from random import Random

from graviton.core.limits import MAX_SIZE
from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span
from graviton.ports.range_tracker import RangeTracker
from graviton.testing.conformance.backed import BackedContract
from graviton.testing.conformance.checks import cancelled_everywhere, gather
from graviton.testing.conformance.contract import needs

__all__ = ["RangeTrackerContract"]

A = Locator("s3", "uploads", "a")
OTHERS = [Locator("s3", "uploads", "aa"), Locator("s3", "uploads", "a/a"), Locator("s3", "upload", "a")]


class RangeTrackerContract(BackedContract[RangeTracker]):
    """All laws of `graviton.ports.range_tracker`."""

    port = RangeTracker

    async def test_unknown_locator_is_the_empty_set(self) -> None:
        tracker = await self.open_port()
        assert await tracker.current(A) == RangeSet()
        assert await tracker.clear(A) is False

    async def test_merge_returns_the_whole_set(self) -> None:
        tracker = await self.open_port()
        steps = [
            (Span(10, 20), [Span(10, 20)]),
            (Span(30, 40), [Span(10, 20), Span(30, 40)]),
            (Span(40, 41), [Span(10, 20), Span(30, 41)]),
            (Span(29, 30), [Span(10, 20), Span(29, 41)]),
            (Span(0, 1), [Span(0, 1), Span(10, 20), Span(29, 41)]),
            (Span(15, 35), [Span(0, 1), Span(10, 41)]),
            (Span(12, 13), [Span(0, 1), Span(10, 41)]),
            (Span(0, 50), [Span(0, 50)]),
            (Span(MAX_SIZE - 1, MAX_SIZE), [Span(0, 50), Span(MAX_SIZE - 1, MAX_SIZE)]),
        ]
        for span, expected in steps:
            assert await tracker.merge(A, span) == RangeSet(expected), span
            assert await tracker.current(A) == RangeSet(expected), span

    async def test_merging_again_changes_nothing(self) -> None:
        tracker = await self.open_port()
        await tracker.merge_many(A, [Span(5, 9), Span(20, 30)])
        for span in (Span(5, 9), Span(20, 30), Span(21, 22)):
            assert await tracker.merge(A, span) == RangeSet([Span(5, 9), Span(20, 30)])

    async def test_empty_span_changes_nothing(self) -> None:
        tracker = await self.open_port()
        assert await tracker.merge(A, Span(5, 5)) == RangeSet()
        assert await tracker.merge_many(A, []) == RangeSet()
        assert await tracker.clear(A) is False
        await tracker.merge(A, Span(0, 4))
        for at in (0, 2, 4, 9):
            assert await tracker.merge(A, Span(at, at)) == RangeSet([Span(0, 4)])
        assert await tracker.merge_many(A, [Span(7, 7), Span(6, 8)]) == RangeSet([Span(0, 4), Span(6, 8)])

    async def test_locators_share_nothing(self) -> None:
        tracker = await self.open_port()
        for number, locator in enumerate([A, *OTHERS]):
            await tracker.merge(locator, Span(number, number + 1))
        for number, locator in enumerate([A, *OTHERS]):
            assert await tracker.current(locator) == RangeSet([Span(number, number + 1)])
        assert await tracker.clear(A) is True
        assert await tracker.current(OTHERS[0]) == RangeSet([Span(1, 2)])

    async def test_clear_forgets_the_locator(self) -> None:
        tracker = await self.open_port()
        await tracker.merge_many(A, [Span(n * 3, n * 3 + 1) for n in range(50)])
        assert await tracker.clear(A) is True
        assert await tracker.clear(A) is False
        assert await tracker.current(A) == RangeSet()
        assert await tracker.merge(A, Span(4, 5)) == RangeSet([Span(4, 5)])

    async def test_order_of_merges_does_not_matter(self) -> None:
        tracker = await self.open_port()
        random = Random(20)
        spans = [Span(start, start + random.randrange(12)) for start in random.choices(range(400), k=120)]
        for number in range(4):
            locator = Locator("s3", "uploads", f"order-{number}")
            random.shuffle(spans)
            for span in spans:
                await tracker.merge(locator, span)
            assert await tracker.current(locator) == RangeSet(spans)

    async def test_concurrent_merges_lose_no_span(self) -> None:
        tracker = await self.open_port()
        spans = [Span(n * 2, n * 2 + 1) for n in range(60)]
        await gather(*(tracker.merge(A, span) for span in spans))
        assert await tracker.current(A) == RangeSet(spans)
        await gather(*(tracker.merge_many(A, [Span(n * 2 + 1, n * 2 + 2)]) for n in range(60)))
        assert await tracker.current(A) == RangeSet([Span(0, 120)])

    async def test_many_small_spans_in_random_order_end_as_one_range(self) -> None:
        tracker = await self.open_port()
        order = list(range(100_000))
        Random(21).shuffle(order)
        for start in range(0, len(order), 1_000):
            merged = await tracker.merge_many(A, [Span(n, n + 1) for n in order[start : start + 1_000]])
            assert merged.covered_length == start + 1_000
        assert await tracker.current(A) == RangeSet([Span(0, 100_000)])

    async def test_cancelled_merge_has_happened_or_not_as_a_whole(self) -> None:
        tracker = await self.open_port()
        old, new = RangeSet([Span(0, 10)]), RangeSet([Span(0, 10), Span(20, 30), Span(40, 50)])
        await tracker.merge(A, Span(0, 10))
        async for attempt in cancelled_everywhere(lambda: tracker.merge_many(A, [Span(20, 30), Span(40, 50)])):
            assert await tracker.current(A) in ((old, new) if attempt.cancelled else (new,))
            await tracker.clear(A)
            await tracker.merge(A, Span(0, 10))

    @needs("persistent")
    async def test_merged_spans_are_there_after_reopening(self) -> None:
        tracker = await self.open_port()
        await tracker.merge_many(A, [Span(0, 10), Span(20, 30)])
        await tracker.merge(OTHERS[0], Span(5, 6))
        await tracker.clear(OTHERS[0])
        tracker = await self.reopened()
        assert await tracker.current(A) == RangeSet([Span(0, 10), Span(20, 30)])
        assert await tracker.current(OTHERS[0]) == RangeSet()
        assert await tracker.merge(A, Span(10, 20)) == RangeSet([Span(0, 30)])
