from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from graviton.core.attributes import BinaryAttributes
from graviton.core.clock import SystemClock
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.ranges import Span
from graviton.errors import IntegrityError
from graviton.ports.blobs import BlobReader
from graviton.server.http.download import SLICE_BYTES, Delivery, left_when_gone
from graviton.server.http.errors import ClientGone, TooSlow
from graviton.server.http.ranges import BodyPart, multipart
from tests.unit.server.asgi_fakes import Wire


class FakeReader(BlobReader):
    """Gives pieces of a blob, and remembers that it was closed."""

    def __init__(self, pieces: list[bytes], span: Span, damage: int | None = None, waits: bool = False) -> None:
        self.key = BlobKey(HashAlgo.BLAKE3.digest(b""), span.end)
        self.span = span
        self.attributes = BinaryAttributes.EMPTY
        self._pieces = list(pieces)
        self._damage, self._waits = damage, waits
        self.is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._damage is not None:
            self._damage -= 1
            if self._damage < 0:
                raise IntegrityError("a block is damaged")
        if not self._pieces:
            if self._waits:
                await asyncio.Event().wait()
            raise StopAsyncIteration
        return self._pieces.pop(0)

    async def aclose(self) -> None:
        self.is_closed = True


def delivery(readers: list[FakeReader], parts: list[BodyPart], end: bytes = b"") -> Delivery:
    left = iter(readers)

    async def open_reader(span: Span) -> BlobReader:
        return next(left)

    return Delivery(200, [(b"x", b"y")], parts, end, open_reader, SystemClock())


async def test_a_small_blob_goes_out_at_once() -> None:
    wire = Wire()
    await delivery([], [BodyPart(b"", Span(0, 5))]).send(FakeReader([b"hello"], Span(0, 5)), wire.receive, wire.send)
    assert (wire.body, len(wire.sent), wire.is_complete) == (b"hello", 2, True)


async def test_an_empty_blob_has_an_end() -> None:
    wire = Wire()
    await delivery([], [BodyPart(b"", Span(0, 0))]).send(FakeReader([], Span(0, 0)), wire.receive, wire.send)
    assert (wire.body, wire.is_complete) == (b"", True)


async def test_large_pieces_go_out_in_slices() -> None:
    pieces = [bytes(SLICE_BYTES + 1), b"end"]
    span = Span(0, SLICE_BYTES + 4)
    wire = Wire()
    await delivery([], [BodyPart(b"", span)]).send(FakeReader(pieces, span), wire.receive, wire.send)
    assert wire.body == b"".join(pieces)
    assert [len(message["body"]) for message in wire.sent[1:]] == [SLICE_BYTES, 1, 3, 0]
    assert wire.is_complete


async def test_parts_follow_each_other() -> None:
    body = multipart([Span(0, 2), Span(4, 6)], 9, "text/plain", "limit")
    second = FakeReader([b"e", b"f"], Span(4, 6))
    wire = Wire()
    first = FakeReader([b"ab"], Span(0, 2))
    await delivery([second], body.parts, body.end).send(first, wire.receive, wire.send)
    assert len(wire.body) == body.length
    assert wire.body == body.parts[0].before + b"ab" + body.parts[1].before + b"ef" + body.end
    assert second.is_closed


async def test_damage_in_the_first_block_is_found_before_the_headers() -> None:
    wire = Wire()
    reader = FakeReader([b"abc"], Span(0, 3), damage=0)
    with pytest.raises(IntegrityError):
        await delivery([], [BodyPart(b"", Span(0, 3))]).send(reader, wire.receive, wire.send)
    assert wire.sent == []


@pytest.mark.parametrize("whole_pieces", [1, 2])
async def test_damage_found_later_leaves_the_body_without_an_end(whole_pieces: int) -> None:
    wire = Wire()
    reader = FakeReader([b"abc"] * 3, Span(0, 9), damage=whole_pieces)
    with pytest.raises(IntegrityError):
        await delivery([], [BodyPart(b"", Span(0, 9))]).send(reader, wire.receive, wire.send)
    assert wire.body == b"abc" * whole_pieces
    assert not wire.is_complete


async def test_damage_in_a_later_part_leaves_the_body_without_an_end() -> None:
    body = multipart([Span(0, 2), Span(4, 6)], 9, "text/plain", "limit")
    second = FakeReader([b"ef"], Span(4, 6), damage=0)
    wire = Wire()
    with pytest.raises(IntegrityError):
        first = FakeReader([b"ab"], Span(0, 2))
        await delivery([second], body.parts, body.end).send(first, wire.receive, wire.send)
    assert not wire.is_complete
    assert second.is_closed


async def test_a_client_that_leaves_ends_the_reading() -> None:
    wire = Wire()
    reader = FakeReader([b"abc"], Span(0, 9), waits=True)
    sending = asyncio.create_task(delivery([], [BodyPart(b"", Span(0, 9))]).send(reader, wire.receive, wire.send))
    while len(wire.sent) < 2:
        await asyncio.sleep(0)
    wire.gone.set()
    with pytest.raises(ClientGone):
        await asyncio.wait_for(sending, 5)
    assert not wire.is_complete


async def test_who_has_all_bytes_may_leave_before_the_end_is_said() -> None:
    wire = Wire()
    span = Span(0, 6)
    reader = FakeReader([b"abc", b"def"], span, waits=True)
    sending = asyncio.create_task(delivery([], [BodyPart(b"", span)]).send(reader, wire.receive, wire.send))
    while len(wire.sent) < 3:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    wire.gone.set()
    await sending
    assert wire.body == b"abcdef"


async def test_who_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graviton.server.http.pace.WINDOW_SECONDS", 0.02)
    span = Span(0, 2 * SLICE_BYTES)
    sending = delivery([], [BodyPart(b"", span)])
    sending._pace._window = 0.02
    wire = Wire()

    async def stuck(message: dict[str, Any]) -> None:
        await wire.send(message)
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    with pytest.raises(TooSlow):
        await sending.send(FakeReader([bytes(SLICE_BYTES)] * 2, span), wire.receive, stuck)


async def test_a_cancellation_of_somebody_else_goes_on() -> None:
    wire = Wire()

    async def work() -> None:
        async with left_when_gone(wire.receive):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
