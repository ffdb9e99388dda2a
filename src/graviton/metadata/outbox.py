"""`Outbox` over a transactional key-value store: `event_rows.py` has the rows and who writes them.

docs/decisions/0051-outbox-in-a-key-value-store.md
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from graviton.concurrency.calls import own_copy
from graviton.concurrency.turns import InTurns
from graviton.errors import IntegrityError, InvalidInput
from graviton.metadata.event_bell import bell_of
from graviton.metadata.event_rows import EventHead, decode_event, load_head, trim_events
from graviton.metadata.marker import StoreMarker
from graviton.metadata.pairing import MARKER_KEY
from graviton.metadata.read_only import ReadOnlyState, read_only_row
from graviton.metadata.rows import EVENTS, STORE, u64
from graviton.ports.events import Event
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction
from graviton.ports.outbox import (
    MAX_TRIM,
    READ_EVENTS,
    Outbox,
    check_read_limit,
    check_trim_limit,
    events_are_gone,
    no_position,
    stream_of,
)

__all__ = ["POLL_SECONDS", "KvOutbox"]

POLL_SECONDS = 0.5
"""How often a follower looks although no bell rang: another process may have written. A look takes 0.1 to 0.2 ms."""

GATHER_SECONDS = 0.05
"""How long a follower who was given something waits before he looks again. While a store is busy some events come
together then; each by itself would wake every follower, and 250 of them make puts ten times as slow."""

NO_STREAM = "0" * 32
"""Stands for the metadata id where there is no marker."""

_TEXT = re.compile(r"([0-9a-f]{32}):(0|[1-9][0-9]{0,18}):(0|[1-9][0-9]{0,19})", re.ASCII)
_MAX_U64 = 2**64 - 1


class _Position(NamedTuple):
    """Every event up to a number was given."""

    stream: str
    """The metadata id: restored, copied or moved metadata has another one."""
    number: int
    at_ns: int
    """Time of the event of that number, 0 if there never was one. A store that was put back to an earlier state has
    another event under the number."""

    @classmethod
    def parse(cls, text: str) -> _Position | None:
        """From its text; None if it is none of ours."""
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        made = cls(match[1], int(match[2]), int(match[3]))
        return made if made.at_ns <= _MAX_U64 else None

    @property
    def text(self) -> str:
        """To be kept by followers."""
        return f"{self.stream}:{self.number}:{self.at_ns}"


class _Seen(NamedTuple):
    """What one look found."""

    position: _Position
    """Where it began."""
    events: list[tuple[_Position, Event]]


class _Asked:
    """A follower's next look."""

    __slots__ = ("after", "found")

    def __init__(self, after: str | None) -> None:
        self.after = after
        self.found: _Seen | BaseException | None = None

    def answer(self) -> _Seen:
        """What it found. Raises what it failed of."""
        found, self.found = self.found, None
        assert found is not None, "everybody is answered"
        if isinstance(found, BaseException):
            raise found
        return found


