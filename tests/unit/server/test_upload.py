from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.core.clock import SystemClock
from graviton.core.hashing import HashAlgo
from graviton.errors import DigestMismatch, InvalidInput, LimitExceeded
from graviton.server.http.errors import ClientGone, TooSlow
from graviton.server.http.upload import RequestBody, announced_length, checked, read_small
from graviton.testing.fake_clock import FakeClock
from tests.unit.server.asgi_fakes import Wire, body_messages, scope


def body_of(wire: Wire, max_bytes: int = 100, **headers: str) -> RequestBody:
    return RequestBody(scope("POST", **headers), wire.receive, max_bytes, SystemClock())


async def read(source: object) -> bytes:
    return b"".join([piece async for piece in source])  # type: ignore[attr-defined]


async def test_a_body_comes_in_pieces() -> None:
    body = body_of(Wire(body_messages(b"ab", b"", b"c")), content_length="3")
    assert body.announced == 3
    assert [piece async for piece in body] == [b"ab", b"c"]
    assert body.is_whole
    assert body.received == 3
    assert [piece async for piece in body] == []


async def test_a_body_that_is_cut_off_is_none() -> None:
    body = body_of(Wire(body_messages(b"abc", whole=False)))
    with pytest.raises(ClientGone):
        await read(body)
    assert not body.is_whole


async def test_a_length_that_is_not_met_is_none() -> None:
    with pytest.raises(ClientGone):
        await read(body_of(Wire(body_messages(b"abc")), content_length="5"))


async def test_too_large_is_told_before_anything_is_read() -> None:
    with pytest.raises(LimitExceeded):
        body_of(Wire(), content_length="101")


async def test_too_large_is_told_while_it_comes() -> None:
    with pytest.raises(LimitExceeded):
        await read(body_of(Wire(body_messages(b"a" * 60, b"a" * 60))))
    assert len(await read(body_of(Wire(body_messages(b"a" * 60, b"a" * 40))))) == 100


@given(st.text(st.characters(max_codepoint=255), max_size=30))
def test_lengths_are_numbers(text: str) -> None:
    try:
        length = announced_length(scope("POST", content_length=text))
    except InvalidInput:
        return
    assert length is not None
    assert 0 <= length < 10**19


async def test_who_sends_next_to_nothing_is_given_up() -> None:
    clock = FakeClock()
    wire = Wire(body_messages(*[b"x"] * 100))
    receive = wire.receive

    async def slowly() -> object:
        clock.advance(1)
        return await receive()

    body = RequestBody(scope("POST"), slowly, 10**6, clock)
    with pytest.raises(TooSlow):
        await read(body)
    assert body.received == 30


async def test_a_slow_store_is_not_a_slow_client() -> None:
    clock = FakeClock()
    body = RequestBody(scope("POST"), Wire(body_messages(*[b"x"] * 100)).receive, 10**6, clock)
    async for _ in body:
        clock.advance(100)
    assert body.is_whole


@pytest.mark.parametrize("announce", [True, False])
@pytest.mark.parametrize("pieces", [[b""], [b"abc"], [b"ab", b"cd", b"e"], [b"abcdef", b"ghij"], [b"abcdefghijk"]])
async def test_small_bodies_come_as_bytes_and_large_ones_in_pieces(pieces: list[bytes], announce: bool) -> None:
    whole = b"".join(pieces)
    headers = {"content_length": str(len(whole))} if announce else {}
    source = await read_small(body_of(Wire(body_messages(*pieces)), **headers), 5)
    assert isinstance(source, bytes) == (len(whole) <= 5)
    assert (source if isinstance(source, bytes) else await read(source)) == whole


async def test_bytes_with_another_digest_are_refused_at_their_end() -> None:
    right, wrong = HashAlgo.SHA256.digest(b"abcdef"), HashAlgo.SHA256.digest(b"x")
    assert checked(b"abcdef", right) == b"abcdef"
    with pytest.raises(DigestMismatch):
        checked(b"abcdef", wrong)
    for claimed in (None, right):
        source = await read_small(body_of(Wire(body_messages(b"abc", b"def"))), 2)
        assert await read(checked(source, claimed)) == b"abcdef"
    source = checked(await read_small(body_of(Wire(body_messages(b"abc", b"def"))), 2), wrong)
    with pytest.raises(DigestMismatch):
        await read(source)
