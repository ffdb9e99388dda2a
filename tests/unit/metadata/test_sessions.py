"""What the conformance laws leave open: how claims are kept, taken away, and counted in bounded batches."""

from __future__ import annotations

import asyncio
import random

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlockKey
from graviton.core.manifests import paginate
from graviton.errors import Conflict, IntegrityError, InvalidInput, Unavailable
from graviton.metadata import sessions, totals
from graviton.metadata.audit import audit
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.rows import (
    BLOCKS,
    CANDIDATES,
    CLAIMS,
    EVENTS,
    OWNERS,
    PAGES,
    REFS,
    TOTALS,
    BlockRow,
    OwnerRow,
    u64,
)
from graviton.ports.block_index import BlockState, OwnerState
from graviton.ports.kv import Durability
from graviton.ports.manifests import BlobCommit, StoreTotals
from tests.unit.metadata.filled import blob, block, contents, put


def commit_of(session: int, *keys: BlockKey) -> BlobCommit:
    return BlobCommit(session, blob(keys), paginate(keys), keys, BinaryAttributes.EMPTY, "fixed-v1:1024")


async def count(kv: InMemoryKeyValueStore, namespace: str) -> int:
    return len([key async for key, _ in kv.scan(namespace)])


async def test_small_blob_has_eight_rows_one_of_totals_and_an_event() -> None:
    kv = InMemoryKeyValueStore()
    await put(kv, 1)
    names = [name for name, _ in await contents(kv) if name != TOTALS]
    assert sorted(names) == ["blobs", "blocks", "holders", "owners", "pages", "refs"]
    assert await count(kv, TOTALS) == 1
    assert await count(kv, EVENTS) == 2, "and the head"


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 50])
async def test_claims_are_remembered_in_the_owner_or_beside_it(number: int) -> None:
    kv = InMemoryKeyValueStore()
    index = KvBlockIndex(kv)
    (opened,) = await index.open([[block(n) for n in range(number)]])
    assert await count(kv, CLAIMS) == (1 if number > sessions.MAX_FIRST_CLAIMS else 0)
    await index.claim(opened.session, [block(n) for n in range(number + 3)])
    await index.end(opened.session)
    assert await count(kv, REFS) == await count(kv, CLAIMS) == 0
    assert await count(kv, CANDIDATES) == number + 3
    assert await count(kv, BLOCKS) == number + 3


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_claims_go_in_batches_of_the_limit(limit: int) -> None:
    kv = InMemoryKeyValueStore()
    index = KvBlockIndex(kv)
    (opened,) = await index.open([[block(n) for n in range(5)]])
    for start in (5, 11):
        await index.claim(opened.session, [block(n) for n in range(start, start + 6)])
    await kv.transact(lambda tx: sessions.end(tx, opened.session, 5))
    left = 17
    while left:
        gone = await kv.transact(lambda tx: sessions.drop_some_claims(tx, opened.session, limit))
        assert gone == min(limit, left)
        left -= gone
        assert await count(kv, REFS) == left
        assert await count(kv, CANDIDATES) == 17 - left
    assert await kv.transact(lambda tx: sessions.drop_some_claims(tx, opened.session, limit)) == 0
    assert await count(kv, CLAIMS) == 0


async def test_needed_claims_are_never_taken_away() -> None:
    kv = InMemoryKeyValueStore()
    committed = (await put(kv, 1)).owner
    (opened,) = await KvBlockIndex(kv).open([[block(2)]])
    for owner in (committed, opened.session):
        with pytest.raises(Conflict):
            await kv.transact(lambda tx, owner=owner: sessions.drop_some_claims(tx, owner))  # type: ignore[misc]
    assert await count(kv, REFS) == 2


async def test_blob_that_lost_a_claim_is_not_brought_back() -> None:
    kv = InMemoryKeyValueStore()
    repo = KvBlobManifestRepo(kv)
    record = await put(kv, 1, 2)
    await repo.delete(record.key)
    assert await repo.undelete(record.key) is True
    await repo.delete(record.key)
    await kv.transact(lambda tx: sessions.drop_some_claims(tx, record.owner, 1))
    assert await repo.undelete(record.key) is False


async def test_owners_of_a_group_are_neighbours_and_unique() -> None:
    index = KvBlockIndex(InMemoryKeyValueStore())
    groups = await asyncio.gather(*(index.open([[] for _ in range(50)]) for _ in range(20)))
    owners = [opened.session for group in groups for opened in group]
    assert len(set(owners)) == 1000
    for group in groups:
        assert [opened.session - group[0].session for opened in group] == list(range(50))
        assert 0 < group[0].session < 2**63


async def test_used_numbers_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    kv = InMemoryKeyValueStore()
    index = KvBlockIndex(kv)
    draws = iter([10, 10, 7, 13, 30])
    monkeypatch.setattr("graviton.metadata.owners.secrets.randbits", lambda _: next(draws))
    monkeypatch.setattr(index, "_clock", type("Clock", (), {"now_ns": lambda _: 0})())
    assert [opened.session for opened in await index.open([[], [], []])] == [10, 11, 12]
    assert [opened.session for opened in await index.open([[]])] == [7]  # 10 is taken
    assert [opened.session for opened in await index.open([[], []])] == [13, 14]
    assert [opened.session for opened in await index.open([[]])] == [30]


