"""Replies to COMMIT that are lost: what happened is told as it was, and nothing that others did meanwhile is undone.

Each test loses one reply, of a transaction that was committed or was not, and lets somebody else do something before
the caller of the first finds out.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from psycopg import AsyncConnection

from graviton.backends.postgres import _outcomes
from graviton.backends.postgres._outcomes import NUMBER, told_apart
from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.errors import LostReply
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.errors import Conflict
from graviton.ports.block_index import BlockState
from graviton.ports.kv import Delete, Put, Transaction
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys, commit_of
from tests.postgres_databases import Watched, fresh_schema, opened

pytestmark = pytest.mark.postgres

BLOB = Upload.of(block_keys(2, "x"), "x")

both = pytest.mark.parametrize("committed", [True, False], ids=["committed", "not committed"])


class Two(NamedTuple):
    """Our process, whose replies are lost, and somebody else's."""

    database: Watched
    ours: Metadata
    kv: PgKeyValueStore
    their_database: Watched
    theirs: Metadata
    their_kv: PgKeyValueStore

    def lose(self, committed: bool, between: Callable[[], Awaitable[object]] | None = None) -> None:
        """Lose the next reply."""
        self.database.replies_to_lose = 1
        self.database.loses_commits = not committed
        self.database.between = between

    async def holders(self) -> list[str]:
        """Who holds the blob that is visible."""
        sql = "SELECT h.name FROM holders h JOIN owners o ON o.id = h.owner_id WHERE o.state = 2 ORDER BY h.name"
        return [name for (name,) in await self.database.fetch("test", sql)]


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    async with fresh_schema() as schema, opened(schema, 2) as (a, b):
        ours, theirs = (Metadata(PgBlockIndex(one), PgBlobManifestRepo(one)) for one in (a, b))
        yield Two(a, ours, PgKeyValueStore(a), b, theirs, PgKeyValueStore(b))


# Blobs ----------------------------------------------------------------------------------------------------------------


@both
async def test_delete_and_undelete_that_found_nothing_say_so(two: Two, committed: bool) -> None:
    two.lose(committed)
    assert await two.ours.repo.delete(BLOB.key) is False
    two.lose(committed)
    assert await two.ours.repo.undelete(BLOB.key) is False
    await two.ours.put(BLOB, holder="a")
    two.lose(committed)
    assert await two.ours.repo.delete(BLOB.key, "b") is False
    two.lose(committed)
    assert await two.ours.repo.undelete(BLOB.key, "a") is False, "it is there"
    assert await two.holders() == ["a"]


@both
@pytest.mark.parametrize("holder", ["", "only"])
async def test_delete_and_undelete_happen_once(two: Two, committed: bool, holder: str) -> None:
    await two.ours.put(BLOB, holder=holder)
    two.lose(committed)
    assert await two.ours.repo.delete(BLOB.key, holder) is True
    assert await two.ours.repo.list() == []
    two.lose(committed)
    assert await two.ours.repo.undelete(BLOB.key, holder) is True
    assert await two.holders() == [holder]
    assert (await two.ours.repo.totals()).blobs == 1


@pytest.mark.parametrize("others", [[], ["b"]], ids=["last holder", "one of two"])
async def test_delete_leaves_what_was_put_after_it(two: Two, others: list[str]) -> None:
    for holder in ["a", *others]:
        await two.ours.put(BLOB, holder=holder)
    two.lose(True, lambda: two.theirs.put(BLOB, holder="a"))
    assert await two.ours.repo.delete(BLOB.key, "a") is True
    assert await two.holders() == ["a", *others]


async def test_delete_leaves_what_was_brought_back_after_it(two: Two) -> None:
    await two.ours.put(BLOB)
    two.lose(True, lambda: two.theirs.repo.undelete(BLOB.key))
    assert await two.ours.repo.delete(BLOB.key) is True
    assert await two.holders() == [""]


async def test_delete_that_did_not_happen_is_done_after_a_repair(two: Two) -> None:
    """The blob has another owner by then, so nothing that was seen before tells whether it happened."""
    await two.ours.put(BLOB, holder="a")

    async def repair() -> None:
        assert await two.theirs.index.mark_damaged(BLOB.blocks[0], 1)
        await two.theirs.put(BLOB, holder="b")

    two.lose(False, repair)
    assert await two.ours.repo.delete(BLOB.key, "a") is True
    assert await two.holders() == ["b"]


