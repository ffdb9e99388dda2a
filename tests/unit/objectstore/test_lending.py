"""`lent`: a buffer is ours again when a request ends, however it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pickle import PickleBuffer

import pytest

from graviton.backends.objectstore import _lending
from graviton.backends.objectstore._lending import Lending
from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.clients import data_store
from graviton.core.buffers import Buffer
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.errors import GravitonError, PermissionDenied, Unavailable
from graviton.ports.blocks import BlockWritePlan, CanonicalBlock, WriteMode
from tests.unit.objectstore.canned import ETAG, answer, driver_of, settings

pytestmark = pytest.mark.s3

OLD, NEXT = b"\xaa", b"\xbb"


async def test_bytes_are_given_as_they_are() -> None:
    """Nobody can change them."""
    data = b"bytes"
    async with Lending(1 << 20).lent(data) as given:
        assert given is data


async def test_nothing_of_ours_holds_on_to_a_buffer() -> None:
    payload = bytearray(b"x" * 100)
    for given_away in (payload, memoryview(payload)[2:40]):
        async with Lending(1 << 20).lent(given_away) as given:
            assert bytes(given) == bytes(given_away)
            with pytest.raises(BufferError):
                payload.append(1)
    given_away.release()
    payload.append(1)


async def test_waits_until_the_driver_has_let_go() -> None:
    payload = bytearray(1000)
    kept: list[PickleBuffer] = []
    job = asyncio.ensure_future(_use(payload, kept))
    await asyncio.sleep(0.02)
    assert not job.done()
    for _ in range(2):
        job.cancel()
        await asyncio.sleep(0.02)
        assert not job.done(), "cancelling does not cut it short"
    kept.pop().release()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(job, 5)
    payload.clear()


async def test_success_while_the_driver_reads_on_is_a_failure_also_where_a_caller_handles_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failure that somebody is handling around the call is not one of this request."""
    monkeypatch.setattr(_lending, "_PATIENCE_SECONDS", 0.05)
    kept: list[PickleBuffer] = []
    try:
        raise KeyError("of the caller")
    except KeyError:
        with pytest.raises(Unavailable, match="still reads"):
            async with Lending(1 << 20).lent(bytearray(1000)) as given:
                kept.append(PickleBuffer(given))


async def _use(payload: Buffer, kept: list[PickleBuffer]) -> None:
    async with Lending(1 << 20).lent(payload) as given:
        kept.append(PickleBuffer(given))  # as a driver does: it takes hold of the memory below


class SlowReader:
    """A server that reads a little at a time, writes down what came, and answers at the end."""

    def __init__(self) -> None:
        self.got: list[bytearray] = []
        self.begun = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = bytearray()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            self.got.append(got)
            while len(got) < length and (piece := await reader.read(16_384)):
                got += piece
                self.begun.set()
                await asyncio.sleep(0.0005)
            if len(got) == length:
                writer.write(f"HTTP/1.1 200 OK\r\nETag: {ETAG}\r\nContent-Length: 0\r\n\r\n".encode())
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("seed", range(12))
async def test_no_byte_of_the_next_content_is_ever_sent(seed: int) -> None:
    """A put of four blocks of one segment is cancelled at any moment, and the segment is used again the moment it has
    ended."""
    draw = random.Random(seed)
    server = SlowReader()
    payload = bytearray(OLD * 4_000_000)
    views = [memoryview(payload)[start : start + 1_000_000] for start in range(0, 4_000_000, 1_000_000)]
    batch = [
        CanonicalBlock(BlockKey(HashAlgo.BLAKE3.digest(b"%d" % n), len(view)), view) for n, view in enumerate(views)
    ]
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=32_768) as listener:
        store = S3BlockStore(settings(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"))
        put = asyncio.ensure_future(store.put_blocks(batch, BlockWritePlan(WriteMode.ALWAYS)))
        if seed % 3:
            await server.begun.wait()
        await asyncio.sleep(draw.uniform(0, 0.03))
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        for view in views:
            view.release()
        payload[:] = NEXT * len(payload)
        payload.clear()  # raises BufferError if anybody else has it
        await asyncio.sleep(0.05)
        for got in server.got:
            assert got.count(OLD) == len(got)
        await store.aclose()


async def test_driver_holds_what_it_was_given_no_longer_than_the_request() -> None:
    """What the test above rests on: the driver reads from our memory, it makes no copy that could hide a mistake."""
    server = SlowReader()
    payload = bytearray(OLD * 4_000_000)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=32_768) as listener:
        config = settings(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        put = asyncio.ensure_future(_put(config, payload))
        await server.begun.wait()
        with pytest.raises(BufferError):
            payload.clear()
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put


async def _put(config: object, payload: bytearray) -> None:
    await data_store(config).put_async("a/key", memoryview(payload), use_multipart=False)  # type: ignore[arg-type]


@asynccontextmanager
async def answering_early(reply: bytes) -> AsyncIterator[str]:
    """The address of a server that answers when it has the head of a request, and reads no more of it."""
    sockets: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sockets.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.transport.pause_reading()  # type: ignore[attr-defined]

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=32_768) as listener:
        try:
            yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        finally:
            for writer in sockets:
                writer.transport.abort()


REFUSED = answer(403, "AccessDenied").replace(b"Connection: close\r\n", b"")
TAKEN = f"HTTP/1.1 200 OK\r\nETag: {ETAG}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(("reply", "kind"), [(REFUSED, PermissionDenied), (TAKEN, Unavailable)])
async def test_server_that_answers_and_reads_no_more_is_not_waited_for(
    reply: bytes, kind: type[GravitonError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lending, "_PATIENCE_SECONDS", 0.2)
    payload = bytearray(16 << 20)
    async with answering_early(reply) as endpoint:
        with pytest.raises(kind):
            await asyncio.wait_for(driver_of(settings(endpoint)).put("a/key", payload, "thing"), 4)
        with pytest.raises(BufferError):
            payload.clear()  # what is still lent cannot become anything else


async def test_cancelling_ends_the_wait_for_a_server_that_reads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lending, "_PATIENCE_SECONDS", 0.2)
    async with answering_early(b"") as endpoint:
        put = asyncio.ensure_future(driver_of(settings(endpoint)).put("a/key", bytearray(16 << 20), "thing"))
        await asyncio.sleep(0.2)
        put.cancel()
        await asyncio.wait([put], timeout=4)
        assert put.cancelled()


async def test_no_more_is_lent_while_too_much_has_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lending, "_PATIENCE_SECONDS", 0.01)
    lending, kept = Lending(150), []
    for _ in range(2):
        with pytest.raises(Unavailable, match="still reads"):
            async with lending.lent(bytearray(100)) as given:
                kept.append(PickleBuffer(given))
    with pytest.raises(Unavailable, match="200 bytes"):
        async with lending.lent(bytearray(1)):
            raise AssertionError
    kept.pop().release()
    async with lending.lent(bytearray(1)) as given:
        assert bytes(given) == b"\0"