async def test_one_session_commits_once_also_within_a_group() -> None:
    kv = InMemoryKeyValueStore()
    (opened,) = await KvBlockIndex(kv).open([[block(1)]])
    one = commit_of(opened.session, block(1))
    with pytest.raises(Conflict):
        await KvBlobManifestRepo(kv).commit([one, one])
    assert await KvBlobManifestRepo(kv).list() == []
    assert (await KvBlobManifestRepo(kv).commit([one]))[0].created


async def test_group_opened_together_is_committed_in_any_order_and_with_gaps() -> None:
    kv = InMemoryKeyValueStore()
    index, repo = KvBlockIndex(kv), KvBlobManifestRepo(kv)
    opened = await index.open([[block(number)] for number in range(40)])
    for session in opened[5:8]:
        await index.end(session.session)
    rest = opened[:5] + opened[8:]
    random.Random(3).shuffle(rest)
    results = await repo.commit([commit_of(one.session, one.claims[0].key) for one in rest])
    assert [result.record.owner for result in results] == [one.session for one in rest]
    assert all(result.created for result in results)
    assert [record.key for record in await repo.list()] == sorted(result.record.key for result in results)
    assert [finding async for finding in audit(kv)] == []


async def test_group_with_an_ended_session_is_refused_as_a_whole() -> None:
    kv = InMemoryKeyValueStore()
    index, repo = KvBlockIndex(kv), KvBlobManifestRepo(kv)
    for ended in (0, 2, 4):
        opened = await index.open([[block(number)] for number in range(5)])
        await index.end(opened[ended].session)
        with pytest.raises(Conflict):
            await repo.commit([commit_of(one.session, one.claims[0].key) for one in opened])
        assert await repo.list() == []


async def test_empty_group_is_no_commit() -> None:
    assert await KvBlobManifestRepo(InMemoryKeyValueStore()).commit([]) == []


async def test_second_put_of_a_blob_leaves_no_claims_and_no_pages() -> None:
    kv = InMemoryKeyValueStore()
    for _ in range(3):
        await put(kv, 1, 2)
    assert await count(kv, REFS) == 2
    assert await count(kv, PAGES) == 1
    assert [finding async for finding in audit(kv)] == []


async def test_commit_that_happened_is_no_error_when_tidying_up_fails() -> None:
    class Failing(InMemoryKeyValueStore):
        commits = 0

        async def transact(self, fn, durability=Durability.FULL):  # type: ignore[no-untyped-def]
            if durability is Durability.RELAXED and self.commits == 2:
                raise Unavailable("busy")
            result = await super().transact(fn, durability)
            self.commits += durability is Durability.FULL
            return result

    kv = Failing()
    await put(kv, 1)
    assert (await put(kv, 1)).key == blob([block(1)])


@pytest.mark.parametrize("seconds", [-1.0, 4e9])
async def test_lifetime_has_bounds(seconds: float) -> None:
    with pytest.raises(InvalidInput):
        await KvBlockIndex(InMemoryKeyValueStore()).open([[]], lifetime_seconds=seconds)


@pytest.mark.parametrize("holder", ["a\x00b", "x" * 129, "\ud800"])
async def test_bad_holders_are_refused(holder: str) -> None:
    kv = InMemoryKeyValueStore()
    with pytest.raises(InvalidInput):
        await put(kv, 1, holder=holder)
    record = await put(kv, 1)
    for call in (KvBlobManifestRepo(kv).delete, KvBlobManifestRepo(kv).undelete):
        with pytest.raises(InvalidInput):
            await call(record.key, holder)


async def test_claim_without_a_record_is_damage() -> None:
    kv = InMemoryKeyValueStore()
    (opened,) = await KvBlockIndex(kv).open([[block(1)]])
    await kv.delete(BLOCKS, b"\x00" + block(1).to_bytes())
    with pytest.raises(IntegrityError):
        await KvBlockIndex(kv).confirm(opened.session, [block(1)])


@pytest.mark.parametrize("one_in", [1, 2**62])
async def test_totals_are_the_same_folded_or_not(one_in: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "_FOLD_ONE_IN", one_in)
    monkeypatch.setattr(totals, "_FOLD_ROWS", 5)
    kv = InMemoryKeyValueStore()
    for number in range(30):
        await put(kv, number)
    expected = StoreTotals(30, 30 * 100 + 435, 30, 30 * 100 + 435)
    assert await KvBlobManifestRepo(kv).totals() == expected
    assert (await count(kv, TOTALS) == 1) == (one_in == 1)


def test_damaged_owner_rows_are_an_integrity_error() -> None:
    good = OwnerRow(OwnerState.OPEN, 1, 2, 3, 4, b"dom\x00", b"\x02" + block(1).to_bytes()).encode()
    assert OwnerRow.decode(good).encode() == good
    for bad in (b"", good[:10], good[:-1], good + b"x", b"\x02" + good[1:], good[:1] + b"\x09" + good[2:]):
        with pytest.raises(IntegrityError):
            OwnerRow.decode(bad)


def test_room_for_what_comes_is_ignored_in_block_rows() -> None:
    row = BlockRow(BlockState.STORED, 7, True)
    assert BlockRow.decode(row.encode() + b"stored forms") == row
    assert u64(1) == b"\x00" * 7 + b"\x01"
    assert OWNERS == "owners"
