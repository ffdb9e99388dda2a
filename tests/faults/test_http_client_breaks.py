"""Connections between client and server that break at a byte, and servers that go away: nothing is lost, nothing is
wrong, and what cannot go on says so.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from graviton.backends.http import HttpBlobStore, HttpConfig
from graviton.concurrency.executors import in_own_thread
from graviton.constraints.budget import ByteBudget
from graviton.constraints.throttle import Throttle
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.core.secret import Secret
from graviton.errors import Conflict, DigestMismatch, Unavailable
from graviton.services.sources import paced
from tests.cutting_proxy import Cut, CuttingProxy
from tests.http_spaces import TOKEN, Served, SpacesProcess, spaces

MIB = 1024 * 1024
BLAKE3 = BlobWritePlan(hash=HashAlgo.BLAKE3)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with spaces(tmp_path_factory.mktemp("spaces")) as found:
        yield found


@pytest.fixture
def place(served: Served) -> Served:
    return served.place()


@pytest.fixture
def url(place: Served) -> str:
    return place.url


def client(url: str, **options: float) -> HttpBlobStore:
    config = HttpConfig(url, Secret(TOKEN), **{"retry_seconds": 5, "resumable_bytes": 2 * MIB, **options})  # type: ignore[arg-type]
    return HttpBlobStore(config, budget=ByteBudget())


def key_of(data: bytes) -> BlobKey:
    return BlobKey(HashAlgo.BLAKE3.digest(data), len(data))


async def read(store: HttpBlobStore, key: BlobKey, span: Span | None = None) -> bytes:
    async with await store.get(key, span) as reader:
        return await reader.read()


async def test_reads_go_on_wherever_the_answer_breaks(url: str) -> None:
    data = os.urandom(3 * MIB + 5)
    key = key_of(data)
    async with client(url) as direct:
        await direct.put(data, BLAKE3)
        async with CuttingProxy(url) as proxy, client(proxy.url) as store:
            places = [1, 100, 600, 1_000, 70_000, MIB, MIB + 900, 2 * MIB, 3 * MIB, 3 * MIB + 600]
            for number, place in enumerate(places):
                proxy.cuts = [Cut(down=place, reset=number % 2 == 0), Cut(down=place // 2 + 700)]
                async with client(proxy.url) as fresh:  # whose connections are new
                    assert await read(fresh, key) == data, place
                    proxy.cuts = [Cut(down=place)]
                async with client(proxy.url) as fresh:
                    assert await read(fresh, key, Span(7, len(data) - 3)) == data[7:-3], place
            assert proxy.happened >= 2 * len(places)
            assert await read(store, key) == data


async def test_small_transfers_are_cut_everywhere(url: str) -> None:
    """Requests and answers of some hundred bytes, cut at one after the other."""
    async with CuttingProxy(url) as proxy:
        for at in range(1, 900, 29):
            data = b"%d " % at * 100
            proxy.cuts = [Cut(up=at) if at % 2 else Cut(down=at)]
            async with client(proxy.url) as store:
                assert (await store.put(data, BLAKE3)).key == key_of(data), at
            proxy.cuts = [Cut(down=at, reset=at % 4 > 1), Cut(up=at % 250 + 1)]
            async with client(proxy.url) as store:
                assert await read(store, key_of(data)) == data, at
                assert await store.stat(key_of(data)) is not None
        assert proxy.happened >= 60


async def test_reader_that_is_cut_again_and_again_gives_up(url: str) -> None:
    data = os.urandom(4 * MIB)
    async with client(url) as direct:
        await direct.put(data, BLAKE3)
    async with CuttingProxy(url) as proxy, client(proxy.url, retry_seconds=0.5) as store:
        proxy.cuts = [Cut(down=1_200)] * 500  # a few bytes each time
        with pytest.raises(Unavailable):
            await read(store, key_of(data))
        proxy.cuts = [Cut(down=200_000)] * 20  # which is progress, and takes longer than all tries may without it
        assert await read(store, key_of(data)) == data
        assert proxy.cuts == []


async def test_reader_that_was_cancelled_does_not_seem_to_end(url: str) -> None:
    data = os.urandom(3 * MIB)
    async with client(url) as direct:
        await direct.put(data, BLAKE3)
    async with CuttingProxy(url) as proxy, client(proxy.url) as store:
        proxy.cuts = [Cut(down=2 * MIB, stalls=True)]
        async with await store.get(key_of(data)) as reader:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await reader.read()
            with pytest.raises(Unavailable):
                await reader.read()


@pytest.mark.parametrize("kind", ["bytes", "path", "file"])
async def test_puts_that_can_be_repeated_succeed_wherever_they_break(url: str, kind: str, tmp_path: Path) -> None:
    async with CuttingProxy(url) as proxy:
        for number, place in enumerate([1, 200, 700, 5_000, 100_000, 700_000]):
            data = os.urandom(700_000)
            (tmp_path / "file").write_bytes(data)
            proxy.cuts = [Cut(up=place, reset=number % 2 == 0), Cut(down=place % 400 + 1)]
            async with client(proxy.url) as store:
                with (tmp_path / "file").open("rb") as file:
                    source = {"bytes": data, "path": tmp_path / "file", "file": file}[kind]
                    result = await store.put(source, BLAKE3)  # type: ignore[arg-type]
                assert result.key == key_of(data)
                assert await read(store, result.key) == data
        assert proxy.happened >= 10


async def test_put_that_cannot_be_repeated_fails_and_leaves_nothing(url: str) -> None:
    data = os.urandom(5 * MIB)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    async with CuttingProxy(url) as proxy:
        for place in (2 * MIB, 4 * MIB):
            proxy.cuts = [Cut(up=place)]
            async with client(proxy.url) as store:
                with pytest.raises(Unavailable):
                    await store.put(pieces(), BLAKE3)
        proxy.cuts = [Cut(up=300), Cut()]  # the head alone: nothing of the source is lost
        async with client(proxy.url) as store:
            assert [stat async for stat in store.list()] == []
        proxy.cuts = [Cut(up=300), Cut()]
        async with client(proxy.url) as store:
            assert (await store.put(pieces(), BLAKE3)).key == key_of(data)


@pytest.mark.parametrize("kind", ["bytes", "path", "file", "buffer", "paced"])
async def test_large_put_goes_on_where_it_broke(url: str, kind: str, tmp_path: Path) -> None:
    data = os.urandom(24 * MIB)
    (tmp_path / "file").write_bytes(b"before" + data)
    async with CuttingProxy(url) as proxy, client(proxy.url) as store:
        proxy.cuts = [Cut(up=5 * MIB), Cut(up=6 * MIB, reset=False), Cut(down=100), Cut(up=8 * MIB)]
        with (tmp_path / "file").open("rb") as file, (tmp_path / "file").open("rb", buffering=0) as raw:
            file.seek(6)
            raw.seek(6)
            path = tmp_path / "other"
            path.write_bytes(data)
            slowly = paced(raw, Throttle(1024 * MIB))
            source = {"bytes": data, "path": path, "file": file, "buffer": io.BytesIO(data), "paced": slowly}[kind]
            result = await store.put(source, BLAKE3)  # type: ignore[arg-type]
        assert result.key == key_of(data)
        assert await read(store, result.key) == data
        # A connection ends before its cut if the server still stores what came on the one before, and says 409.
        assert proxy.happened >= 3
        assert proxy.up < 40 * MIB, "it began again"


async def test_last_answer_of_an_upload_that_is_lost_is_asked_for_again(url: str) -> None:
    data = os.urandom(4 * MIB)
    async with CuttingProxy(url) as proxy, client(proxy.url) as store:
        # Connections: the question what is offered, and all that follows on it, whose last answer is cut off.
        proxy.cuts = [Cut(down=700)]
        assert (await store.put(data, BLAKE3)).key == key_of(data)
        assert await read(store, key_of(data)) == data
        assert proxy.happened == 1


async def test_blob_that_takes_long_to_be_put_together_is_waited_for(tmp_path: Path) -> None:
    """The server answers the last bytes before the blob is there."""
    with spaces(tmp_path / "spaces", finish_seconds=0.0) as served:
        place = served.place()
        async with client(place.url) as store:
            data = os.urandom(12 * MIB)
            result = await store.put(data, BLAKE3)
            assert (result.key, result.created, result.stats.fresh_bytes) == (key_of(data), True, len(data))
            assert await read(store, result.key) == data


async def test_cancelled_upload_leaves_nothing_on_the_server(place: Served) -> None:
    async with client(place.url) as store:
        began = asyncio.Event()

        class Slow(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell() > 3 * MIB:
                    loop.call_soon_threadsafe(began.set)
                return super().read(size)

        loop = asyncio.get_running_loop()
        putting = asyncio.ensure_future(store.put(Slow(os.urandom(64 * MIB)), BLAKE3))
        await began.wait()
        assert len(place.uploads) == 1
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert place.uploads == []
        assert [stat async for stat in store.list()] == []


async def test_upload_whose_source_fails_leaves_nothing_on_the_server(place: Served) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 3 * MIB:
                raise OSError(5, "planned")
            return super().read(size)

    async with client(place.url) as store:
        with pytest.raises(Unavailable, match="cannot read"):
            await store.put(Broken(os.urandom(9 * MIB)), BLAKE3)
        assert place.uploads == []


async def test_source_that_becomes_shorter_fails_and_leaves_nothing(place: Served, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(9 * MIB))
    async with client(place.url) as store, CuttingProxy(place.url) as proxy, client(proxy.url) as cut:
        proxy.cuts = [Cut(up=5 * MIB)]
        putting = asyncio.ensure_future(cut.put(path, BLAKE3))
        while not proxy.happened:
            await asyncio.sleep(0.001)
        path.write_bytes(b"shorter")
        with pytest.raises((Conflict, DigestMismatch)):
            await putting
        assert place.uploads == []
        assert [stat async for stat in store.list()] == []


async def test_server_that_is_killed_and_comes_again_is_gone_on_with(tmp_path: Path) -> None:
    process = SpacesProcess(tmp_path / "spaces")

    def again() -> None:
        process.kill()
        process.start()

    class Deadly(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if places and self.tell() > places[0]:
                places.pop(0)
                again()
            return super().read(size)

    data, places = os.urandom(12 * MIB), [4 * MIB, 9 * MIB]
    try:
        async with client(f"{process.url}/store", retry_seconds=20) as store:
            assert (await store.put(Deadly(data), BLAKE3)).key == key_of(data)
            async with await store.get(key_of(data)) as reader:
                got = bytes(await anext(reader))
                await in_own_thread(again)
                async for piece in reader:
                    got += piece
            assert got == data
            await in_own_thread(process.kill)
            small = asyncio.ensure_future(store.put(b"small", BLAKE3))
            await in_own_thread(process.start)
            assert (await small).key == key_of(b"small")
            assert {stat.key for stat in [one async for one in store.list()]} == {key_of(data), key_of(b"small")}
    finally:
        process.stop()
