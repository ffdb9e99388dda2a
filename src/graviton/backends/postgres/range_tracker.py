"""`PgRangeTracker`: persisted spans per locator, merged in SQL; a row per range.

Whoever changes the ranges of a locator locks its head row first and looks in a later statement, so concurrent merges
go one after the other and lose nothing. The ranges of a locator are disjoint and do not touch, hence ordered by their
ends as by their starts. The server does not know that, and `end >= ours` would make it read all ranges below: so the
scan begins at the last range that starts not after ours, which is a lookup of one row. What else was measured is in
docs/decisions/0020-postgres-ranges.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graviton.backends.postgres._scripts import Row, Script, Statement
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span
from graviton.metadata.known_ranges import Known, KnownRanges, new_tag, place_of
from graviton.ports.range_tracker import RangeTracker

__all__ = ["PgRangeTracker"]

_MERGE_SPANS = 10_000
"""Spans per statement of a merge: 100 ms."""

_CLEAR_ROWS = 10_000
"""Rows removed per transaction by `clear`: some tens of milliseconds."""

_LOCK = "SELECT id, tag FROM range_heads WHERE place = %(place)b FOR NO KEY UPDATE"

_MAKE = """
INSERT INTO range_heads (place, tag, locator) VALUES (%(place)b, %(tag)b, %(locator)b)
ON CONFLICT (place) DO UPDATE SET tag = range_heads.tag
RETURNING id, tag
"""
"""Somebody else may make it at the same time: then it is locked, and its tag is not ours."""

_READ = """
SELECT h.tag, r.starts, r.ends
FROM range_heads h CROSS JOIN LATERAL (
    SELECT array_agg(start_offset ORDER BY start_offset) AS starts, array_agg(end_offset ORDER BY start_offset) AS ends
    FROM ranges WHERE head_id = h.id AND h.tag <> %(known)b
) AS r
WHERE h.place = %(place)b
"""
"""One row: tag and ranges of one moment. The ranges are not read if the tag is the one that is known."""

_MERGE = """
WITH new AS (
    SELECT * FROM unnest(%(starts)b::bigint[], %(ends)b::bigint[]) AS n(start_offset, end_offset)
), met AS (
    SELECT r.start_offset, r.end_offset
    FROM new n CROSS JOIN LATERAL (
        SELECT start_offset, end_offset FROM ranges
        WHERE head_id = %(head)b AND start_offset <= n.end_offset AND end_offset >= n.start_offset
            AND start_offset >= coalesce((
                SELECT b.start_offset FROM ranges b
                WHERE b.head_id = %(head)b AND b.start_offset <= n.start_offset
                ORDER BY b.start_offset DESC LIMIT 1
            ), n.start_offset)
    ) AS r
), merged AS (
    SELECT lower(span) AS start_offset, upper(span) AS end_offset
    FROM (
        SELECT unnest(range_agg(int8range(start_offset, end_offset))) AS span
        FROM (SELECT * FROM new UNION ALL SELECT * FROM met) AS every
    ) AS spans
), gone AS (
    DELETE FROM ranges WHERE head_id = %(head)b AND start_offset = ANY (ARRAY(
        SELECT start_offset FROM met EXCEPT SELECT start_offset FROM merged
    ))
)
INSERT INTO ranges (head_id, start_offset, end_offset) SELECT %(head)b, start_offset, end_offset FROM merged
ON CONFLICT (head_id, start_offset) DO UPDATE SET end_offset = EXCLUDED.end_offset
"""
"""`met` are the ranges that overlap a new span or meet it end to start; `range_agg` joins both kinds. A range that
keeps its start grows in place."""

_RETAG = "UPDATE range_heads SET tag = %(tag)b WHERE id = %(head)b"

_CLEAR = """
DELETE FROM ranges WHERE head_id = %(head)b AND start_offset < coalesce((
    SELECT start_offset FROM ranges WHERE head_id = %(head)b ORDER BY start_offset OFFSET %(rows)b LIMIT 1
), 9223372036854775807)
"""
"""The first so many ranges. None starts at the highest offset: it would be empty."""

_FORGET = "DELETE FROM range_heads WHERE id = %(head)b"


class PgRangeTracker(RangeTracker):
    """Persisted spans per locator; see the port for the laws. A merge costs two rows for each range it meets, and reads
    the whole set only when somebody else has changed it."""

    def __init__(self, database: PgDatabase) -> None:
        self._database = database
        self._known = KnownRanges()

    async def current(self, locator: Locator) -> RangeSet:
        place = place_of(locator)
        known = self._known.recall(place)
        values = {"place": place, "known": b"" if known is None else known.tag}
        return self._known.remember(place, _known(await self._database.fetch("ranges.current", _READ, values), known))

    async def merge_many(self, locator: Locator, spans: Iterable[Span]) -> RangeSet:
        added = RangeSet(spans)
        if not added:
            return await self.current(locator)
        place = place_of(locator)
        return await self._database.run("ranges.merge", lambda: self._merge(place, locator, added))

    def _merge(self, place: bytes, locator: Locator, added: RangeSet) -> Script[RangeSet]:
        tag = new_tag()
        (locked,) = yield [Statement(_LOCK, {"place": place})]
        if not locked.rows:
            (locked,) = yield [Statement(_MAKE, {"place": place, "tag": tag, "locator": locator.text})]
        head, tag_before = locked.rows[0]
        # Looked up only now: while we waited for the lock, somebody in this process may have learned more.
        before = Known(tag, RangeSet()) if tag_before == tag else self._known.recall(place)
        if before is None or before.tag != tag_before:
            (read,) = yield [Statement(_READ, {"place": place, "known": b""})]
            before = _known(read.rows)
        fresh = [span for span in added if not before.ranges.contains(span)]
        if not fresh:
            return self._known.remember(place, before)
        # One span is added by moving memory; many need a pass over both sets in any case.
        after = before.ranges.add(fresh[0]) if len(fresh) == 1 else before.ranges | RangeSet(fresh)
        # Before it is true: who waits for the lock here gets it before the reply to our commit is here. If it never
        # comes true, nothing ever has this tag.
        self._known.remember(place, Known(tag, after))
        yield [*_merge_statements(head, fresh), Statement(_RETAG, {"head": head, "tag": tag})]
        return after

    async def clear(self, locator: Locator) -> bool:
        place = place_of(locator)
        self._known.forget(place)
        found = 0

        def script() -> Script[int]:
            nonlocal found
            found = yield from _clear_some(place)
            return found

        try:
            more = await self._database.run("ranges.clear", script, repeats_lost=False) == _CLEAR_ROWS
        except LostReply:
            more = found > 0  # which may be there still
        was_known = found > 0
        while more:
            more = await self._database.run("ranges.clear", lambda: _clear_some(place)) == _CLEAR_ROWS
        return was_known


def _known(rows: Sequence[Row], known: Known | None = None) -> Known:
    """What `_READ` found: `known` if it has that tag."""
    if not rows:
        return Known(b"", RangeSet())
    tag, starts, ends = rows[0]
    if known is not None and known.tag == tag:
        return known
    return Known(tag, RangeSet(map(Span, starts or (), ends or ())))


def _merge_statements(head: int, spans: Sequence[Span]) -> list[Statement]:
    parts = [spans[at : at + _MERGE_SPANS] for at in range(0, len(spans), _MERGE_SPANS)]
    return [
        Statement(
            _MERGE,
            {"head": head, "starts": [span.start for span in part], "ends": [span.end for span in part]},
        )
        for part in parts
    ]


def _clear_some(place: bytes) -> Script[int]:
    """Remove up to `_CLEAR_ROWS` ranges; how many. The set shrinks from its beginning, and what is left at any moment
    was persisted: an interrupted `clear` lies about nothing."""
    (locked,) = yield [Statement(_LOCK, {"place": place})]
    if not locked.rows:
        return 0
    head, _ = locked.rows[0]
    (removed,) = yield [Statement(_CLEAR, {"head": head, "rows": _CLEAR_ROWS})]
    last = removed.changed < _CLEAR_ROWS
    yield [Statement(_FORGET, {"head": head}) if last else Statement(_RETAG, {"head": head, "tag": new_tag()})]
    return removed.changed
