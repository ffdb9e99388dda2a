from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from graviton.constraints.semaphore import SemaphoreLimit
from graviton.errors import InvalidInput, NotFound, Unavailable
from graviton.ports.events import Event, EventKind
from graviton.server.http.context import Context
from graviton.server.http.edge import TRACE_ID
from graviton.server.http.errors import Gone, TooSlow
from graviton.server.http.events import PIECE_BYTES, EventFilter, EventStream, parse_kinds
from tests.unit.server.asgi_fakes import Wire, scope

PUT, GONE = EventKind.BLOB_COMMITTED, EventKind.BLOB_DELETED


def event(number: int, kind: EventKind = PUT, **data: str) -> Event:
    return Event(kind, number, f"blake3:{number}", data)


class FakeOutbox:
    """Events by their numbers, which are their positions."""

    def __init__(self, *events: Event, fails: Exception | None = None) -> None:
        self.events = list(events)
        self.fails = fails
        self.more = asyncio.Event()
        self.is_closed = False
        self.read = 0

    async def follow(self, after: str | None = None) -> AsyncIterator[tuple[str, Event]]:
        at = 0 if after is None else int(after)
        try:
            while True:
                while at < len(self.events):
                    at += 1
                    self.read = at
                    yield str(at), self.events[at - 1]
                if self.fails is not None:
                    raise self.fails
                self.more.clear()
                await self.more.wait()
        finally:
            self.is_closed = True

    async def latest(self) -> str:
        return str(len(self.events))

    def add(self, one: Event) -> None:
        self.events.append(one)
        self.more.set()


class FakeContext:
    """What a stream needs of a context."""

    def __init__(self) -> None:

        self.followers = SemaphoreLimit(1, 0, 0)
        self.stopping = asyncio.Event()


class Following:
    """One follower; use as `async with`."""

    def __init__(self, outbox: FakeOutbox, after: str | None = "0", wanted: EventFilter = EventFilter()) -> None:
        self.context = FakeContext()
        self.wire = Wire([{"type": "http.request", "body": b""}])
        self.stream = EventStream(outbox, after, wanted, cast(Context, self.context))

    async def __aenter__(self) -> Following:
        request = scope() | {TRACE_ID: "0" * 32}
        self.task = asyncio.create_task(self.stream(request, self.wire.receive, self.wire.send))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.wire.gone.set()
        await asyncio.wait([self.task])

    async def blocks(self, count: int) -> list[dict[str, str]]:
        """The first `count` blocks after the head of the stream."""
        while True:
            text = b"".join(message["body"] for message in self.wire.sent[1:]).decode()
            found = [one for one in text.split("\n\n") if one][1:]
            if len(found) >= count or self.task.done():
                return [dict(line.split(": ", 1) for line in one.split("\n")) for one in found[:count]]
            await asyncio.sleep(0.001)


async def test_events_come_with_the_position_after_each() -> None:
    outbox = FakeOutbox(event(1), event(2, GONE))
    async with Following(outbox) as follower:
        first, second = await follower.blocks(2)
        assert (first["id"], first["event"]) == ("1", "blob.committed")
        assert json.loads(second["data"]) == {
            "kind": "blob.deleted",
            "at": "1970-01-01T00:00:00.000000002Z",
            "subject": "blake3:2",
            "data": {},
        }
        assert follower.wire.headers[b"content-type"] == b"text/event-stream"
        outbox.add(event(3))
        assert (await follower.blocks(3))[2]["id"] == "3"
    assert outbox.is_closed


async def test_what_is_there_already_comes_at_once() -> None:
    """Each by itself is a piece to be sent, and a round through the loop, for each of all followers."""
    outbox = FakeOutbox(*(event(number) for number in range(1, 41)))
    async with Following(outbox) as follower:
        found = await follower.blocks(40)
        assert [one["id"] for one in found] == [str(number) for number in range(1, 41)]
        assert len(follower.wire.sent) <= 4


