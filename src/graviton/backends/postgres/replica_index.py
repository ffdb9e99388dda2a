"""`PgReplicaIndex`: where the copies of a key are.

A row per copy, and one per key with the number of its live copies. The latter is the lock of the former: whoever
changes copies locks it first and counts in a later statement, so two updates of one key never mix and the number is
always right. Planners' queries walk one index each, a page at a time, from the last row of the page before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Set
from typing import Any

from graviton.backends.postgres._keys import block_key, key_columns
from graviton.backends.postgres._scripts import Result, Row, Script, Statement
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import RacedError
from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.errors import IntegrityError, InvalidInput
from graviton.metadata.replica_rows import check_verified_at, locator_id
from graviton.ports.replicas import Replica, ReplicaIndex, ReplicaState

__all__ = ["PgReplicaIndex"]

_PAGE = 256
"""Rows per read: with the longest locators (9 KB each) 2.3 MB, usually 50 KB."""

_MAX_COPIES = 2**31 - 1
"""No key has more: the column is an integer."""

_PRESENT = ReplicaState.PRESENT.value

_OF_KEY = "algo = %(algo)b AND digest = %(digest)b AND size = %(size)b"

_COPY = "algo, digest, size, locator_id, locator, state, verified_at"

_DETAILS = f"SELECT {_COPY} FROM replicas WHERE {_OF_KEY} ORDER BY locator"

_LOCK = f"SELECT FROM replica_counts WHERE {_OF_KEY} FOR NO KEY UPDATE"

_LOCK_OR_MAKE = """
INSERT INTO replica_counts (algo, digest, size, live) VALUES (%(algo)b, %(digest)b, %(size)b, %(live)b)
ON CONFLICT (algo, digest, size) DO UPDATE SET live = replica_counts.live
"""
"""In a new row the number is right at once: new copies are present."""

_REMOVE = f"DELETE FROM replicas WHERE {_OF_KEY} AND locator_id <> ALL (%(ids)b::bytea[])"

_ADD = f"""
INSERT INTO replicas (algo, digest, size, locator_id, locator, state, verified_at)
SELECT %(algo)b, %(digest)b, %(size)b, new.id, new.locator, {_PRESENT}, 0
FROM unnest(%(ids)b::bytea[], %(locators)b::text[]) AS new(id, locator)
ON CONFLICT DO NOTHING
"""

_MARK = f"""
UPDATE replicas SET state = %(state)b, verified_at = coalesce(%(verified_at)b::bigint, verified_at)
WHERE {_OF_KEY} AND locator_id = %(id)b
"""

_COUNT = f"""
UPDATE replica_counts SET live = n.live
FROM (SELECT count(*) AS live FROM replicas WHERE {_OF_KEY} AND state = {_PRESENT}) AS n
WHERE {_OF_KEY} AND replica_counts.live <> n.live
"""

_FORGET = f"DELETE FROM replica_counts WHERE {_OF_KEY}"

# Pages begin after a row of an index, compared as a whole from the first column on. A comparison of the key alone, with
# `=` for what comes before it, could use the primary key too; and the server, which judges such a comparison by its
# first column, the algorithm, takes what is left of the table for a row or two and walks all of it.

_SHORT_OF = """
WITH RECURSIVE counts (live) AS (
    (SELECT live FROM replica_counts WHERE live < %(copies)b ORDER BY live LIMIT 1)
    UNION ALL
    SELECT (
        SELECT c.live FROM replica_counts c WHERE c.live > counts.live AND c.live < %(copies)b ORDER BY c.live LIMIT 1
    )
    FROM counts WHERE counts.live IS NOT NULL
)
SELECT k.algo, k.digest, k.size, k.live
FROM counts CROSS JOIN LATERAL (
    SELECT algo, digest, size, live FROM replica_counts
    WHERE live <= counts.live AND (live, algo, digest, size)
        > (counts.live, %(after_algo)b::smallint, %(after_digest)b::bytea, %(after_size)b::int)
    ORDER BY live, algo, digest, size LIMIT %(limit)b
) AS k
ORDER BY k.algo, k.digest, k.size LIMIT %(limit)b
"""
"""The numbers that occur, by skipping from one to the next; a page of keys for each; the first page of all of them."""

_AFTER = "%(after_algo)b::smallint, %(after_digest)b::bytea, %(after_size)b::int, %(after_id)b::bytea"

_BUCKET = "split_part(locator, '/', 3)"

_IN_SECTOR = f"""
SELECT {_COPY} FROM replicas
WHERE {_BUCKET} <= %(bucket)b AND ({_BUCKET}, algo, digest, size, locator_id) > (%(bucket)b, {_AFTER})
ORDER BY {_BUCKET}, algo, digest, size, locator_id LIMIT %(limit)b
"""

_OLDEST_VERIFIED = f"""
SELECT {_COPY} FROM replicas
WHERE state = {_PRESENT}
    AND (verified_at, algo, digest, size, locator_id) > (%(after_time)b::bigint, {_AFTER})
