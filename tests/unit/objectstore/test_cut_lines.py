"""`Line`: a request whose connection is cut off fails, soon, and nothing of it is believed; with TLS and without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from graviton.backends.objectstore import _bodies, _s3_calls
from graviton.backends.objectstore._multipart import multipart
from graviton.backends.objectstore._s3_api import S3Api
from graviton.backends.objectstore._s3_lines import Line
from graviton.concurrency.calls import CancelFlag
from graviton.core.ranges import Span
from graviton.errors import Conflict, Unavailable
from tests.certificates import certificate
from tests.unit.objectstore.canned import ETAG, listening, settings

pytestmark = pytest.mark.s3

BODY = b"The quick brown fox. " * 3000
HEAD = (
    f"HTTP/1.1 206 X\r\nETag: {ETAG}\r\nContent-Length: {len(BODY)}\r\n"
    f"Content-Range: bytes 0-{len(BODY) - 1}/{len(BODY)}\r\n\r\n"
).encode()
RECORD = 16 * 1024
"""Bytes of a body that TLS sends at once: read up to the end of one, nothing of the answer is lost by what follows."""
SOON = 1.5
"""Seconds: more than the tests wait on purpose, less than the driver's own time-outs are here."""

Handle = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path] | None:
    return certificate(tmp_path) if request.param else None


@asynccontextmanager
async def calls(handle: Handle, tls: tuple[Path, Path] | None, **more: object) -> AsyncIterator[S3Api]:
    async with listening(handle, tls) as endpoint:
        api = S3Api.of(settings(endpoint, ca_file=tls and tls[0], **more))
        yield api
        await api.aclose()


async def test_what_follows_a_cut_is_not_taken_for_the_body(
    tls: tuple[Path, Path] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where all of it lies in the buffers of the system by then, and has the right length."""
    lines: list[Line] = []

    class Told(Line):
        def __enter__(self) -> Line:
            lines.append(self)
            return super().__enter__()

    class Cutting(CancelFlag):
        def check(self) -> None:
            time.sleep(0.05)  # what is on its way arrives
            lines[-1].cut()

    monkeypatch.setattr(_s3_calls, "Line", Told)
    monkeypatch.setattr(_bodies, "_READ_BYTES", RECORD)
    read = _bodies.read_body

    def reading(body: object, flag: CancelFlag, wanted: int, seconds: float) -> bytes:
        return read(body, Cutting(), wanted, seconds)

    monkeypatch.setattr("graviton.backends.objectstore._s3_objects.read_body", reading)

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        await asyncio.sleep(0.05)
        writer.write(BODY)

    async with calls(handle, tls) as api:
        with pytest.raises(Unavailable, match="no whole answer"):
            got = (await api.get("k", "it", Span(0, len(BODY)))).data
            pytest.fail(f"taken for an answer: {'all of it' if got == BODY else 'something else'}")


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """The address of a server that begins a handshake, and sends a byte of it now and then, each in time."""
    served: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        try:
            writer.write(b"\x16\x03\x03\x40\x00")  # of a record of 16 KiB
            while True:
                writer.write(b"\x02")
                await writer.drain()
                await asyncio.sleep(0.1)
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*filter(None, served))


async def test_handshake_that_trickles_is_too_late_as_a_whole(silent: str) -> None:
    api = S3Api.of(settings(silent, request_seconds=0.5))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no whole answer"):
        await api.head("k", "it")
    assert time.monotonic() - began < SOON
    await api.aclose()


async def test_handshake_that_trickles_can_be_cancelled(silent: str) -> None:
    api = S3Api.of(settings(silent))
    assert await _seconds_of_cancelling(api) < SOON
    await api.aclose()


async def _seconds_of_cancelling(api: S3Api) -> float:
    job = asyncio.ensure_future(api.head("k", "it"))
    await asyncio.sleep(0.3)
    began = time.monotonic()
    job.cancel()
    await asyncio.wait([job])
    return time.monotonic() - began


async def _says_nothing(head: bytes, writer: asyncio.StreamWriter) -> None:
    """And goes on to wait for the next request."""


async def _trickles(head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 X\r\nX: ")
    for _ in range(100):
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("handle", [_says_nothing, _trickles])
async def test_request_can_be_cancelled(handle: Handle, tls: tuple[Path, Path] | None) -> None:
    async with calls(handle, tls) as api:
        assert await _seconds_of_cancelling(api) < SOON


async def test_head_that_trickles_is_too_late_as_a_whole(tls: tuple[Path, Path] | None) -> None:
    async with calls(_trickles, tls, request_seconds=0.5) as api:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="no whole answer"):
            await api.head("k", "it")
        assert time.monotonic() - began < SOON


@pytest.mark.parametrize("silence", [_says_nothing, _trickles])
async def test_removal_of_an_upload_is_in_a_hurry_at_any_server(
    silence: Handle, tls: tuple[Path, Path] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody waits for it who has an error already; done late it does no harm."""
    monkeypatch.setattr(_s3_calls, "_CLEANUP_SECONDS", 0.5)

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"POST"):
            told = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            writer.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(told)}\r\n\r\n{told}".encode())
        else:
            await silence(head, writer)

    async with calls(handle, tls, request_seconds=20.0) as api:
        began = time.monotonic()
        with pytest.raises(Conflict) as told:
            async with multipart(api, "k", "it"):
                raise Conflict("what goes wrong")
        assert "lifecycle rule" in told.value.hint
        assert time.monotonic() - began < SOON * 2


async def test_request_after_one_that_was_cut_goes_through(tls: tuple[Path, Path] | None) -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"GET"):
            writer.write(HEAD)
            for _ in range(20):  # each in time for the driver
                writer.write(BODY[:100])
                await writer.drain()
                await asyncio.sleep(0.1)
        else:
            writer.write(f"HTTP/1.1 200 X\r\nETag: {ETAG}\r\nContent-Length: 0\r\n\r\n".encode())

    async with calls(handle, tls, request_seconds=0.5) as api:
        with pytest.raises(Unavailable, match="no whole answer"):
            await api.get("k", "it", Span(0, len(BODY)))
        for _ in range(2):
            await api.put("k", "it", memoryview(b"x"))
