"""`PgBlobManifestRepo`: blobs, their manifests and totals in SQL of their own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from graviton.backends.postgres._blob_rows import BLOB_COLUMNS, blob_record, insert_pages
from graviton.backends.postgres._commits import Committed, commit
from graviton.backends.postgres._confirms import confirm as confirm_claims
from graviton.backends.postgres._deletes import delete, undelete
from graviton.backends.postgres._endings import forget_dropped
from graviton.backends.postgres._gather import SMALL_KEYS, Gatherer
from graviton.backends.postgres._keys import KEY_ARRAYS, columns, key_columns
from graviton.backends.postgres._outcomes import run_once
from graviton.backends.postgres._owners import Owner, lock_owners
from graviton.backends.postgres._page_source import PgPageSource
from graviton.backends.postgres._scripts import Script
from graviton.backends.postgres._sealing import seal_some
from graviton.backends.postgres._soundness import check
from graviton.backends.postgres._totals import FOLD_ONE_IN, READ_TOTALS, fold
from graviton.backends.postgres.capabilities import CAPABILITIES
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.domains import Domains
from graviton.backends.postgres.errors import LostReply
from graviton.core.clock import Clock
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage
from graviton.core.names import check_name
from graviton.core.ranges import Span
from graviton.errors import GravitonError, NotFound
from graviton.metadata.key_prefix import blob_key_prefix
from graviton.metadata.manifest_checks import UncheckedManifestsError
from graviton.metadata.page_reads import read_pages
from graviton.metadata.preparing import Prepared, prepare
from graviton.ports.block_index import OwnerState
from graviton.ports.events import EventKind
from graviton.ports.kv import Durability, prefix_end
from graviton.ports.manifests import (
    BlobCommit,
    BlobManifestRepo,
    BlobRecord,
    CommitResult,
    StoreTotals,
    no_such_blob,
)

__all__ = ["PgBlobManifestRepo"]

_LIST_ROWS = 1000
"""Records decoded at once by `list`: about 1 MB with long attributes."""

_GET = f"""
SELECT {BLOB_COLUMNS} FROM blobs b JOIN owners o ON o.id = b.owner_id
WHERE b.domain_id = %(domain)b AND b.algo = %(algo)b AND b.digest = %(digest)b AND b.size = %(size)b
    AND o.state = {OwnerState.COMMITTED.value}
"""

_FIND = f"""
SELECT {BLOB_COLUMNS} FROM {KEY_ARRAYS} AS k(algo, digest, size)
CROSS JOIN LATERAL (
    SELECT * FROM blobs
    WHERE domain_id = %(domain)b AND algo = k.algo AND digest = k.digest AND size = k.size LIMIT 1
) AS b
CROSS JOIN LATERAL (SELECT state FROM owners WHERE id = b.owner_id LIMIT 1) AS o
WHERE o.state = {OwnerState.COMMITTED.value}
"""

_LIST = f"""
SELECT {BLOB_COLUMNS} FROM blobs b JOIN owners o ON o.id = b.owner_id
WHERE b.domain_id = %(domain)b AND o.state = {OwnerState.COMMITTED.value}
    AND (b.algo, b.digest, b.size) > (%(algo)b::smallint, %(digest)b::bytea, %(size)b::bigint)
    AND (b.algo, b.digest) < (%(end_algo)b::smallint, %(end_digest)b::bytea)
