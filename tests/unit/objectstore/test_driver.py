"""`Driver`: stores that behave in other ways than S3 does, processes made by fork; and what blocks make of it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import traceback
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from obstore.store import LocalStore, MemoryStore

from graviton.backends.objectstore import _driver
from graviton.backends.objectstore._driver import Driver
from graviton.backends.objectstore._s3_driver import S3Driver
from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.marker import ObjectMarkerStore
from graviton.backends.objectstore.reclaimer import ObjectBlockReclaimer
from graviton.backends.objectstore.requests import Requests
from graviton.errors import ConfigError, GravitonError, IntegrityError, NotFound, PermissionDenied, Retry, Unavailable
from graviton.ports.blocks import BlockStatus, BlockWritePlan, WriteMode
from graviton.ports.reclaimer import TrashEntry
from graviton.testing.conformance.block_values import block, many_blocks
from tests.s3_proxy import Exchange, Headers, Kind, S3Proxy
from tests.s3_server import default_server, moto_server, rclone_server
from tests.unit.objectstore.canned import ETAG, Flood, answer, driver_of, listening, serving, settings

pytestmark = pytest.mark.s3


def over(store: Any) -> Driver:
    return Driver(store, Requests("a-bucket", max_requests=4, max_bytes=1 << 20, retry_seconds=0.2), keeps_memory=True)


async def test_store_that_minds_what_is_gone_deletes_the_others(tmp_path: Path) -> None:
    driver = over(LocalStore(tmp_path))
    for path in ("a", "c"):
        await driver.put(path, b"x", path)
    await driver.delete(["a", "b", "c"], "three")
    assert [one.path async for one in driver.list("", "all")] == []
    await driver.delete(["a"], "one")


async def test_small_object_is_read_no_further_than_its_limit() -> None:
    driver = over(MemoryStore())
    await driver.put("small", b"0123456789", "small")
    assert await driver.get_small("small", "small", 10) == b"0123456789"
    assert await driver.get_small("small", "small", 4) == b"0123"
    assert await driver.get_small("none", "none", 4) is None


async def test_object_of_another_size_is_damaged_and_not_read() -> None:
    driver = over(MemoryStore())
    await driver.put("x", bytes(1000), "x")
    with pytest.raises(IntegrityError, match="1000 bytes instead of 10"):
        await driver.get("x", "x", 10)
    with pytest.raises(NotFound):
        await driver.get("y", "y", 10)


class Pages:
    """What a listing gives, page by page; an exception is raised."""

    def __init__(self, *pages: Sequence[str] | Exception) -> None:
        self.pages = list(pages)
        self.offsets: list[str | None] = []

    def list(self, folder: str, *, offset: str | None, chunk_size: int) -> AsyncIterator[list[dict[str, Any]]]:
        self.offsets.append(offset)
        return self._stream()

    async def _stream(self) -> AsyncIterator[list[dict[str, Any]]]:
        while self.pages:
            page = self.pages.pop(0)
            if isinstance(page, Exception):
                raise page
            yield [{"path": path, "size": 1} for path in page]


async def test_listing_goes_on_after_what_it_gave_out() -> None:
    pages = Pages(["a", "b"], OSError("reset"), OSError("reset"), ["c"], [], ["d"])
    assert [one.path async for one in over(pages).list("", "all")] == ["a", "b", "c", "d"]
    assert pages.offsets == [None, "b", "b"]


async def test_name_that_a_server_tells_twice_comes_once() -> None:
    """rclone does for a while, when two have written an object at the same moment."""
    pages = Pages(["a", "a", "b"], ["b", "c", "c", "c"], ["d"])
    assert [one.path async for one in over(pages).list("", "all")] == ["a", "b", "c", "d"]


async def test_abandoned_listing_keeps_no_place() -> None:
    driver = over(Pages(*([str(n)] for n in range(20))))
    for _ in range(8):
        async for _one in driver.list("", "all"):
            break
    async with asyncio.timeout(5):
        assert not await over(MemoryStore()).exists("x", "x")
        assert [one.path async for one in driver.list("", "all")]


async def test_second_driver_is_made_when_it_is_needed_and_closed_with_who_hurries() -> None:
    store = S3BlockStore(moto_server().config(moto_server().new_bucket()))
    await store.put_blocks(many_blocks(3), BlockWritePlan(WriteMode.ALWAYS))
    assert await store.get(many_blocks(1)[0].key)
    driver = store.driver
    assert isinstance(driver, S3Driver)
    assert driver._api._clients == []
    folder = store.folder(many_blocks(1)[0].key.algo)
    names = [one.path async for one in driver.list(folder, folder)]
    [client] = driver._api._clients
    assert [one.path async for one in driver.list(folder, folder, names[0])] == names[1:]
    assert driver._api._clients == [client]
    hurried = driver.hurried(60.0)
    assert len([one async for one in hurried.list(folder, folder)]) == 3
    await store.aclose()
    assert driver._api._clients == hurried._api._clients == []
    with pytest.raises(Unavailable, match="closed"):
        _ = [one async for one in driver.list(folder, folder)]


async def test_who_hurries_gives_up_a_listing_sooner() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(503, "SlowDown")

    async with S3Proxy(moto_server()) as proxy:
        store = S3BlockStore(proxy.server.config(moto_server().new_bucket(), retry_seconds=600))
        proxy.plan(Kind.LIST, refuse, times=None)
        with pytest.raises(Unavailable) as told:
            _ = [one async for one in store.driver.hurried(0.1).list("a", "a")]
        assert told.value.retry is Retry.EXHAUSTED
        await store.aclose()


def test_process_made_by_fork_is_refused_and_told_why() -> None:
    """The driver's threads do not survive a fork: without the check, the call would wait for ever."""

    async def use() -> bool:
        return await over(MemoryStore()).exists("x", "x")

    assert not asyncio.run(use())
    child = os.fork()
    if child == 0:  # nothing of pytest's may run here
        code = 1
        signal.alarm(20)
        try:
            asyncio.run(use())
        except Unavailable as error:
            code = 0 if "forked" in error.message and "spawn" in error.hint else 2
        except BaseException:  # noqa: BLE001 - told, and this process ends
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_fork_before_the_first_use_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_driver, "_runtime_pid", None)
    _driver._check_runtime()
    assert _driver._runtime_pid == os.getpid()