async def test_undelete_does_not_bring_back_what_was_deleted_after_it(two: Two) -> None:
    await two.ours.put(BLOB)
    await two.ours.repo.delete(BLOB.key)
    two.lose(True, lambda: two.theirs.repo.delete(BLOB.key))
    assert await two.ours.repo.undelete(BLOB.key) is True
    assert await two.ours.repo.list() == []


# Commits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "somebody else's"])
async def test_commit_that_did_not_happen_of_a_session_that_ended_is_a_conflict(two: Two, is_there: bool) -> None:
    """Were it acknowledged because the blob is there, its holder would be missing, and the delete of the other one
    would take the blob away."""
    if is_there:
        await two.theirs.put(BLOB, holder="b")
    session = await two.ours.session(BLOB.blocks)
    two.lose(False, lambda: two.theirs.index.end(session))
    with pytest.raises(Conflict, match="ended"):
        await two.ours.repo.commit([commit_of(session, BLOB, holder="a")])
    assert await two.holders() == (["b"] if is_there else [])


async def test_commit_that_did_not_happen_of_a_session_that_is_gone_is_a_conflict(two: Two) -> None:
    session = await two.ours.session(BLOB.blocks)

    async def forget() -> None:
        await two.theirs.index.end(session)
        async with two.database.connection() as connection:
            await connection.execute("DELETE FROM owners WHERE id = %s", [session])

    two.lose(False, forget)
    with pytest.raises(Conflict):
        await two.ours.repo.commit([commit_of(session, BLOB)])


async def test_commit_of_several_that_did_not_happen_is_a_conflict_if_one_has_ended(two: Two) -> None:
    uploads = [BLOB, Upload.of(block_keys(2, "y"), "y")]
    sessions = [await two.ours.session(upload.blocks) for upload in uploads]
    two.lose(False, lambda: two.theirs.index.end(sessions[1]))
    with pytest.raises(Conflict, match="ended"):
        await two.ours.repo.commit([commit_of(*pair) for pair in zip(sessions, uploads, strict=True)])
    assert await two.ours.repo.list() == []


@both
@pytest.mark.parametrize("is_there", [False, True])
async def test_commit_happens_once(two: Two, committed: bool, is_there: bool) -> None:
    if is_there:
        await two.theirs.put(BLOB, holder="b")
    session = await two.ours.session(BLOB.blocks)
    two.lose(committed)
    (result,) = await two.ours.repo.commit([commit_of(session, BLOB, holder="a")])
    assert result.created is not is_there
    assert await two.holders() == (["a", "b"] if is_there else ["a"])
    assert (await two.ours.repo.totals()).blobs == 1


# Blocks ---------------------------------------------------------------------------------------------------------------


@both
async def test_mark_damaged_says_whether_it_did(two: Two, committed: bool) -> None:
    await two.ours.put(BLOB)
    (key, other) = BLOB.blocks
    two.lose(committed)
    assert await two.ours.index.mark_damaged(key, 7) is False, "another generation"
    two.lose(committed)
    assert await two.ours.index.mark_damaged(key, 1) is True
    two.lose(committed)
    assert await two.ours.index.mark_damaged(key, 1) is False, "damaged already"
    records = await two.ours.index.records([key, other])
    states = [(record.state, record.generation) for record in records if record is not None]
    assert states == [(BlockState.DAMAGED, 2), (BlockState.STORED, 1)]
    assert (await two.ours.repo.totals()).blocks == 1


# Keys and values ------------------------------------------------------------------------------------------------------


@both
async def test_kv_delete_says_whether_the_key_was_there(two: Two, committed: bool) -> None:
    two.lose(committed)
    assert await two.kv.delete("ns", b"k") is False
    await two.kv.put("ns", b"k", b"v")
    two.lose(committed)
    assert await two.kv.delete("ns", b"k") is True
    assert await two.kv.get("ns", b"k") is None


async def test_kv_delete_leaves_what_was_put_after_it(two: Two) -> None:
    await two.kv.put("ns", b"k", b"1")
    two.lose(True, lambda: two.their_kv.put("ns", b"k", b"2"))
    assert await two.kv.delete("ns", b"k") is True
    assert await two.kv.get("ns", b"k") == b"2"


@pytest.mark.parametrize("batch", [False, True])
async def test_kv_put_does_not_undo_what_others_made_of_it(two: Two, batch: bool) -> None:
    await two.kv.put("ns", b"gone", b"")
    swapped = []

    async def swap() -> None:
        swapped.append(await two.their_kv.compare_and_set("ns", b"k", b"1", b"2"))
        await two.their_kv.put("ns", b"gone", b"back")

    two.lose(True, swap)
    if batch:
        await two.kv.batch([Put("ns", b"k", b"1"), Delete("ns", b"gone")])
    else:
        await two.kv.put("ns", b"k", b"1")
    assert swapped == [True]
    assert await two.kv.get("ns", b"k") == b"2"
    assert await two.kv.get("ns", b"gone") == b"back"


