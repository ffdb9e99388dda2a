"""A blob's manifest page by page, past every damage: each page is sound, or it is said which bytes it stood for.

Readers use `BlobManifestRepo.pages`, which stops at the first damage. Verification must name them all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import NamedTuple

from graviton.core.manifests import ManifestPage, PageChain
from graviton.core.ranges import Span
from graviton.errors import IntegrityError
from graviton.metadata.row_walk import Row, read_rows
from graviton.metadata.rows import PAGES, u64
from graviton.ports.kv import KeyValueStore, ReadTransaction
from graviton.ports.manifests import BlobRecord

__all__ = ["PageDamage", "walk_manifest"]

_READ_PAGES = 2
"""Pages per hop, as readers do: 295 KB at most."""

_OFFSET_BYTES = 8


class PageDamage(NamedTuple):
    """Bytes of a blob whose blocks are not known."""

    span: Span
    problem: str


async def walk_manifest(
    kv: KeyValueStore, record: BlobRecord, all_rows: list[Row] | None = None
) -> AsyncGenerator[ManifestPage | PageDamage, None]:
    """Pages in order, checked against seal, place and the digest over all of them; damages where they lie. The last of
    them may be one of the whole blob: every page is sound by itself and the record speaks of others. `all_rows` are
    the manifest's rows if there is at most one and it was read already."""
    walk = _Walk(record)
    prefix, after = u64(record.owner), None
    while True:
        if all_rows is not None:
            rows = all_rows
        else:
            rows = await kv.read(partial(_read_pages, prefix, after))
        for row in rows:
            for item in walk.take(row):
                yield item
        if len(rows) < _READ_PAGES:
            break
        after = rows[-1].key
    for item in walk.finish():
        yield item


def _read_pages(prefix: bytes, after: bytes | None, tx: ReadTransaction) -> list[Row]:
    return read_rows(tx, PAGES, prefix, after, _READ_PAGES)


class _Walk:
    """Where one walk stands."""

    def __init__(self, record: BlobRecord) -> None:
        self._record = record
        self._end = 0
        self._blocks = 0
        self._chain = PageChain(record.key.algo)
        self._is_sound = True

    def take(self, row: Row) -> list[ManifestPage | PageDamage]:
        """What the next row turns out to be."""
        size, begin = self._record.key.size, self._end
        end = int.from_bytes(row.key[-_OFFSET_BYTES:], "big")
        if not begin < end <= size:
            return [self._damage(Span(begin, size), "lies in a place that does not exist")]
        if row.value is None:
            self._end = end
            return [self._damage(Span(begin, end), "cannot be read")]
        try:
            page = ManifestPage.open(row.value, self._record.key)
        except IntegrityError:
            self._end = end
            return [self._damage(Span(begin, end), "does not match its digest")]
        if page.end != end or page.offset < begin:
            self._end = end
            return [self._damage(Span(begin, end), "lies in the wrong place")]
        self._chain.add(row.value)
        self._blocks += len(page)
        self._end = end
        if page.offset > begin:
            return [self._damage(Span(begin, page.offset), "is missing"), page]
        return [page]

    def finish(self) -> list[ManifestPage | PageDamage]:
        """What is only known at the end."""
        record, size = self._record, self._record.key.size
        if self._end < size:
            return [self._damage(Span(self._end, size), "is missing")]
        if not self._is_sound:
            return []
        found = (self._chain.pages, self._blocks, self._chain.digest())
        if found != (record.page_count, record.block_count, record.pages_digest):
            return [self._damage(Span(0, size), "belongs to another manifest than the blob's record says")]
        return []

    def _damage(self, span: Span, problem: str) -> PageDamage:
        self._is_sound = False
        return PageDamage(span, problem)