# Of putting what is not there yet.


def sent(proxy: S3Proxy) -> list[Kind]:
    """The requests, without those that rclone fails at now and then when several make one folder."""
    return [one.kind for one in proxy.seen if one.status != 500]


@pytest.mark.parametrize(("server", "requests"), [(moto_server, [Kind.PUT]), (rclone_server, [Kind.HEAD, Kind.PUT])])
async def test_whether_conditions_are_honoured_is_found_out_once(server: Any, requests: list[Kind]) -> None:
    ones = many_blocks(6)
    async with S3Proxy(server()) as proxy:
        store = S3BlockStore(proxy.server.config(server().new_bucket()))
        await store.put_blocks(ones[:3])  # at the same time: one of them finds out
        seen = sent(proxy)
        assert seen[0] is Kind.HEAD
        assert seen.count(Kind.PUT) == 3 + 1, "once each, and one again"
        assert seen.count(Kind.HEAD) <= 3 + requests.count(Kind.HEAD) * 2
        proxy.seen.clear()
        for one in ones[3:]:
            assert [told.status for told in (await store.put_blocks([one])).stored] == [BlockStatus.FRESH]
        assert sent(proxy) == requests * 3
        assert [told.status for told in (await store.put_blocks(ones[:1])).stored] == [BlockStatus.DUPLICATE]
        await store.aclose()


async def test_blocks_that_are_there_are_looked_for_at_the_same_time() -> None:
    """Also while it is not known whether conditions are honoured, which they do not tell."""
    ones = many_blocks(4)
    together = asyncio.Barrier(len(ones))

    async def wait(exchange: Exchange) -> None:
        await asyncio.wait_for(together.wait(), 5)
        await exchange.send((await exchange.forward()).encode())

    async with S3Proxy(moto_server()) as proxy:
        store = S3BlockStore(proxy.server.config(moto_server().new_bucket()))
        await store.put_blocks(ones, BlockWritePlan(WriteMode.ALWAYS))
        happened = proxy.plan(Kind.HEAD, wait, times=None)
        told = await store.put_blocks(ones)
        assert [one.status for one in told.stored] == [BlockStatus.DUPLICATE] * len(ones)
        assert happened() == len(ones)
        await store.aclose()


async def test_finding_out_that_fails_is_done_again() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(403, "AccessDenied")

    first, second = many_blocks(2)
    async with S3Proxy(moto_server()) as proxy:
        store = S3BlockStore(proxy.server.config(moto_server().new_bucket()))
        proxy.plan(Kind.PUT, refuse, first=2)
        with pytest.raises(Exception, match="not allowed"):
            await store.put_blocks([first])
        assert await store.get(first.key) == first.payload, "absent or whole"
        assert [told.status for told in (await store.put_blocks([second])).stored] == [BlockStatus.FRESH]
        assert store._honours_conditions is True
        await store.aclose()