ORDER BY verified_at, algo, digest, size, locator_id LIMIT %(limit)b
"""

_STATES = {state.value: state for state in ReplicaState}


class PgReplicaIndex(ReplicaIndex):
    """Copies per key; see the port for the laws.

    `oldest_verified` shows a copy that is marked while it runs again at its new place: whoever verifies on the way
    stops at the first time that is not before the beginning of its own run.
    """

    def __init__(self, database: PgDatabase) -> None:
        self._database = database

    async def replicas(self, key: BlockKey) -> Set[Locator]:
        return frozenset(replica.locator for replica in await self.details(key))

    async def details(self, key: BlockKey) -> list[Replica]:
        return [_replica(row) for row in await self._database.fetch("replicas.details", _DETAILS, key_columns(key))]

    async def update(self, key: BlockKey, locators: Iterable[Locator]) -> None:
        wanted = {locator_id(locator): locator.text for locator in locators}
        await self._database.run("replicas.update", lambda: _replace(key, wanted))

    async def mark(
        self, key: BlockKey, locator: Locator, state: ReplicaState, verified_at_ns: int | None = None
    ) -> bool:
        check_verified_at(verified_at_ns)
        values = {"id": locator_id(locator), "state": state.value, "verified_at": verified_at_ns} | key_columns(key)

        return await self._database.run("replicas.mark", lambda: _mark(values))

    async def short_of(self, copies: int) -> AsyncIterator[tuple[BlockKey, int]]:
        values = {"copies": min(copies, _MAX_COPIES)} | _after(0, b"", 0)
        if copies > 0:
            async for row in self._paged("replicas.short_of", _SHORT_OF, values, lambda row: _after(*row[:3])):
                yield block_key(*row[:3]), row[3]

    async def in_sector(self, bucket: str) -> AsyncIterator[Replica]:
        if not _is_bucket(bucket):
            return
        values = {"bucket": bucket} | _after(0, b"", 0, b"")
        async for row in self._paged("replicas.in_sector", _IN_SECTOR, values, lambda row: _after(*row[:4])):
            yield _replica(row)

    async def oldest_verified(self) -> AsyncIterator[Replica]:
        def position(row: Row) -> dict[str, Any]:
            return {"after_time": row[6]} | _after(*row[:4])

        values = {"after_time": -1} | _after(0, b"", 0, b"")
        async for row in self._paged("replicas.oldest_verified", _OLDEST_VERIFIED, values, position):
            yield _replica(row)

    async def _paged(
        self, operation: str, sql: str, values: Mapping[str, Any], position: Callable[[Row], Mapping[str, Any]]
    ) -> AsyncIterator[Row]:
        """All rows of a query, page by page; `position` gives the parameters that tell where a row is."""
        while True:
            rows = await self._database.fetch(operation, sql, {**values, "limit": _PAGE})
            for row in rows:
                yield row
            if len(rows) < _PAGE:
                return
            values = {**values, **position(rows[-1])}


def _replace(key: BlockKey, wanted: Mapping[bytes, str]) -> Script[None]:
    """Make the copies of a key those of `wanted`: locators by id."""
    values = {"ids": [*wanted], "locators": [*wanted.values()], "live": len(wanted)} | key_columns(key)
    sqls = (_LOCK_OR_MAKE, _REMOVE, _ADD, _COUNT) if wanted else (_LOCK, _REMOVE, _FORGET)
    locked, removed, *_ = yield [Statement(sql, values) for sql in sqls]
    _check_locked(locked, removed)


def _mark(values: dict[str, Any]) -> Script[bool]:
    """Change the state of one copy; whether it is there."""
    locked, marked, _ = yield [Statement(_LOCK, values), Statement(_MARK, values), Statement(_COUNT, values)]
    _check_locked(locked, marked)
    return marked.changed > 0


def _check_locked(locked: Result, changed: Result) -> None:
    """Raises RacedError if copies were changed whose key somebody else made known just now: it is not locked, and the
    number of its copies may change under us."""
    if changed.changed and not locked.changed:
        raise RacedError("somebody else made the same key known at the same time")


def _after(algo: int, digest: bytes, size: int, id_: bytes | None = None) -> dict[str, Any]:
    """Parameters of the page after a key, or after a copy."""
    key = {"after_algo": algo, "after_digest": digest, "after_size": size}
    return key if id_ is None else {**key, "after_id": id_}


def _is_bucket(name: str) -> bool:
    """Whether a locator can have that bucket. The server refuses some texts that none has."""
    try:
        Locator("any", name, "any")
    except InvalidInput:
        return False
    return True


def _replica(row: Row) -> Replica:
    algo, digest, size, _, locator, state, verified_at_ns = row
    try:
        return Replica(block_key(algo, digest, size), Locator.parse(locator), _STATES[state], verified_at_ns)
    except InvalidInput as error:
        raise IntegrityError(
            "a row of the table replicas is damaged",
            operation="replicas",
            subject=locator[:120],
            hint="Restore the database, or the metadata from a backup (graviton meta restore).",
        ) from error
