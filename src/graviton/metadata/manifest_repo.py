"""`BlobManifestRepo` over a transactional key-value store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import partial

from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage
from graviton.core.names import check_name
from graviton.core.ranges import Span
from graviton.errors import GravitonError, IntegrityError
from graviton.metadata import commits, manifest_checks, totals
from graviton.metadata.event_bell import bell_of
from graviton.metadata.key_prefix import KeyPrefix, blob_key_prefix
from graviton.metadata.page_reads import KvPages, read_pages
from graviton.metadata.preparing import SEAL_PAGES, Prepared, prepare
from graviton.metadata.releasing import forget_dropped
from graviton.metadata.row_walk import Row, read_rows
from graviton.metadata.rows import BLOBS, blob_key_of, decode_blob, domain_prefix
from graviton.metadata.visibility import committed_owners, visible, visible_each
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction
from graviton.ports.manifests import (
    BlobCommit,
    BlobManifestRepo,
    BlobRecord,
    CommitResult,
    ListedBlobs,
    StoreTotals,
    no_such_blob,
)

__all__ = ["KvBlobManifestRepo"]

_LIST_BATCH = 1000
"""Records decoded at once by `list`: about 1 MB with long attributes."""


class KvBlobManifestRepo(BlobManifestRepo):
    """Blobs, pages and totals; see the port for the laws and `commits.py` for the transactions."""

    def __init__(self, kv: KeyValueStore, clock: Clock | None = None) -> None:
        self._kv = kv
        self.capabilities = kv.capabilities
        self._clock = clock or SystemClock()
        self._bell = bell_of(kv)

    async def add_pages(self, session: int, pages: Sequence[ManifestPage], confirm: Sequence[BlockKey] = ()) -> None:
        now_ns = self._clock.now_ns()
        await self._kv.transact(lambda tx: commits.add_pages(tx, session, pages, confirm, now_ns), Durability.RELAXED)

    async def commit(self, commits_: Sequence[BlobCommit]) -> list[CommitResult]:
        prepared = [await self._prepare(one) for one in commits_]
        results, dropped = await self._commit(prepared)
        self._bell.ring()
        await self._forget(dropped)
        return results

    async def _commit(self, prepared: Sequence[Prepared]) -> commits.Committed:
        now_ns = self._clock.now_ns()
        answers: dict[tuple[int, bool], bool] = {}
        while True:
            try:
                return await self._kv.transact(lambda tx: commits.commit(tx, prepared, now_ns, answers))
            except manifest_checks.UncheckedManifestsError as unchecked:
                for suspect in unchecked.suspects:
                    answers[suspect.question] = await manifest_checks.check_outside(self._kv, suspect)

    async def _prepare(self, one: BlobCommit) -> Prepared:
        def seal_some(after: bytes | None) -> Awaitable[Sequence[tuple[ManifestPage, bytes, bytes]]]:
            return self._kv.transact(
                lambda tx: commits.seal_some(tx, one.session, one.key, after, SEAL_PAGES), Durability.RELAXED
            )

        return await prepare(one, seal_some)

    async def _forget(self, owners: Sequence[int]) -> None:
        """Best effort: the commit has happened, and what stays behind belongs to dropped owners, which garbage
        collection takes away."""
        try:
            while owners:
                owners = await self._kv.transact(partial(forget_dropped, owners=owners), Durability.RELAXED)
        except GravitonError:
            return

    async def get(self, key: BlobKey, domain: str = "") -> BlobRecord:
        prefix = domain_prefix(domain)
        record = await self._kv.read(lambda tx: visible(tx, prefix, key))
        if record is None:
            raise no_such_blob(key)
        return record

    async def find(self, keys: Sequence[BlobKey], domain: str = "") -> list[BlobRecord | None]:
        prefix = domain_prefix(domain)
        return await self._kv.read(lambda tx: visible_each(tx, prefix, keys))

    def pages(self, record: BlobRecord, span: Span | None = None, domain: str = "") -> AsyncIterator[ManifestPage]:
        return read_pages(KvPages(self._kv, domain_prefix(domain), record), record, span)

    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        prefix, now_ns = domain_prefix(domain), self._clock.now_ns()
        check_name(holder, "holder")
        done = await self._kv.transact(lambda tx: commits.delete(tx, prefix, key, holder, now_ns))
        self._bell.ring()
        return done

    async def undelete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        prefix, now_ns = domain_prefix(domain), self._clock.now_ns()
        check_name(holder, "holder")
        done = await self._kv.transact(lambda tx: commits.undelete(tx, prefix, key, holder, now_ns))
        self._bell.ring()
        return done

    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int = 1000, domain: str = ""
    ) -> list[BlobRecord]:
        found = await self.list_readable(prefix, after, limit, domain)
        found.check()
        return found.records

    async def list_readable(
        self, prefix: str = "", after: BlobKey | None = None, limit: int = 1000, domain: str = ""
    ) -> ListedBlobs:
        domain_key, begin = domain_prefix(domain), blob_key_prefix(prefix)
        return await self._kv.read(lambda tx: _list(tx, domain_key, begin, after, limit))

    async def totals(self, domain: str = "") -> StoreTotals:
        prefix = domain_prefix(domain)
        return await self._kv.read(lambda tx: totals.read(tx, prefix))


def _list(tx: ReadTransaction, domain: bytes, begin: KeyPrefix, after: BlobKey | None, limit: int) -> ListedBlobs:
    """Visible blobs, looked up in batches no larger than what is still wanted: deleted ones cost a lookup only. As
    every batch that comes up to the limit is sound, no damaged row is met again by whoever goes on after the last."""
    found: list[BlobRecord] = []
    unreadable: list[str] = []
    for prefix in begin.binary:
        position = None if after is None else domain + after.to_bytes()
        while len(found) < limit:
            rows = read_rows(tx, BLOBS, domain + prefix, position, min(limit - len(found), _LIST_BATCH))
            if not rows:
                break
            position = rows[-1].key
            batch = [record for row in rows if (record := _listed(row, unreadable)) is not None]
            committed, lost = committed_owners(tx, [record.owner for record in batch])
            found += [one for one in batch if one.owner in committed and one.key.text.startswith(begin.text)]
            unreadable += [one.key.text for one in batch if one.owner in lost]
    return ListedBlobs(found, [text for text in unreadable if text.startswith(begin.text)])


def _listed(row: Row, unreadable: list[str]) -> BlobRecord | None:
    try:
        key = blob_key_of(row.key)
    except IntegrityError:
        unreadable.append(row.key.hex())
        return None
    try:
        if row.value is not None:
            return decode_blob(key, row.value)
    except IntegrityError:
        pass  # told with those that cannot be read at all
    unreadable.append(key.text)
    return None
