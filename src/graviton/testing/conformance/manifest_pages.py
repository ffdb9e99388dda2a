"""The laws of `BlobManifestRepo`: pages, their order, their seals."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from graviton.core.keys import BlockKey
from graviton.core.limits import MAX_PAGE_ENTRIES
from graviton.core.manifests import ManifestPage, PageChain, paginate
from graviton.core.ranges import Span
from graviton.errors import Conflict, GravitonError, IntegrityError, InvalidInput, NotFound
from graviton.ports.manifests import MAX_COMMIT_PAGES, BlobRecord
from graviton.testing.conformance.checks import collect, raises
from graviton.testing.conformance.contract import needs, optional_hook
from graviton.testing.conformance.metadata_values import (
    Metadata,
    MetadataContract,
    Upload,
    block_keys,
    commit_of,
    store_blocks,
)

__all__ = ["ManifestPageLaws"]

ENTRIES = 2 * MAX_PAGE_ENTRIES + 100
"""Two full pages and a short one."""

DISTINCT = 101
"""Blocks that these pages repeat, so that there is little to claim. A prime: no page is like another."""


def _large(stem: str = "") -> Upload:
    blocks = block_keys(DISTINCT, stem)
    return Upload.of([blocks[number % DISTINCT] for number in range(ENTRIES)], stem)


async def _put_large(metadata: Metadata, upload: Upload) -> BlobRecord:
    session = await _stored(metadata, upload)
    return (await metadata.repo.commit([commit_of(session, upload, confirm=[])]))[0].record


async def _stored(metadata: Metadata, upload: Upload) -> int:
    """A session that holds all blocks of a blob, which are stored."""
    return await store_blocks(metadata, *dict.fromkeys(upload.blocks))


class ManifestPageLaws(MetadataContract):
    """Part of `BlobManifestRepoContract`."""

    @optional_hook
    async def raw_read_pages(self, store: Any, owner: int) -> list[bytes]:
        """Back door: the stored pages of an owner, in order."""
        raise NotImplementedError

    @optional_hook
    async def raw_write_pages(self, store: Any, owner: int, pages: list[bytes | None]) -> None:
        """Back door: put these bytes in the places of the stored pages; None removes one."""
        raise NotImplementedError

    async def test_pages_come_back_in_order(self) -> None:
        metadata = await self.open_metadata()
        upload = _large()
        record = await _put_large(metadata, upload)
        assert (record.page_count, record.block_count) == (3, ENTRIES)
        pages = await collect(metadata.repo.pages(record))
        assert pages == upload.pages
        assert [key for page in pages for key in page.keys] == upload.blocks

    async def test_record_has_the_digest_over_the_page_digests(self) -> None:
        metadata = await self.open_metadata()
        upload = _large()
        record = await _put_large(metadata, upload)
        chain = PageChain(upload.key.algo)
        for page in upload.pages:
            chain.add(page.seal(upload.key))
        assert record.pages_digest == chain.digest()

    async def test_pages_added_before_the_key_is_known_are_the_same(self) -> None:
        metadata = await self.open_metadata()
        upload = _large()
        expected = await _put_large(metadata, upload)
        await metadata.repo.delete(upload.key)
        for at_commit in (0, 1, 2):
            session = await _stored(metadata, upload)
            early = upload.pages[: 3 - at_commit]
            for page in early[:1]:
                await metadata.repo.add_pages(session, [page])
            await metadata.repo.add_pages(session, early[1:])
            commit = commit_of(session, upload, pages=upload.pages[3 - at_commit :], confirm=[])
            (result,) = await metadata.repo.commit([commit])
            assert result.created is True
            assert result.record._replace(owner=0, created_at_ns=0) == expected._replace(owner=0, created_at_ns=0)
            assert await collect(metadata.repo.pages(result.record)) == upload.pages
            await metadata.repo.delete(upload.key)

    async def test_span_yields_exactly_the_pages_that_overlap_it(self) -> None:
        metadata = await self.open_metadata()
        upload = _large()
        record = await _put_large(metadata, upload)
        ends = [page.end for page in upload.pages]
        points = sorted({0, 1, 99, *(end + step for end in ends for step in (-1, 0, 1)), ends[-1] // 2, 2**62})
        for start in points:
            for end in points:
                if start > end:
                    continue
                span = Span(start, end)
                expected = [page for page in upload.pages if Span(page.offset, page.end).overlaps(span)]
                assert await collect(metadata.repo.pages(record, span)) == expected, span

    async def test_pages_of_a_deleted_blob_are_not_found(self) -> None:
        metadata = await self.open_metadata()
        for upload in (Upload.of(block_keys(3)), Upload.of([])):
            record = (await metadata.put(upload)).record
            await metadata.repo.delete(upload.key)
            with raises(NotFound):
                await collect(metadata.repo.pages(record))
            await metadata.repo.undelete(upload.key)
            assert await collect(metadata.repo.pages(record)) == upload.pages

    async def test_pages_of_an_unknown_blob_are_not_found(self) -> None:
        metadata = await self.open_metadata()
        record = (await metadata.put(Upload.of(block_keys(3)))).record
        unknown = record._replace(key=Upload.of(block_keys(3), "unknown").key, owner=12_345)
        with raises(NotFound):
            await collect(metadata.repo.pages(unknown))
        with raises(NotFound):
            await collect(metadata.repo.pages(record, domain="another"))

    async def test_abandoned_pages_leave_the_store_usable(self) -> None:
        metadata = await self.open_metadata()
        upload = _large()
        record = await _put_large(metadata, upload)
        for _ in range(10):
            async for page in metadata.repo.pages(record):
                assert page == upload.pages[0]
                break
        assert await collect(metadata.repo.pages(record)) == upload.pages

    async def test_pages_that_do_not_make_up_the_blob_are_refused(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(6))
        first, second = (ManifestPage(n, 0, upload.blocks[3 * n : 3 * n + 3]) for n in range(2))
        gap = ManifestPage(0, 1, upload.blocks)
        short = paginate(upload.blocks[:-1])
        wrong_number = ManifestPage(1, 0, upload.blocks)
        cases: list[tuple[type[GravitonError], list[ManifestPage]]] = [
            (InvalidInput, short),
            (InvalidInput, [gap]),
            (InvalidInput, [first, second]),
            (InvalidInput, [*upload.pages, first]),
            (Conflict, []),  # then the session should have them
            (Conflict, [wrong_number]),
        ]
        for error, pages in cases:
            session = await metadata.session(upload.blocks)
            with raises(error):
                await metadata.repo.commit([commit_of(session, upload, pages=pages)])
            with raises(NotFound):
                await metadata.repo.get(upload.key)

    async def test_commit_brings_a_bounded_number_of_pages(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(1) * (MAX_PAGE_ENTRIES * MAX_COMMIT_PAGES + 1))
        session = await _stored(metadata, upload)
        with raises(InvalidInput):
            await metadata.repo.commit([commit_of(session, upload, confirm=[])])
        await metadata.repo.add_pages(session, upload.pages[:1])
        (result,) = await metadata.repo.commit([commit_of(session, upload, pages=upload.pages[1:], confirm=[])])
        assert result.record.page_count == MAX_COMMIT_PAGES + 1
        assert await collect(metadata.repo.pages(result.record)) == upload.pages

    @needs("raw_read_pages")
    async def test_stored_pages_are_sealed_for_their_blob(self) -> None:
        metadata = await self.open_metadata()
        upload = _large()
        record = await _put_large(metadata, upload)
        stored = await self.raw_read_pages(self._opened[-1], record.owner)
        assert stored == [page.seal(upload.key) for page in upload.pages]

    @needs("raw_read_pages", "raw_write_pages")
    async def test_damaged_and_misplaced_pages_raise_integrity_error(self) -> None:
        metadata = await self.open_metadata()
        upload, other = _large("a"), _large("b")
        record, other_record = await _put_large(metadata, upload), await _put_large(metadata, other)
        store = self._opened[-1]
        a, b, c = await self.raw_read_pages(store, record.owner)
        foreign = (await self.raw_read_pages(store, other_record.owner))[1]
        places = (0, 1, 3, 7, 15, 16, 47, 60, len(b) // 2, len(b) - 33, len(b) - 1)
        flipped: list[list[bytes | None]] = [[a, _flipped(b, at), c] for at in places]
        damages: list[list[bytes | None]] = [
            [a, b[:-1], c],
            [a, b[:-32], c],
            [a, b"", c],
            [a, b + b"\x00", c],
            [a, None, c],
            [a, foreign, c],
            [a, a, c],
            [b, a, c],
            [a, c, b],
            [a, c, c],
            [a, upload.pages[1].to_bytes(), c],
        ]
        for damaged in [*flipped, *damages]:
            await self.raw_write_pages(store, record.owner, damaged)
            await self._is_noticed(metadata, record, None)
            span = Span(upload.pages[1].offset, upload.pages[1].end)
            await self._is_noticed(metadata, record, span)
        await self.raw_write_pages(store, record.owner, [a, b, c])
        assert await collect(metadata.repo.pages(record)) == upload.pages
        assert await collect(metadata.repo.pages(other_record)) == other.pages

    @needs("raw_read_pages", "raw_write_pages")
    async def test_missing_first_and_last_pages_raise_integrity_error(self) -> None:
        metadata = await self.open_metadata()
        record = await _put_large(metadata, _large())
        store = self._opened[-1]
        a, b, c = await self.raw_read_pages(store, record.owner)
        damages: list[list[bytes | None]] = [[None, b, c], [a, b, None], [None, None, c], [None, None, None]]
        for damaged in damages:
            await self.raw_write_pages(store, record.owner, damaged)
            await self._is_noticed(metadata, record, None)
            await self.raw_write_pages(store, record.owner, [a, b, c])

    @needs("raw_read_pages", "raw_write_pages")
    async def test_pages_exchanged_with_the_record_in_mind_fail_the_digest_over_all(self) -> None:
        metadata = await self.open_metadata()
        upload = _large()
        record = await _put_large(metadata, upload)
        store = self._opened[-1]
        swapped = _with_two_keys_exchanged(upload.pages[1], lambda page: page.seal(upload.key))
        a, _, c = await self.raw_read_pages(store, record.owner)
        await self.raw_write_pages(store, record.owner, [a, swapped, c])
        await self._is_noticed(metadata, record, None)

    async def _is_noticed(self, metadata: Metadata, record: BlobRecord, span: Span | None) -> None:
        with raises(IntegrityError) as caught:
            await collect(metadata.repo.pages(record, span))
        said = f"{caught.error.message} {caught.error.subject}"
        assert record.key.text in said
        assert re.search(r"bytes\D+\d+", said), "the byte range is named"


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]


def _with_two_keys_exchanged(page: ManifestPage, seal: Callable[[ManifestPage], bytes]) -> bytes:
    """A page with a right seal and the same end whose blocks are not those that were committed."""
    keys: list[BlockKey] = list(page.keys)
    keys[0], keys[1] = keys[1], keys[0]
    return seal(ManifestPage(page.number, page.offset, keys))
