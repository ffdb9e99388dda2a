"""The pages of a visible blob in order, each checked; whatever cannot be read is named with blob and byte range."""

from __future__ import annotations

from collections.abc import AsyncIterator

from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestPage, PageChain
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound
from graviton.metadata.owners import load_owner
from graviton.metadata.row_walk import Row, read_rows
from graviton.metadata.rows import PAGES, u64
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import KeyValueStore, ReadTransaction
from graviton.ports.manifests import BlobRecord

__all__ = ["no_such_blob", "read_pages"]

_READ_PAGES = 2
"""Pages fetched per hop: 295 KB at most, which describe up to 8 GiB at the default chunk size."""

_OFFSET_BYTES = 8


async def read_pages(
    kv: KeyValueStore, domain: bytes, record: BlobRecord, span: Span | None
) -> AsyncIterator[ManifestPage]:
    """`BlobManifestRepo.pages`; `domain` is the domain's key prefix."""
    start, end = (0, record.key.size) if span is None else (span.start, min(span.end, record.key.size))
    first = await kv.read(lambda tx: _first_page_rows(tx, domain, record, start, end))
    if first is None:
        raise no_such_blob(record.key)
    rows: list[Row] = first
    position, end_of_last = start, None
    chain = PageChain(record.key.algo)
    while position < end:
        if not rows:
            await _missing_page(kv, domain, record, position)
        for row in rows:
            page, data = _opened(record, position, row)
            if page.offset > position or (end_of_last is not None and page.offset != end_of_last):
                raise _damaged(record, position, page.offset, "a manifest page is missing")
            chain.add(data)
            position = end_of_last = page.end
            yield page
            if position >= end:
                break
        else:
            rows = await kv.read(lambda tx, at=position: _page_rows(tx, record, at))  # type: ignore[misc]
    if span is None and (chain.pages != record.page_count or chain.digest() != record.pages_digest):
        raise _damaged(record, 0, record.key.size, "the manifest pages do not match the blob's record")


def _opened(record: BlobRecord, position: int, row: Row) -> tuple[ManifestPage, bytes]:
    end = int.from_bytes(row.key[-_OFFSET_BYTES:], "big")
    if row.value is None:
        raise _damaged(record, position, end, "a manifest page fails the checksum of its row")
    try:
        page = ManifestPage.open(row.value, record.key)
    except IntegrityError as error:
        raise _damaged(record, None, end, str(error)) from error
    if page.end != end:
        raise _damaged(record, page.offset, page.end, "a manifest page lies in the wrong place")
    return page, row.value


async def _missing_page(kv: KeyValueStore, domain: bytes, record: BlobRecord, position: int) -> None:
    """No page where there must be one: NotFound if the blob was deleted meanwhile, else IntegrityError."""
    if not await kv.read(lambda tx: _is_committed(tx, domain, record)):
        raise no_such_blob(record.key)
    raise _damaged(record, position, record.key.size, "a manifest page is missing")


def _is_committed(tx: ReadTransaction, domain: bytes, record: BlobRecord) -> bool:
    owner = load_owner(tx, record.owner)
    return owner is not None and owner.state is OwnerState.COMMITTED and owner.domain == domain


def _first_page_rows(tx: ReadTransaction, domain: bytes, record: BlobRecord, start: int, end: int) -> list[Row] | None:
    """The first pages of a span; None if the blob is not visible (any more)."""
    if not _is_committed(tx, domain, record):
        return None
    return _page_rows(tx, record, start) if start < end else []


def _page_rows(tx: ReadTransaction, record: BlobRecord, position: int) -> list[Row]:
    """Pages from the one that holds byte `position` on: the key is the offset after a page's last byte."""
    prefix = u64(record.owner)
    try:
        return read_rows(tx, PAGES, prefix, prefix + u64(position), _READ_PAGES)
    except IntegrityError as error:  # not even past the damage
        raise _damaged(record, position, record.key.size, f"the manifest cannot be read: {error}") from error


def no_such_blob(key: BlobKey) -> NotFound:
    """The error for a blob that is not visible."""
    return NotFound(f"there is no blob {key}", operation="get", subject=key.text, hint="`graviton ls` lists the blobs.")


def _damaged(record: BlobRecord, start: int | None, end: int, what: str) -> IntegrityError:
    where = f"bytes up to {end - 1}" if start is None else f"bytes {start}-{end - 1}"
    return IntegrityError(
        f"blob {record.key}: {what} ({where})",
        operation="get",
        subject=record.key.text,
        hint="Put the same file again: that repairs the blob. Without the file, restore the metadata from a backup.",
    )
