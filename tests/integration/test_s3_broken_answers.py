"""Answers of servers that are broken or hostile: without end, without progress, without what every answer has. Each
is a typed error, soon, with bounded memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from graviton.backends.objectstore import _s3_objects
from graviton.backends.objectstore.objects import S3MutableObjectStore
from graviton.core.locators import Locator
from graviton.errors import Conflict, Unavailable
from tests.s3_proxy import Exchange, Fault, Headers, Kind, Reply, S3Proxy
from tests.s3_server import moto_server

pytestmark = pytest.mark.s3

MIB = 1024 * 1024
MODIFIED = "<LastModified>2026-11-26T05:07:09.000Z</LastModified>"
SMALL = b"x" * 100
LARGE = b"x" * 9 * MIB
"""Two parts."""


class Place:
    """An object `a` of 100 bytes, behind a proxy."""

    def __init__(self, proxy: S3Proxy) -> None:
        self.proxy = proxy
        self.bucket = moto_server().new_bucket()
        config = proxy.server.config(self.bucket, retry_seconds=0, request_seconds=0.5)
        self.store = S3MutableObjectStore(config)
        self.at = Locator("s3", self.bucket, "a")

    def patient(self, request_seconds: float = 60.0) -> S3MutableObjectStore:
        """One that tries again."""
        return S3MutableObjectStore(self.proxy.server.config(self.bucket, request_seconds=request_seconds))

    async def content(self, store: S3MutableObjectStore | None = None) -> bytes:
        return b"".join([piece async for piece in await (store or self.store).get(self.at)])

    def answer(self, kind: Kind, body: str, status: int = 200) -> None:
        """Answer every request of `kind` so."""

        async def fault(exchange: Exchange) -> None:
            await exchange.body()
            headers = Headers([("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            await exchange.send(Reply(status, headers, body.encode()).encode())

        self.proxy.plan(kind, fault, times=None)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with S3Proxy(moto_server()) as proxy:
        made = Place(proxy)
        store = made.patient()
        await store.put(made.at, SMALL)
        await store.aclose()
        yield made
        await made.store.aclose()


def names(*keys: str) -> str:
    return "".join(f"<Contents><Key>{key}</Key><Size>1</Size>{MODIFIED}</Contents>" for key in keys)


@pytest.mark.parametrize("contents", [names("a", "b", "c"), names(), names("c", "b")])
async def test_listing_that_does_not_go_on_is_an_error(place: Place, contents: str) -> None:
    page = "<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>" + contents
    place.answer(Kind.LIST, f"<ListBucketResult><Name>b</Name>{page}</ListBucketResult>")
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match="does not go on"):
            _ = [stat async for stat in place.store.list()]
    assert place.proxy.count(Kind.LIST) == 2


async def test_list_of_uploads_that_does_not_go_on_is_an_error(place: Place) -> None:
    page = "<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>"
    one = "<Upload><Key>k</Key><UploadId>1</UploadId></Upload>"
    text = f"<ListMultipartUploadsResult><Bucket>b</Bucket>{page}{one}</ListMultipartUploadsResult>"
    place.answer(Kind.LIST_UPLOADS, text)
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match="does not go on"):
            await place.store.api.uploads("", "all")
    assert place.proxy.count(Kind.LIST_UPLOADS) == 2


async def test_listing_whose_pages_are_empty_comes_to_an_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has another token. A few in a row are right, where much was deleted."""
    monkeypatch.setattr(_s3_objects, "_EMPTY_PAGES", 5)
    sent = 0

    async def fault(exchange: Exchange) -> None:
        nonlocal sent
        sent += 1
        found = names("a") if sent == 5 else ""
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{sent}</NextContinuationToken>"
        body = f"<ListBucketResult><Name>b</Name>{more}{found}</ListBucketResult>".encode()
        await exchange.send(Reply(200, Headers([("Content-Length", str(len(body)))]), body).encode())

    place.proxy.plan(Kind.LIST, fault, times=None)
    async with asyncio.timeout(20):
        with pytest.raises(Unavailable, match="does not go on"):
            _ = [stat async for stat in place.store.list()]
    assert sent == 5 + 5 + 1


