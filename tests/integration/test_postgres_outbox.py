"""The outbox of events on PostgreSQL: an event is there exactly if its change is, and no follower misses one."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

import psycopg
import pytest
from psycopg import AsyncConnection

from graviton.backends.postgres import outbox as outbox_module
from graviton.backends.postgres._events import INSERT_EVENTS
from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.config import OUTBOX_EVENTS
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.outbox import PgOutbox
from graviton.errors import Conflict, InvalidInput, NotFound
from graviton.ports.events import Event, EventKind
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys, commit_of
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import server

pytestmark = pytest.mark.postgres

COMMITTED, DELETED = EventKind.BLOB_COMMITTED, EventKind.BLOB_DELETED
DAMAGED, STORED = EventKind.BLOCK_DAMAGED, EventKind.BLOCK_STORED

LISTENERS = "FROM pg_stat_activity WHERE query LIKE '%%LISTEN graviton_events' AND application_name = %b"

NEVER = 1000.0
"""Seconds between two looks, where a test must not depend on them."""


class World:
    """A schema, the ports on it and its outbox."""

    def __init__(self, database: PgDatabase) -> None:
        self.database = database
        self.ports = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
        self.outbox = PgOutbox(database, poll_seconds=0.05)

    async def write(self, *subjects: str, at: int = 1, on: AsyncConnection | None = None) -> None:
        """Events of nothing, in one transaction, or in that of `on`."""
        if on is None:
            async with self.database.connection() as connection, connection.transaction():
                await self.write(*subjects, at=at, on=connection)
            return
        count = len(subjects)
        values = {"told_domains": [1] * count, "told_kinds": [DELETED.value] * count, "told_data": ["{}"] * count}
        sql = INSERT_EVENTS.replace(")b", ")s")
        await on.execute(sql, values | {"now": at, "told_subjects": list(subjects)})

    @asynccontextmanager
    async def open_transaction(self) -> AsyncIterator[AsyncConnection]:
        """One that is under way; committed at the end of the block."""
        async with await self.database.connect() as connection, connection.transaction():
            await connection.execute("SELECT pg_current_xact_id()")
            yield connection

    async def rows(self) -> list[tuple[str, str]]:
        """Kinds and subjects of all rows."""
        return await self.database.fetch("test", "SELECT kind, subject FROM events ORDER BY id")

    async def seen(self, after: str | None = None, outbox: PgOutbox | None = None) -> list[tuple[str, Event]]:
        """What a follower is given until nothing more comes."""
        found: list[tuple[str, Event]] = []
        async with aclosing((outbox or self.outbox).follow(after)) as events:
            while True:
                try:
                    found.append(await asyncio.wait_for(anext(events), 0.3))
                except TimeoutError:
                    return found

    async def subjects(self, after: str | None = None) -> list[str]:
        return [event.subject for _, event in await self.seen(after)]

    async def listeners(self) -> int:
        """Connections of followers that listen, or did."""
        return (await self.database.fetch("test", f"SELECT count(*) {LISTENERS}", [self.database.config.schema]))[0][0]


@asynccontextmanager
async def made_world(events: frozenset[EventKind] | None = None) -> AsyncIterator[World]:
    schema = f"outbox_{secrets.token_hex(8)}"
    await make_schema(server(), schema)
    config = replace(server().config(schema), application_name=schema)
    world = World(PgDatabase(config if events is None else replace(config, events=events)))
    try:
        yield world
    finally:
        await world.database.aclose()
        await drop_schema(server(), schema)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with made_world() as made:
        yield made


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(outbox_module, "PAGE_EVENTS", 3)
    return 3


class Facts(NamedTuple):
    kind: EventKind
    subject: str


async def facts(world: World) -> list[Facts]:
    return [Facts(event.kind, event.subject) for _, event in await world.seen()]


# What is written --------------------------------------------------------------------------------------------------


async def test_every_change_has_its_event_and_nothing_else_has(world: World) -> None:
    upload, other = Upload.of(block_keys(2, "a"), "a"), Upload.of(block_keys(2, "a"), "b")
    await world.ports.put(upload, holder="one")
    await world.ports.put(upload, holder="two")  # merged
    await world.ports.put(other, domain="elsewhere")
    await world.ports.repo.delete(upload.key, "one")  # another holder keeps it
    await world.ports.repo.delete(upload.key, "two")
    await world.ports.repo.delete(upload.key, "two")
    await world.ports.repo.undelete(upload.key, "two")
    await world.ports.repo.delete(upload.key, "two")
    await world.ports.put(upload)
    assert await world.ports.index.mark_damaged(upload.blocks[0], 1) is True
    assert await world.ports.index.mark_damaged(upload.blocks[0], 1) is False
    key, block = upload.key.text, upload.blocks[0].text
    told = [event for _, event in await world.seen()]
    assert [(event.kind, event.subject, dict(event.data)) for event in told] == [
        (COMMITTED, key, {"blocks": 2}),
        (COMMITTED, other.key.text, {"blocks": 2, "domain": "elsewhere"}),
        (DELETED, key, {}),
        (COMMITTED, key, {"blocks": 2}),
        (DELETED, key, {}),
        (COMMITTED, key, {"blocks": 2}),
        (DAMAGED, block, {}),
    ]
    record = await world.ports.repo.get(upload.key)
    assert told[-2].at_ns == record.created_at_ns


async def test_blocks_are_told_of_if_that_is_wanted() -> None:
    async with made_world(OUTBOX_EVENTS) as world:
        upload = Upload.of(block_keys(3), "a")
        await world.ports.put(upload)
        more = Upload.of([*block_keys(3), *block_keys(2, "more")], "b")
        session = await world.ports.session(more.blocks)
        await world.ports.repo.add_pages(session, more.pages, more.blocks)
        await world.ports.repo.commit([commit_of(session, more, pages=[], confirm=[])])
        found = await facts(world)
        assert {one.subject for one in found[:3]} == {key.text for key in upload.blocks}
        assert found[3] == Facts(COMMITTED, upload.key.text)
        assert {one.subject for one in found[4:6]} == {key.text for key in more.blocks[3:]}
        assert [one.kind for one in found] == [STORED] * 3 + [COMMITTED] + [STORED] * 2 + [COMMITTED]


async def test_nothing_is_written_that_is_not_wanted() -> None:
    async with made_world(frozenset({DELETED})) as world:
        upload = Upload.of(block_keys(3), "a")
        await world.ports.put(upload)
        await world.ports.index.mark_damaged(upload.blocks[0], 1)
        assert await world.rows() == []
        await world.ports.repo.delete(upload.key)
        assert await world.rows() == [(DELETED.value, upload.key.text)]


async def test_commit_that_fails_leaves_no_event(world: World) -> None:
    upload = Upload.of(block_keys(2), "a")
    session = await world.ports.session(upload.blocks)
    with pytest.raises(Conflict):
        await world.ports.repo.commit([commit_of(session, upload, confirm=upload.blocks[:1])])
    assert await world.rows() == []


async def test_transaction_that_is_rolled_back_leaves_no_event_and_no_gap(world: World) -> None:
    await world.write("before")
    with pytest.raises(ZeroDivisionError):
        async with world.open_transaction() as connection:
            await world.write("never", on=connection)
            raise ZeroDivisionError
    await world.write("after")
    assert await world.subjects() == ["before", "after"]


# Order, and nothing is passed over ---------------------------------------------------------------------------------


async def test_transaction_held_open_across_looks_is_not_passed_over(world: World) -> None:
    await world.write("first")
    async with aclosing(world.outbox.follow()) as events:
        assert (await anext(events))[1].subject == "first"
        async with world.open_transaction() as slow:
            await world.write("slow 1", on=slow)
            await world.write("quick 1")
            await world.write("quick 2")
            # It does not hold up the others, and is not held up by them.
            position, event = await anext(events)
            assert event.subject == "quick 1"
            position, event = await anext(events)
            assert event.subject == "quick 2"
            assert await world.subjects(position) == []
            await world.write("slow 2", on=slow)
        for expected in ("slow 1", "slow 2"):
            assert (await asyncio.wait_for(anext(events), 5))[1].subject == expected
        assert await world.subjects(position) == ["slow 1", "slow 2"]
        assert await world.subjects() == ["first", "slow 1", "quick 1", "quick 2", "slow 2"]


async def test_number_of_a_transaction_does_not_decide_the_order(world: World) -> None:
    """A put that waits for a deletion of its blob has the smaller number, for it began before, and comes after."""
    upload = Upload.of(block_keys(2), "a")
    await world.ports.put(upload)
    later = await world.outbox.latest()
    async with world.open_transaction() as waiting:  # has a number, as a commit that has locked its session
        async with world.open_transaction() as deleting:
            await deleting.execute("SELECT FROM blobs FOR NO KEY UPDATE")
            await world.write("gone", on=deleting)
            task = asyncio.create_task(waiting.execute("SELECT FROM blobs FOR NO KEY UPDATE"))
            await asyncio.sleep(0.1)
            assert not task.done()
        await task
        await world.write("back", on=waiting)
    assert await world.subjects(later) == ["gone", "back"]


async def test_put_and_deletion_at_once_are_told_in_the_order_in_which_they_happened(world: World) -> None:
    upload = Upload.of(block_keys(1), "a")

    async def put() -> None:
        for _ in range(25):
            await world.ports.put(upload)

    async def delete() -> None:
        for _ in range(25):
            await world.ports.repo.delete(upload.key)

    await asyncio.gather(put(), put(), delete(), delete(), delete())
    kinds = [event.kind for _, event in await world.seen()]
    assert all(one is not two for one, two in itertools.pairwise(kinds)), "there, gone, there, gone"
    visible = bool(await world.ports.repo.list())
    assert kinds[-1] is (COMMITTED if visible else DELETED)


async def test_snapshot_that_does_not_know_of_an_older_transaction(world: World) -> None:
    """A transaction with a greater number than all that have ended is not in the list of those under way."""
    async with world.open_transaction() as first, world.open_transaction() as second:
        await world.write("second", on=second)
        await world.write("first", on=first)
        await first.execute("COMMIT")
        (position, event), *rest = await world.seen()
        assert (event.subject, rest) == ("first", [])
        await second.execute("COMMIT")
        assert await world.subjects(position) == ["second"]


async def test_many_writers_and_a_follower_that_starts_again_all_the_time(world: World, small_pages: int) -> None:
    writers, each = 6, 15
    done = asyncio.Event()

    async def write(number: int) -> None:
        for count in range(each):
            async with world.open_transaction() as connection:
                await world.write(f"{number}/{count}/a", on=connection)
                await asyncio.sleep(0.001 * ((number * 7 + count * 5) % 11))
                await world.write(f"{number}/{count}/b", on=connection)

    async def follow() -> list[str]:
        found: list[str] = []
        position = None
        while True:
            finished = done.is_set()
            async with aclosing(world.outbox.follow(position)) as events:
                try:
                    for _ in range(1 + len(found) % 7):
                        position, event = await asyncio.wait_for(anext(events), 0.2)
                        found.append(event.subject)
                except TimeoutError:
                    if finished:
                        return found

    following = asyncio.create_task(follow())
    await asyncio.gather(*map(write, range(writers)))
    done.set()
    found = await following
    names = [f"{number}/{count}/{part}" for number in range(writers) for count in range(each) for part in "ab"]
    assert sorted(found) == sorted(names), "each once, since every position was kept"
    for number in range(writers):
        mine = [name for name in found if name.startswith(f"{number}/")]
        assert mine == sorted(mine, key=lambda name: (int(name.split("/")[1]), name)), "in the order of its writer"


async def test_continued_after_every_single_event_nothing_is_left_out(world: World, small_pages: int) -> None:
    async with world.open_transaction() as slow:
        await world.write("slow 1", "slow 2", on=slow)
        for number in range(8):
            await world.write(f"quick {number}", f"as quick {number}")
        quick = await world.seen()
    everything = {"slow 1", "slow 2"} | {event.subject for _, event in quick}
    assert len(everything) == 18
    for number, (position, _) in enumerate(quick, 1):
        before = {event.subject for _, event in quick[:number]}
        rest = await world.seen(position)
        assert {event.subject for _, event in rest} == everything - before
        for nested, (again, _) in enumerate(rest, 1):
            following = {event.subject for _, event in rest[:nested]}
            assert set(await read_subjects(world, again, small_pages)) == everything - before - following


async def read_subjects(world: World, position: str, limit: int) -> list[str]:
    """All that is there after a position, without waiting for the end to show."""
    found: list[str] = []
    while events := await world.outbox.read(position, limit):
        found += [event.subject for _, event in events]
        position = events[-1][0]
    return found


async def test_latest_is_after_everything_committed_and_before_the_rest(world: World) -> None:
    empty = await world.outbox.latest()
    await world.write("old")
    async with world.open_transaction() as slow:
        await world.write("slow", on=slow)
        await world.write("old 2")
        latest = await world.outbox.latest()
        await world.write("new")
    assert await world.subjects(latest) == ["slow", "new"]
    assert await world.subjects(empty) == ["old", "slow", "old 2", "new"]


# Positions --------------------------------------------------------------------------------------------------------

ID = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        f"{ID}",
        f"{ID}:0",
        f"{ID}:0:7",
        f"{ID}:0:0:",
        f"{ID}:0:07:",
        f"{ID}:00:7:",
        f"{ID}:0:7:7",
        f"{ID}:0:7:0",
        f"{ID}:0:7:5,4",
        f"{ID}:0:7:5,5",
        f"{ID}:0:7:5,",
        f"{ID}:0:7: ",
        f"{ID}:0:７:",
        f"{ID}:0:7:\n",
        f"{ID}:0:-7:",
        f"{ID[:-1]}:0:7:",
        f"{ID.upper()}:0:7:",
        f"{ID}:0:7::8::1",
        f"{ID}:0:7::8::1:2:3",
        f"{ID}:0:7::8:8:1:2",
        f"{ID}:0:{2**64}:",
        f"{ID}:0:7::8::1:{2**63}",
        f"{ID}:{2**63}:7:",
        f"{ID}:0:99999999:" + ",".join(map(str, range(1, 20_000))),
    ],
)
async def test_texts_that_are_no_positions_are_refused(text: str, world: World) -> None:
    stream = (await world.outbox.latest())[: len(ID)]
    with pytest.raises(InvalidInput):
        await anext(world.outbox.follow(text.replace(ID, stream)))


async def test_position_of_another_kind_of_metadata_is_of_another_stream(world: World) -> None:
    with pytest.raises(NotFound, match="another stream"):
        await anext(world.outbox.follow(f"{ID}:12:1700000000000000000"))


async def test_position_of_another_database_is_refused(world: World) -> None:
    await world.write("a")
    async with made_world() as other:
        await other.write("b")
        ((position, _),) = await other.seen()
    with pytest.raises(NotFound, match="another stream") as caught:
        await anext(world.outbox.follow(position))
    assert "without a position" in caught.value.hint


async def test_tables_that_are_copied_begin_another_stream_with_the_same_events(world: World) -> None:
    await world.write("a")
    await world.write("b", at=5)
    position = (await world.seen())[0][0]
    async with made_world() as copy:
        async with copy.database.connection() as connection:
            old, new = world.database.config.schema, copy.database.config.schema
            await connection.execute(f"DELETE FROM {new}.event_stream")
            await connection.execute(f"INSERT INTO {new}.event_stream SELECT * FROM {old}.event_stream")
            # As a server that is older by many transactions says it.
            await connection.execute(
                f"INSERT INTO {new}.events OVERRIDING SYSTEM VALUE"
                f" SELECT id, '9000000000000000000', at, domain_id, kind, subject, data FROM {old}.events"
            )
        with pytest.raises(NotFound, match="another stream"):
            await anext(copy.outbox.follow(position))
        found = await copy.seen()
        assert [event.subject for _, event in found] == ["a", "b"]
        assert await copy.subjects(found[0][0]) == ["b"]
        assert await copy.subjects(found[1][0]) == []
        assert await copy.outbox.trim(5) == 1
    assert await world.subjects(position) == ["b"], "the original goes on"


async def test_copied_tables_can_be_trimmed_first(world: World) -> None:
    async with world.database.connection() as connection:
        await world.write("a")
        await connection.execute("UPDATE events SET txid = '9000000000000000000'")
        await connection.execute("UPDATE event_stream SET place = 'elsewhere'")
    assert await world.outbox.trim(5) == 1


async def test_position_ahead_of_the_database_is_refused(world: World) -> None:
    """A disk that was put back to yesterday has the same name of the stream."""
    await world.write("a")
    ((position, _),) = await world.seen()
    stream, trims, *_ = position.split(":")
    ahead = f"{stream}:{trims}:{10**15}:"
    with pytest.raises(NotFound):
        await anext(world.outbox.follow(ahead))


# Trimming ---------------------------------------------------------------------------------------------------------


async def test_trim_removes_what_is_old_in_bounded_batches(world: World) -> None:
    for number in range(7):
        await world.write(f"{number}", at=number)
    assert await world.outbox.trim(5, limit=3) == 3
    assert await world.outbox.trim(5, limit=3) == 2
    assert await world.outbox.trim(5, limit=3) == 0
    assert await world.subjects() == ["5", "6"]
    for wrong in (0, 10_001):
        with pytest.raises(InvalidInput):
            await world.outbox.trim(5, wrong)


async def test_position_older_than_what_was_removed_is_told_so(world: World) -> None:
    for number in range(4):
        await world.write(f"{number}", at=number)
    positions = [position for position, _ in await world.seen()]
    assert await world.outbox.trim(2) == 2
    with pytest.raises(NotFound, match="removed") as caught:
        await anext(world.outbox.follow(positions[0]))
    assert "without a position" in caught.value.hint
    assert await world.subjects(positions[1]) == ["2", "3"]
    assert await world.subjects(positions[2]) == ["3"]
    assert await world.subjects() == ["2", "3"]


async def test_follower_that_is_overtaken_by_a_trim_is_told_so(world: World, small_pages: int) -> None:
    for number in range(9):
        await world.write(f"{number}", at=number)
    async with aclosing(world.outbox.follow()) as events:
        for number in range(3):
            assert (await anext(events))[1].subject == f"{number}"
        await world.outbox.trim(3)
        for number in range(3, 6):
            assert (await anext(events))[1].subject == f"{number}"
        await world.outbox.trim(8)
        with pytest.raises(NotFound, match="removed"):
            await anext(events)


async def test_follower_at_the_end_is_not_bothered_by_trims(world: World) -> None:
    # The transaction is of another database, say, and under way for a long time.
    async with world.open_transaction(), aclosing(world.outbox.follow()) as events:
        for number in range(5):
            await world.write(f"{number}", at=number)
            assert (await asyncio.wait_for(anext(events), 5))[1].subject == f"{number}"
            await world.outbox.trim(number + 1)
        assert len(await world.rows()) == 5, "who follows can be told of that transaction when it has ended"
    assert await world.outbox.trim(9) == 5
    assert await world.subjects() == []
    await world.write("more")
    assert await world.subjects() == ["more"]


async def test_trim_leaves_alone_what_was_committed_after_a_transaction_under_way(world: World) -> None:
    await world.write("old")
    async with world.open_transaction() as slow:
        await world.write("slow", on=slow)
        await world.write("quick")
        position = (await world.seen())[-1][0]
        assert await world.outbox.trim(9) == 1
    assert await world.subjects(position) == ["slow"]


# The bell, and connections ----------------------------------------------------------------------------------------


async def wait_until_listening(world: World) -> None:
    async with asyncio.timeout(5):
        while not await world.listeners():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # it looks once more before it waits


async def test_bell_wakes_within_a_second(world: World) -> None:
    async with aclosing(PgOutbox(world.database, NEVER).follow()) as events:
        waiting = asyncio.ensure_future(anext(events))
        await wait_until_listening(world)
        for number in range(3):
            upload = Upload.of(block_keys(1), f"{number}")
            await world.ports.put(upload)
            _, event = await asyncio.wait_for(waiting, 1)
            assert event.subject == upload.key.text
            waiting = asyncio.ensure_future(anext(events))
        await world.ports.repo.delete(upload.key)
        assert (await asyncio.wait_for(waiting, 1))[1].kind is DELETED
        waiting = asyncio.ensure_future(anext(events))
        await world.ports.index.mark_damaged(upload.blocks[0], 1)
        assert (await asyncio.wait_for(waiting, 1))[1].kind is DAMAGED


async def test_process_that_ends_at_once_rings_before(world: World) -> None:
    async with aclosing(PgOutbox(world.database, NEVER).follow()) as events:
        waiting = asyncio.ensure_future(anext(events))
        await wait_until_listening(world)
        for puts in (1, 2):
            other = World(PgDatabase(world.database.config))
            for number in range(puts):
                await asyncio.sleep(0.02)  # it has rung for the first, and pauses
                await other.ports.put(Upload.of(block_keys(1), f"{puts}/{number}"))
            await other.database.aclose()
            for _ in range(puts):
                await asyncio.wait_for(waiting, 1)
                waiting = asyncio.ensure_future(anext(events))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_event_between_the_look_and_the_bell_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = PgOutbox(world.database, NEVER)
    look, looks = outbox._look, 0

    async def look_and_write(position: object, limit: int) -> object:
        nonlocal looks
        page = await look(position, limit)  # type: ignore[arg-type]
        looks += 1
        if looks == 1:
            await world.write("just now")
        return page

    monkeypatch.setattr(outbox, "_look", look_and_write)
    async with aclosing(outbox.follow()) as events:
        assert (await asyncio.wait_for(anext(events), 5))[1].subject == "just now"


async def test_without_the_bell_a_follower_looks_anyway(world: World) -> None:
    async with aclosing(PgOutbox(world.database, 0.2).follow()) as events:
        waiting = asyncio.ensure_future(anext(events))
        await wait_until_listening(world)
        await world.write("unrung")
        assert (await asyncio.wait_for(waiting, 5))[1].subject == "unrung"


@pytest.mark.parametrize("refused", [False, True])
async def test_follower_goes_on_when_its_connection_is_cut(world: World, refused: bool) -> None:
    outbox = PgOutbox(world.database, 0.1)
    async with aclosing(outbox.follow()) as events:
        waiting = asyncio.ensure_future(anext(events))
        await wait_until_listening(world)
        if refused:

            async def refuse() -> AsyncConnection:
                raise psycopg.OperationalError("FATAL:  sorry, too many clients already")

            world.database.connect = refuse  # type: ignore[method-assign]
        schema = world.database.config.schema
        await world.database.fetch("test", f"SELECT pg_terminate_backend(pid) {LISTENERS}", [schema])
        await world.write("a")
        assert (await asyncio.wait_for(waiting, 5))[1].subject == "a"
        waiting = asyncio.ensure_future(anext(events))
        if not refused:
            await wait_until_listening(world)
        await world.write("b")
        assert (await asyncio.wait_for(waiting, 5))[1].subject == "b"


async def test_somebody_who_does_not_read_on_does_not_listen(world: World) -> None:
    outbox = PgOutbox(world.database, NEVER)
    async with aclosing(outbox.follow()) as events:
        waiting = asyncio.ensure_future(anext(events))
        await wait_until_listening(world)
        await world.ports.put(Upload.of(block_keys(1), "a"))
        await waiting
        rows = await world.database.fetch("test", f"SELECT query {LISTENERS}", [world.database.config.schema])
        assert rows == [("UNLISTEN graviton_events",)]


async def gone(world: World) -> None:
    async with asyncio.timeout(5):
        while await world.listeners():
            await asyncio.sleep(0.01)


async def test_iterator_that_is_left_gives_its_connection_back(world: World) -> None:
    outbox = PgOutbox(world.database, NEVER)
    events = outbox.follow()
    waiting = asyncio.ensure_future(anext(events))
    await wait_until_listening(world)
    assert await world.listeners() == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await gone(world)
    with pytest.raises(StopAsyncIteration):
        await anext(events)

    events = outbox.follow()
    waiting = asyncio.ensure_future(anext(events))
    await wait_until_listening(world)
    await world.ports.put(Upload.of(block_keys(1), "a"))
    await waiting
    assert await world.listeners() == 1
    await events.aclose()  # type: ignore[attr-defined]
    await gone(world)


async def test_iterator_that_nobody_holds_gives_its_connection_back(world: World) -> None:
    async def first() -> None:
        async for _ in PgOutbox(world.database, NEVER).follow():
            return

    task = asyncio.create_task(first())
    await wait_until_listening(world)
    await world.ports.put(Upload.of(block_keys(1), "a"))
    await task
    await gone(world)


@pytest.mark.parametrize("steps", range(0, 40, 2))
async def test_cancelled_anywhere_it_leaves_nothing_behind(world: World, steps: int) -> None:
    await world.ports.repo.list()
    events = PgOutbox(world.database, NEVER).follow()
    task = asyncio.ensure_future(anext(events))
    for _ in range(steps):
        await asyncio.sleep(0)
    await asyncio.sleep(0.0005 * steps)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await events.aclose()  # type: ignore[attr-defined]
    await gone(world)
    await world.write("a")
    assert await world.subjects() == ["a"]


async def test_follower_ends_with_its_database(world: World) -> None:
    async with aclosing(world.outbox.follow()) as events:
        waiting = asyncio.ensure_future(anext(events))
        await wait_until_listening(world)
        await world.database.aclose()
        with pytest.raises(Exception, match="closed"):
            await asyncio.wait_for(waiting, 5)
    world.database = PgDatabase(world.database.config)
    await gone(world)


def test_looking_every_no_seconds_is_refused() -> None:
    with pytest.raises(InvalidInput):
        PgOutbox(PgDatabase(server().config("nowhere")), 0)
