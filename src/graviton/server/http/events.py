"""Events as Server-Sent Events, to one follower.

The id of each is the position after it. The first thing sent, and each heartbeat, is an id alone, which a browser keeps
without showing an event: so a follower that loses its connection goes on where it was also if nothing happened yet, or
nothing that its filter lets through. Nothing is kept for a follower: the next events are read when he has taken those
before, a piece of 16 KiB at most, and who takes none for half a minute is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple, cast

import msgspec

from graviton.concurrency.finishing import finish_anyway
from graviton.errors import GravitonError, InvalidInput, NotFound
from graviton.ports.events import Event, EventKind
from graviton.ports.outbox import Outbox
from graviton.server.http.asgi import Receive, Scope, Send
from graviton.server.http.context import Context
from graviton.server.http.edge import TRACE_ID
from graviton.server.http.errors import Gone, TooSlow, answer
from graviton.server.http.pace import WINDOW_SECONDS
from graviton.server.http.times import time_text

__all__ = ["EventFilter", "EventStream", "parse_kinds"]

HEARTBEAT_SECONDS: Final = 15.0
"""Proxies close what is silent for a minute; half of what the quickest of them wait."""

FIRST_SECONDS: Final = 0.5
"""How long the first look may take before the answer begins: until then an error has a status of its own."""

PIECE_BYTES: Final = 16 * 1024
"""Sent at once: some sixty events, if so many happened since the last look."""

MAX_POSITION_CHARS: Final = 60 * 1024
"""As much as fits into the head of a request."""


class EventFilter(NamedTuple):
    """Which events a follower gets."""

    kinds: frozenset[EventKind] = frozenset()
    """Empty: all."""
    prefix: str = ""
    """What the subject begins with."""

    def matches(self, event: Event) -> bool:
        """Whether it is one of them. Events of other domains are for nobody here, as their blobs are."""
        if "domain" in event.data or (self.kinds and event.kind not in self.kinds):
            return False
        return event.subject.startswith(self.prefix)


def parse_kinds(text: str) -> frozenset[EventKind]:
    """Kinds from `blob.committed,blob.deleted`. Raises InvalidInput."""
    try:
        return frozenset(EventKind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise InvalidInput(
            f"kind is none of an event: {text[:80]!r}", subject="kind", hint=f"There are {', '.join(EventKind)}."
        ) from None


class _Told(msgspec.Struct):
    """The data of one event."""

    kind: str
    at: str
    subject: str
    data: dict[str, str | int]


class EventStream:
    """The ASGI application that answers one follower, until he leaves or the server stops."""

    def __init__(self, outbox: Outbox, after: str | None, wanted: EventFilter, context: Context) -> None:
        """`after` None: from the first event that is kept."""
        self._outbox, self._at = outbox, after
        self._wanted = wanted
        self._stopping, self._slots = context.stopping, context.followers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Gone, InvalidInput, TooManyRequests and what the outbox does, before the answer begins; afterwards an
        event `failed` tells it, and the stream ends."""
        events = cast(Any, self._outbox.follow(self._at))
        async with self._slots, aclosing(events):
            ends: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(self._stopping.wait()),
                asyncio.ensure_future(_until_gone(receive)),
            ]
            self._look = asyncio.ensure_future(anext(events))
            try:
                await self._first_look(ends)
                await self._begin(send)
                await self._follow(events, ends, send, scope[TRACE_ID])
            finally:
                left = [self._look, *ends]
                for task in left:
                    task.cancel()
                await finish_anyway(asyncio.wait(left))  # the outbox cannot be left while it still looks

    async def _first_look(self, ends: Sequence[asyncio.Future[Any]]) -> None:
        await asyncio.wait([self._look, *ends], timeout=FIRST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if self._look.done() and (error := self._look.exception()) is not None:
            raise _as_gone(error)

    async def _begin(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx hands on what comes, when it comes
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(send, b"retry: 1000\n" + self._heartbeat())

    async def _follow(
        self, events: AsyncIterator[tuple[str, Event]], ends: Sequence[asyncio.Future[Any]], send: Send, trace_id: str
    ) -> None:
        now = asyncio.get_running_loop().time
        quiet_since = now()
        while not any(end.done() for end in ends):
            left = quiet_since + HEARTBEAT_SECONDS - now()
            await asyncio.wait([self._look, *ends], timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
            told = await self._gathered(events) or (self._heartbeat() if left <= 0 else b"")
            if not told and self._look.done() and (error := self._look.exception()) is not None:
                await self._send(send, _failure(error, trace_id))
                break
            if told:
                await self._send(send, told)
                quiet_since = now()
        await send({"type": "http.response.body", "body": b""})

    async def _gathered(self, events: AsyncIterator[tuple[str, Event]]) -> bytes:
        """The events that are there by now, as far as they make no more than a piece."""
        told = bytearray()
        while self._look.done() and self._look.exception() is None and len(told) < PIECE_BYTES:
            self._at, event = self._look.result()
            if self._wanted.matches(event):
                told += _block(self._at, event)
            self._look = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)  # it ends at once unless it has to wait for something to happen
        return bytes(told)

    def _heartbeat(self) -> bytes:
        return b":\n\n" if self._at is None else b"id: %s\n\n" % self._at.encode()

    async def _send(self, send: Send, data: bytes) -> None:
        try:
            async with asyncio.timeout(WINDOW_SECONDS):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            raise TooSlow("the follower takes no events") from None


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _block(position: str, event: Event) -> bytes:
    told = _Told(event.kind.value, time_text(event.at_ns), event.subject, dict(event.data))
    name = event.kind.value.encode()
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (position.encode(), name, msgspec.json.encode(told))


def _failure(error: BaseException, trace_id: str) -> bytes:
    found = _as_gone(error)
    known = found if isinstance(found, GravitonError) else GravitonError("unexpected error")
    return b"event: failed\ndata: %s\n\n" % answer(known, trace_id).body


def _as_gone(error: BaseException) -> BaseException:
    """A position whose events were removed is not an address that is wrong."""
    if not isinstance(error, NotFound):
        return error
    return Gone(
        "events after this position are not kept any more, or it belongs to other metadata",
        subject="Last-Event-ID",
        hint="Follow with after=first, which gives every event that is kept; and compare with the list of blobs.",
    )
