"""Requests of the driver that are cut off: the moments in which that is difficult, and a driver that cannot be cut."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from graviton.backends.objectstore import _s3_calls
from graviton.backends.objectstore._s3_api import S3Api
from graviton.backends.objectstore._s3_lines import Line, make_cuttable
from graviton.backends.objectstore.clients import s3_client
from graviton.backends.objectstore.config import S3Config
from graviton.core.ranges import Span
from graviton.errors import NotFound, PermissionDenied, Unavailable
from tests.unit.objectstore.canned import ETAG, answer, listening, settings

pytestmark = pytest.mark.s3

PUT = answer(200, ETag=ETAG)
GOT = answer(206, body="abc", ETag=ETAG, Content_Range="bytes 0-2/3")


@contextmanager
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 20


@asynccontextmanager
async def raw(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """The address of a server that does with each connection what `talk` does, as long as the other side is there."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


class _WithoutPools:
    """A session of the driver that has no such private part."""

    def __init__(self, session: Any) -> None:
        self._inside = session

    def __getattr__(self, name: str) -> Any:
        if name == "_pool_classes_by_scheme":
            raise AttributeError(name)
        return getattr(self._inside, name)


@pytest.fixture
def another_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of which no connection can be got at."""

    def client(config: S3Config, connections: int) -> Any:
        made: Any = s3_client(config, connections)
        made._endpoint.http_session = _WithoutPools(made._endpoint.http_session)
        return made

    monkeypatch.setattr(_s3_calls, "s3_client", client)


def dripping(reply: bytes, pieces: int, seconds: float) -> Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]:
    """For `listening`: the reply in so many pieces, that many seconds apart."""

    async def give(head: bytes, writer: asyncio.StreamWriter) -> None:
        step = -(-len(reply) // pieces)
        for start in range(0, len(reply), step):
            writer.write(reply[start : start + step])
            await writer.drain()
            await asyncio.sleep(seconds)

    return give


def test_this_driver_can_be_cut() -> None:
    """If not, what is below of another one is true of this one: answers that drip are waited for."""
    client: Any = s3_client(settings("http://127.0.0.1:1"), 1)
    before = dict(client._endpoint.http_session._pool_classes_by_scheme)
    make_cuttable(client)
    after = client._endpoint.http_session._pool_classes_by_scheme
    assert all(issubclass(after[scheme], before[scheme]) and after[scheme] != before[scheme] for scheme in before)


@pytest.mark.usefixtures("another_driver")
async def test_driver_that_cannot_be_cut_is_only_slower() -> None:
    async with listening(dripping(PUT, 5, 0.3)) as endpoint:
        api = S3Api.of(settings(endpoint, request_seconds=1.0))
        await api.put("a/key", "thing", memoryview(b"abc"))
        await api.aclose()
    async with listening(dripping(answer(200, ETag=ETAG, Last_Modified="Thu, 26 Nov 2026 05:07:09 GMT"), 5, 0.3)) as at:
        api = S3Api.of(settings(at, request_seconds=1.0))
        assert await api.head("a/key", "thing") is not None
        await api.aclose()


@pytest.mark.usefixtures("another_driver")
@pytest.mark.parametrize(
    ("reply", "kind"),
    [(answer(404, "NoSuchKey"), NotFound), (answer(403, "AccessDenied"), PermissionDenied)],
    ids=["404", "403"],
)
async def test_late_answer_of_a_driver_that_cannot_be_cut_is_what_it_says(reply: bytes, kind: type[Exception]) -> None:
    async with listening(dripping(reply, 5, 0.3)) as endpoint:
        api = S3Api.of(settings(endpoint, request_seconds=1.0))
        for call in (
            api.get("a/key", "thing", Span(0, 3)),
            api.put("a/key", "thing", memoryview(b"abc")),
        ):
            with pytest.raises(kind):
                await call
        await api.aclose()


@pytest.mark.usefixtures("another_driver")
async def test_driver_that_cannot_be_cut_ends_with_its_own_time_out() -> None:
    async with listening(dripping(GOT, 1, 60)) as quiet, listening(dripping(b"HTTP/1.1 ", 1, 60)) as endpoint:
        api = S3Api.of(settings(quiet, request_seconds=0.5))
        assert (await api.get("a/key", "thing", Span(0, 3))).data == b"abc"
        await api.aclose()
        api = S3Api.of(settings(endpoint, request_seconds=0.5))
        with soon(), pytest.raises(Unavailable):
            await api.get("a/key", "thing", Span(0, 3))
        job = asyncio.ensure_future(api.get("a/key", "thing", Span(0, 3)))
        await asyncio.sleep(0.1)
        job.cancel()
        with soon(), pytest.raises(asyncio.CancelledError):
            await job
        await api.aclose()


async def test_time_counts_from_the_last_byte_that_was_sent() -> None:
    """A body may take as long as its bytes keep moving."""
    data = memoryview(bytes(24 * 1024 * 1024))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" if b"100-continue" in head.lower() else b"")
        for _ in range(24):
            await reader.readexactly(1024 * 1024)
            await asyncio.sleep(0.15)
        writer.write(PUT)
        await writer.drain()

    async with raw(talk) as endpoint:
        api = S3Api.of(settings(endpoint, request_seconds=2.0))
        began = time.monotonic()
        await api.put("a/key", "thing", data)
        assert time.monotonic() - began > 3
        await api.aclose()


@pytest.mark.parametrize("start", [b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 100 Continue\r\nX: y\r\n", b"HTTP/1.1 100"])
@pytest.mark.parametrize("ending", ["closes", "says nothing", "drips"])
async def test_leave_to_send_that_breaks_off(start: bytes, ending: str) -> None:
    """The driver's own look for its end has none."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(start)
        if ending == "says nothing":
            await reader.read()
        while ending == "drips":
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.1)

    async with raw(talk) as endpoint:
        api = S3Api.of(settings(endpoint, request_seconds=0.5))
        with soon(), pytest.raises(Unavailable):
            await api.put("a/key", "thing", memoryview(b"abc"))
        await api.aclose()


def test_line_that_was_cut_before_its_request_sends_nothing() -> None:
    line = Line()
    line.cut()
    assert not line.was_cut, "nothing has failed by it yet"
    here, there = socket.socketpair()
    with here, there, line:
        line.use(here)
        with pytest.raises(ConnectionAbortedError):
            line.check()
        assert there.recv(1) == b"", "it is cut, too"
    assert line.was_cut
