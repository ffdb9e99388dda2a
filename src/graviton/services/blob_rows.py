"""All visible blobs of a domain with what verification needs of each, many per look; damaged rows are named.

A hop to the metadata's thread costs about as much as everything else that a small blob needs, so small blobs come with
their page and the records of their blocks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import NamedTuple

from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage
from graviton.errors import IntegrityError
from graviton.metadata.owners import load_owner
from graviton.metadata.row_walk import Row, read_rows
from graviton.metadata.rows import BLOBS, BLOCKS, PAGES, BlockRow, blob_key_of, decode_blob, u64
from graviton.ports.block_index import BlockRecord, OwnerState
from graviton.ports.kv import KeyValueStore, ReadTransaction
from graviton.ports.manifests import BlobRecord

__all__ = ["BadBlob", "FoundBlob", "walk_blobs"]

_ROWS = 128
"""Blobs per hop: some milliseconds, and with small blobs 300 KB at most."""

_SMALL_BLOCKS = 64
"""Blobs of at most so many blocks bring everything with them."""


class FoundBlob(NamedTuple):
    """A visible blob."""

    record: BlobRecord
    pages: list[Row] | None = None
    """All rows of its manifest, for small blobs."""
    blocks: Mapping[BlockKey, BlockRecord | None] = {}
    """Records of its blocks, as far as they came along."""


class BadBlob(NamedTuple):
    """A blob whose row, or whose owner's row, is damaged."""

    row: Row
    key: BlobKey | None
    problem: str


async def walk_blobs(kv: KeyValueStore, domain: bytes) -> AsyncGenerator[FoundBlob | BadBlob, None]:
    """Everything in the namespace `blobs` under the key prefix `domain`, in key order. Raises IntegrityError where the
    rest cannot be reached."""
    after: bytes | None = None
    while True:
        rows, found = await kv.read(partial(_look, domain=domain, after=after))
        for one in found:
            yield one
        if len(rows) < _ROWS:
            return
        after = rows[-1].key


def _look(tx: ReadTransaction, domain: bytes, after: bytes | None) -> tuple[list[Row], list[FoundBlob | BadBlob]]:
    rows = read_rows(tx, BLOBS, domain, after, _ROWS)
    found = [_blob(tx, domain, row) for row in rows]
    return rows, [one for one in found if one is not None]


def _blob(tx: ReadTransaction, domain: bytes, row: Row) -> FoundBlob | BadBlob | None:
    """None for a blob that is not visible."""
    key: BlobKey | None = None
    try:
        key = blob_key_of(row.key)
        if row.value is None:
            return BadBlob(row, key, "cannot be read")
        record = decode_blob(key, row.value)
        owner = load_owner(tx, record.owner)
    except IntegrityError as error:
        return BadBlob(row, key, f"is damaged: {error.message}")
    if owner is None:
        return BadBlob(row, key, "is damaged: its owner is missing")
    if owner.state is not OwnerState.COMMITTED:
        return None
    return _small(tx, domain, record) if record.block_count <= _SMALL_BLOCKS else FoundBlob(record)


def _small(tx: ReadTransaction, domain: bytes, record: BlobRecord) -> FoundBlob:
    """The blob with its rows; whatever cannot be read is left to the check of the blob, which says more."""
    try:
        pages = read_rows(tx, PAGES, u64(record.owner), None, 2)
        if len(pages) > 1 or not pages or pages[0].value is None:
            return FoundBlob(record)
        keys = list(dict.fromkeys(ManifestPage.open(pages[0].value, record.key).keys))
        rows = tx.get_many(BLOCKS, [domain + key.to_bytes() for key in keys])
        records = {
            key: None if data is None else BlockRow.decode(data).record(key)
            for key, data in zip(keys, rows, strict=True)
        }
    except IntegrityError:
        return FoundBlob(record)
    return FoundBlob(record, pages, records)