ORDER BY b.algo, b.digest, b.size LIMIT %(limit)b
"""
"""Compared as a whole, keys begin and end where they do in the index. Conditions on single columns would not bound what
is read of it: before PostgreSQL 18 `algo = ANY(…)` beside an order is a filter."""

_PAST_EVERY_KEY = b"\xff"
"""A binary key begins with the tag of its algorithm."""

_AFTER_COMMIT = (OwnerState.COMMITTED, OwnerState.DROPPED)
"""What a commit makes of a session, and nothing else does."""

_MAX_LOST = 5
"""Commits of one call whose replies may be lost before it gives up."""


class _Position(NamedTuple):
    """A place in the order of keys."""

    algo: int
    digest: bytes
    """Perhaps only its beginning."""
    size: int


class PgBlobManifestRepo(BlobManifestRepo):
    """Blobs, pages and totals; see the port for the laws and docs/formats/postgres.md for the rows."""

    capabilities = CAPABILITIES

    def __init__(self, database: PgDatabase, clock: Clock | None = None) -> None:
        self._database = database
        self._domains = Domains(database)
        self._clock = clock or database.clock
        self._kinds = database.config.events
        self._small = Gatherer(self._commit_all)

    async def add_pages(self, session: int, pages: Sequence[ManifestPage], confirm: Sequence[BlockKey] = ()) -> None:
        now_ns = self._clock.now_ns()
        rows = [(page.end, page.to_bytes()) for page in pages]
        also = [insert_pages(session, rows)] if rows else []
        script = partial(confirm_claims, session, confirm, now_ns, self._kinds, pages, also)
        await self._database.run("manifests.add_pages", script, self._database.confirm_durability)
        if EventKind.BLOCK_STORED in self._kinds:
            self._database.ring()

    async def commit(self, commits: Sequence[BlobCommit]) -> list[CommitResult]:
        if not commits:
            return []
        prepared = [await self._prepare(one) for one in commits]
        if len(prepared) == 1 and len(commits[0].confirm) <= SMALL_KEYS and prepared[0].page_count <= 1:
            return [await self._small(None, prepared[0])]
        return await self._commit_all(None, prepared)

    async def _commit_all(self, key: None, prepared: Sequence[Prepared]) -> list[CommitResult]:
        results, dropped = await self._commit(prepared)
        if self._kinds:
            self._database.ring()
        await self._tidy(dropped)
        return results

    async def _prepare(self, one: BlobCommit) -> Prepared:
        def seal(after: int | None) -> Awaitable[Sequence[tuple[ManifestPage, bytes, int]]]:
            return self._database.run(
                "manifests.seal", lambda: seal_some(one.session, one.key, after or 0), Durability.RELAXED
            )

        return await prepare(one, seal)

    async def _commit(self, prepared: Sequence[Prepared]) -> Committed:
        now_ns = self._clock.now_ns()
        answers: dict[tuple[int, bool], bool] = {}
        lost = 0
        while True:
            try:
                return await self._database.run(
                    "manifests.commit",
                    lambda: commit(prepared, now_ns, answers, self._kinds),
                    repeats_lost=False,
                )
            except UncheckedManifestsError as unchecked:
                for suspect in unchecked.suspects:
                    answers[suspect.question] = await self._database.run("manifests.check", partial(check, suspect))
            except LostReply:
                committed = await self._look(prepared)
                if committed is not None:
                    return committed
                lost += 1
                if lost >= _MAX_LOST:
                    raise

    async def _look(self, prepared: Sequence[Prepared]) -> Committed | None:
        """What a commit did whose reply was lost; None if nothing, also where somebody ended a session meanwhile: made
        again, it is refused. Locking its owners waits for a server process that is still at it."""
        numbers = [one.commit.session for one in prepared]
        owners = await self._database.run("manifests.look", partial(_locked_owners, numbers))
        if not all(number in owners and owners[number].state in _AFTER_COMMIT for number in numbers):
            return None
        results = []
        for one in prepared:
            owner = owners[one.commit.session]
            record = await self._record(one.commit.key, owner.domain_id)
            if record is None:
                raise NotFound(
                    f"blob {one.commit.key} was committed, and deleted before the reply arrived",
                    operation="commit",
                    subject=one.commit.key.text,
                )
            results.append(CommitResult(record, owner.state is OwnerState.COMMITTED))
        dropped = [owner.id for owner in owners.values() if owner.state is OwnerState.DROPPED]
        return Committed(results, dropped)

    async def _tidy(self, dropped: Sequence[int]) -> None:
        """Best effort: the commit has happened, and what stays behind belongs to dropped owners, which garbage
        collection takes away, or are totals that the next one folds."""
        try:
            for owner in dropped:
                forget = partial(forget_dropped, owner)
                while await self._database.run("manifests.forget", forget, Durability.RELAXED):
                    pass
            if secrets.randbelow(FOLD_ONE_IN) == 0:
                await self._database.run("manifests.fold", fold, Durability.RELAXED)
        except GravitonError:
            return

    async def get(self, key: BlobKey, domain: str = "") -> BlobRecord:
        record = await self._record(key, await self._domains.number(domain))
        if record is None:
            raise no_such_blob(key)
        return record

    async def _record(self, key: BlobKey, domain_id: int) -> BlobRecord | None:
        rows = await self._database.fetch("manifests.get", _GET, {"domain": domain_id} | key_columns(key))
        return blob_record(rows[0]) if rows else None

    async def find(self, keys: Sequence[BlobKey], domain: str = "") -> list[BlobRecord | None]:
        values = {"domain": await self._domains.number(domain)} | columns(list(dict.fromkeys(keys)))
        rows = await self._database.fetch("manifests.find", _FIND, values)
        there = {record.key: record for record in map(blob_record, rows)}
        return [there.get(key) for key in keys]

    async def pages(
        self, record: BlobRecord, span: Span | None = None, domain: str = ""
    ) -> AsyncIterator[ManifestPage]:
        source = PgPageSource(self._database, await self._domains.number(domain), record)
        async for page in read_pages(source, record, span):
            yield page

    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        check_name(holder, "holder")
        number, now_ns = await self._domains.number(domain), self._clock.now_ns()
        script = partial(delete, number, key, holder, now_ns, self._kinds)
        return await self._run_once("manifests.delete", script)

    async def undelete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        check_name(holder, "holder")
        number, now_ns = await self._domains.number(domain), self._clock.now_ns()
        script = partial(undelete, number, key, holder, now_ns, self._kinds)
        return await self._run_once("manifests.undelete", script)

    async def _run_once(self, operation: str, script: Callable[[], Script[bool]]) -> bool:
        did = await run_once(self._database, operation, script)
        if did and self._kinds:
            self._database.ring()
        return did

    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int = 1000, domain: str = ""
    ) -> list[BlobRecord]:
        begin = blob_key_prefix(prefix)
        number = await self._domains.number(domain)
        first, end = _bounds(begin.binary)
        values: dict[str, Any] = {"domain": number, "end_algo": end.algo, "end_digest": end.digest}
        if after is not None:
            first = max(first, _Position(after.algo.tag, after.digest.raw, after.size))
        values |= first._asdict()
        found: list[BlobRecord] = []
        while len(found) < limit:
            wanted = min(limit - len(found), _LIST_ROWS)
            rows = await self._database.fetch("manifests.list", _LIST, values | {"limit": wanted})
            records = [blob_record(row) for row in rows]
            found += [record for record in records if record.key.text.startswith(begin.text)]
            if len(rows) < wanted:
                break
            values |= key_columns(records[-1].key)
        return found

    async def totals(self, domain: str = "") -> StoreTotals:
        rows = await self._database.fetch(
            "manifests.totals", READ_TOTALS, {"domain": await self._domains.number(domain)}
        )
        return StoreTotals(*rows[0])


def _locked_owners(numbers: Sequence[int]) -> Script[dict[int, Owner]]:
    (locked,) = yield [lock_owners(sorted(numbers))]
    return {row[0]: Owner.of(row) for row in locked.rows}


def _bounds(beginnings: Sequence[bytes]) -> tuple[_Position, _Position]:
    """Positions just before all keys that begin with one of `beginnings`, which have no gaps, and after them."""
    first, last = beginnings[0], prefix_end(beginnings[-1]) or _PAST_EVERY_KEY
    return _Position(first[0] if first else 0, first[1:], -1), _Position(last[0], last[1:], -1)
