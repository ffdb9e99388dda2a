"""The pages of a visible blob in order, each checked; whatever cannot be read is named with blob and byte range."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from graviton.core.manifests import ManifestPage, PageChain
from graviton.core.ranges import Span
from graviton.errors import IntegrityError
from graviton.metadata.owners import load_owner
from graviton.metadata.row_walk import Row, read_rows
from graviton.metadata.rows import PAGES, u64
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import KeyValueStore, ReadTransaction
from graviton.ports.manifests import BlobRecord, no_such_blob

__all__ = ["READ_PAGES", "KvPages", "PageSource", "damaged_pages", "read_pages"]

READ_PAGES = 2
"""Pages fetched per hop: 295 KB at most, which describe up to 8 GiB at the default chunk size."""

_OFFSET_BYTES = 8


class PageSource(Protocol):
    """Where the pages of one visible blob are read from."""

    async def first(self, start: int, end: int) -> Sequence[Row] | None:
        """The first pages that hold bytes of a span, perhaps empty; None if the blob is not visible (any more)."""
        ...

    async def following(self, position: int) -> Sequence[Row]:
        """Pages from the one that holds byte `position` on: a few of them, in order, none only at the end."""
        ...


async def read_pages(source: PageSource, record: BlobRecord, span: Span | None) -> AsyncIterator[ManifestPage]:
    """`BlobManifestRepo.pages`, wherever the rows come from: a row's key ends with the end of its page."""
    start, end = (0, record.key.size) if span is None else (span.start, min(span.end, record.key.size))
    rows = await source.first(start, end)
    if rows is None:
        raise no_such_blob(record.key)
    position, end_of_last = start, None
    chain = PageChain(record.key.algo)
    while position < end:
        if not rows:
            await _missing_page(source, record, position)
        for row in rows:
            page, data = _opened(record, position, row)
            if page.offset > position or (end_of_last is not None and page.offset != end_of_last):
                raise damaged_pages(record, position, page.offset, "a manifest page is missing")
            chain.add(data)
            position = end_of_last = page.end
            yield page
            if position >= end:
                break
        else:
            rows = await source.following(position)
    if span is None and (chain.pages != record.page_count or chain.digest() != record.pages_digest):
        raise damaged_pages(record, 0, record.key.size, "the manifest pages do not match the blob's record")


def _opened(record: BlobRecord, position: int, row: Row) -> tuple[ManifestPage, bytes]:
    end = int.from_bytes(row.key[-_OFFSET_BYTES:], "big")
    if row.value is None:
        raise damaged_pages(record, position, end, "a manifest page fails the checksum of its row")
    try:
        page = ManifestPage.open(row.value, record.key)
    except IntegrityError as error:
        raise damaged_pages(record, None, end, str(error)) from error
    if page.end != end:
        raise damaged_pages(record, page.offset, page.end, "a manifest page lies in the wrong place")
    return page, row.value


async def _missing_page(source: PageSource, record: BlobRecord, position: int) -> None:
    """No page where there must be one: NotFound if the blob was deleted meanwhile, else IntegrityError."""
    if await source.first(position, position) is None:
        raise no_such_blob(record.key)
    raise damaged_pages(record, position, record.key.size, "a manifest page is missing")


class KvPages:
    """Pages in a key-value store; `domain` is the domain's key prefix."""

    def __init__(self, kv: KeyValueStore, domain: bytes, record: BlobRecord) -> None:
        self._kv = kv
        self._domain = domain
        self._record = record

    async def first(self, start: int, end: int) -> Sequence[Row] | None:
        """See `PageSource`."""
        return await self._kv.read(lambda tx: self._first(tx, start, end))

    async def following(self, position: int) -> Sequence[Row]:
        """See `PageSource`."""
        return await self._kv.read(lambda tx: self._following(tx, position))

    def _first(self, tx: ReadTransaction, start: int, end: int) -> list[Row] | None:
        owner = load_owner(tx, self._record.owner)
        if owner is None or owner.state is not OwnerState.COMMITTED or owner.domain != self._domain:
            return None
        return self._following(tx, start) if start < end else []

    def _following(self, tx: ReadTransaction, position: int) -> list[Row]:
        prefix = u64(self._record.owner)
        try:
            return read_rows(tx, PAGES, prefix, prefix + u64(position), READ_PAGES)
        except IntegrityError as error:  # not even past the damage
            record = self._record
            raise damaged_pages(record, position, record.key.size, f"the manifest cannot be read: {error}") from error


def damaged_pages(record: BlobRecord, start: int | None, end: int, what: str) -> IntegrityError:
    """The error for bytes of a blob whose pages are damaged; `start` None: from wherever to `end`."""
    where = f"bytes up to {end - 1}" if start is None else f"bytes {start}-{end - 1}"
    return IntegrityError(
        f"blob {record.key}: {what} ({where})",
        operation="get",
        subject=record.key.text,
        hint="Put the same file again: that repairs the blob. Without the file, restore the metadata from a backup.",
    )
