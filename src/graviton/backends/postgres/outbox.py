"""`PgOutbox`: following what happened in a database, without missing any of it.

The rows are written by the transactions that they tell of (`_events.py`). How they are read, and why so, is in
docs/decisions/0023-postgres-events.md; the words used here are explained in `_positions.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from graviton.backends.postgres._bell import BellRope
from graviton.backends.postgres._positions import NOTHING_SEEN, Batch, Position, Stream
from graviton.backends.postgres._scripts import Last, Row, Script, Statement
from graviton.backends.postgres.database import PgDatabase
from graviton.errors import InvalidInput, NotFound
from graviton.ports.events import Event, EventKind
from graviton.ports.outbox import (
    MAX_TRIM,
    READ_EVENTS,
    Outbox,
    check_read_limit,
    check_trim_limit,
    events_are_gone,
    stream_of,
)

__all__ = ["PgOutbox"]

POLL_SECONDS = 3.0
"""How often a follower looks although no bell rang: it may have been missed."""

PAGE_EVENTS = READ_EVENTS
"""Events that a follower reads at once."""

_PLACE = """
concat_ws('/', (SELECT system_identifier FROM pg_control_system()), left(pg_walfile_name(pg_current_wal_lsn()), 8),
    (SELECT oid FROM pg_database WHERE datname = current_database()), 'events'::regclass::oid)
"""
"""Server, timeline, database and table: wherever numbers of transactions, or what they did, may be others."""

_STREAM = f"""
SELECT id, place = {_PLACE}, trims, trimmed_txid::text, trimmed_id, pg_current_snapshot()::text,
    pg_snapshot_xmax(pg_current_snapshot())::text,
    coalesce((SELECT txid FROM events ORDER BY txid DESC LIMIT 1)::text, '0'),
    coalesce((SELECT id FROM events ORDER BY id DESC LIMIT 1), 0)
FROM event_stream
"""

_UNSEEN = "NOT pg_visible_in_snapshot(txid, %(seen)b::text::pg_snapshot)"

_ROWS = """
SELECT e.id, e.at, e.kind, e.subject, e.data, d.name FROM (
    SELECT * FROM events WHERE {which} ORDER BY id LIMIT %(limit)b
) AS e CROSS JOIN LATERAL (SELECT name FROM domains WHERE id = e.domain_id LIMIT 1) AS d ORDER BY e.id
"""

_FIRST_ROWS = _ROWS.format(
    which=f"""id >= least(
        (SELECT min(id + 0) FROM events WHERE txid = ANY(ARRAY(
            SELECT pg_snapshot_xip(%(seen)b::text::pg_snapshot)))),
        (SELECT min(id + 0) FROM events WHERE txid >= pg_snapshot_xmax(%(seen)b::text::pg_snapshot))
    ) AND {_UNSEEN}"""
)
"""The beginning of a new batch. `id + 0`, lest the planner finds the least id by going through all of them in order:
the unseen ones are few, and found by their transactions."""

_MORE_ROWS = _ROWS.format(
    which=f"""id > %(last)b AND id <= %(top)b AND {_UNSEEN}
        AND pg_visible_in_snapshot(txid, %(until)b::text::pg_snapshot)"""
)

_LOCK_STREAM = "SELECT FROM event_stream FOR UPDATE"

_BEGIN_ANEW = f"""
UPDATE event_stream SET id = replace(gen_random_uuid()::text, '-', ''), place = {_PLACE},
    trims = 0, trimmed_txid = '0', trimmed_id = 0
