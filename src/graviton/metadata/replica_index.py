"""`ReplicaIndex` over a transactional key-value store.

One row per copy, and three indexes written in the same transaction: keys by their number of live copies, copies by
bucket, live copies by the time of their last verification. Every query is a scan of one index, a page at a time. Rows:
docs/formats/metadata.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence, Set
from typing import TypeVar

from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.metadata.replica_rows import (
    BY_BUCKET,
    BY_LIVE,
    BY_VERIFIED,
    REPLICAS,
    Copy,
    bucket_id,
    check_verified_at,
    count_id,
    decode_copy,
    index_rows,
    locator_id,
)
from graviton.metadata.rows import KEY_BYTES, block_key_of
from graviton.ports.kv import KeyValueStore, ReadTransaction, Transaction
from graviton.ports.replicas import Replica, ReplicaIndex, ReplicaState

__all__ = ["KvReplicaIndex"]

_T = TypeVar("_T")

_PAGE = 256
"""Copies per read: with the longest locators (9 KB each) 2.3 MB, usually 50 KB."""


class KvReplicaIndex(ReplicaIndex):
    """Copies per key; see the port for the laws.

    `oldest_verified` shows a copy that is marked while it runs again at its new place: whoever verifies on the way
    stops at the first time that is not before the beginning of its own run.
    """

    def __init__(self, kv: KeyValueStore) -> None:
        self._kv = kv

    async def replicas(self, key: BlockKey) -> Set[Locator]:
        return frozenset(replica.locator for replica in await self.details(key))

    async def details(self, key: BlockKey) -> list[Replica]:
        prefix = key.to_bytes()
        copies = await self._kv.read(lambda tx: _copies(tx, prefix))
        return sorted((copy.replica(key) for copy in copies), key=lambda replica: replica.locator.text)

    async def update(self, key: BlockKey, locators: Iterable[Locator]) -> None:
        prefix = key.to_bytes()
        wanted = {locator_id(locator): locator for locator in locators}

        def run(tx: Transaction) -> None:
            before = _copies(tx, prefix)
            kept = [copy for copy in before if copy.id in wanted]
            known = {copy.id for copy in kept}
            new = [Copy(id_, loc, ReplicaState.PRESENT, 0) for id_, loc in wanted.items() if id_ not in known]
            _replace(tx, prefix, before, kept + new)

        await self._kv.transact(run)

    async def mark(
        self, key: BlockKey, locator: Locator, state: ReplicaState, verified_at_ns: int | None = None
    ) -> bool:
        check_verified_at(verified_at_ns)
        prefix, marked = key.to_bytes(), locator_id(locator)

        def run(tx: Transaction) -> bool:
            before = _copies(tx, prefix)
            after = [
                copy._replace(
                    state=state, verified_at_ns=copy.verified_at_ns if verified_at_ns is None else verified_at_ns
                )
                if copy.id == marked
                else copy
                for copy in before
            ]
            _replace(tx, prefix, before, after)
            return any(copy.id == marked for copy in before)

        return await self._kv.transact(run)

    async def short_of(self, copies: int) -> AsyncIterator[tuple[BlockKey, int]]:
        # One run per count that occurs, merged by hand: at most `copies` rows are held at a time, besides their pages.
        runs: list[_Run] = []
        for count in await self._kv.read(lambda tx: _counts(tx, copies)):
            run = _Run(count, self._kv.scan(BY_LIVE, count_id(count)))
            if await run.step():
                runs.append(run)
        while runs:
            first = min(runs, key=lambda run: run.key)
            yield block_key_of(first.key, BY_LIVE), first.count
            if not await first.step():
                runs.remove(first)

    async def in_sector(self, bucket: str) -> AsyncIterator[Replica]:
        async for replica in self._indexed(BY_BUCKET, bucket_id(bucket)):
            if replica.locator.bucket == bucket:
                yield replica

    async def oldest_verified(self) -> AsyncIterator[Replica]:
        async for replica in self._indexed(BY_VERIFIED, b""):
            yield replica

    async def _indexed(self, index: str, prefix: bytes) -> AsyncIterator[Replica]:
        """The copies that rows of an index name, in its order; a page and its copies are one snapshot."""

        def page(tx: ReadTransaction, after: bytes | None) -> list[tuple[bytes, bytes | None]]:
            keys = [key for key, _ in tx.scan(index, prefix, after, _PAGE)]
            rows = tx.get_many(REPLICAS, [key[-KEY_BYTES - 16 :] for key in keys])
            return list(zip(keys, rows, strict=True))

        after: bytes | None = None
        while rows := await self._kv.read(_bound(page, after)):
            for key, data in rows:
                yield decode_copy(key[-16:], data).replica(block_key_of(key[:-16], REPLICAS))
            after = rows[-1][0]


class _Run:
    """One ordered scan with its next key in hand."""

    def __init__(self, count: int, rows: AsyncIterator[tuple[bytes, bytes]]) -> None:
        self.count = count
        self.key = b""
        self._rows = rows

    async def step(self) -> bool:
        """Go to the next key; False at the end."""
        async for row, _ in self._rows:
            self.key = row[-KEY_BYTES:]
            return True
        return False


def _bound(page: Callable[[ReadTransaction, bytes | None], _T], after: bytes | None) -> Callable[[ReadTransaction], _T]:
    return lambda tx: page(tx, after)


def _copies(tx: ReadTransaction, prefix: bytes) -> list[Copy]:
    return [decode_copy(key[-16:], data) for key, data in tx.scan(REPLICAS, prefix)]


def _counts(tx: ReadTransaction, below: int) -> list[int]:
    """The numbers of live copies below `below` that occur, by skipping from one to the next."""
    found: list[int] = []
    while True:
        after = None if not found else count_id(found[-1]) + b"\xff" * KEY_BYTES
        row = next(iter(tx.scan(BY_LIVE, b"", after, 1)), None)
        count = below if row is None else int.from_bytes(row[0][:4], "big")
        if count >= below:
            return found
        found.append(count)


def _replace(tx: Transaction, prefix: bytes, before: Sequence[Copy], after: Sequence[Copy]) -> None:
    """Make the rows of one key those of `after`; rows that stay the same are not touched."""
    old = {(namespace, key): value for namespace, key, value in index_rows(prefix, before)}
    new = {(namespace, key): value for namespace, key, value in index_rows(prefix, after)}
    for namespace, key in old.keys() - new.keys():
        tx.delete(namespace, key)
    for (namespace, key), value in new.items():
        if old.get((namespace, key)) != value:
            tx.put(namespace, key, value)