@pytest.mark.parametrize("page", ["<Contents><Key>k</Key></Contents>", "<IsTruncated>true</IsTruncated>"])
async def test_listing_that_lacks_what_all_have_is_no_answer(place: Place, page: str) -> None:
    place.answer(Kind.LIST, f"<ListBucketResult><Name>b</Name>{page}</ListBucketResult>")
    with pytest.raises(Unavailable, match="no S3 server"):
        _ = [stat async for stat in place.store.list()]


async def test_head_without_a_length_is_no_answer(place: Place) -> None:
    async def fault(exchange: Exchange) -> None:
        reply = await exchange.forward()
        head = Headers([*reply.headers.without("content-length"), ("Transfer-Encoding", "chunked")])
        lines = "".join(f"{name}: {value}\r\n" for name, value in head)
        await exchange.send(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode())

    place.proxy.plan(Kind.HEAD, fault)
    with pytest.raises(Unavailable, match="no S3 server"):
        await place.store.head(place.at)


async def test_body_that_does_not_end_is_read_no_further_than_it_was_asked_for(place: Place) -> None:
    sent = 0

    async def fault(exchange: Exchange) -> None:
        nonlocal sent
        exchange.is_over = True
        whole = f"Content-Range: bytes 0-{4 * MIB - 1}/{1 << 33}\r\nContent-Length: {400 * MIB}\r\n"
        await exchange.send(f'HTTP/1.1 206 OK\r\nETag: "e"\r\n{whole}\r\n'.encode())
        while sent < 400:
            await exchange.send(bytes(MIB))
            sent += 1

    place.proxy.plan(Kind.GET, fault)
    with pytest.raises(Unavailable, match="more than all of 4194304 bytes"):
        await place.store.get(place.at)
    assert sent < 40, "what it was asked for, and what lies between in buffers of the system"


async def trickle(exchange: Exchange) -> None:
    """A byte now and then, each in time."""
    exchange.is_over = True
    await exchange.send(
        b'HTTP/1.1 206 OK\r\nETag: "e"\r\nContent-Range: bytes 0-999/1000\r\nContent-Length: 1000\r\n\r\n'
    )
    for _ in range(1000):
        await exchange.send(b"x")
        await asyncio.sleep(0.1)


async def test_body_that_trickles_is_too_late_as_a_whole(place: Place) -> None:
    place.proxy.plan(Kind.GET, trickle)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"in 0\.5 s"):
        await place.store.get(place.at)
    assert time.monotonic() - began < 5


async def test_get_of_a_body_that_trickles_can_be_cancelled(place: Place) -> None:
    store = S3MutableObjectStore(place.proxy.server.config(place.bucket, retry_seconds=0))
    place.proxy.plan(Kind.GET, trickle)
    job = asyncio.ensure_future(store.get(place.at))
    await asyncio.sleep(0.5)
    job.cancel()
    _, late = await asyncio.wait([job], timeout=5)
    assert not late
    await store.aclose()


async def trickle_names(exchange: Exchange) -> None:
    """Of a listing, or of the head of any answer."""
    exchange.is_over = True
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: 1000\r\n")
    if exchange.request.kind is Kind.LIST:
        await exchange.send(b"\r\n")
    for _ in range(1000):
        await exchange.send(b"x")
        await asyncio.sleep(0.1)


async def say_nothing(exchange: Exchange) -> None:
    await exchange.hang()


@pytest.mark.parametrize("kind", [Kind.LIST, Kind.HEAD])
async def test_answer_that_trickles_is_too_late_as_a_whole(place: Place, kind: Kind) -> None:
    place.proxy.plan(kind, trickle_names)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"in 0\.5 s"):
        await (place.store.head(place.at) if kind is Kind.HEAD else anext(place.store.list()))
    assert time.monotonic() - began < 5
    await place.content()