def add_one(tx: Transaction) -> int:
    """Not the same when it is done twice."""
    value = struct.unpack(">Q", tx.get("ns", b"n") or bytes(8))[0] + 1
    tx.put("ns", b"n", struct.pack(">Q", value))
    return int(value)


@both
async def test_kv_transact_happens_once_and_gives_the_result_of_what_happened(two: Two, committed: bool) -> None:
    for expected in (1, 2):
        two.lose(committed)
        assert await two.kv.transact(add_one) == expected
    two.lose(committed)
    assert await two.kv.transact(lambda tx: tx.get("ns", b"n")) == struct.pack(">Q", 2)
    two.lose(committed)
    assert await two.kv.compare_and_set("ns", b"n", struct.pack(">Q", 2), None) is True
    two.lose(committed)
    assert await two.kv.compare_and_set("ns", b"n", struct.pack(">Q", 2), None) is False


@both
async def test_kv_delete_many_happens_once(two: Two, committed: bool) -> None:
    await two.kv.put("ns", b"k", b"1")
    two.lose(committed, lambda: two.their_kv.put("ns", b"k", b"2"))
    await two.kv.transact(lambda tx: tx.delete_many("ns", [b"k", b"none"]))
    assert await two.kv.get("ns", b"k") == (b"2" if committed else None)


# What the server says -------------------------------------------------------------------------------------------------


class Calls:
    """Loses the reply of its first call, of a transaction with that number."""

    def __init__(self, number: str | None, losses: int = 1) -> None:
        self.count = 0
        self._number, self._losses = number, losses

    async def once(self) -> str:
        self.count += 1
        if self.count > self._losses:
            return "later"
        lost = LostReply("the reply was lost", operation="kv.put")
        lost.transaction = self._number
        raise lost


@asynccontextmanager
async def begun(two: Two) -> AsyncIterator[tuple[AsyncConnection[tuple[Any, ...]], str]]:
    """A transaction that has changed something, and its number."""
    async with two.their_database.unpooled("test") as connection:
        await connection.execute("BEGIN")
        cursor = await connection.execute(f"INSERT INTO domains (name) VALUES ('x') RETURNING {NUMBER}")
        row = await cursor.fetchone()
        assert row is not None
        yield connection, row[0]


@pytest.mark.parametrize(("end", "found", "count"), [("COMMIT", "first", 1), ("ROLLBACK", "later", 2)])
async def test_transaction_that_is_still_going_on_is_waited_for(two: Two, end: str, found: str, count: int) -> None:
    async with begun(two) as (connection, number):
        calls = Calls(number)
        telling = asyncio.create_task(told_apart(two.database, calls.once, lambda: "first", repeats=False))
        await asyncio.sleep(0.2)
        assert (telling.done(), calls.count) == (False, 1)
        await connection.execute(end)
        assert await asyncio.wait_for(telling, 10) == found
        assert calls.count == count


async def test_transaction_that_does_not_end_is_waited_for_until_it_must_have_ended(two: Two) -> None:
    config = replace(two.database.config, retry_seconds=0.1, idle_in_transaction_seconds=0.2)
    impatient = Watched(config)
    async with begun(two) as (_, number):
        calls, began = Calls(number), time.monotonic()
        with pytest.raises(LostReply):
            await told_apart(impatient, calls.once, lambda: "first", repeats=False)
        assert 0.3 <= time.monotonic() - began < 5
        assert calls.count == 1, "it may yet happen"
    await impatient.aclose()


async def test_number_that_was_never_given_here_is_of_a_transaction_that_is_not_here(two: Two) -> None:
    calls = Calls(f"{2**40} then")
    assert await told_apart(two.database, calls.once, lambda: "first", repeats=False) == "later"


async def test_transaction_that_the_server_has_forgotten_is_not_guessed_at(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_outcomes, "_STATUS", "SELECT NULL, true WHERE %(transaction)b::text <> ''")
    calls = Calls("7")
    with pytest.raises(LostReply):
        await told_apart(two.database, calls.once, lambda: "first", repeats=False)
    assert calls.count == 1


async def test_replies_that_are_always_lost_are_told_in_the_end(two: Two) -> None:
    calls = Calls(None, 1000)
    with pytest.raises(LostReply):
        await told_apart(two.database, calls.once, lambda: "first", repeats=False)
    assert calls.count == 5