WHERE place <> {_PLACE}
"""

_TRIM = """
WITH first AS MATERIALIZED (
    SELECT id, at, txid FROM events ORDER BY id LIMIT %(limit)b
), gone AS (
    DELETE FROM events WHERE id = ANY(ARRAY(
        SELECT id FROM first WHERE id < coalesce(
            (SELECT min(id) FROM first WHERE at >= %(before)b OR txid >= pg_snapshot_xmin(pg_current_snapshot())),
            (SELECT max(id) + 1 FROM first))
    )) RETURNING id, txid
), noted AS (
    UPDATE event_stream SET trims = trims + 1,
        trimmed_id = greatest(trimmed_id, (SELECT max(id) FROM gone)),
        trimmed_txid = greatest(trimmed_txid, (SELECT txid FROM gone ORDER BY txid DESC LIMIT 1))
    WHERE EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone
"""
"""Removes from the lower end of ids only, and only what was committed before every transaction that is still under way:
so it is easy to tell which positions lack nothing of it."""


class _Page(NamedTuple):
    events: list[tuple[str, Event]]
    """With the position after each."""
    position: Position


class PgOutbox(Outbox):
    """The events kept in one database; `PgConfig.events` says which kinds are written. They stay until `trim`."""

    def __init__(self, database: PgDatabase, poll_seconds: float = POLL_SECONDS) -> None:
        """Several may be used with one database. Raises InvalidInput."""
        if poll_seconds <= 0:
            raise InvalidInput(f"a follower looks every few seconds, not every {poll_seconds}")
        self._database = database
        self._poll_seconds = poll_seconds

    async def read(self, after: str | None = None, limit: int = READ_EVENTS) -> list[tuple[str, Event]]:
        check_read_limit(limit)
        return (await self._look(await self._parsed(after), limit)).events

    async def follow(self, after: str | None = None) -> AsyncIterator[tuple[str, Event]]:
        """An event comes as soon as its transaction is committed, and after every event of a transaction that it waited
        for, or that had ended before it made its change. Waiting, it has a connection of its own, which is closed when
        the iterator is."""
        position = await self._parsed(after)
        rope = BellRope(self._database.config.schema, self._database.connect)
        try:
            while True:
                page = await self._look(position, PAGE_EVENTS)
                position = page.position
                if page.events:
                    await rope.quiet()
                    for told in page.events:
                        yield told
                elif not await rope.listen():
                    await rope.wait(self._poll_seconds)
        finally:
            await rope.close()

    async def latest(self) -> str:
        stream, _ = await self._read([])
        return Position(stream.id, stream.trims, NOTHING_SEEN.until(stream.snapshot, stream.newest)).text

    async def trim(self, before_ns: int, limit: int = MAX_TRIM) -> int:
        """An event also stays as long as a transaction that began before it was committed is under way."""
        check_trim_limit(limit)
        await self._read([])  # numbers of transactions of another place would never be old
        return await self._database.run("events.trim", lambda: _trim(before_ns, limit))

    async def _parsed(self, after: str | None) -> Position | None:
        """Raises InvalidInput, and NotFound for a position in the events of another kind of metadata."""
        if after is None:
            return None
        try:
            return Position.parse(after)
        except InvalidInput:
            stream = stream_of(after)
            if stream is None or stream == (await self._read([]))[0].id:
                raise
            raise self._other_stream() from None

    def _other_stream(self) -> NotFound:
        what = "the position belongs to another stream of events: the database was restored, copied, or failed over"
        return events_are_gone(what, self._database.config.where)

    async def _look(self, position: Position | None, limit: int) -> _Page:
        """The next events of a follower, and where he is after them; without any he has come as far as there are."""
        stream, rows = await self._read([_rows_after(position, limit)])
        if position is None:
            position = Position(stream.id, stream.trims, NOTHING_SEEN)
        elif position.stream != stream.id or position.is_ahead(stream):
            raise self._other_stream()
        elif position.may_lack(stream):
            what = "events after the position were removed, because nobody had asked for them in time"
            raise events_are_gone(what, self._database.config.where)
        batch = position.batch
        if batch is None:
            seen = position.seen.until(stream.snapshot, stream.newest)
            batch = Batch(seen, stream.top, 0)
            position = position._replace(trims=stream.trims)
        done = Position(stream.id, position.trims, batch.seen)
        events = []
        for number, row in enumerate(rows, 1):
            is_end = number == len(rows) < limit
            at = done if is_end else position._replace(batch=batch._replace(last=row[0]))
            events.append((at.text, _event(row)))
            position = at
        if not rows and position.batch is not None:
            return await self._look(done, limit)
        return _Page(events, position if rows else done)

    async def _read(self, also: Sequence[Statement]) -> tuple[Stream, list[Row]]:
        """The stream, and rows of the same snapshot. The stream begins anew if it is in another place: numbers of
        transactions mean something else there."""
        while True:
            found, *rows = await self._database.fetch_all("events.follow", [Statement(_STREAM), *also])
            stream = _stream(found[0])
            if stream.is_here:
                return stream, [row for some in rows for row in some]
            await self._database.run("events.begin", _begin_anew)


def _rows_after(position: Position | None, limit: int) -> Statement:
    seen = NOTHING_SEEN if position is None else position.seen
    values: dict[str, Any] = {"seen": seen.sql, "limit": limit}
    if position is None or position.batch is None:
        return Statement(_FIRST_ROWS, values)
    batch = position.batch
    return Statement(_MORE_ROWS, values | {"until": batch.seen.sql, "last": batch.last, "top": batch.top})


def _stream(row: Row) -> Stream:
    id_, is_here, trims, trimmed_txid, trimmed_id, snapshot, next_txid, newest, top = row
    return Stream(id_, is_here, trims, int(trimmed_txid), trimmed_id, snapshot, int(next_txid), int(newest), top)


def _event(row: Row) -> Event:
    _, at_ns, kind, subject, data, domain = row
    return Event(EventKind(kind), at_ns, subject, {**data, "domain": domain} if domain else data)


def _begin_anew() -> Script[None]:
    """Begin another stream, with all events that are there as its first, unless somebody else just did."""
    _, _, begun = yield [
        Statement("SET LOCAL statement_timeout TO 0"),  # once, for a database that was moved
        Statement(_LOCK_STREAM),
        Statement(_BEGIN_ANEW),
    ]
    if begun.changed:
        yield Last([Statement("UPDATE events SET txid = pg_current_xact_id()")])


def _trim(before_ns: int, limit: int) -> Script[int]:
    _, gone = yield [Statement(_LOCK_STREAM), Statement(_TRIM, {"before": before_ns, "limit": limit})]
    count: int = gone.rows[0][0]
    return count