@pytest.mark.parametrize("fault", [trickle_names, say_nothing])
@pytest.mark.parametrize("kind", [Kind.LIST, Kind.HEAD, Kind.GET])
async def test_request_that_only_reads_ends_when_it_is_cancelled(place: Place, kind: Kind, fault: Fault) -> None:
    store = S3MutableObjectStore(place.proxy.server.config(place.bucket, retry_seconds=0))
    place.proxy.plan(kind, fault)
    calls = {Kind.LIST: lambda: anext(store.list()), Kind.HEAD: lambda: store.head(place.at)}
    job = asyncio.ensure_future(calls.get(kind, lambda: store.get(place.at))())
    while not place.proxy.count(kind) or not place.proxy.seen[-1].fault:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    job.cancel()
    _, late = await asyncio.wait([job], timeout=5)
    assert not late
    assert await store.head(place.at) is not None
    await store.aclose()


async def test_bytes_that_are_there_and_refused_are_no_empty_object(place: Place) -> None:
    place.answer(Kind.GET, "<Error><Code>InvalidRange</Code><Message>x</Message></Error>", 416)
    with pytest.raises(Conflict):
        await place.content(place.patient())


async def test_object_that_is_shorter_by_the_next_piece_was_replaced(place: Place) -> None:
    """On a server that knows no conditions."""
    await place.store.put(place.at, bytes(5 * MIB))

    async def fault(exchange: Exchange) -> None:
        await exchange.answer(416, "InvalidRange")

    place.proxy.plan(Kind.GET, fault, first=2)
    with pytest.raises(Conflict):
        await place.content()


@contextmanager
def in_time() -> Iterator[None]:
    """Of 0.5 s for an answer that would take 100: what a slow machine takes beside it."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 20


def trickled(has_effect: bool) -> Fault:
    """The head of an answer, or what announces that one may send, a byte now and then."""

    async def fault(exchange: Exchange) -> None:
        exchange.is_over = True
        if has_effect:
            await exchange.forward()
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServer: ")
        for _ in range(1000):
            await exchange.send(b"x")
            await asyncio.sleep(0.1)

    return fault


WRITES: dict[Kind, Callable[[S3MutableObjectStore, Locator], Awaitable[object]]] = {
    Kind.PUT: lambda store, at: store.put(at, SMALL),
    Kind.DELETE: lambda store, at: store.delete(at),
    Kind.COPY: lambda store, at: store.copy(at, Locator("s3", at.bucket, "copy")),
    Kind.CREATE_UPLOAD: lambda store, at: store.put(at, LARGE),
    Kind.PART: lambda store, at: store.put(at, LARGE),
    Kind.COMPLETE: lambda store, at: store.put(at, LARGE),
}


@pytest.mark.parametrize("has_effect", [False, True])
@pytest.mark.parametrize("kind", WRITES, ids=lambda one: one.value)
async def test_answer_to_a_write_that_trickles_is_a_reply_that_was_lost(
    place: Place, kind: Kind, has_effect: bool
) -> None:
    happened = place.proxy.plan(kind, trickled(has_effect))
    store = place.patient(request_seconds=2.0)
    with in_time():
        await WRITES[kind](store, place.at)
    assert happened() == 1
    assert not await store.api.uploads("", "look")
    await store.aclose()


@pytest.mark.parametrize("kind", WRITES, ids=lambda one: one.value)
async def test_answers_to_writes_that_always_trickle_are_told(place: Place, kind: Kind) -> None:
    place.proxy.plan(kind, trickled(has_effect=False), times=None)
    with in_time(), pytest.raises(Unavailable, match=r"no whole answer in 0\.5 s"):
        await WRITES[kind](place.store, place.at)
