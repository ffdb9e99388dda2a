"""The laws of `BlockIndex`: claims, and what confirms them. Sessions: block_sessions.py; blobs, its other half:
manifests.py.
"""

from __future__ import annotations

from graviton.errors import Conflict
from graviton.ports.block_index import BlockIndex, BlockState, OwnerState
from graviton.testing.conformance.block_records import BlockRecordLaws
from graviton.testing.conformance.block_sessions import BlockSessionLaws
from graviton.testing.conformance.checks import collect, gather, raises
from graviton.testing.conformance.collecting import CollectingLaws
from graviton.testing.conformance.contract import needs
from graviton.testing.conformance.metadata_values import (
    MetadataContract,
    block_key,
    block_keys,
    record_of,
    store_blocks,
)

__all__ = ["BlockIndexContract"]


class _ClaimLaws(MetadataContract):
    async def test_unknown_block_has_no_record(self) -> None:
        index = (await self.open_metadata()).index
        assert await index.records([block_key("a"), block_key("b")]) == [None, None]
        assert await index.records([]) == []
        assert await collect(index.list()) == []
        assert await collect(index.references(block_key("a"))) == []

    async def test_claimed_unknown_block_must_be_written_and_is_pending(self) -> None:
        metadata = await self.open_metadata()
        keys = block_keys(5)
        ((session, claims),) = await metadata.index.open([keys])
        assert [(claim.key, claim.must_write, claim.repairs) for claim in claims] == [(k, True, False) for k in keys]
        records = await metadata.index.records(keys)
        assert [record and record.state for record in records] == [BlockState.PENDING] * 5
        owner = await metadata.index.owner(session)
        assert owner is not None
        assert (owner.state, owner.unconfirmed) == (OwnerState.OPEN, 5)

    async def test_stored_block_is_relied_on(self) -> None:
        metadata = await self.open_metadata()
        await store_blocks(metadata, block_key("a"))
        before = await record_of(metadata, block_key("a"))
        ((session, claims),) = await metadata.index.open([[block_key("b"), block_key("a")]])
        assert [claim.must_write for claim in claims] == [True, False]
        assert await record_of(metadata, block_key("a")) == before
        owner = await metadata.index.owner(session)
        assert owner is not None
        assert owner.unconfirmed == 1
        assert session in await collect(metadata.index.references(block_key("a")))

    async def test_pending_block_of_another_session_is_written_again_under_a_new_generation(self) -> None:
        metadata = await self.open_metadata()
        await metadata.session([block_key("a")])
        first = await record_of(metadata, block_key("a"))
        ((_, claims),) = await metadata.index.open([[block_key("a")]])
        assert claims[0].must_write is True
        second = await record_of(metadata, block_key("a"))
        assert second.state is BlockState.PENDING
        assert second.generation > first.generation

    async def test_block_this_session_claimed_before_is_not_written_twice(self) -> None:
        metadata = await self.open_metadata()
        a, b, c = block_keys(3)
        ((session, claims),) = await metadata.index.open([[a, b, a, a]])
        assert [(claim.key, claim.must_write) for claim in claims] == [(a, True), (b, True), (a, False), (a, False)]
        before = await metadata.index.records([a, b])
        claims = await metadata.index.claim(session, [b, c, a, c])
        assert [(claim.key, claim.must_write) for claim in claims] == [(b, False), (c, True), (a, False), (c, False)]
        assert await metadata.index.records([a, b]) == before
        owner = await metadata.index.owner(session)
        assert owner is not None
        assert owner.unconfirmed == 3
        await metadata.index.confirm(session, [a])
        assert [claim.must_write for claim in await metadata.index.claim(session, [a, b])] == [False, False]

    async def test_open_starts_one_session_per_batch(self) -> None:
        metadata = await self.open_metadata()
        a, b = block_keys(2)
        assert await metadata.index.open([]) == []
        opened = await metadata.index.open([[a], [], [a, b], [b]])
        assert len({one.session for one in opened}) == 4
        assert [[claim.key for claim in one.claims] for one in opened] == [[a], [], [a, b], [b]]
        assert all(claim.must_write for one in opened for claim in one.claims)
        assert sorted(await collect(metadata.index.references(b))) == sorted([opened[2].session, opened[3].session])

    async def test_many_claims_at_once(self) -> None:
        metadata = await self.open_metadata()
        keys = block_keys(5_000)
        ((session, claims),) = await metadata.index.open([keys[:3_000]])
        claims += await metadata.index.claim(session, keys[2_000:])
        assert [claim.key for claim in claims] == keys[:3_000] + keys[2_000:]
        assert [claim.must_write for claim in claims] == [True] * 3_000 + [False] * 1_000 + [True] * 2_000
        await metadata.index.confirm(session, keys)
        states = {record.state if record else None for record in await metadata.index.records(keys)}
        assert states == {BlockState.STORED}
        owner = await metadata.index.owner(session)
        assert owner is not None
        assert owner.unconfirmed == 0

    async def test_concurrent_claims_of_one_block_are_all_told_to_write_until_one_confirms(self) -> None:
        metadata = await self.open_metadata()
        opened = await gather(*(metadata.index.open([block_keys(4)]) for _ in range(12)))
        assert all(claim.must_write for ((_, claims),) in opened for claim in claims)
        sessions = [one[0].session for one in opened]
        assert len(set(sessions)) == 12
        await gather(*(metadata.index.confirm(session, block_keys(4)) for session in sessions))
        assert (await record_of(metadata, block_keys(1)[0])).state is BlockState.STORED
        assert await collect(metadata.index.references(block_keys(1)[0])) == sorted(sessions)


