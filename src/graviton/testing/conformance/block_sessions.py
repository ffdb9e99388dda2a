"""The laws of `BlockIndex` about sessions: how they end, and when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from graviton.core.keys import BlockKey
from graviton.errors import Conflict
from graviton.ports.block_index import BlockState, OwnerState
from graviton.testing.conformance.checks import cancelled_everywhere, collect, raises
from graviton.testing.conformance.metadata_values import (
    Metadata,
    MetadataContract,
    Upload,
    block_key,
    block_keys,
    commit_of,
)

__all__ = ["BlockSessionLaws"]

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS


class BlockSessionLaws(MetadataContract):
    """Part of `BlockIndexContract`."""

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
