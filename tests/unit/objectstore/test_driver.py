"""`Driver`: stores that behave in other ways than S3 does, processes made by fork; and what blocks make of it."""

from __future__ import annotations

import asyncio
import os
import signal
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
from graviton.backends.objectstore.requests import Requests
from graviton.errors import IntegrityError, NotFound, Retry, Unavailable
from graviton.ports.blocks import BlockStatus, BlockWritePlan, WriteMode
from graviton.testing.conformance.block_values import block, many_blocks
from tests.s3_proxy import Exchange, Kind, S3Proxy
from tests.s3_server import default_server, moto_server, rclone_server

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


async def test_second_driver_is_made_when_something_is_listed_and_shared_with_who_hurries() -> None:
    store = S3BlockStore(moto_server().config(moto_server().new_bucket()))
    await store.put_blocks(many_blocks(3))
    assert await store.get(many_blocks(1)[0].key)
    driver = store.driver
    assert isinstance(driver, S3Driver)
    assert driver._api._clients == []
    folder = store.folder(many_blocks(1)[0].key.algo)
    assert len([one async for one in driver.hurried(1.0).list(folder, folder)]) == 3
    [client] = driver._api._clients
    names = [one.path async for one in driver.list(folder, folder)]
    assert driver._api._clients == [client]
    assert [one.path async for one in driver.list(folder, folder, names[0])] == names[1:]
    await store.aclose()
    assert driver._api._clients == []
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
        assert seen[:3] == [Kind.HEAD, Kind.PUT, Kind.PUT]
        assert sorted(kind.value for kind in seen[3:]) == sorted(kind.value for kind in requests * 2)
        proxy.seen.clear()
        for one in ones[3:]:
            assert [told.status for told in (await store.put_blocks([one])).stored] == [BlockStatus.FRESH]
        assert sent(proxy) == requests * 3
        assert [told.status for told in (await store.put_blocks(ones[:1])).stored] == [BlockStatus.DUPLICATE]
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