async def test_the_position_comes_before_any_event() -> None:
    """A browser that loses its connection before the first event goes on from where it began."""
    async with Following(FakeOutbox(), after="7") as follower:
        while len(follower.wire.sent) < 2:
            await asyncio.sleep(0.001)
        assert follower.wire.sent[1]["body"] == b"retry: 1000\nid: 7\n\n"


async def test_only_what_is_wanted_comes() -> None:
    outbox = FakeOutbox(event(1), event(2, GONE), event(3), event(4, domain="another"), event(30))
    async with Following(outbox, wanted=EventFilter(frozenset({PUT}), "blake3:3")) as follower:
        assert [one["id"] for one in await follower.blocks(2)] == ["3", "5"]


async def test_what_is_not_wanted_moves_the_position_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graviton.server.http.events.HEARTBEAT_SECONDS", 0.01)
    outbox = FakeOutbox(event(1), event(2))
    async with Following(outbox, wanted=EventFilter(frozenset({GONE}))) as follower:
        for _ in range(1000):
            if {"id": "2"} in await follower.blocks(1) or {"id": "2"} in await follower.blocks(2):
                return
            await asyncio.sleep(0.001)
        raise AssertionError("no heartbeat with the newest position")


async def test_a_position_that_is_gone_is_a_status() -> None:
    async with Following(FakeOutbox(fails=NotFound("the events after it were removed"))) as follower:
        with pytest.raises(Gone):
            await follower.task
    assert follower.wire.sent == []


async def test_a_position_that_is_none_is_a_status() -> None:
    async with Following(FakeOutbox(fails=InvalidInput("no position"))) as follower:
        with pytest.raises(InvalidInput):
            await follower.task


async def test_a_failure_in_between_is_told_and_ends_the_stream() -> None:
    outbox = FakeOutbox(event(1), fails=Unavailable("the database at 10.0.0.7 is away"))
    async with Following(outbox) as follower:
        _, failed = await follower.blocks(2)
        assert failed["event"] == "failed"
        assert json.loads(failed["data"])["error"] == "unavailable"
        assert "10.0.0.7" not in failed["data"]
        await follower.task
        assert follower.wire.is_complete


async def test_when_the_server_stops_the_stream_ends_in_order() -> None:
    outbox = FakeOutbox(event(1))
    async with Following(outbox) as follower:
        await follower.blocks(1)
        follower.context.stopping.set()
        await asyncio.wait_for(follower.task, 5)
        assert follower.wire.is_complete
    assert outbox.is_closed


async def test_a_follower_that_leaves_is_forgotten() -> None:
    outbox = FakeOutbox(event(1))
    async with Following(outbox) as follower:
        await follower.blocks(1)
        assert follower.context.followers.in_use == 1
        follower.wire.gone.set()
        await asyncio.wait_for(follower.task, 5)
    assert outbox.is_closed
    assert follower.context.followers.in_use == 0


async def test_a_follower_that_takes_nothing_is_dropped_and_nothing_is_kept_for_him(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("graviton.server.http.events.WINDOW_SECONDS", 0.02)
    outbox = FakeOutbox(*(event(number) for number in range(1, 5000)))
    follower = Following(outbox)
    send = follower.wire.send

    async def stuck(message: dict[str, Any]) -> None:
        await send(message)
        if len(follower.wire.sent) > 2:  # the head, the position, a piece of events
            await asyncio.Event().wait()

    follower.wire.send = stuck  # type: ignore[method-assign]
    async with follower:
        with pytest.raises(TooSlow):
            await follower.task
    assert outbox.read < 2 * PIECE_BYTES / 100  # an event here has more than 100 bytes
    assert outbox.is_closed


def test_kinds() -> None:
    assert parse_kinds("") == frozenset()
    assert parse_kinds("blob.committed, blob.deleted") == {PUT, GONE}
    with pytest.raises(InvalidInput):
        parse_kinds("blob.eaten")
