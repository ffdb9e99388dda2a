"""The laws of `BlockIndex`: what a collector does to blocks. What it does to owners before is in releasing.py."""

from __future__ import annotations

from collections.abc import Sequence

from graviton.core.keys import BlockKey
from graviton.errors import InvalidInput
from graviton.ports.block_index import (
    MAX_OPEN_NOTES,
    BlockState,
    Note,
    OpenedSession,
)
from graviton.ports.manifests import StoreTotals
from graviton.testing.conformance.checks import cancelled_everywhere, collect, gather, raises
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
from graviton.testing.conformance.releasing import ReleaseLaws, release

__all__ = ["CollectingLaws"]

RUN = "0123456789abcdef" * 2
OTHER_RUN = "f" * 32


async def condemn_all(metadata: Metadata, run: str = RUN) -> list[Note]:
    """What a run that has room for all of it condemns."""
    notes, more = await metadata.index.condemn(run)
    while more:
        notes, more = await metadata.index.condemn(run)
    return notes


async def states_of(metadata: Metadata, keys: Sequence[BlockKey], domain: str = "") -> list[BlockState | None]:
    return [record and record.state for record in await metadata.index.records(keys, domain)]


async def abandon(metadata: Metadata, *keys: BlockKey, stored: bool = True, domain: str = "") -> None:
    """Blocks that nobody holds any more."""
    session = await (store_blocks(metadata, *keys, domain=domain) if stored else metadata.session(keys, domain))
    await metadata.index.end(session)