class _ConfirmLaws(MetadataContract):
    async def test_confirm_turns_own_claims_tostore_blocks(self) -> None:
        metadata = await self.open_metadata()
        a, b = block_keys(2)
        session = await metadata.session([a, b])
        await metadata.index.confirm(session, [b])
        assert [r and r.state for r in await metadata.index.records([a, b])] == [BlockState.PENDING, BlockState.STORED]
        owner = await metadata.index.owner(session)
        assert owner is not None
        assert owner.unconfirmed == 1

    async def test_confirming_twice_changes_nothing(self) -> None:
        metadata = await self.open_metadata()
        a, b = block_keys(2)
        session = await metadata.session([a, b])
        await metadata.index.confirm(session, [a, a])

        async def everything() -> object:
            records, owner = await metadata.index.records([a, b]), await metadata.index.owner(session)
            return records, owner, await metadata.repo.totals()

        before = await everything()
        await metadata.index.confirm(session, [a])
        await metadata.index.confirm(session, [])
        assert await everything() == before

    async def test_confirming_what_was_relied_on_changes_nothing(self) -> None:
        metadata = await self.open_metadata()
        await store_blocks(metadata, block_key("a"))
        before = await record_of(metadata, block_key("a"))
        session = await metadata.session([block_key("a")])
        await metadata.index.confirm(session, [block_key("a")])
        assert await record_of(metadata, block_key("a")) == before

    async def test_confirming_what_was_not_claimed_is_refused_and_creates_nothing(self) -> None:
        metadata = await self.open_metadata()
        a, b, c = block_keys(3)
        session = await metadata.session([a])
        await metadata.session([c])
        for other in (b, c):
            with raises(Conflict):
                await metadata.index.confirm(session, [a, other])
        records = await metadata.index.records([a, b, c])
        assert [record and record.state for record in records] == [BlockState.PENDING, None, BlockState.PENDING]

    async def test_confirm_by_either_writer_stores_the_block(self) -> None:
        metadata = await self.open_metadata()
        early, late = await metadata.session([block_key("a")]), await metadata.session([block_key("a")])
        await metadata.index.confirm(early, [block_key("a")])
        record = await record_of(metadata, block_key("a"))
        assert record.state is BlockState.STORED
        await metadata.index.confirm(late, [block_key("a")])
        assert await record_of(metadata, block_key("a")) == record
        assert (await metadata.repo.totals()).blocks == 1

    @needs("persistent")
    async def test_confirmed_blocks_are_there_after_reopening(self) -> None:
        metadata = await self.open_metadata()
        keys = block_keys(10)
        session = await store_blocks(metadata, *keys)
        before = await metadata.index.records(keys)
        metadata = await self.reopened()
        assert await metadata.index.records(keys) == before
        assert await collect(metadata.index.references(keys[0])) == [session]
        assert [claim.must_write for claim in await metadata.index.claim(session, keys)] == [False] * 10


class BlockIndexContract(CollectingLaws, BlockRecordLaws, BlockSessionLaws, _ConfirmLaws, _ClaimLaws):
    """All laws of `graviton.ports.block_index`."""

    port = BlockIndex
