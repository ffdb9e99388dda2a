"""The laws of `BlockIndex`: sessions, claims, records. Its other half, the blobs, is in manifests.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from graviton.core.keys import BlockKey
from graviton.errors import Conflict
from graviton.ports.block_index import BlockIndex, BlockState, OwnerState
from graviton.testing.conformance.block_records import BlockRecordLaws
from graviton.testing.conformance.checks import cancelled_everywhere, collect, gather, raises
from graviton.testing.conformance.collecting import CollectingLaws
from graviton.testing.conformance.contract import needs
from graviton.testing.conformance.metadata_values import (
    Metadata,
    MetadataContract,
    Upload,
    block_key,
    block_keys,
    commit_of,
    record_of,
    store_blocks,
)

__all__ = ["BlockIndexContract"]

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS


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


class _SessionLaws(MetadataContract):
    async def test_unknown_owner_is_none(self) -> None:
        index = (await self.open_metadata()).index
        assert await index.owner(1) is None
        assert await index.owner(2**63 - 1) is None

    async def test_ended_session_is_final(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(3))
        session = await metadata.session(upload.blocks)
        await metadata.index.end(session)
        before = await metadata.index.records([*upload.blocks, block_key("new")])
        await self._refuses_everything(metadata, session, upload)
        assert await metadata.index.records([*upload.blocks, block_key("new")]) == before
        owner = await metadata.index.owner(session)
        assert owner is not None
        assert owner.state is OwnerState.ENDED

    async def test_committed_session_is_not_open(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(3))
        session = await metadata.session(upload.blocks)
        await metadata.repo.commit([commit_of(session, upload)])
        await self._refuses_everything(metadata, session, upload)
        with raises(Conflict):
            await metadata.index.end(session)
        owner = await metadata.index.owner(session)
        assert owner is not None
        assert owner.state is OwnerState.COMMITTED
        assert (await metadata.repo.get(upload.key)).owner == session

    async def test_unknown_session_is_not_open(self) -> None:
        metadata = await self.open_metadata()
        await self._refuses_everything(metadata, 12_345, Upload.of(block_keys(3)))

    async def _refuses_everything(self, metadata: Metadata, session: int, upload: Upload) -> None:
        with raises(Conflict):
            await metadata.index.claim(session, [block_key("new")])
        with raises(Conflict):
            await metadata.index.confirm(session, upload.blocks)
        with raises(Conflict):
            await metadata.repo.add_pages(session, upload.pages)
        with raises(Conflict):
            await metadata.repo.commit([commit_of(session, upload)])

    async def test_end_drops_the_claims_and_touches_no_block(self) -> None:
        metadata = await self.open_metadata()
        keys = block_keys(3_000)
        session = await metadata.session(keys)
        await metadata.index.confirm(session, keys[:1_000])
        other = await metadata.session(keys[:10])
        before = await metadata.index.records(keys)
        await metadata.index.end(session)
        assert await metadata.index.records(keys) == before
        assert await collect(metadata.index.references(keys[0])) == [other]
        for key in keys[10::100]:
            assert await collect(metadata.index.references(key)) == []
        assert [claim.must_write for claim in await metadata.index.claim(other, keys[:12])] == [False] * 12

    async def test_ending_twice_changes_nothing(self) -> None:
        metadata = await self.open_metadata()
        session = await metadata.session(block_keys(3))
        await metadata.index.end(session)
        before = await metadata.index.owner(session)
        self.clock.advance(60)
        await metadata.index.end(session)
        assert await metadata.index.owner(session) == before

    async def test_owner_record_tells_the_times(self) -> None:
        metadata = await self.open_metadata()
        session = (await metadata.index.open([[]], lifetime_seconds=3_600.0))[0].session
        owner = await metadata.index.owner(session)
        assert owner is not None
        assert owner.owner == session
        assert owner.expires_at_ns - owner.changed_at_ns == HOUR_NS
        default = await metadata.index.owner(await metadata.session([]))
        assert default is not None
        assert default.expires_at_ns - default.changed_at_ns == DAY_NS

    async def test_every_call_renews_the_lifetime_given(self) -> None:
        metadata = await self.open_metadata()
        session = (await metadata.index.open([block_keys(1)], lifetime_seconds=3_600.0))[0].session
        first = await metadata.index.owner(session)
        assert first is not None
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: metadata.index.claim(session, [block_key("new")]),
            lambda: metadata.index.confirm(session, block_keys(1)),
            lambda: metadata.repo.add_pages(session, Upload.of(block_keys(1)).pages),
        ]
        for number, call in enumerate(calls, start=1):
            self.clock.advance(60)
            await call()
            owner = await metadata.index.owner(session)
            assert owner is not None
            assert owner.expires_at_ns == first.expires_at_ns + number * 60_000_000_000, number
            assert owner.changed_at_ns == first.changed_at_ns, "its state did not change"

    async def test_expiry_alone_ends_nothing(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(2))
        session = (await metadata.index.open([upload.blocks], lifetime_seconds=1.0))[0].session
        self.clock.advance(1_000_000)
        assert [claim.must_write for claim in await metadata.index.claim(session, [block_key("new")])] == [True]
        confirm = [*upload.blocks, block_key("new")]
        results = await metadata.repo.commit([commit_of(session, upload, confirm=confirm)])
        assert results[0].created is True

    async def test_cancelled_calls_take_effect_as_a_whole_or_not(self) -> None:
        metadata = await self.open_metadata()
        number = 0

        def keys() -> list[BlockKey]:
            return block_keys(20, f"round {number} ")

        async for _ in cancelled_everywhere(lambda: metadata.index.open([keys()])):
            records = [record is not None for record in await metadata.index.records(keys())]
            assert records in ([True] * 20, [False] * 20)
            number += 1
        session = await metadata.session(keys())
        async for _ in cancelled_everywhere(lambda: metadata.index.confirm(session, keys())):
            owner = await metadata.index.owner(session)
            assert owner is not None
            states = {record.state if record else None for record in await metadata.index.records(keys())}
            assert (owner.unconfirmed, states) in ((20, {BlockState.PENDING}), (0, {BlockState.STORED}))


class BlockIndexContract(CollectingLaws, BlockRecordLaws, _SessionLaws, _ConfirmLaws, _ClaimLaws):
    """All laws of `graviton.ports.block_index`."""

    port = BlockIndex