class _CondemnLaws(MetadataContract):
    async def test_block_that_nobody_holds_is_condemned_and_noted(self) -> None:
        metadata = await self.open_metadata()
        keys = block_keys(3)
        await abandon(metadata, *keys)
        before = {key: await record_of(metadata, key) for key in keys}
        notes, more = await metadata.index.condemn(RUN)
        assert more is False
        assert [note.key for note in notes] == sorted(keys)
        for note in notes:
            record = await record_of(metadata, note.key)
            assert record.state is BlockState.CONDEMNED
            assert record.generation == before[note.key].generation + 1
            assert note == Note(RUN, "", note.key, record.generation, self.clock.now_ns())
        assert await metadata.repo.totals() == StoreTotals()

    async def test_block_that_somebody_holds_is_not_condemned(self) -> None:
        metadata = await self.open_metadata()
        a, b, c, d, rest = block_keys(5)
        await abandon(metadata, a, b, c, d, rest)
        await metadata.session([a])
        await metadata.put(Upload.of([b]))
        deleted = Upload.of([c], "deleted")
        await metadata.put(deleted)
        await metadata.repo.delete(deleted.key)
        expired = (await metadata.index.open([[d]], lifetime_seconds=1.0))[0].session
        self.clock.advance(2)
        assert await collect(metadata.index.end_expired()) == [expired]
        assert [note.key for note in await condemn_all(metadata)] == [rest]
        assert await states_of(metadata, [a, b, c, d]) == [BlockState.STORED] * 4

    async def test_candidate_is_looked_at_once_for_every_claim_lost(self) -> None:
        metadata = await self.open_metadata()
        key = block_key("a")
        await abandon(metadata, key)
        holder = await metadata.session([key])
        for _ in range(2):
            assert await metadata.index.condemn(RUN) == ([], False)
        await metadata.index.end(holder)
        assert [note.key for note in await condemn_all(metadata)] == [key]

    async def test_pending_and_damaged_blocks_are_condemned_too(self) -> None:
        metadata = await self.open_metadata()
        pending, damaged, stored = block_keys(3)
        await abandon(metadata, pending, stored=False)
        await abandon(metadata, damaged, stored)
        assert await metadata.index.mark_damaged(damaged, (await record_of(metadata, damaged)).generation)
        assert await metadata.index.mark_wanted_back(stored, (await record_of(metadata, stored)).generation)
        assert len(await condemn_all(metadata)) == 3
        for key in (pending, damaged, stored):
            record = await record_of(metadata, key)
            assert (record.state, record.wanted_back) == (BlockState.CONDEMNED, False)
        assert await metadata.repo.totals() == StoreTotals()

    async def test_claim_takes_a_condemned_block_back(self) -> None:
        metadata = await self.open_metadata()
        key = block_key("a")
        await abandon(metadata, key)
        (note,) = await condemn_all(metadata)
        ((session, claims),) = await metadata.index.open([[key]])
        assert [(claim.must_write, claim.repairs) for claim in claims] == [(True, False)]
        record = await record_of(metadata, key)
        assert (record.state, record.generation) == (BlockState.PENDING, note.generation + 1)
        assert await condemn_all(metadata) == [note], "the run learns from the generation that it lives again"
        await metadata.index.confirm(session, [key])
        assert (await record_of(metadata, key)).state is BlockState.STORED
        assert await metadata.repo.totals() == StoreTotals(0, 0, 1, key.size)

    async def test_block_that_lived_again_is_condemned_again(self) -> None:
        metadata = await self.open_metadata()
        key = block_key("a")
        await abandon(metadata, key)
        (first,) = await condemn_all(metadata)
        await abandon(metadata, key)
        (second,) = await condemn_all(metadata, OTHER_RUN)
        assert second.generation > first.generation
        assert await collect(metadata.index.notes()) == [first, second]

    async def test_totals_follow_the_stored_blocks(self) -> None:
        metadata = await self.open_metadata()
        kept, gone = Upload.of(block_keys(4), "kept"), Upload.of(block_keys(10), "gone")
        await metadata.put(kept)
        await metadata.put(gone)
        await metadata.repo.delete(gone.key)
        await release(metadata, 0.0)
        assert len(await condemn_all(metadata)) == 6
        left = kept.blocks
        expected = StoreTotals(1, kept.key.size, len(left), sum(key.size for key in left))
        assert await metadata.repo.totals() == expected

    async def test_limit_bounds_what_is_looked_at(self) -> None:
        metadata = await self.open_metadata()
        keys = block_keys(7)
        await abandon(metadata, *keys)
        await metadata.session(keys[::2])
        seen, more = [0], True
        while more:
            notes, more = await metadata.index.condemn(RUN, 2)
            assert len(notes) <= seen[-1] + 2
            seen.append(len(notes))
        assert seen[-1] == 3
        assert len(seen) == 5, "seven candidates, two at a time"

    async def test_run_has_a_bounded_number_of_notes(self) -> None:
        metadata = await self.open_metadata()
        await abandon(metadata, *block_keys(MAX_OPEN_NOTES + 10))
        notes, more = await metadata.index.condemn(RUN, 10 * MAX_OPEN_NOTES)
        assert (len(notes), more) == (MAX_OPEN_NOTES, True)
        assert await metadata.index.condemn(RUN) == (notes, True), "there is no room for more"
        rest, more = await metadata.index.condemn(OTHER_RUN)
        assert (len(rest), more) == (10, False)
        assert {note.run for note in rest} == {OTHER_RUN}
        assert await collect(metadata.index.notes(RUN)) == notes
        assert await collect(metadata.index.notes(OTHER_RUN)) == rest
        assert sorted(await collect(metadata.index.notes()), key=lambda note: note.key) == sorted(
            notes + rest, key=lambda note: note.key
        )

    async def test_nothing_to_condemn_is_no_trouble(self) -> None:
        metadata = await self.open_metadata()
        assert await metadata.index.condemn(RUN) == ([], False)
        assert await collect(metadata.index.notes()) == []
        assert await collect(metadata.index.notes(RUN)) == []
        assert await release(metadata) == []
        assert await collect(metadata.index.end_expired()) == []

    async def test_runs_and_limits_that_cannot_be_are_refused(self) -> None:
        metadata = await self.open_metadata()
        await abandon(metadata, block_key("a"))
        for run in ("", "0" * 31, "0" * 33, "g" * 32, "F" * 32, " " * 32):
            with raises(InvalidInput):
                await metadata.index.condemn(run)
            with raises(InvalidInput):
                await collect(metadata.index.notes(run))
        for limit in (0, -1):
            with raises(InvalidInput):
                await metadata.index.condemn(RUN, limit)
        assert await states_of(metadata, [block_key("a")]) == [BlockState.STORED]

    async def test_collecting_covers_all_domains_and_mixes_none(self) -> None:
        metadata = await self.open_metadata()
        key = block_key("a")
        for domain in ("", "one", "ö"):
            await abandon(metadata, key, domain=domain)
        await store_blocks(metadata, key, domain="kept")
        notes = await condemn_all(metadata)
        assert [(note.domain, note.key) for note in notes] == [("", key), ("one", key), ("ö", key)]
        assert await collect(metadata.index.notes(RUN)) == notes
        assert await states_of(metadata, [key], "kept") == [BlockState.STORED]
        assert await metadata.repo.totals("kept") == StoreTotals(0, 0, 1, key.size)
        assert await metadata.repo.totals("ö") == StoreTotals()

    async def test_two_collectors_condemn_each_block_once(self) -> None:
        metadata = await self.open_metadata()
        keys = block_keys(60)
        await abandon(metadata, *keys)
        runs = [f"{number:032x}" for number in range(4)]
        await gather(*(metadata.index.condemn(run, 10) for run in runs * 3))
        await condemn_all(metadata)
        notes = await collect(metadata.index.notes())
        assert sorted(note.key for note in notes) == sorted(keys)

    async def test_claims_against_a_collector_are_safe(self) -> None:
        metadata = await self.open_metadata()
        for number in range(8):
            keys = block_keys(12, f"round {number} ")
            await abandon(metadata, *keys)
            opened: list[OpenedSession] = []
            notes: list[Note] = []

            async def claim(keys: list[BlockKey] = keys, opened: list[OpenedSession] = opened) -> None:
                opened += await metadata.index.open([keys])

            async def condemn(notes: list[Note] = notes) -> None:
                notes += (await metadata.index.condemn(RUN)).notes

            await gather(claim(), condemn())
            ((session, claims),) = opened
            condemned = {note.key for note in notes if note.key in keys}
            assert condemned in (set(), set(keys))
            assert {claim.must_write for claim in claims} == {bool(condemned)}
            await metadata.repo.commit([commit_of(session, Upload.of(keys))])
            assert await states_of(metadata, keys) == [BlockState.STORED] * 12

    @needs("persistent")
    async def test_notes_are_there_after_reopening(self) -> None:
        metadata = await self.open_metadata()
        await abandon(metadata, *block_keys(3))
        notes = await condemn_all(metadata)
        metadata = await self.reopened()
        assert await collect(metadata.index.notes()) == notes
        assert await condemn_all(metadata) == notes
        assert await states_of(metadata, block_keys(3)) == [BlockState.CONDEMNED] * 3

    async def test_cancelled_condemning_takes_effect_as_a_whole_or_not(self) -> None:
        metadata = await self.open_metadata()
        number = 0

        def keys() -> list[BlockKey]:
            return block_keys(5, f"round {number} ")

        def run() -> str:
            return f"{number:032x}"

        await abandon(metadata, *keys())
        async for _ in cancelled_everywhere(lambda: metadata.index.condemn(run())):
            states = set(await states_of(metadata, keys()))
            notes = await collect(metadata.index.notes(run()))
            assert (states, len(notes)) in (({BlockState.STORED}, 0), ({BlockState.CONDEMNED}, 5))
            await condemn_all(metadata, OTHER_RUN)
            number += 1
            await abandon(metadata, *keys())


class CollectingLaws(_CondemnLaws, ReleaseLaws):
    """Part of `BlockIndexContract`."""
