"""Resumable uploads of a client, against a server that says what a test wants it to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from graviton.backends.http import HttpBlobStore, HttpConfig
from graviton.constraints.budget import ByteBudget
from graviton.core.attribute_text import encode_attributes
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.errors import Unavailable
from tests.canned_server import CannedServer, Exchange, answer

MIB = 1024 * 1024
BLAKE3 = BlobWritePlan(hash=HashAlgo.BLAKE3)
DATA = bytes(3 * MIB)
KEY = BlobKey(HashAlgo.BLAKE3.digest(DATA), len(DATA))

CREATED = answer(201, Location="/api/uploads/abc")
DONE = answer(
    204,
    Content_Length="",
    Upload_Offset=str(len(DATA)),
    X_Graviton_Blob_Id=KEY.text,
    X_Graviton_Put="created=1, blocks=1, cut-blocks=1, fresh-blocks=1, fresh-bytes=1, repaired-blocks=0",
    X_Graviton_Attributes=encode_attributes(BinaryAttributes.EMPTY),
)


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def now_ns(self) -> int:
        return int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[CannedServer]:
    async with CannedServer() as made:
        offered = {"Tus_Version": "1.0.0", "Tus_Extension": "creation,termination"}
        made.on("OPTIONS", "/api/uploads", answer(204, Content_Length="", **offered))
        made.on("POST", "/api/uploads", CREATED)
        made.on("DELETE", "/api/uploads", answer(204, Content_Length=""))
        yield made


def client(server: CannedServer, clock: Clock | None = None) -> HttpBlobStore:
    config = HttpConfig(server.url, idle_seconds=5.0, resumable_bytes=10)
    return HttpBlobStore(config, budget=ByteBudget(), clock=clock)


def held(offset: int) -> bytes:
    return answer(200, Upload_Offset=str(offset), Content_Length="0")


def breaks(before: Callable[[], Awaitable[None] | None] = lambda: None) -> Callable[[Exchange], Awaitable[None]]:
    async def breaking(exchange: Exchange) -> None:
        before()
        exchange.writer.close()

    return breaking


async def test_two_breaks_at_once_take_no_time_from_a_later_one(server: CannedServer) -> None:
    """Minutes of transfer lie between them."""
    clock = Clock()

    def minutes_pass() -> None:
        clock.now += 600

    server.on("PATCH", "/", breaks(), breaks(), breaks(minutes_pass), DONE)
    server.on("HEAD", "/", held(0), held(0), held(2 * MIB))
    async with client(server, clock) as store:
        assert (await store.put(DATA, BLAKE3)).key == KEY
    assert [len(one.body) for one in server.asked if one.method == "PATCH"] == [3 * MIB, 3 * MIB, 3 * MIB, MIB]


async def test_upload_that_never_comes_forward_is_given_up(server: CannedServer) -> None:
    clock = Clock()

    def seconds_pass() -> None:
        clock.now += 12

    server.on("PATCH", "/", breaks(seconds_pass))
    server.on("HEAD", "/", held(MIB), held(MIB + 1), held(MIB + 2), held(MIB + 3), held(MIB + 4), held(MIB + 5))
    async with client(server, clock) as store:
        with pytest.raises(Unavailable):
            await store.put(DATA, BLAKE3)
    assert [one.method for one in server.asked][-1] == "DELETE"
    assert sum(one.method == "PATCH" for one in server.asked) <= 6


async def test_server_that_takes_nothing_and_says_it_is_well_is_left(server: CannedServer) -> None:
    clock = Clock()

    async def takes(exchange: Exchange) -> None:
        clock.now += 12
        exchange.writer.write(answer(204, Content_Length="", Upload_Offset="5"))

    server.on("PATCH", "/", takes)
    server.on("HEAD", "/", held(5))
    async with client(server, clock) as store:
        with pytest.raises(Unavailable, match="took a part"):
            await asyncio.wait_for(store.put(DATA, BLAKE3), 20)
    assert [one.method for one in server.asked][-1] == "DELETE"


async def test_upload_that_is_being_created_when_it_is_given_up_is_removed(server: CannedServer) -> None:
    asked = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        asked.set()
        await asyncio.sleep(0.1)
        exchange.writer.write(CREATED)

    server.on("POST", "/api/uploads", late)
    async with client(server) as store:
        putting = asyncio.ensure_future(store.put(DATA, BLAKE3))
        await asked.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
    assert [(one.method, one.target) for one in server.asked][-1] == ("DELETE", "/api/uploads/abc")
