"""Objects on PostgreSQL when processes are killed, connections cut and the server crashes."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator

import pytest

from graviton.concurrency.executors import in_own_thread
from graviton.errors import Conflict
from graviton.testing.fake_clock import FakeClock
from tests.postgres_objects import Place, a_place, at, read
from tests.postgres_server import PgServer, server

pytestmark = pytest.mark.postgres


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with a_place() as made:
        yield made


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


WRITER = textwrap.dedent(
    """
    import asyncio, sys, time
    from graviton.backends.postgres.config import parse_address
    from graviton.backends.postgres.database import PgDatabase
    from graviton.backends.postgres.objects import PgMutableObjectStore, PgObjectConfig
    from graviton.core.locators import Locator

    def pieces():
        for _ in range(int(sys.argv[2])):
            yield b"x" * 100_000
        print("written", flush=True)
        time.sleep(60)

    store = PgMutableObjectStore(PgDatabase(parse_address(sys.argv[1])), PgObjectConfig(part_bytes=100_000))
    asyncio.run(store.put(Locator("pg", "default", "x"), pieces()))
    """
)


@pytest.mark.parametrize("parts", [1, 7, 400])
async def test_killed_put_leaves_the_old_object_and_is_swept_when_it_expires(place: Place, parts: int) -> None:
    store = place.store()
    await store.put(at("x"), b"old")
    url = place.server.url(place.schema)
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, url, str(parts), stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    assert await writer.stdout.readline() == b"written\n"
    written = (1, parts * 100_000, parts)
    while written not in await place.contents():  # the last part is on its way
        await asyncio.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    await writer.wait()
    assert await read(store, "x") == b"old"
    assert await place.contents() == [written, (2, 3, 1)]
    assert await store.sweep() == 0, "it may still be written: nobody else can know"
    clock = FakeClock(store._clock.now_ns())
    later = place.store(1000, place.database(clock))
    clock.advance(2 * 3600 + 1)
    assert await later.sweep() == parts
    assert await place.contents() == [(2, 3, 1)]
    assert await read(store, "x") == b"old"


async def terminate(place: Place) -> int:
    """End every connection of the stores; how many."""
    rows = await place.ask(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'graviton'"
    )
    await asyncio.sleep(0.02)
    return int(rows[0][0])


async def test_put_and_get_go_on_when_their_connections_are_cut(place: Place) -> None:
    store, data, cut = place.store(10_000), noise(300_000), 0

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), 4_000):
            yield data[start : start + 4_000]

    async def slowly() -> AsyncIterator[bytes]:
        nonlocal cut
        for number, piece in enumerate(pieces()):
            if number % 10 == 0:
                cut += await terminate(place)
            yield piece

    await store.put(at("x"), slowly())
    assert cut > 3
    got, cut = [], 0
    async for piece in await store.get(at("x")):
        got.append(piece)
        if len(got) % 5 == 0:
            cut += await terminate(place)
    assert b"".join(got) == data
    assert cut > 3
    assert await place.contents() == [(2, 300_000, 30)]


async def test_connections_cut_at_any_moment_never_give_half_an_object(place: Place) -> None:
    stores, steps, ended = [place.store(10_000), place.store(10_000)], 0, False
    datas = [noise(95_000, n) for n in range(2)]

    async def cutting() -> int:
        draw, cut, seen = random.Random(7), 0, 0
        while not ended:
            await asyncio.sleep(draw.uniform(0, 0.03))
            if steps != seen:  # something went on since the last cut: who is cut all the time gives up
                seen = steps
                cut += await terminate(place)
        return cut

    async def changing(n: int) -> None:
        nonlocal steps
        store = stores[n]
        for _ in range(25):
            for step in (
                lambda: store.put(at("x"), iter([datas[n]])),
                lambda: store.copy(at("x"), at("y")),
                lambda: store.delete(at(f"z{n}")),
                lambda: store.copy(at("y"), at(f"z{n}")),
                lambda: read(store, "y"),
            ):
                try:
                    done = await step()
                except Conflict:
                    continue
                steps += 1
                assert done in datas or not isinstance(done, bytes)

    for store in stores:
        await store.head(at("x"))  # the very first connection is not tried again
    cutter = asyncio.create_task(cutting())
    try:
        await asyncio.gather(changing(0), changing(1))
    finally:
        ended = True
        assert await cutter > 10
    await stores[0].sweep()
    listed = [one.locator.path async for one in stores[0].list()]
    assert [row for row in await place.contents() if row[0] == 2] == [(2, 95_000, 10)] * len(listed)
    for path in listed:
        assert await read(stores[0], path) in datas


async def test_server_that_crashes_loses_a_put_as_a_whole_or_not_at_all() -> None:
    """Parts are not synced one by one. This server does not write its log by itself, so they are lost."""
    host = PgServer(server().version if server().version != "given" else "18", "wal_writer_delay = 10s\n")
    try:
        async with a_place(host) as place:
            store, data = place.store(10_000), noise(100_000)
            await store.put(at("x"), b"old")

            async def pieces(crash_at: int) -> AsyncIterator[bytes]:
                for number in range(10):
                    if number == crash_at:
                        await asyncio.sleep(0.05)
                        await in_own_thread(host.restart)
                    yield data[number * 10_000 : (number + 1) * 10_000]

            with pytest.raises(Conflict, match="not there any more"):
                await store.put(at("x"), pieces(5))
            assert await read(store, "x") == b"old"
            await store.put(at("x"), pieces(0))
            await in_own_thread(host.restart)
            assert await read(store, "x") == data, "what was acknowledged is there"
            await store.sweep()  # removing what it replaced was not synced either
            left = [row for row in await place.contents() if row[0] == 2]
            assert left == [(2, 100_000, 10)], "and nothing else, but what was given up and comes back to expire"
    finally:
        host.remove()