class KvOutbox(Outbox):
    """The events kept in one metadata store: `KEPT_EVENTS` of them, older ones go by themselves.

    Followers in the process that writes are woken, if both use the same `KeyValueStore` object; of what other processes
    write they hear within `poll_seconds`. A follower of metadata that was moved elsewhere is given what is left, and is
    then told Retired. A damaged row raises IntegrityError: whoever goes on from `latest` has missed events.
    """

    def __init__(self, kv: KeyValueStore, poll_seconds: float = POLL_SECONDS) -> None:
        """Several may be used with one store. Raises InvalidInput."""
        if poll_seconds <= 0:
            raise InvalidInput(f"a follower looks every few moments, not every {poll_seconds} s")
        self._kv = kv
        self._poll_seconds = poll_seconds
        self._looks: InTurns[_Asked] = InTurns(self._look_for_all)

    async def read(self, after: str | None = None, limit: int = READ_EVENTS) -> list[tuple[str, Event]]:
        check_read_limit(limit)
        seen = await self._kv.read(partial(_look, after=after, limit=limit))
        return [(position.text, event) for position, event in seen.events]

    async def follow(self, after: str | None = None) -> AsyncIterator[tuple[str, Event]]:
        with bell_of(self._kv).listen() as rung:
            while True:
                rung.clear()  # before the look: whatever rings from here on may not be in it
                asked = _Asked(after)
                await self._looks.run(asked)
                seen = asked.answer()
                after = seen.position.text
                for position, event in seen.events:
                    after = position.text
                    yield after, event
                if not seen.events:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(rung.wait(), self._poll_seconds)
                elif len(seen.events) < READ_EVENTS:  # else there may be more already
                    await asyncio.sleep(GATHER_SECONDS)

    async def _look_for_all(self, asked: list[_Asked]) -> None:
        """One look for all who are at the same place, which most are: at the end, woken by the same bell. Whoever asks
        while a look is going on waits for the next one, so none is older than his question."""
        places: dict[str | None, list[_Asked]] = {}
        for one in asked:
            places.setdefault(one.after, []).append(one)
        for after, those in places.items():
            try:
                seen = await self._kv.read(partial(_look, after=after, limit=READ_EVENTS))
            except BaseException as error:  # noqa: BLE001 - told to whoever asked
                for one in those:
                    one.found = own_copy(error)
            else:
                for one in those:
                    one.found = seen

    async def latest(self) -> str:
        return (await self._kv.read(_latest)).text

    async def trim(self, before_ns: int, limit: int = MAX_TRIM) -> int:
        check_trim_limit(limit)
        return await self._kv.transact(partial(trim_events, before_ns=before_ns, limit=limit), Durability.RELAXED)


def _stream(tx: ReadTransaction) -> str:
    data = tx.get(STORE, MARKER_KEY)
    return NO_STREAM if data is None else StoreMarker.decode(data, "the metadata").metadata_id


def _latest(tx: ReadTransaction) -> _Position:
    head = load_head(tx)
    return _Position(_stream(tx), head.next - 1, _time_before(tx, head, head.next))


def _look(tx: ReadTransaction, after: str | None, limit: int) -> _Seen:
    """The next events. Raises InvalidInput, NotFound, IntegrityError, and Retired if there will never be any more."""
    stream, head = _stream(tx), load_head(tx)
    begin = _Position(stream, head.first - 1, head.before_ns)
    position = begin if after is None else _checked(tx, after, stream, head)
    events = []
    number = position.number
    for key, value in tx.scan(EVENTS, b"", u64(number), limit):
        number += 1
        if key != u64(number):
            raise _lost(number)
        event = decode_event(value)
        events.append((_Position(stream, number, event.at_ns), event))
    if len(events) < limit and number != head.next - 1:
        raise _lost(number + 1)
    if not events:
        row = read_only_row(tx)
        if row is not None and row.state is ReadOnlyState.MOVED:
            raise row.refusal()
    return _Seen(position, events)


def _checked(tx: ReadTransaction, after: str, stream: str, head: EventHead) -> _Position:
    position = _Position.parse(after)
    if stream_of(after) not in (None, stream):
        raise events_are_gone("the position belongs to another stream of events: the metadata was restored, or moved")
    if position is None:
        raise no_position(after)
    if position.number < head.first - 1:
        raise events_are_gone("events after the position were removed, because nobody had asked for them in time")
    if position.number >= head.next or position.at_ns != _time_before(tx, head, position.number + 1):
        raise events_are_gone(
            "the position has seen events that are not there: the metadata was put back to an earlier state"
        )
    return position


def _time_before(tx: ReadTransaction, head: EventHead, number: int) -> int:
    """Time of the event before that of a number, which is kept or was the last to be removed."""
    if number == head.first:
        return head.before_ns
    value = tx.get(EVENTS, u64(number - 1))
    if value is None:
        raise _lost(number - 1)
    return decode_event(value).at_ns


def _lost(number: int) -> IntegrityError:
    return IntegrityError(
        f"event {number} is not there, and nobody removed it",
        operation="events.follow",
        subject=EVENTS,
        hint="Go on from the latest position, and compare with the list of blobs.",
    )
