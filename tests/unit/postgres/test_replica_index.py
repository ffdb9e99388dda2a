"""The replica index on PostgreSQL: beside the reference, page by page, and with several changing one key at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import cast

import psycopg.errors
import pytest

from graviton.backends.memory.replicas import InMemoryReplicaIndex
from graviton.backends.postgres import replica_index
from graviton.backends.postgres._keys import key_columns
from graviton.backends.postgres._scripts import Script, Statement, send
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import RacedError
from graviton.backends.postgres.replica_index import PgReplicaIndex
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.errors import IntegrityError, InvalidInput
from graviton.metadata.replica_rows import locator_id
from graviton.ports.replicas import Replica, ReplicaIndex, ReplicaState
from graviton.testing.conformance.checks import collect
from graviton.testing.conformance.metadata_values import block_key, block_keys
from tests.postgres_databases import Watched, opened

pytestmark = pytest.mark.postgres

KEY = block_key("a")
PLACES = [Locator("file", bucket, path) for bucket in ("one", "two", "twofold") for path in ("x", "y")]
STATES = list(ReplicaState)


async def wrong_counts(database: PgDatabase) -> list[tuple[int, int]]:
    """Numbers of live copies beside what is there, where they differ."""
    return await database.fetch(
        "test",
        "SELECT c.live, n.live FROM replica_counts c CROSS JOIN LATERAL ("
        "  SELECT count(*) FILTER (WHERE state = 1) AS live, count(*) AS copies FROM replicas r"
        "  WHERE (r.algo, r.digest, r.size) = (c.algo, c.digest, c.size)) AS n"
        " WHERE c.live <> n.live OR n.copies = 0",
    )


def in_whole_order(copies: list[Replica]) -> list[Replica]:
    return sorted(copies, key=lambda copy: (copy.key.to_bytes(), copy.locator.text))


async def compare(index: ReplicaIndex, reference: ReplicaIndex, keys: list[BlockKey]) -> None:
    for key in keys:
        assert await index.details(key) == await reference.details(key)
    for copies in (-1, 0, 1, 2, 3, 100, 2**70):
        assert await collect(index.short_of(copies)) == await collect(reference.short_of(copies)), copies
    for bucket in ("one", "two", "twofold", "nowhere"):
        found = await collect(index.in_sector(bucket))
        assert [copy.key for copy in found] == sorted(copy.key for copy in found)
        assert in_whole_order(found) == in_whole_order(await collect(reference.in_sector(bucket)))
    found = await collect(index.oldest_verified())
    assert [copy.verified_at_ns for copy in found] == sorted(copy.verified_at_ns for copy in found)
    assert in_whole_order(found) == in_whole_order(await collect(reference.oldest_verified()))


@pytest.mark.parametrize("page", [1, 3, 256])
async def test_everything_is_as_in_the_reference(database: Watched, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(replica_index, "_PAGE", page)
    draw = random.Random(page)
    keys = [*block_keys(5), block_key("sha", 7, HashAlgo.SHA256), block_key("sha", 8, HashAlgo.SHA256)]
    index, reference = PgReplicaIndex(database), InMemoryReplicaIndex()
    for number in range(120):
        key, place = draw.choice(keys), draw.choice(PLACES)
        if draw.random() < 0.4:
            places = draw.sample(PLACES, draw.randrange(5))
            await index.update(key, places)
            await reference.update(key, places)
        else:
            state, at = draw.choice(STATES), draw.choice([None, 0, 1, 2, 2**63 - 1])
            assert await index.mark(key, place, state, at) == await reference.mark(key, place, state, at)
        if number % 10 == 9:
            await compare(index, reference, keys)
            assert await wrong_counts(database) == []


async def test_updates_of_one_key_never_mix(schema: str) -> None:
    async with opened(schema, 8) as databases:
        indexes = [PgReplicaIndex(database) for database in databases]
        sets = [frozenset(Locator("s3", f"sector-{n}", f"copy-{m}") for m in range(n + 1)) for n in range(6)]
        sets.append(frozenset())  # forgets the key

        async def update(number: int) -> None:
            draw = random.Random(number)
            for _ in range(40):
                await indexes[number].update(KEY, draw.choice(sets))

        async def look() -> None:
            while writing:
                assert await indexes[7].replicas(KEY) in sets
                assert await wrong_counts(databases[7]) == []

        writing = True
        looking = asyncio.create_task(look())
        await asyncio.gather(*(update(number) for number in range(7)))
        writing = False
        await looking
        assert await indexes[0].replicas(KEY) in sets


async def test_counts_are_right_after_everybody_marked_and_updated_one_key(schema: str) -> None:
    async with opened(schema, 8) as databases:
        indexes = [PgReplicaIndex(database) for database in databases]
        await indexes[0].update(KEY, PLACES)

        async def change(number: int) -> None:
            draw = random.Random(number)
            for _ in range(60):
                if draw.random() < 0.15:
                    await indexes[number].update(KEY, draw.sample(PLACES, draw.randrange(7)))
                else:
                    await indexes[number].mark(KEY, draw.choice(PLACES), draw.choice(STATES), draw.randrange(9))

        await asyncio.gather(*(change(number) for number in range(8)))
        assert await wrong_counts(databases[0]) == []
        copies = await indexes[0].details(KEY)
        live = sum(copy.state is ReplicaState.PRESENT for copy in copies)
        assert await collect(indexes[1].short_of(100)) == ([(KEY, live)] if copies else [])
        assert len(await collect(indexes[2].oldest_verified())) == live


async def test_two_marks_at_once_are_both_counted(schema: str) -> None:
    async with opened(schema, 6) as databases:
        indexes = [PgReplicaIndex(database) for database in databases]
        for state, live in [(ReplicaState.MISSING, 0), (ReplicaState.PRESENT, 6)] * 10:
            await indexes[0].update(KEY, PLACES)
            marks = (index.mark(KEY, place, state) for index, place in zip(indexes, PLACES, strict=True))
            assert await asyncio.gather(*marks) == [True] * 6
            assert await collect(indexes[0].short_of(100)) == [(KEY, live)]


def _mark_the_first() -> Script[bool]:
    values = {"id": locator_id(PLACES[0]), "state": ReplicaState.MISSING.value, "verified_at": 1}
    return replica_index._mark(values | key_columns(KEY))


@pytest.mark.parametrize("script", [_mark_the_first, lambda: replica_index._replace(KEY, {})])
async def test_a_key_made_known_between_lock_and_change_is_not_changed_unlocked(
    schema: str, script: Callable[[], Script[object]]
) -> None:
    """There was nothing to lock; then the number of copies could change before it is counted, or forgotten."""
    async with opened(schema, 2) as (mine, other), await mine.connect() as connection, connection.transaction():
        running = script()
        lock, *changes = cast("list[Statement]", next(running))
        locked = await send(connection, [lock])
        await PgReplicaIndex(other).update(KEY, PLACES)
        changed = await send(connection, changes)
        with pytest.raises(RacedError):
            running.send(locked + changed)


async def test_calls_whose_reply_was_lost_are_made_again(database: Watched) -> None:
    index = PgReplicaIndex(database)
    database.replies_to_lose = 1
    await index.update(KEY, PLACES[:2])
    database.replies_to_lose = 1
    assert await index.mark(KEY, PLACES[0], ReplicaState.CORRUPT, 5) is True
    expected = [Replica(KEY, PLACES[0], ReplicaState.CORRUPT, 5), Replica(KEY, PLACES[1], ReplicaState.PRESENT, 0)]
    assert await index.details(KEY) == expected
    assert await wrong_counts(database) == []


@pytest.mark.parametrize("bucket", ["", "one/x", "..", "a b", "\x00", "\ud800", "o" * 257])
async def test_no_copy_is_in_a_sector_that_cannot_be(database: Watched, bucket: str) -> None:
    index = PgReplicaIndex(database)
    await index.update(KEY, PLACES)
    assert await collect(index.in_sector(bucket)) == []


@pytest.mark.parametrize("time_ns", [-1, 2**63])
async def test_times_that_cannot_be_stored_are_refused(database: Watched, time_ns: int) -> None:
    with pytest.raises(InvalidInput):
        await PgReplicaIndex(database).mark(KEY, PLACES[0], ReplicaState.PRESENT, time_ns)


async def test_a_damaged_row_is_an_integrity_error(database: Watched) -> None:
    index = PgReplicaIndex(database)
    await index.update(KEY, PLACES[:1])
    async with database.connection() as connection:
        await connection.execute("UPDATE replicas SET locator = 's3://one/a//b'")
    with pytest.raises(IntegrityError, match="replicas"):
        await index.details(KEY)


WRONG = {
    "replicas_state_is_known": "UPDATE replicas SET state = 5",
    "replicas_verified_at_is_a_time": "UPDATE replicas SET verified_at = -1",
    "replicas_locator_is_one": "UPDATE replicas SET locator = 'file:/one/x'",
    "replicas_locator_id_has_16_bytes": "UPDATE replicas SET locator_id = 'x'",
    "replicas_are_counted": "UPDATE replicas SET size = 7",
    "replica_counts_live_is_a_count": "UPDATE replica_counts SET live = -1",
    "replica_counts_digest_has_32_bytes": "INSERT INTO replica_counts VALUES (1, 'x', 1, 0)",
}


@pytest.mark.parametrize("constraint", WRONG)
async def test_tables_refuse_what_cannot_be(database: Watched, constraint: str) -> None:
    await PgReplicaIndex(database).update(KEY, PLACES[:1])
    with pytest.raises(psycopg.errors.IntegrityError, match=constraint):
        async with database.connection() as connection:
            await connection.execute(WRONG[constraint])
