"""The laws of `BlobManifestRepo`: many at once, listings and totals."""

from __future__ import annotations

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import InvalidInput
from graviton.ports.manifests import StoreTotals
from graviton.testing.conformance.checks import gather, raises
from graviton.testing.conformance.metadata_values import (
    Metadata,
    MetadataContract,
    Upload,
    block_key,
    block_keys,
    record_of,
    store_blocks,
)

__all__ = ["ManifestListLaws"]


async def _keys(metadata: Metadata, prefix: str = "", after: BlobKey | None = None, limit: int = 1000) -> list[BlobKey]:
    return [record.key for record in await metadata.repo.list(prefix, after, limit)]


class _ListLaws(MetadataContract):
    async def _filled(self, count: int = 60) -> tuple[Metadata, list[BlobKey]]:
        metadata = await self.open_metadata()
        uploads = [Upload.of(block_keys(1), str(n), algo) for n in range(count) for algo in HashAlgo]
        for upload in uploads:
            await metadata.put(upload)
        return metadata, sorted(upload.key for upload in uploads)

    async def test_list_is_in_the_order_of_keys_and_of_their_texts(self) -> None:
        metadata, keys = await self._filled()
        assert await _keys(metadata) == keys
        assert [key.text for key in keys] == sorted(key.text for key in keys)
        for record in await metadata.repo.list(limit=5):
            assert await metadata.repo.get(record.key) == record

    async def test_find_is_get_of_each(self) -> None:
        metadata, keys = await self._filled(40)
        await metadata.repo.delete(keys[5])
        absent = Upload.of(block_keys(1), "absent").key
        expected = {record.key: record for record in await metadata.repo.list()}
        assert len(expected) == 79
        for wanted in ([], keys, keys[::-1], [keys[7], absent, keys[5], keys[7]], keys[:3]):
            assert await metadata.repo.find(wanted) == [expected.get(key) for key in wanted]
        assert await metadata.repo.find(keys[:2], "another") == [None, None]

    async def test_list_is_paged_by_after_and_limit(self) -> None:
        metadata, keys = await self._filled(20)
        assert await _keys(metadata, limit=0) == []
        for limit in (1, 7, 39, 40, 41):
            found: list[BlobKey] = []
            while page := await _keys(metadata, "", found[-1] if found else None, limit):
                assert len(page) <= limit
                found += page
            assert found == keys
        absent = Upload.of(block_keys(1), "absent").key
        assert await _keys(metadata, after=absent) == [key for key in keys if absent < key]
        await metadata.repo.delete(keys[3])
        assert await _keys(metadata, after=keys[2], limit=2) == keys[4:6]
        assert await _keys(metadata, after=keys[3], limit=2) == keys[4:6]

    async def test_list_prefix_is_the_beginning_of_the_key_text(self) -> None:
        metadata, keys = await self._filled()
        text = keys[7].text
        prefixes = ["", "b", "blake3", "blake3:", "s", "sha256:", *(text[:n] for n in range(8, len(text) + 1))]
        for prefix in prefixes:
            expected = [key for key in keys if key.text.startswith(prefix)]
            assert await _keys(metadata, prefix) == expected, prefix
            assert await _keys(metadata, prefix, keys[7]) == [key for key in expected if keys[7] < key], prefix

    async def test_prefix_that_begins_no_key_text_is_refused(self) -> None:
        metadata, keys = await self._filled(1)
        for prefix in ("x", "md5:", "blake3:g", "blake3:AB", "blake3::", "blake3:ab:", keys[0].text + ":", " ", ":"):
            with raises(InvalidInput):
                await metadata.repo.list(prefix)

    async def test_deleted_blobs_do_not_use_up_the_limit(self) -> None:
        metadata, keys = await self._filled(20)
        for key in keys[:30]:
            await metadata.repo.delete(key)
        assert await _keys(metadata, limit=5) == keys[30:35]


class _TotalsLaws(MetadataContract):
    async def test_totals_agree_with_what_is_visible_and_stored(self) -> None:
        metadata = await self.open_metadata()
        repo = metadata.repo
        blocks = [block_key(str(n), 100 + n) for n in range(6)]
        sizes = [key.size for key in blocks]
        assert await repo.totals() == StoreTotals()
        await store_blocks(metadata, *blocks[:2])
        await metadata.session(blocks[:4])
        assert await repo.totals() == StoreTotals(0, 0, 2, sum(sizes[:2]))
        first, second = Upload.of(blocks[:3]), Upload.of(blocks[2:5] * 2)
        await metadata.put(first)
        assert await repo.totals() == StoreTotals(1, first.key.size, 3, sum(sizes[:3]))
        await metadata.put(second)
        await metadata.put(first, "another holder")
        both = StoreTotals(2, first.key.size + second.key.size, 5, sum(sizes[:5]))
        assert await repo.totals() == both
        await repo.delete(second.key)
        await repo.delete(first.key)
        assert await repo.totals() == StoreTotals(1, first.key.size, 5, sum(sizes[:5]))
        await repo.undelete(second.key)
        assert await repo.totals() == both

    async def test_damaged_blocks_are_not_counted_until_repaired(self) -> None:
        metadata = await self.open_metadata()
        a, b = block_keys(2)
        await store_blocks(metadata, a, b)
        record = await record_of(metadata, a)
        await metadata.index.mark_damaged(a, record.generation)
        await metadata.index.mark_damaged(a, record.generation)
        assert await metadata.repo.totals() == StoreTotals(0, 0, 1, b.size)
        session = await metadata.session([a])
        assert await metadata.repo.totals() == StoreTotals(0, 0, 1, b.size)
        await metadata.index.confirm(session, [a])
        assert await metadata.repo.totals() == StoreTotals(0, 0, 2, a.size + b.size)

    async def test_totals_of_many_changes_at_once(self) -> None:
        metadata = await self.open_metadata()
        uploads = [Upload.of([block_key(f"{n % 20}"), block_key(f"own {n}")], str(n)) for n in range(150)]
        for start in range(0, 150, 10):
            await gather(*(metadata.put(upload) for upload in uploads[start : start + 10]))
        await gather(*(metadata.repo.delete(upload.key) for upload in uploads[::3]))
        assert await metadata.repo.totals() == StoreTotals(100, 100 * 200, 170, 170 * 100)


class ManifestListLaws(_TotalsLaws, _ListLaws):
    """Part of `BlobManifestRepoContract`."""