@pytest.mark.parametrize("refusal", [503, None], ids=["refused", "reply lost"])
async def test_finding_out_goes_by_the_last_answer(refusal: int | None) -> None:
    """What a try before it did is known: nothing, for the block was there."""

    async def once(exchange: Exchange) -> None:
        if refusal is not None:
            await exchange.answer(refusal, "SlowDown")
        else:
            await exchange.forward()
            exchange.close()

    for server, honours in ((moto_server(), True), (rclone_server(), False)):
        async with S3Proxy(server) as proxy:
            store = S3BlockStore(proxy.server.config(server.new_bucket()))
            proxy.plan(Kind.PUT, once, first=2)
            told = await store.put_blocks([block(b"x")])
            assert [one.status for one in told.stored] == [BlockStatus.FRESH]
            assert store._honours_conditions is honours
            await store.aclose()


async def test_with_the_index_a_put_is_one_request_and_a_batch_one_per_block() -> None:
    ones = many_blocks(5)
    async with S3Proxy(default_server()) as proxy:
        store = S3BlockStore(proxy.server.config(default_server().new_bucket()))
        await store.put_blocks([*ones, ones[0]], BlockWritePlan(WriteMode.ALWAYS))
        await store.put_blocks([], BlockWritePlan(WriteMode.ALWAYS))
        assert sent(proxy) == [Kind.PUT] * 5
        await store.aclose()


async def test_every_put_has_its_length_and_its_checksum() -> None:
    one = block(b"some bytes")
    async with S3Proxy(default_server()) as proxy:
        store = S3BlockStore(proxy.server.config(default_server().new_bucket()))
        await store.put_blocks([one])
        puts = [seen for seen in proxy.seen if seen.kind is Kind.PUT]
        assert puts
        for put in puts:
            assert put.headers.of("content-length") == "10"
            assert put.headers.of("x-amz-checksum-sha256") == "DSLNzBDm0Enb4a9RI9UIc/38Gk9YMG5Yy2JBvpRyAU0="
        await store.aclose()


async def test_body_that_changed_on_its_way_is_read_again() -> None:
    async def change(exchange: Exchange) -> None:
        reply = await exchange.forward()
        await exchange.send(reply._replace(body=bytes(len(reply.body))).encode())

    one = block(b"x" * 1000)
    async with S3Proxy(default_server()) as proxy:
        store = S3BlockStore(proxy.server.config(default_server().new_bucket()))
        await store.put_blocks([one])
        happened = proxy.plan(Kind.GET, change)
        assert await store.get(one.key) == one.payload
        assert happened() == 1
        proxy.plan(Kind.GET, change, times=None)
        with pytest.raises(IntegrityError, match="another digest"):
            await store.get(one.key)
        await store.aclose()


# Of networks and servers that answer in somebody else's name.


PAGE = b"<html>please sign in</html>"
OF_PAGE = f'ETag: "65f1-abc"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: {len(PAGE)}'.encode()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_page_that_one_is_sent_to_is_never_believed(status: int) -> None:
    """A network that wants one to sign in: nothing is there, copied, put or gone because its page is fine."""

    async def send_away(head: bytes, writer: asyncio.StreamWriter) -> None:
        if b"/sign-in" in head:
            writer.write(b"HTTP/1.1 200 OK\r\n" + OF_PAGE + b"\r\n\r\n" + (b"" if head.startswith(b"HEAD") else PAGE))
        else:
            writer.write(f"HTTP/1.1 {status} X\r\nLocation: /sign-in\r\nContent-Length: 0\r\n\r\n".encode())

    async with listening(send_away) as endpoint:
        driver = driver_of(settings(endpoint))
        for doing in (
            driver.put("a/key", b"payload", "thing"),
            driver.put_new("a/key", b"payload", "thing"),
            driver.exists("a/key", "thing"),
            driver.get("a/key", "thing", len(PAGE)),
            driver.get_small("a/key", "thing", 100),
            driver.copy_to_new("a/key", "b/key", "thing"),
            driver.delete(["a/key"], "thing"),
            driver.delete(["a/key", "b/key"], "thing"),
        ):
            with pytest.raises((Unavailable, ConfigError)):
                await doing
        await driver.aclose()


