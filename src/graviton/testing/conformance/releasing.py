"""The laws of `BlockIndex`: sessions whose time is past, and what owners that are gone let go."""

from __future__ import annotations

from graviton.errors import Conflict, InvalidInput
from graviton.ports.block_index import OWNER_KEPT_SECONDS, OwnerState, Released
from graviton.testing.conformance.checks import collect, gather, raises
from graviton.testing.conformance.metadata_values import (
    Metadata,
    MetadataContract,
    Upload,
    block_key,
    block_keys,
    commit_of,
)

__all__ = ["ReleaseLaws", "release"]

UNDELETE_SECONDS = 3 * OWNER_KEPT_SECONDS
STEP_CLAIMS = 1000
"""Claims that one step of `release` may take away."""


async def release(metadata: Metadata, undelete_seconds: float = UNDELETE_SECONDS) -> list[Released]:
    """All steps of a release."""
    return await collect(metadata.index.release(undelete_seconds))


async def state_of(metadata: Metadata, owner: int) -> OwnerState | None:
    record = await metadata.index.owner(owner)
    return record and record.state


class _ExpiryLaws(MetadataContract):
    async def test_sessions_whose_time_is_past_are_ended(self) -> None:
        metadata = await self.open_metadata()
        short = [one.session for one in await metadata.index.open([block_keys(2)] * 3, lifetime_seconds=60.0)]
        long = (await metadata.index.open([block_keys(2)], "other", 3_600.0))[0].session
        self.clock.advance(60)
        assert await collect(metadata.index.end_expired()) == [], "the last moment is theirs"
        self.clock.advance(1)
        ended = await collect(metadata.index.end_expired())
        assert sorted(ended) == sorted(short)
        assert [await state_of(metadata, session) for session in short] == [OwnerState.ENDED] * 3
        assert await state_of(metadata, long) is OwnerState.OPEN
        self.clock.advance(3_600)
        assert await collect(metadata.index.end_expired()) == [long]
        assert await collect(metadata.index.end_expired()) == []

    async def test_expired_session_is_final_and_only_marked(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(2))
        session = (await metadata.index.open([upload.blocks], lifetime_seconds=60.0))[0].session
        before = await metadata.index.records(upload.blocks)
        self.clock.advance(61)
        assert await collect(metadata.index.end_expired()) == [session]
        with raises(Conflict):
            await metadata.repo.commit([commit_of(session, upload)])
        with raises(Conflict):
            await metadata.index.claim(session, upload.blocks)
        assert await metadata.index.records(upload.blocks) == before
        assert await collect(metadata.index.references(upload.blocks[0])) == [session]
        record = await metadata.index.owner(session)
        assert record is not None
        assert record.changed_at_ns == self.clock.now_ns()

    async def test_session_that_gave_a_sign_of_life_is_left_alone(self) -> None:
        metadata = await self.open_metadata()
        session = (await metadata.index.open([block_keys(1)], lifetime_seconds=60.0))[0].session
        self.clock.advance(50)
        await metadata.index.claim(session, block_keys(2))
        self.clock.advance(50)
        assert await collect(metadata.index.end_expired()) == []
        await metadata.index.confirm(session, block_keys(2))

    async def test_only_open_sessions_are_ended(self) -> None:
        metadata = await self.open_metadata()
        kept, deleted = Upload.of(block_keys(1), "kept"), Upload.of(block_keys(1), "deleted")
        owners = [(await metadata.put(upload)).record.owner for upload in (kept, deleted)]
        await metadata.repo.delete(deleted.key)
        ended = await metadata.session(block_keys(1))
        await metadata.index.end(ended)
        before = [await metadata.index.owner(owner) for owner in (*owners, ended)]
        self.clock.advance(1_000_000)
        assert await collect(metadata.index.end_expired()) == []
        assert [await metadata.index.owner(owner) for owner in (*owners, ended)] == before

    async def test_session_is_committed_or_ended_never_both(self) -> None:
        metadata = await self.open_metadata()
        uploads = [Upload.of([block_key(f"{number}")], f"{number}") for number in range(20)]
        opened = await metadata.index.open([upload.blocks for upload in uploads], lifetime_seconds=1.0)
        self.clock.advance(2)

        committed: set[int] = set()
        ended: list[int] = []

        async def commit(session: int, upload: Upload) -> None:
            try:
                await metadata.repo.commit([commit_of(session, upload)])
                committed.add(session)
            except Conflict:
                return

        async def end() -> None:
            ended.extend(await collect(metadata.index.end_expired()))

        calls = [commit(one.session, upload) for one, upload in zip(opened, uploads, strict=True)]
        await gather(end(), *calls)
        await end()  # a collector passes over whoever is just giving a sign of life
        for one, upload in zip(opened, uploads, strict=True):
            assert (one.session in ended) is not (one.session in committed)
            state = await state_of(metadata, one.session)
            assert state is (OwnerState.COMMITTED if one.session in committed else OwnerState.ENDED)
            if one.session in committed:
                assert (await metadata.repo.get(upload.key)).owner == one.session


