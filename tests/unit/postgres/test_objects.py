"""Object stores on PostgreSQL: what the laws of the port cannot know."""

from __future__ import annotations

import asyncio
import random
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from graviton.backends.postgres import _object_contents as contents
from graviton.backends.postgres import _object_names as names
from graviton.backends.postgres._object_reading import _READ
from graviton.backends.postgres._scripts import Row
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.backends.postgres.objects import (
    MAX_PLACE_BYTES,
    PgMutableObjectStore,
    PgObjectConfig,
    _after_prefix,
)
from graviton.core.ranges import Span
from graviton.errors import ConfigError, Conflict, IntegrityError, InvalidInput, Unavailable
from graviton.testing.fake_clock import FakeClock
from tests.postgres_objects import Place, a_place, at, read

pytestmark = pytest.mark.postgres


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with a_place() as made:
        yield made


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


class WatchedDatabase(PgDatabase):
    """Remembers what was fetched."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fetched: list[tuple[str, int]] = []

    async def fetch(self, operation: str, sql: str, values: Any = ()) -> list[Row]:
        rows = await super().fetch(operation, sql, values)
        self.fetched.append((operation, sum(len(one) for row in rows for one in row if isinstance(one, bytes))))
        return rows


# Parts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 199, 200, 201, 1_050])
async def test_sizes_around_parts_come_back(place: Place, size: int) -> None:
    store, data = place.store(100), noise(size)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 37):
            yield data[start : start + 37]

    for source in (data, iter([data[:50], data[50:]]), pieces()):
        assert (await store.put(at("x"), source)).size == size
        assert await read(store, "x") == data
        assert await place.contents() == [(2, size, -(-size // 100))]
    for start in {0, 1, 50, 99, 100, 150, size} & set(range(size + 1)):
        for end in {start, start + 1, 100, 101, 200, size} & set(range(start, size + 1)):
            got = [piece async for piece in await store.get(at("x"), Span(start, end))]
            assert b"".join(got) == data[start:end], (start, end)


async def test_range_read_touches_only_its_parts_and_its_bytes(place: Place) -> None:
    database = WatchedDatabase(place.server.config(place.schema))
    store, data = place.store(1000, database), noise(100_000)
    await store.put(at("x"), data)
    del database.fetched[:]
    assert b"".join([p async for p in await store.get(at("x"), Span(50_990, 52_010))]) == data[50_990:52_010]
    assert database.fetched == [("objects.get", 10), ("objects.get_part", 1000), ("objects.get_part", 10)]


async def test_objects_keep_the_part_size_they_were_written_with(place: Place) -> None:
    data = noise(10_000)
    await place.store(700).put(at("x"), data)
    store = place.store(4_096)
    assert await read(store, "x") == data
    await store.copy(at("x"), at("y"))
    assert await read(store, "y") == data


async def test_get_holds_two_parts_in_memory(place: Place) -> None:
    store = place.store(1 << 20)
    piece = bytes(1 << 20)
    await store.put(at("x"), iter([piece] * 32))
    tracemalloc.start()
    try:
        async for _ in await store.get(at("x")):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


async def test_part_that_is_not_as_it_was_written_is_an_integrity_error(place: Place) -> None:
    store = place.store(100)
    await store.put(at("x"), noise(300))
    for damage in (
        "UPDATE object_parts SET data = 'short' WHERE number = 1",
        "DELETE FROM object_parts WHERE number = 0",
    ):
        await place.ask(damage)
        with pytest.raises(IntegrityError):
            await read(store, "x")


# Sources --------------------------------------------------------------------------------------------------------------


async def test_blocking_iterable_does_not_stop_the_event_loop(place: Place) -> None:
    store, gate, turns = place.store(100), threading.Event(), 0

    def pieces() -> Iterator[bytes]:
        yield b"x" * 250
        assert gate.wait(30)
        yield b"y" * 250

    put = asyncio.create_task(store.put(at("x"), pieces()))
    while turns < 20:
        await asyncio.sleep(0.005)
        turns += 1
    gate.set()
    assert (await put).size == 500
    assert await read(store, "x") == b"x" * 250 + b"y" * 250


async def test_slow_source_holds_no_transaction_and_no_connection(place: Place) -> None:
    store = place.store(100, place.database(max_connections=1))
    seen: list[tuple[Any, ...]] = []

    async def pieces() -> AsyncIterator[bytes]:
        for parts in (2, 5, 7):
            yield b"x" * 250
            while (1, parts * 100, parts) not in await place.contents():
                await asyncio.sleep(0.001)  # the parts are on their way
            assert await store.head(at("x")) is None  # on the only connection
            seen.extend(
                await place.ask(
                    "SELECT state, xact_start FROM pg_stat_activity"
                    " WHERE application_name = 'graviton' AND query LIKE '%%object%%'"
                )
            )

    await store.put(at("x"), pieces())
    assert seen
    assert {state for state, _ in seen} == {"idle"}
    assert {begun for _, begun in seen} == {None}


@pytest.mark.parametrize("source", [7, "text", ["text"], [None], None])
async def test_what_is_no_bytes_is_refused(place: Place, source: Any) -> None:
    store = place.store(100)
    with pytest.raises(InvalidInput):
        await store.put(at("x"), source)
    assert await place.contents() == []


async def test_failing_write_ends_a_put_whose_source_is_silent(place: Place) -> None:
    store, ended = place.store(100), False
    await place.ask("ALTER TABLE object_parts ADD CONSTRAINT refused CHECK (number < 2)")

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal ended
        yield noise(350)
        try:
            await asyncio.sleep(60)
        finally:
            ended = True

    for source in (pieces(), noise(1000)):
        with pytest.raises(IntegrityError, match="refused"):
            await asyncio.wait_for(store.put(at("x"), source), 20)
        assert ended
        assert await place.contents() == []


# Names ----------------------------------------------------------------------------------------------------------------


async def test_longest_path_fits_the_index_and_a_longer_one_is_refused_before_anything(place: Place) -> None:
    store = place.store(100)
    draw = random.Random(1)
    longest = "".join(chr(draw.randrange(0x4E00, 0x9FA0)) for _ in range((MAX_PLACE_BYTES - len("default")) // 3))
    longest += "x" * (MAX_PLACE_BYTES - len("default") - len(longest.encode()))  # nothing a compression could shorten
    await store.put(at(longest), b"data")
    assert [stat.locator.path async for stat in store.list()] == [longest]
    began = False

    def pieces() -> Iterator[bytes]:
        nonlocal began
        began = True
        yield b"data"

    for call in (store.put(at(longest + "x"), pieces()), store.copy(at(longest), at(longest + "x"))):
        with pytest.raises(InvalidInput, match="at most 2600 bytes"):
            await call
    assert not began
    assert len(await place.contents()) == 1


def test_text_after_a_prefix_is_the_next_in_order() -> None:
    assert _after_prefix("a/b") == "a/c"
    assert _after_prefix("a\ud7ff") == "a\ue000"
    assert _after_prefix("a\U0010ffff") == "b"
    assert _after_prefix("\U0010ffff\U0010ffff") is None
    assert _after_prefix("") is None


async def test_list_by_prefix_at_the_ends_of_unicode(place: Place) -> None:
    store = place.store()
    paths = ["a", "a\ud7ff", "a\ud7ff/x", "a\ue000", "a\U0010ffff", "a\U0010ffff\U0010ffff/x", "b", "\U0010ffff", "é"]
    for path in paths:
        await store.put(at(path), b"")
    for prefix in [*paths, "", "a\U0010ffff\U0010ffff", "a\0", "\ud800", "a b", "z"]:
        found = [stat.locator.path async for stat in store.list(prefix)]
        assert found == sorted((path for path in paths if path.startswith(prefix)), key=str.encode), prefix


async def test_buckets_share_nothing(place: Place) -> None:
    database = place.database()
    mine = place.store(100, database)
    other = PgMutableObjectStore(database, PgObjectConfig("other"))
    await mine.put(at("x"), b"mine")
    assert [one async for one in other.list()] == []
    with pytest.raises(InvalidInput):
        await other.head(at("x"))


@pytest.mark.parametrize(
    "settings", [{"bucket": "a/b"}, {"part_bytes": 0}, {"part_bytes": 2**24 + 1}, {"lease_seconds": 0}]
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PgObjectConfig(**settings)


async def test_hot_statements_use_indexes(place: Place) -> None:
    """With sequential scans made dear, only a statement without an index has one."""
    await place.store(10).put(at("x"), noise(95))
    (content_id,) = (await place.ask("SELECT id FROM object_contents"))[0]
    name = {"bucket": "default", "path": "x", "start": 0, "length": 10, "id": content_id, "now": 1}
    name |= {"low": "a", "high": "b", "after": "", "limit": 9}
    content = {"id": content_id, "source": content_id, "number": 1, "first": 1, "length": 1, "low": 0, "high": 9}
    content |= {"size": 1, "start": 0, "end": 1, "expires": 1, "renewed_below": 1, "data": b"x", "was": 2, "now": 1}
    hot = [(getattr(names, one), name) for one in ("FIND", "OPEN", "LIST", "LIST_BELOW", "_LOCK_NAME", "_RENAME")]
    hot += [(getattr(names, one), name) for one in ("_LOCK_CONTENT", "_USE", "_UNNAME")]
    hot += [(getattr(contents, one), content) for one in ("_GROW", "_ADD_PART", "_COPY_PARTS", "_LOOK", "_LEAVE")]
    hot += [(getattr(contents, one), content) for one in ("_LOCK_GONE", "_LOCK_EXPIRED", "_REMOVE_PARTS", "_SHRINK")]
    hot += [(contents._REMOVE, content), (_READ, content)]
    database = place.database()
    async with database.connection() as connection:
        await connection.execute("SET enable_seqscan = off")
        for sql, values in hot:
            plan = "\n".join([line async for (line,) in await connection.execute("EXPLAIN " + sql, values)])
            assert "Seq Scan" not in plan, plan
            assert "Sort" not in plan, plan
    await database.aclose()


# Several at once ------------------------------------------------------------------------------------------------------


async def test_writers_of_one_object_leave_one_whole_and_no_parts_of_the_others(place: Place) -> None:
    stores = [place.store(100), place.store(150), place.store(5000)]
    datas = [bytes((n,)) * 3_000 for n in range(9)]

    async def write(n: int) -> None:
        for _ in range(4):
            await stores[n % 3].put(at("x"), datas[n])

    await asyncio.gather(*(write(n) for n in range(9)))
    assert await read(stores[0], "x") in datas
    await stores[0].sweep()
    ((state, size, _),) = await place.contents()
    assert (state, size) == (2, 3_000)


async def test_puts_deletes_and_copies_of_one_object_leave_consistent_rows(place: Place) -> None:
    stores = [place.store(100), place.store(100)]
    whole = {b"", *(bytes((n,)) * 950 for n in range(4))}

    async def change(n: int) -> None:
        draw = random.Random(n)
        store = stores[n % 2]
        for _ in range(15):
            try:
                what = draw.randrange(4)
                if what == 0:
                    await store.put(at("x"), bytes((n,)) * 950)
                elif what == 1:
                    await store.delete(at("x"))
                elif what == 2:
                    await store.copy(at("x"), at("y"))
                else:
                    assert await read(store, "x") in whole
            except (LookupError, Conflict):
                continue

    await asyncio.gather(*(change(n) for n in range(4)))
    await stores[0].sweep()
    listed = [one async for one in stores[0].list()]
    assert await place.contents() == [(2, 950, 10)] * len(listed)
    for one in listed:
        assert await read(stores[0], one.locator.path) in whole


@pytest.mark.parametrize("change", ["put", "delete"])
async def test_reader_of_what_is_replaced_gets_what_it_had_or_a_conflict(place: Place, change: str) -> None:
    store, old = place.store(100), noise(1000)
    await store.put(at("x"), old)
    async with aclosing(await store.get(at("x"))) as pieces:  # type: ignore[type-var]
        got = [await anext(pieces)]
        await (store.put(at("x"), noise(1000, 1)) if change == "put" else store.delete(at("x")))
        with pytest.raises(Conflict, match="replaced or deleted while it was read"):
            got += [piece async for piece in pieces]
    assert old.startswith(b"".join(got))


async def test_reader_of_one_part_is_never_disturbed(place: Place) -> None:
    store = place.store(1000)
    await store.put(at("x"), b"old")
    pieces = await store.get(at("x"))
    await store.put(at("x"), b"new")
    assert [piece async for piece in pieces] == [b"old"]


async def test_abandoned_readers_give_back_their_connections(place: Place) -> None:
    store = place.store(100, place.database(max_connections=1))
    await store.put(at("x"), noise(2000))
    kept = [await store.get(at("x")) for _ in range(3)]
    for pieces in kept:
        await anext(pieces)  # the next part is on its way
    for _ in range(3):
        async for _ in await store.get(at("x")):
            break
    assert (await store.put(at("y"), noise(300))).size == 300
    rest = [b"".join([piece async for piece in pieces]) for pieces in kept]
    assert rest == [noise(2000)[100:]] * 3


class _Replacing(PgDatabase):
    """Does something else just before a part is copied."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.before: list[Any] = []

    async def run(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        if operation == "objects.copy_parts" and self.before:
            await self.before.pop()()
        return await super().run(operation, *args, **kwargs)


async def test_copy_begins_again_when_its_source_is_replaced(place: Place) -> None:
    database = _Replacing(place.server.config(place.schema))
    store, other = place.store(100, database), place.store(100)
    await store.put(at("x"), noise(1000))
    database.before = [lambda: other.put(at("x"), noise(900, 1))]
    assert (await store.copy(at("x"), at("y"))).size == 900
    assert await read(store, "y") == noise(900, 1)
    database.before = [lambda: other.put(at("x"), noise(900, 2))] * 3
    with pytest.raises(Conflict, match="while it was copied"):
        await store.copy(at("x"), at("y"))
    assert await read(store, "y") == noise(900, 1)
    assert await place.contents() == [(2, 900, 9)] * 2


class _Late(PgDatabase):
    """Loses the reply of a put, and repeats it after somebody else did something."""

    async def run(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        result = await super().run(operation, *args, **kwargs)
        if operation != "objects.put":
            return result
        await self.meanwhile()
        return await super().run(operation, *args, **kwargs)

    meanwhile: Any


@pytest.mark.parametrize("size", [50, 950])
async def test_put_that_was_replaced_before_its_reply_does_not_replace_again(place: Place, size: int) -> None:
    database = _Late(place.server.config(place.schema))
    store, other = place.store(100, database), place.store(100)
    database.meanwhile = lambda: place.ask(
        # Somebody else's put, whose removing of what it replaced is not done yet.
        "UPDATE object_contents SET state = 3, expires_at = 0 WHERE state = 2; DELETE FROM objects"
    )
    with pytest.raises(Conflict, match="not there any more"):
        await store.put(at("x"), noise(size))
    assert await other.head(at("x")) is None
    assert await place.contents() == []


async def test_delete_whose_reply_was_lost_leaves_what_was_put_since(place: Place) -> None:
    class Database(PgDatabase):
        async def run(self, operation: str, *args: Any, **kwargs: Any) -> Any:
            result = await super().run(operation, *args, **kwargs)
            if operation == "objects.delete" and not kwargs.get("repeats_lost", True):
                await other.put(at("x"), b"new")
                raise LostReply("the reply was lost")
            return result

    store, other = place.store(100, Database(place.server.config(place.schema))), place.store(100)
    await other.put(at("x"), noise(950))
    assert await store.delete(at("x")) is True
    assert await read(store, "x") == b"new"
    assert await place.contents() == [(2, 3, 1)]


# What is left behind --------------------------------------------------------------------------------------------------


async def test_expired_put_is_swept_and_told_so(place: Place) -> None:
    clock = FakeClock()
    store = place.store(100, place.database(clock), lease_seconds=60)
    sweeper = place.store(100, place.database(clock))

    async def pieces() -> AsyncIterator[bytes]:
        written = 0
        for silence in (29, 59, 59, 121):  # at least the lease, and at most twice
            yield b"x" * 350
            written += 350
            while (1, written // 100 * 100, written // 100) not in await place.contents():
                await asyncio.sleep(0.001)  # the parts are on their way
            clock.advance(silence)
            swept.append(await sweeper.sweep())
        yield b"x" * 350

    swept: list[int] = []
    with pytest.raises(Conflict, match="not there any more"):
        await store.put(at("x"), pieces())
    assert swept[:3] == [0, 0, 0]
    assert swept[3] > 10
    assert await place.contents() == []
    assert await store.head(at("x")) is None


async def test_sweeps_are_bounded_and_go_on_where_they_were(place: Place) -> None:
    clock = FakeClock()
    store = place.store(10_000_000, place.database(clock))
    content = contents.Content.drawn(clock.now_ns(), 10_000_000, 1, "left")
    for number in range(3):
        add = partial(contents.add_part, content, number, bytes(10_000_000), clock.now_ns())
        await store._database.run("test", add)
    clock.advance(2)
    for left in (2, 1):  # a part of this size per transaction
        await store.put(at("x"), b"small")
        assert [row for row in await place.contents() if row[0] == 3] == [(3, left * 10_000_000, left)]
    await store.delete(at("x"))
    assert await place.contents() == []


async def test_sweepers_do_not_wait_for_each_other(place: Place) -> None:
    store = place.store(100)
    await store.put(at("x"), noise(250))
    await place.ask("UPDATE object_contents SET state = 3, expires_at = 0; DELETE FROM objects")
    other = place.database()
    async with other.connection() as connection:
        await connection.execute("BEGIN")
        await connection.execute("SELECT * FROM object_contents FOR UPDATE")
        assert await asyncio.wait_for(store.sweep(), 10) == 0
        await connection.execute("ROLLBACK")
    assert await store.sweep() == 3
    await other.aclose()


async def test_parts_that_a_crash_lost_are_noticed(place: Place) -> None:
    """The last parts of a content, with the size in its row, are gone after a crash: nothing may be built on that."""
    store = place.store(100)

    async def pieces(at_part: int) -> AsyncIterator[bytes]:
        for number in range(6):
            yield noise(100, number)
            while (1, 100 * (number + 1), number + 1) not in await place.contents():
                await asyncio.sleep(0.001)  # the part is on its way
            if number == at_part:
                await place.ask("DELETE FROM object_parts WHERE number >= 1; UPDATE object_contents SET size = 100")
                lost.append(number)

    lost: list[int] = []
    for at_part in (2, 5):
        with pytest.raises(Conflict, match="not there any more"):
            await store.put(at("x"), pieces(at_part))
        assert await store.head(at("x")) is None
        assert await place.contents() == []
    assert lost == [2, 5]


async def test_closed_store_refuses_and_says_so(place: Place) -> None:
    store = place.store()
    await store.aclose()
    calls: Sequence[Any] = (store.put(at("x"), b""), store.delete(at("x")), store.copy(at("x"), at("y")), store.sweep())
    for call in calls:
        with pytest.raises(Unavailable, match="closed"):
            await call