GONE = "<Deleted><Key>a</Key></Deleted>"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code></Error></DeleteResult>", PermissionDenied),
        ("<DeleteResult><Error><Key>b</Key><Code>InternalError</Code></Error></DeleteResult>", Unavailable),
        ("<DeleteResult>" + GONE + "</DeleteResult>", Unavailable),
        ("<DeleteResult/>", Unavailable),
        ("<html>please sign in</html>", Unavailable),
        ("", Unavailable),
        ("<Error><Code>AccessDenied</Code></Error>", Unavailable),
        (f"<DeleteResult>{GONE}<Error><Key>b</Key><Code>NoSuchKey</Code></Error></DeleteResult>", None),
    ],
)
async def test_answer_to_a_delete_of_many_says_of_each_that_it_is_gone(
    body: str, kind: type[GravitonError] | None
) -> None:
    async with serving(answer(200, body=body)) as endpoint:
        driver = driver_of(settings(endpoint))
        if kind is None:
            await driver.delete(["a", "b"], "two")
        else:
            with pytest.raises(kind) as told:
                await driver.delete(["a", "b"], "two")
            assert (told.value.retry is Retry.PERMANENT) is (kind is PermissionDenied)
        await driver.aclose()


async def test_etag_that_is_empty_once_is_asked_for_again() -> None:
    """By a server that is just putting that name."""
    times = {"Last_Modified": "Thu, 26 Nov 2026 05:07:09 GMT", "x_amz_request_id": "1"}
    replies = [answer(200, ETag='""', **times), answer(200, ETag=ETAG, **times)]
    async with serving(*replies) as endpoint:
        driver = driver_of(settings(endpoint, retry_seconds=5.0))
        assert await driver.exists("a/key", "thing")
        await driver.aclose()
    async with serving(replies[0]) as endpoint:
        driver = driver_of(settings(endpoint))
        with pytest.raises(Unavailable, match="no S3 server"):
            await driver.exists("a/key", "thing")
        await driver.aclose()


@pytest.mark.parametrize("server", [moto_server, default_server])
async def test_many_are_deleted_in_one_request(server: Any) -> None:
    async with S3Proxy(server()) as proxy:
        store = S3BlockStore(proxy.server.config(server().new_bucket()))
        for path in ("a", "b & <c>", "d"):
            await store.driver.put(path, b"x", path)
        await store.driver.delete(["a", "b & <c>", "d", "never"], "four")
        assert [one.path async for one in store.driver.list("", "all")] == []
        [asked] = [one for one in proxy.seen if one.kind is Kind.BULK_DELETE]
        assert asked.headers.of("content-md5")
        await store.aclose()


async def test_answer_without_end_is_read_no_further_than_the_block() -> None:
    flood = Flood(b"HTTP/1.1 200 OK\r\n" + OF_PAGE.replace(b"65f1-abc", b"0a" * 16))
    async with listening(flood) as endpoint:
        driver = driver_of(settings(endpoint))
        with pytest.raises(Unavailable, match="more than"):
            await driver.get("a/key", "thing", len(PAGE))
        assert await driver.get_small("a/key", "thing", 10) == b"A" * 10
        assert flood.sent < 128 << 20, "what fits into the buffers of the sockets"
        await driver.aclose()


async def test_size_that_is_wrong_once_is_looked_at_again() -> None:
    async def shorten(exchange: Exchange) -> None:
        reply = await exchange.forward()
        headers = Headers([*reply.headers.without("content-length"), ("Content-Length", "10")])
        await exchange.send(reply._replace(headers=headers, body=reply.body[:10]).encode())

    one = block(b"x" * 1000)
    async with S3Proxy(default_server()) as proxy:
        store = S3BlockStore(proxy.server.config(default_server().new_bucket()))
        await store.put_blocks([one])
        happened = proxy.plan(Kind.GET, shorten)
        assert await store.get(one.key) == one.payload
        assert happened() == 1
        await store.aclose()


async def test_server_that_refuses_conditions_is_put_to_without() -> None:
    async def conditions(head: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"HEAD"):
            status = 200 if head.split()[1].rstrip(b"/") == b"/a-bucket" else 404
            writer.write(f"HTTP/1.1 {status} X\r\nx-amz-request-id: 7\r\nContent-Length: 0\r\n\r\n".encode())
        elif b"if-none-match" in head.lower():
            writer.write(answer(501, "NotImplemented"))
        else:
            writer.write(f"HTTP/1.1 200 OK\r\nETag: {ETAG}\r\nContent-Length: 0\r\n\r\n".encode())

    async with listening(conditions) as endpoint:
        store = S3BlockStore(settings(endpoint))
        told = await store.put_blocks([block(b"x")])
        assert [one.status for one in told.stored] == [BlockStatus.FRESH]
        assert store._honours_conditions is False
        await ObjectMarkerStore(store.driver, "cas", "here").replace(b"{}")
        assert await store.driver.put_new("cas/marker", b"{}", "marker")
        await store.aclose()