class ReleaseLaws(_ExpiryLaws):
    """Part of `BlockIndexContract`."""

    async def test_released_session_holds_nothing(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(20))
        session = (await metadata.index.open([upload.blocks], lifetime_seconds=1.0))[0].session
        await metadata.repo.add_pages(session, upload.pages, upload.blocks)
        self.clock.advance(2)
        await collect(metadata.index.end_expired())
        steps = await release(metadata)
        assert sum(step.claims for step in steps) == 20
        assert sum(step.pages for step in steps) == 1
        assert await collect(metadata.index.references(upload.blocks[0])) == []
        assert await state_of(metadata, session) is OwnerState.ENDED, "a lost reply is resolved by looking"
        assert await release(metadata) == []

    async def test_released_blob_is_not_brought_back(self) -> None:
        metadata = await self.open_metadata()
        for upload in (Upload.of(block_keys(3)), Upload.of([], "empty")):
            owner = (await metadata.put(upload)).record.owner
            await metadata.repo.delete(upload.key)
            self.clock.advance(UNDELETE_SECONDS - 1)
            assert await release(metadata) == []
            assert await metadata.repo.undelete(upload.key) is True
            await metadata.repo.delete(upload.key)
            self.clock.advance(UNDELETE_SECONDS)
            assert sum(step.claims for step in await release(metadata)) == len(upload.blocks)
            assert await metadata.repo.undelete(upload.key) is False
            assert await metadata.index.owner(owner) is None, "it was over"

    async def test_owners_that_are_needed_keep_everything(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(3))
        owner = (await metadata.put(upload)).record.owner
        opened = await metadata.session(upload.blocks)
        self.clock.advance(10 * UNDELETE_SECONDS)
        assert await release(metadata) == []
        assert await collect(metadata.index.references(upload.blocks[0])) == sorted([owner, opened])
        record = await metadata.repo.get(upload.key)
        assert await collect(metadata.repo.pages(record)) == upload.pages

    async def test_large_owner_is_released_in_bounded_steps(self) -> None:
        metadata = await self.open_metadata()
        keys = block_keys(2_500)
        upload = Upload.of(keys)
        await metadata.put(upload)
        await metadata.repo.delete(upload.key)
        async for step in metadata.index.release(0.0):
            assert step.claims == STEP_CLAIMS
            break  # a collector that is killed between two steps
        assert await metadata.repo.undelete(upload.key) is False, "it lost a claim"
        steps = await release(metadata, 0.0)
        assert sum(step.claims for step in steps) == 1_500
        assert max(step.claims for step in steps) <= STEP_CLAIMS
        assert len(await collect(metadata.index.list())) == 2_500
        for key in keys[::250]:
            assert await collect(metadata.index.references(key)) == []

    async def test_many_small_owners_are_released(self) -> None:
        metadata = await self.open_metadata()
        for one in await metadata.index.open([[block_key(f"{n}"), block_key(f"{n}'")] for n in range(1_200)]):
            assert await state_of(metadata, one.session) is OwnerState.OPEN
        self.clock.advance(OWNER_KEPT_SECONDS + 1)
        assert len(await collect(metadata.index.end_expired())) == 1_200
        steps = await release(metadata)
        assert sum(step.claims for step in steps) == 2_400
        assert max(step.claims for step in steps) <= STEP_CLAIMS
        self.clock.advance(OWNER_KEPT_SECONDS)
        assert sum(step.owners for step in await release(metadata)) == 1_200
        assert await release(metadata) == []

    async def test_owner_stays_a_day_after_its_last_change(self) -> None:
        metadata = await self.open_metadata()
        session = await metadata.session(block_keys(1))
        await metadata.index.end(session)
        upload = Upload.of(block_keys(1))
        dropped = (await metadata.put(upload)).record.owner
        await metadata.repo.delete(upload.key)
        for _ in range(2):
            self.clock.advance(OWNER_KEPT_SECONDS / 2 - 1)
            assert sum(step.owners for step in await release(metadata, 0.0)) == 0
        assert await state_of(metadata, session) is OwnerState.ENDED
        assert await state_of(metadata, dropped) is OwnerState.DROPPED
        self.clock.advance(2)
        assert sum(step.owners for step in await release(metadata, 0.0)) == 2
        assert await metadata.index.owner(session) is None
        assert await metadata.index.owner(dropped) is None
        assert await release(metadata, 0.0) == []

    async def test_removed_blob_can_be_put_again(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(3))
        await metadata.put(upload)
        await metadata.repo.delete(upload.key)
        self.clock.advance(OWNER_KEPT_SECONDS)
        await release(metadata, 0.0)
        assert await metadata.repo.delete(upload.key) is False
        assert (await metadata.put(upload)).created is True
        assert [record.key for record in await metadata.repo.list()] == [upload.key]
        assert (await metadata.repo.totals()).blobs == 1

    async def test_blob_put_again_keeps_its_record_when_its_old_owner_goes(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(3))
        first = (await metadata.put(upload)).record.owner
        await metadata.repo.delete(upload.key)
        second = (await metadata.put(upload)).record.owner
        self.clock.advance(OWNER_KEPT_SECONDS)
        assert sum(step.owners for step in await release(metadata, 0.0)) == 1
        assert await metadata.index.owner(first) is None
        record = await metadata.repo.get(upload.key)
        assert record.owner == second
        assert await collect(metadata.repo.pages(record)) == upload.pages
        assert await collect(metadata.index.references(upload.blocks[0])) == [second]

    async def test_times_to_undelete_have_bounds(self) -> None:
        metadata = await self.open_metadata()
        for seconds in (-1.0, float("nan"), float("inf")):
            with raises(InvalidInput):
                await release(metadata, seconds)
