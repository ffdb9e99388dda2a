"""`make_bucket`: whose bucket it is and where it is, told apart from each other and from a server in trouble."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from graviton.backends.objectstore import _s3_calls
from graviton.backends.objectstore.bucket import make_bucket
from graviton.backends.objectstore.clients import s3_client
from graviton.backends.objectstore.config import S3Config
from graviton.errors import ConfigError, GravitonError, PermissionDenied, Unavailable
from tests.s3_proxy import Kind, S3Proxy
from tests.s3_server import moto_server
from tests.unit.objectstore.canned import answer, driver_of, listening, serving, settings

pytestmark = pytest.mark.s3

ELSEWHERE = {"x_amz_bucket_region": "eu-central-1"}
OURS, TAKEN = answer(409, "BucketAlreadyOwnedByYou"), answer(409, "BucketAlreadyExists")


@pytest.mark.parametrize(
    ("replies", "kind", "says"),
    [
        ([answer(301, **ELSEWHERE)], ConfigError, "eu-central-1"),
        ([answer(301, **ELSEWHERE)], ConfigError, "GRAVITON_S3_REGION"),
        ([answer(400, **ELSEWHERE)], ConfigError, "GRAVITON_S3_REGION"),
        ([answer(400)], ConfigError, "GRAVITON_S3_REGION"),
        ([answer(404), OURS, answer(400)], ConfigError, "GRAVITON_S3_REGION"),
        ([answer(404), OURS, answer(503)], Unavailable, "503"),
        ([answer(404), TAKEN, answer(403)], ConfigError, "somebody else's"),
        ([answer(404), answer(403, "AccessDenied")], PermissionDenied, "AccessDenied"),
        ([answer(503)], Unavailable, "503"),
    ],
)
async def test_what_is_wrong_with_a_bucket(replies: list[bytes], kind: type[GravitonError], says: str) -> None:
    async with serving(*replies) as endpoint:
        config = settings(endpoint)
        with pytest.raises(kind) as told:
            await make_bucket(config, driver_of(config).requests)
        assert says in f"{told.value} {told.value.hint}"
        assert says == "somebody else's" or "somebody else's" not in str(told.value)


@pytest.mark.parametrize(
    ("replies", "made"),
    [
        ([answer(200)], False),
        ([answer(403)], False),
        ([answer(404), answer(200)], True),
        ([answer(404), OURS, answer(200)], False),
    ],
)
async def test_bucket_is_made_unless_it_is_there(replies: list[bytes], made: bool) -> None:
    async with serving(*replies) as endpoint:
        config = settings(endpoint, region="eu-west-1")
        assert await make_bucket(config, driver_of(config).requests) is made


class _Clients:
    """Those that were made, and how often each was closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.closed: list[int] = []
        monkeypatch.setattr(_s3_calls, "s3_client", self._make)

    def _make(self, config: S3Config, connections: int) -> Any:
        made: Any = s3_client(config, connections)
        number, close = len(self.closed), made.close
        self.closed.append(0)

        def closing() -> None:
            self.closed[number] += 1
            close()

        made.close = closing
        return made


async def nobody_left(proxy: S3Proxy) -> bool:
    for _ in range(1000):
        if not proxy.open_connections:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_client_that_made_a_bucket_is_closed_and_the_store_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `graviton store init` has them: the marker is written by the store afterwards."""
    clients = _Clients(monkeypatch)
    async with S3Proxy(moto_server()) as proxy:
        config = proxy.server.config("made-by-init")
        driver = driver_of(config)
        assert await make_bucket(config, driver.requests)
        assert clients.closed == [1]
        assert await nobody_left(proxy)
        await driver.put("a/key", b"abc", "thing")
        assert await driver.exists("a/key", "thing")
        assert clients.closed == [1, 0]
        assert not await make_bucket(config, driver.requests)
        assert clients.closed == [1, 0, 1]
        assert await driver.exists("a/key", "thing"), "it has a client of its own"
        await driver.aclose()
        with pytest.raises(Unavailable, match="closed"):
            await make_bucket(config, driver.requests)
        assert clients.closed == [1, 1, 1], "none was made for that"
        del driver  # the connections of blocks go with it
        gc.collect()
        assert await nobody_left(proxy)


async def test_client_is_closed_when_making_a_bucket_fails_or_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = _Clients(monkeypatch)
    async with S3Proxy(moto_server()) as proxy:
        config = proxy.server.config("never-made", retry_seconds=0, request_seconds=2.0)
        proxy.plan(Kind.HEAD_BUCKET, lambda exchange: exchange.answer(403, "AccessDenied"))
        proxy.plan(Kind.HEAD_BUCKET, lambda exchange: exchange.hang(), first=2)
        assert not await make_bucket(config, driver_of(config).requests)
        job = asyncio.ensure_future(make_bucket(config, driver_of(config).requests))
        while proxy.count(Kind.HEAD_BUCKET) < 2:
            await asyncio.sleep(0.01)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert clients.closed == [1, 1]
        assert await nobody_left(proxy)


@pytest.mark.parametrize("asked", ["HEAD", "PUT"])
async def test_answer_that_trickles_is_too_late_as_a_whole(asked: str) -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        if not head.startswith(asked.encode()):
            writer.write(answer(404))
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 X\r\nX: ")
        for _ in range(100):
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.1)

    async with listening(handle) as endpoint:
        config = settings(endpoint, request_seconds=0.5)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match="no whole answer"):
                await make_bucket(config, driver_of(config).requests)
