"""The range tracker on PostgreSQL: what it costs, and what happens when several merge at once."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from psycopg.errors import CheckViolation, ForeignKeyViolation

from graviton.backends.postgres import range_tracker
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.range_tracker import PgRangeTracker
from graviton.core.limits import MAX_SIZE
from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span
from graviton.errors import IntegrityError
from tests.postgres_databases import Watched, opened

pytestmark = pytest.mark.postgres

PLACE, OTHER = Locator("s3", "uploads", "x"), Locator("s3", "uploads", "xy")


async def rows(database: PgDatabase) -> list[tuple[int, int]]:
    return await database.fetch("test", "SELECT start_offset, end_offset FROM ranges ORDER BY head_id, start_offset")


async def heads(database: PgDatabase) -> int:
    return (await database.fetch("test", "SELECT count(*) FROM range_heads"))[0][0]


def random_span(draw: random.Random, limit: int, longest: int) -> Span:
    start = draw.randrange(limit)
    return Span(start, start + draw.randrange(longest + 1))


@pytest.mark.parametrize("spans_at_once", [1, 3, 10_000])
async def test_rows_are_always_the_union(
    database: Watched, monkeypatch: pytest.MonkeyPatch, spans_at_once: int
) -> None:
    monkeypatch.setattr(range_tracker, "_MERGE_SPANS", spans_at_once)
    draw = random.Random(spans_at_once)
    tracker, expected = PgRangeTracker(database), RangeSet()
    for number in range(150):
        if number % 50 == 49:
            assert await tracker.clear(PLACE) is True
            expected = RangeSet()
        spans = [random_span(draw, 120, draw.choice([1, 1, 3, 30])) for _ in range(draw.randrange(6))]
        expected |= RangeSet(spans)
        if number % 7 == 0:
            tracker = PgRangeTracker(database)  # one that remembers nothing
        assert await tracker.merge_many(PLACE, spans) == expected
        assert await rows(database) == [(span.start, span.end) for span in expected]
    assert await PgRangeTracker(database).current(PLACE) == expected


async def test_spans_reach_to_the_highest_offset(database: Watched) -> None:
    tracker = PgRangeTracker(database)
    await tracker.merge(PLACE, Span(MAX_SIZE - 2, MAX_SIZE - 1))
    assert await tracker.merge(PLACE, Span(MAX_SIZE - 1, MAX_SIZE)) == RangeSet([Span(MAX_SIZE - 2, MAX_SIZE)])
    assert await tracker.merge(PLACE, Span(0, MAX_SIZE)) == RangeSet([Span(0, MAX_SIZE)])
    assert await rows(database) == [(0, MAX_SIZE)]
    assert await tracker.clear(PLACE) is True


async def test_hundred_thousand_bytes_in_random_order_are_one_row(database: Watched) -> None:
    order = list(range(100_000))
    random.Random(3).shuffle(order)
    tracker = PgRangeTracker(database)
    began = time.monotonic()
    for at in range(0, len(order), 1_000):
        await tracker.merge_many(PLACE, [Span(n, n + 1) for n in order[at : at + 1_000]])
    assert time.monotonic() - began < 60  # 3 to 4 s; reading all ranges below every span takes minutes
    assert await rows(database) == [(0, 100_000)]


async def test_single_merges_cost_the_same_among_many_ranges(database: Watched) -> None:
    tracker = PgRangeTracker(database)
    await tracker.merge_many(PLACE, [Span(2 * n, 2 * n + 1) for n in range(50_000)])
    gaps = random.Random(4).sample(range(50_000), 3_000)
    database.statements.clear()
    began = time.monotonic()
    for gap in gaps:
        last = await tracker.merge(PLACE, Span(2 * gap + 1, 2 * gap + 2))
    assert time.monotonic() - began < 60  # 4 to 6 s
    assert range_tracker._READ not in database.statements, "the set is not read back after each merge"
    assert last.covered_length == 53_000
    assert await PgRangeTracker(database).current(PLACE) == last


async def test_concurrent_merges_of_many_processes_are_the_exact_union(schema: str) -> None:
    async with opened(schema, 8) as databases:
        trackers = [PgRangeTracker(database) for database in databases]
        done: list[Span] = []

        async def merge(number: int) -> None:
            draw = random.Random(number)
            for _ in range(60):
                spans = [random_span(draw, 3_000, 6) for _ in range(draw.randrange(1, 5))]
                merged = await trackers[number].merge_many(PLACE, spans)
                assert all(merged.contains(span) for span in spans)
                done.extend(spans)

        await asyncio.gather(*(merge(number) for number in range(8)))
        expected = RangeSet(done)
        assert await rows(databases[0]) == [(span.start, span.end) for span in expected]
        assert [await tracker.current(PLACE) for tracker in trackers] == [expected] * 8


async def test_tasks_of_one_process_share_what_they_learned(database: Watched) -> None:
    tracker = PgRangeTracker(database)
    await tracker.merge(PLACE, Span(0, 1))
    database.statements.clear()
    await asyncio.gather(*(tracker.merge(PLACE, Span(2 * n, 2 * n + 1)) for n in range(1, 101)))
    assert await tracker.current(PLACE) == RangeSet(Span(2 * n, 2 * n + 1) for n in range(101))
    assert range_tracker._READ not in database.statements
    # One that fails has learned nothing that is ever taken for true.
    async with database.connection() as connection:
        await connection.execute("ALTER TABLE ranges ADD CHECK (start_offset <> 77777)")
    with pytest.raises(IntegrityError):
        await tracker.merge(PLACE, Span(77_777, 77_778))
    assert await tracker.merge(PLACE, Span(1, 2)) == RangeSet(
        [Span(0, 3), *(Span(2 * n, 2 * n + 1) for n in range(2, 101))]
    )


async def test_merges_and_clears_side_by_side_leave_whole_rows(schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_tracker, "_CLEAR_ROWS", 7)
    async with opened(schema, 4) as databases:
        trackers = [PgRangeTracker(database) for database in databases]

        async def merge(number: int) -> None:
            draw = random.Random(number)
            for _ in range(40):
                spans = [random_span(draw, 500, 3) for _ in range(20)]
                merged = await trackers[number].merge_many(PLACE, spans)
                assert all(merged.contains(span) for span in spans)

        async def clear() -> None:
            for _ in range(15):
                await trackers[3].clear(PLACE)

        await asyncio.gather(merge(0), merge(1), merge(2), clear())
        found = await rows(databases[0])
        assert [(span.start, span.end) for span in RangeSet(Span(*row) for row in found)] == found
        assert await trackers[0].current(PLACE) == RangeSet(Span(*row) for row in found)
        await trackers[0].clear(PLACE)
        assert (await rows(databases[0]), await heads(databases[0])) == ([], 0)


async def test_clear_takes_any_number_away(database: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_tracker, "_CLEAR_ROWS", 10)
    tracker = PgRangeTracker(database)
    await tracker.merge(OTHER, Span(3, 4))
    for count in (1, 9, 10, 11, 20, 35):
        await tracker.merge_many(PLACE, [Span(2 * n, 2 * n + 1) for n in range(count)])
        assert await tracker.clear(PLACE) is True
        assert (await rows(database), await heads(database)) == ([(3, 4)], 1)
        assert await tracker.clear(PLACE) is False


async def test_clear_tells_the_truth_when_its_reply_was_lost(database: Watched) -> None:
    tracker = PgRangeTracker(database)
    database.replies_to_lose = 1
    assert await tracker.clear(PLACE) is False
    await tracker.merge(PLACE, Span(0, 5))
    database.replies_to_lose = 1
    assert await tracker.clear(PLACE) is True
    assert (await rows(database), await heads(database)) == ([], 0)


async def test_merge_whose_reply_was_lost_knows_what_others_did_meanwhile(schema: str) -> None:
    async with opened(schema, 2) as (ours, theirs):
        tracker, other = PgRangeTracker(ours), PgRangeTracker(theirs)
        for first in (Span(0, 5), Span(20, 25)):  # of a new locator, and of a known one
            ours.replies_to_lose = 1
            ours.between = lambda: other.merge(PLACE, Span(7, 9))
            merged = await tracker.merge(PLACE, first)
            assert merged == await other.current(PLACE) == await PgRangeTracker(ours).current(PLACE)
            assert merged.contains(first)


async def test_what_others_change_is_seen(schema: str) -> None:
    async with opened(schema, 2) as databases:
        one, two = (PgRangeTracker(database) for database in databases)
        assert await one.merge(PLACE, Span(0, 5)) == RangeSet([Span(0, 5)])
        assert await two.merge(PLACE, Span(10, 15)) == RangeSet([Span(0, 5), Span(10, 15)])
        assert await one.merge(PLACE, Span(5, 10)) == RangeSet([Span(0, 15)])
        assert await two.clear(PLACE) is True
        assert await one.merge(PLACE, Span(1, 2)) == RangeSet([Span(1, 2)])
        assert await two.current(PLACE) == await one.current(PLACE) == RangeSet([Span(1, 2)])


async def test_merging_what_is_there_changes_no_row(database: Watched) -> None:
    tracker = PgRangeTracker(database)
    await tracker.merge(PLACE, Span(0, 50))
    tag = await database.fetch("test", "SELECT tag FROM range_heads")
    await PgRangeTracker(database).merge_many(PLACE, [Span(5, 9), Span(10, 50)])
    assert await database.fetch("test", "SELECT tag FROM range_heads") == tag


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5), (-1, 5)])
async def test_tables_refuse_ranges_that_cannot_be(database: Watched, start: int, end: int) -> None:
    await PgRangeTracker(database).merge(PLACE, Span(100, 101))
    insert = "INSERT INTO ranges SELECT id, %b, %b FROM range_heads"
    with pytest.raises(CheckViolation, match="ranges_are_not_empty"):
        async with database.connection() as connection:
            await connection.execute(insert, [start, end])


async def test_tables_refuse_ranges_of_nothing(database: Watched) -> None:
    async with database.connection() as connection:
        with pytest.raises(ForeignKeyViolation, match="ranges_have_a_head"):
            await connection.execute("INSERT INTO ranges VALUES (77, 0, 1)")
        await PgRangeTracker(database).merge(PLACE, Span(0, 1))
        with pytest.raises(ForeignKeyViolation, match="ranges_have_a_head"):
            await connection.execute("DELETE FROM range_heads")
