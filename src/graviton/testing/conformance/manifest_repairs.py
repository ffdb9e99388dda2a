"""The laws of `BlobManifestRepo`: a put of the same bytes, cut otherwise, over a manifest with blocks that are lost."""

from __future__ import annotations

from graviton.ports.block_index import OwnerState
from graviton.testing.conformance.checks import collect
from graviton.testing.conformance.metadata_values import (
    Metadata,
    MetadataContract,
    Upload,
    block_key,
    block_keys,
    commit_of,
    record_of,
)

__all__ = ["ManifestRepairLaws"]

_MANY = 5_000
"""Blocks of a manifest of two pages: more than one wants to look up within a commit."""


def _cut_otherwise(upload: Upload) -> Upload:
    """The same blob in one block fewer; it shares all others."""
    first, second, *rest = upload.blocks
    joined = block_key(f"{first} and {second}", first.size + second.size)
    return Upload(upload.key, [joined, *rest])


async def _mark_damaged(metadata: Metadata, upload: Upload, number: int) -> None:
    key = upload.blocks[number]
    assert await metadata.index.mark_damaged(key, (await record_of(metadata, key)).generation)


class ManifestRepairLaws(MetadataContract):
    """Part of `BlobManifestRepoContract`."""

    async def test_manifest_with_a_damaged_block_gives_way_to_the_next(self) -> None:
        metadata = await self.open_metadata()
        for count in (5, _MANY):
            old = Upload.of(block_keys(count, f"{count} "))
            new = _cut_otherwise(old)
            before = (await metadata.put(old, "one")).record
            await metadata.put(old, "two")
            await _mark_damaged(metadata, old, 1)
            result = await metadata.put(new, "three")
            assert result.created is False
            assert result.record == await metadata.repo.get(old.key)
            assert (result.record.block_count, result.record.owner != before.owner) == (count - 1, True)
            assert [
                key for page in await collect(metadata.repo.pages(result.record)) for key in page.keys
            ] == new.blocks
            owner = await metadata.index.owner(before.owner)
            assert owner is not None
            assert owner.state is OwnerState.DROPPED
            totals = await metadata.repo.totals()
            assert (totals.blobs, totals.logical_bytes) == (1, old.key.size)
            for holder, is_left in (("one", True), ("two", True), ("three", False)):
                assert await metadata.repo.delete(old.key, holder) is True
                assert [record.key for record in await metadata.repo.list()] == ([old.key] if is_left else [])

    async def test_block_that_is_pending_again_counts_as_lost(self) -> None:
        """Somebody wanted to repair it and gave up."""
        metadata = await self.open_metadata()
        old = Upload.of(block_keys(5))
        await metadata.put(old)
        await _mark_damaged(metadata, old, 0)
        await metadata.index.end(await metadata.session(old.blocks[:1]))
        new = _cut_otherwise(old)
        record = (await metadata.put(new)).record
        assert [key for page in await collect(metadata.repo.pages(record)) for key in page.keys] == new.blocks

    async def test_sound_manifest_stays_however_the_blob_is_cut(self) -> None:
        metadata = await self.open_metadata()
        for count in (5, _MANY):
            old = Upload.of(block_keys(count, f"{count} "))
            before = (await metadata.put(old)).record
            assert (await metadata.put(_cut_otherwise(old), "other")).record == before
            await _mark_damaged(metadata, old, 1)
            assert (await metadata.put(old)).record == before, "its own blocks were written again"

    async def test_repairs_of_one_call_are_as_if_one_after_the_other(self) -> None:
        metadata = await self.open_metadata()
        old = Upload.of(block_keys(5))
        new = _cut_otherwise(old)
        await metadata.put(old, "one")
        await _mark_damaged(metadata, old, 1)
        sessions = [await metadata.session(new.blocks) for _ in range(2)]
        holders = ("two", "three")
        commits = [commit_of(at, new, holder=holder) for at, holder in zip(sessions, holders, strict=True)]
        results = await metadata.repo.commit(commits)
        assert [(one.created, one.record.owner) for one in results] == [(False, sessions[0])] * 2
        held = [await metadata.repo.delete(old.key, holder) for holder in ("one", *holders, "two")]
        assert held == [True, True, True, False]