@pytest.mark.parametrize("server", [moto_server, default_server])
async def test_nothing_is_absent_from_a_bucket_that_is_not_there(server: Any) -> None:
    store = S3BlockStore(server().config("no-such-bucket-anywhere"))
    one = block(b"x")
    for ask in (
        store.exists(one.key),
        store.get(one.key),
        store.put_blocks([one]),
        ObjectBlockReclaimer(store).purge(TrashEntry.new(one.key, 1)),
    ):
        with pytest.raises(ConfigError, match="there is no bucket"):
            await ask
    await store.aclose()


ONE = "<Contents><Key>k</Key><Size>1</Size><LastModified>2026-11-26T05:07:09.000Z</LastModified></Contents>"


def listing(contents: str) -> bytes:
    text = f"<Name>a-bucket</Name><IsTruncated>false</IsTruncated>{contents}"
    return answer(200, body=f"<ListBucketResult>{text}</ListBucketResult>")


THERE = answer(200, ETAG=ETAG, Last_Modified="Thu, 26 Nov 2026 05:07:09 GMT")
OF_A_GATEWAY = answer(404)
OF_S3 = answer(404, x_amz_request_id="7")


@pytest.mark.parametrize(
    ("replies", "outcome", "sent"),
    [
        ([THERE, OF_S3], False, ["HEAD", "HEAD"]),
        ([THERE, OF_A_GATEWAY], Unavailable, ["HEAD", "HEAD", "GET"]),
        ([THERE, OF_A_GATEWAY, listing("")], False, ["HEAD", "HEAD", "GET"]),
        (
            [THERE, OF_A_GATEWAY, listing(ONE), THERE],
            True,
            ["HEAD", "HEAD", "GET", "HEAD"],
        ),
        (
            [THERE, *[OF_A_GATEWAY, listing(ONE)] * 2],
            Unavailable,
            ["HEAD", "HEAD", "GET", "HEAD", "GET"],
        ),
        ([OF_A_GATEWAY, answer(404, "NoSuchBucket")], ConfigError, ["HEAD", "GET"]),
    ],
)
async def test_absence_is_believed_of_s3_only(replies: list[bytes], outcome: Any, sent: list[str]) -> None:
    """A gateway that has lost its server answers 404 to everything. To a HEAD that says nothing else, but for the
    number that S3 gives every request."""
    asked: list[str] = []
    left = [*replies]

    async def give(head: bytes, writer: asyncio.StreamWriter) -> None:
        asked.append(head.split()[0].decode())
        reply = left.pop(0) if len(left) > 1 else left[0]
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with listening(give) as endpoint:
        driver = driver_of(settings(endpoint))
        if replies[0] is THERE:
            assert await driver.exists("k", "it")
        if isinstance(outcome, bool):
            assert await driver.exists("k", "it") is outcome
        else:
            with pytest.raises(outcome):
                await driver.exists("k", "it")
        assert asked == sent
        await driver.aclose()


def test_several_event_loops_find_out_together() -> None:
    """Whether conditions are honoured: each waits for the one that asks, on whatever loop."""
    store = S3BlockStore(moto_server().config(moto_server().new_bucket()))
    ended: list[BlockStatus] = []

    def put(number: int) -> None:
        told = asyncio.run(store.put_blocks([block(b"block %d" % number)]))
        ended.extend(one.status for one in told.stored)

    threads = [threading.Thread(target=put, args=(number,), daemon=True) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ended == [BlockStatus.FRESH] * 6
    asyncio.run(store.aclose())


@pytest.mark.parametrize("status", [200, 403])
async def test_listing_or_error_without_end_is_not_read_into_memory(status: int) -> None:
    flood = Flood(f"HTTP/1.1 {status} X".encode())
    async with listening(flood) as endpoint:
        driver = driver_of(settings(endpoint))
        with pytest.raises(Unavailable, match="more than 16,777,216 bytes"):
            await anext(driver.list("a", "a"))
        assert flood.sent < 64 << 20, "what fits into the buffers of the sockets"
        await driver.aclose()
