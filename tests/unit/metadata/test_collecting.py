"""What the laws of collecting leave open over key-value stores: the rows, and steps of every size."""

from __future__ import annotations

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.errors import IntegrityError
from graviton.metadata import releasing, sessions
from graviton.metadata.audit import Law, audit
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.rows import BLOCKS, DROPPED, NOTES, OWNERS, TOTALS, BlockRow, NoteRow, note_of, u64
from graviton.ports.block_index import OWNER_KEPT_SECONDS, BlockState
from graviton.testing.fake_clock import FakeClock
from tests.unit.metadata.filled import block, contents, put

RUN = "ab" * 16


class Place:
    """A store whose ports have a clock that the test moves."""

    def __init__(self) -> None:
        self.kv = InMemoryKeyValueStore()
        self.clock = FakeClock()
        self.index = KvBlockIndex(self.kv, self.clock)
        self.repo = KvBlobManifestRepo(self.kv, self.clock)

    async def collect(self) -> None:
        """A whole collection."""
        async for _ in self.index.end_expired():
            pass
        async for _ in self.index.release(0.0):
            pass
        await self.index.condemn(RUN)

    async def namespaces(self) -> set[str]:
        return {name for name, _ in await contents(self.kv)} - {TOTALS}


@pytest.mark.parametrize("claims", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("pages", [1, 2, 16])
async def test_nothing_of_what_is_gone_stays_behind(claims: int, pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the steps: at their ends, in the middle of an owner, between two."""
    monkeypatch.setattr(releasing, "MAX_DROP", claims)
    monkeypatch.setattr(releasing, "MAX_PAGES", pages)
    place = Place()
    for number in range(4):
        await put(place.kv, *range(number, 2 * number + 1), domain="d" * (number % 2))
        record = await put(place.kv, *range(number, number + 9), domain="d" * (number % 2))
        await place.repo.delete(record.key, domain="d" * (number % 2))
    await place.index.open([[block(n) for n in range(50, 62)], [], [block(3)]])
    for domain in ("", "d"):
        for record in await place.repo.list(domain=domain):
            await place.repo.delete(record.key, domain=domain)
    place.clock.jump(2e9)  # the puts were made at the time of day
    await place.collect()
    assert await place.namespaces() == {"blocks", "notes", "owners"}, "sessions have just been ended"
    assert [finding async for finding in audit(place.kv)] == []
    place.clock.advance(OWNER_KEPT_SECONDS)
    await place.collect()
    assert await place.namespaces() == {"blocks", "notes"}
    assert [finding async for finding in audit(place.kv)] == []
    records = [record async for record in place.index.list()]
    assert {record.state for record in records} == {BlockState.CONDEMNED}


async def test_blob_that_a_delete_dropped_is_remembered_until_it_is_brought_back() -> None:
    place = Place()
    record = await put(place.kv, 1)
    await place.repo.delete(record.key)
    assert await place.kv.get(DROPPED, u64(record.owner)) == b"\x00" + record.key.to_bytes()
    await place.repo.undelete(record.key)
    assert await place.kv.get(DROPPED, u64(record.owner)) is None
    await put(place.kv, 1)
    assert DROPPED not in await place.namespaces(), "no row names the owner of a put that was merged"


async def test_damaged_owner_ends_a_collection_before_it_takes_anything() -> None:
    place = Place()
    record = await put(place.kv, 1, 2)
    await place.repo.delete(record.key)
    await place.kv.put(OWNERS, u64(1), b"\x01")
    before = await contents(place.kv)
    place.clock.jump(2e9)
    for call in (place.index.end_expired, lambda: place.index.release(0.0)):
        with pytest.raises(IntegrityError):
            async for _ in call():
                pass
    assert await contents(place.kv) == before


async def test_audit_tells_a_claim_on_a_condemned_block() -> None:
    place = Place()
    record = await put(place.kv, 1)
    await place.repo.delete(record.key)  # not visible: nothing else is looked at
    await place.kv.put(BLOCKS, b"\x00" + block(1).to_bytes(), BlockRow(BlockState.CONDEMNED, 7).encode())
    findings = [finding async for finding in audit(place.kv)]
    assert [finding.law for finding in findings if finding.law is not Law.TOTALS] == [Law.RECORD]


async def test_owner_of_which_a_step_took_the_last_claim_is_done() -> None:
    place = Place()
    keys = [block(number) for number in range(sessions.MAX_DROP)]
    (opened,) = await place.index.open([keys], lifetime_seconds=1.0)
    place.clock.advance(2)
    assert [session async for session in place.index.end_expired()] == [opened.session]
    assert [step.claims async for step in place.index.release(0.0)] == [sessions.MAX_DROP, 0]
    assert [step async for step in place.index.release(0.0)] == []


@pytest.mark.parametrize("bad", [b"", b"\x01", NoteRow(1, 2).encode() + b"x", b"\x02" + NoteRow(1, 2).encode()[1:]])
def test_damaged_note_is_an_integrity_error(bad: bytes) -> None:
    with pytest.raises(IntegrityError, match=NOTES):
        NoteRow.decode(bad)


@pytest.mark.parametrize("bad", [b"", b"\x00" + bytes(57), bytes(200), b"\xff" + b"\x00" + bytes(57)])
def test_damaged_key_of_a_note_is_an_integrity_error(bad: bytes) -> None:
    with pytest.raises(IntegrityError, match=NOTES):
        note_of(bad, NoteRow(1, 2))
