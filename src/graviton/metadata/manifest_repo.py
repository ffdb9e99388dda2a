"""`BlobManifestRepo` over a transactional key-value store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import islice

from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage, PageChain
from graviton.core.names import check_name
from graviton.core.ranges import Span
from graviton.errors import GravitonError, IntegrityError, InvalidInput, NotFound
from graviton.metadata import commits, manifest_checks, totals
from graviton.metadata.key_prefix import KeyPrefix, blob_key_prefix
from graviton.metadata.owners import load_owner, load_owners
from graviton.metadata.rows import BLOBS, PAGES, blob_key_of, decode_blob, domain_prefix, u64
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction
from graviton.ports.manifests import (
    MAX_COMMIT_PAGES,
    BlobCommit,
    BlobManifestRepo,
    BlobRecord,
    CommitResult,
    StoreTotals,
)

__all__ = ["KvBlobManifestRepo"]

_READ_PAGES = 2
"""Pages fetched per hop: 295 KB at most, which describe up to 8 GiB at the default chunk size."""

_LIST_BATCH = 1000
"""Records decoded at once by `list`: about 1 MB with long attributes."""

_SEAL_PAGES = 16
"""Pages sealed per transaction, 2.4 MB."""


class KvBlobManifestRepo(BlobManifestRepo):
    """Blobs, pages and totals; see the port for the laws and `commits.py` for the transactions."""

    def __init__(self, kv: KeyValueStore, clock: Clock | None = None) -> None:
        self._kv = kv
        self.capabilities = kv.capabilities
        self._clock = clock or SystemClock()

    async def add_pages(self, session: int, pages: Sequence[ManifestPage], confirm: Sequence[BlockKey] = ()) -> None:
        now_ns = self._clock.now_ns()
        await self._kv.transact(lambda tx: commits.add_pages(tx, session, pages, confirm, now_ns), Durability.RELAXED)

    async def commit(self, commits_: Sequence[BlobCommit]) -> list[CommitResult]:
        prepared = [await self._prepare(one) for one in commits_]
        results = await self._commit(prepared)
        merged = zip(commits_, results, strict=True)
        await self._forget([one.session for one, result in merged if result.record.owner != one.session])
        return results

    async def _commit(self, prepared: Sequence[commits.Prepared]) -> list[CommitResult]:
        now_ns = self._clock.now_ns()
        answers: dict[tuple[int, bool], bool] = {}
        while True:
            try:
                return await self._kv.transact(lambda tx: commits.commit(tx, prepared, now_ns, answers))
            except manifest_checks.UncheckedManifestsError as unchecked:
                for suspect in unchecked.suspects:
                    answers[suspect.question] = await manifest_checks.check_outside(self._kv, suspect)

    async def _prepare(self, one: BlobCommit) -> commits.Prepared:
        """Seal the pages that were added while the blob's key was not known, and those that come with the commit."""
        check_name(one.holder, "holder")
        if len(one.pages) > MAX_COMMIT_PAGES:
            raise InvalidInput(f"a commit brings at most {MAX_COMMIT_PAGES} pages, not {len(one.pages)}")
        chain = PageChain(one.key.algo)
        blocks = end = 0
        after: bytes | None = None
        while chain.pages < one.pages[0].number if one.pages else end < one.key.size:
            rows = await self._kv.transact(
                lambda tx, after=after: commits.seal_some(tx, one.session, one.key, after, _SEAL_PAGES),  # type: ignore[misc]
                Durability.RELAXED,
            )
            if not rows:
                break
            after = rows[-1][2]
            for page, data, _ in rows:
                _check_follows(page, chain.pages, end)
                chain.add(data)
                blocks, end = blocks + len(page), page.end
        sealed = [(page, page.seal(one.key)) for page in one.pages]
        for page, data in sealed:
            _check_follows(page, chain.pages, end)
            chain.add(data)
            blocks, end = blocks + len(page), page.end
        if end != one.key.size:
            raise InvalidInput(f"the pages of blob {one.key} cover {end} bytes", subject=one.key.text)
        return commits.Prepared(one, sealed, chain.pages, blocks, chain.digest())

    async def _forget(self, owners: Sequence[int]) -> None:
        """Best effort: the commit has happened, and what stays behind belongs to dropped owners, which garbage
        collection takes away."""
        try:
            while owners:
                owners = await self._kv.transact(
                    lambda tx, some=owners: commits.forget_dropped(tx, some),  # type: ignore[misc]
                    Durability.RELAXED,
                )
        except GravitonError:
            return

    async def get(self, key: BlobKey, domain: str = "") -> BlobRecord:
        prefix = domain_prefix(domain)
        record = await self._kv.read(lambda tx: commits.visible(tx, prefix, key))
        if record is None:
            raise _no_such_blob(key)
        return record

    async def pages(
        self, record: BlobRecord, span: Span | None = None, domain: str = ""
    ) -> AsyncIterator[ManifestPage]:
        prefix = domain_prefix(domain)
        start, end = (0, record.key.size) if span is None else (span.start, min(span.end, record.key.size))
        first = await self._kv.read(lambda tx: _first_page_rows(tx, prefix, record, start, end))
        if first is None:
            raise _no_such_blob(record.key)
        rows: list[tuple[bytes, bytes]] = first
        position, end_of_last = start, None
        chain = PageChain(record.key.algo)
        while position < end:
            if not rows:
                await self._missing_page(record, position, prefix)
            for key, data in rows:
                page = self._open_page(record, key, data)
                if page.offset > position or (end_of_last is not None and page.offset != end_of_last):
                    raise _damaged_page(record, position, page.offset, "a manifest page is missing")
                chain.add(data)
                position = end_of_last = page.end
                yield page
                if position >= end:
                    break
            else:
                rows = await self._kv.read(lambda tx, at=position: _page_rows(tx, record.owner, at))  # type: ignore[misc]
        if span is None and (chain.pages != record.page_count or chain.digest() != record.pages_digest):
            raise _damaged_page(record, 0, record.key.size, "the manifest pages do not match the blob's record")

    def _open_page(self, record: BlobRecord, key: bytes, data: bytes) -> ManifestPage:
        end = int.from_bytes(key[-8:], "big")
        try:
            page = ManifestPage.open(data, record.key)
        except IntegrityError as error:
            raise _damaged_page(record, None, end, str(error)) from error
        if page.end != end:
            raise _damaged_page(record, page.offset, page.end, "a manifest page lies in the wrong place")
        return page

    async def _missing_page(self, record: BlobRecord, position: int, prefix: bytes) -> None:
        """No page where there must be one: NotFound if the blob was deleted meanwhile, else IntegrityError."""
        if not await self._kv.read(lambda tx: _is_committed(tx, prefix, record)):
            raise _no_such_blob(record.key)
        raise _damaged_page(record, position, record.key.size, "a manifest page is missing")

    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        prefix, now_ns = domain_prefix(domain), self._clock.now_ns()
        check_name(holder, "holder")
        return await self._kv.transact(lambda tx: commits.delete(tx, prefix, key, holder, now_ns))

    async def undelete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        prefix, now_ns = domain_prefix(domain), self._clock.now_ns()
        check_name(holder, "holder")
        return await self._kv.transact(lambda tx: commits.undelete(tx, prefix, key, holder, now_ns))

    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int = 1000, domain: str = ""
    ) -> list[BlobRecord]:
        domain_key, begin = domain_prefix(domain), blob_key_prefix(prefix)
        return await self._kv.read(lambda tx: _list(tx, domain_key, begin, after, limit))

    async def totals(self, domain: str = "") -> StoreTotals:
        prefix = domain_prefix(domain)
        return await self._kv.read(lambda tx: totals.read(tx, prefix))


def _is_committed(tx: ReadTransaction, domain: bytes, record: BlobRecord) -> bool:
    owner = load_owner(tx, record.owner)
    return owner is not None and owner.state is OwnerState.COMMITTED and owner.domain == domain


def _first_page_rows(
    tx: ReadTransaction, domain: bytes, record: BlobRecord, start: int, end: int
) -> list[tuple[bytes, bytes]] | None:
    """The first pages of a span; None if the blob is not visible (any more)."""
    if not _is_committed(tx, domain, record):
        return None
    return _page_rows(tx, record.owner, start) if start < end else []


def _page_rows(tx: ReadTransaction, owner: int, position: int) -> list[tuple[bytes, bytes]]:
    """Pages from the one that holds byte `position` on: the key is the offset after a page's last byte."""
    return list(tx.scan(PAGES, u64(owner), u64(owner) + u64(position), _READ_PAGES))


def _list(tx: ReadTransaction, domain: bytes, begin: KeyPrefix, after: BlobKey | None, limit: int) -> list[BlobRecord]:
    """Visible blobs, looked up in batches no larger than what is still wanted: deleted ones cost a lookup only."""
    found: list[BlobRecord] = []
    position = None if after is None else domain + after.to_bytes()
    for prefix in begin.binary:
        rows = tx.scan(BLOBS, domain + prefix, position)
        while len(found) < limit:
            batch = [
                decode_blob(blob_key_of(place), data)
                for place, data in islice(rows, min(limit - len(found), _LIST_BATCH))
            ]
            if not batch:
                break
            owners = load_owners(tx, [record.owner for record in batch])
            found += [
                record
                for record, owner in zip(batch, owners, strict=True)
                if owner is not None and owner.state is OwnerState.COMMITTED and record.key.text.startswith(begin.text)
            ]
    return found


def _check_follows(page: ManifestPage, number: int, offset: int) -> None:
    if (page.number, page.offset) != (number, offset):
        raise InvalidInput(
            f"page {page.number} at {page.offset} does not follow page {number - 1}, which ends at {offset}"
        )


def _no_such_blob(key: BlobKey) -> NotFound:
    return NotFound(f"there is no blob {key}", operation="get", subject=key.text, hint="`graviton ls` lists the blobs.")


def _damaged_page(record: BlobRecord, start: int | None, end: int, what: str) -> IntegrityError:
    where = f"bytes up to {end - 1}" if start is None else f"bytes {start}-{end - 1}"
    return IntegrityError(
        f"blob {record.key}: {what} ({where})",
        operation="get",
        subject=record.key.text,
        hint="Restore the metadata from a backup, or delete the blob and put the file again.",
    )
