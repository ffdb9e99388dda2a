"""`BlockIndex` over a transactional key-value store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TypeVar

from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlockKey
from graviton.errors import InvalidInput
from graviton.metadata import confirms, sessions, totals
from graviton.metadata.condemning import check_limit, condemn
from graviton.metadata.event_bell import bell_of
from graviton.metadata.event_rows import block_damaged, tell
from graviton.metadata.owners import load_owner
from graviton.metadata.releasing import Due, end_if_expired, find_expired, find_gone, release_some
from graviton.metadata.rows import (
    BLOCKS,
    NOTES,
    REFS,
    RUN_BYTES,
    BlockRow,
    NoteRow,
    block_key_of,
    domain_prefix,
    note_of,
    run_of,
)
from graviton.ports.block_index import (
    MAX_OPEN_NOTES,
    OWNER_KEPT_SECONDS,
    BlockIndex,
    BlockRecord,
    BlockState,
    Claim,
    Condemned,
    Note,
    OpenedSession,
    OwnerRecord,
    Released,
)
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction
from graviton.ports.manifests import StoreTotals

__all__ = ["DEFAULT_LIFETIME_SECONDS", "KvBlockIndex", "due_at", "lifetime_ns_of"]

_T = TypeVar("_T")

DEFAULT_LIFETIME_SECONDS = 86_400.0
"""A day without any sign of life before a collector may end a session; every call renews it."""

MAX_LIFETIME_NS = 100 * 366 * 86_400 * 1_000_000_000
"""Times are u64 nanoseconds since 1970 in the rows, which end in the year 2554."""


class KvBlockIndex(BlockIndex):
    """Sessions, claims and block records; see the port for the laws and `sessions.py` for the transactions."""

    def __init__(self, kv: KeyValueStore, clock: Clock | None = None) -> None:
        self._kv = kv
        self.capabilities = kv.capabilities
        self._clock = clock or SystemClock()
        self._bell = bell_of(kv)

    async def open(
        self,
        batches: Sequence[Sequence[BlockKey]],
        domain: str = "",
        lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS,
    ) -> list[OpenedSession]:
        prefix, now_ns, lifetime_ns = domain_prefix(domain), self._clock.now_ns(), lifetime_ns_of(lifetime_seconds)
        return await self._kv.transact(
            lambda tx: sessions.open_sessions(tx, prefix, batches, now_ns, lifetime_ns), Durability.RELAXED
        )

    async def claim(self, session: int, keys: Sequence[BlockKey]) -> list[Claim]:
        now_ns = self._clock.now_ns()
        return await self._kv.transact(lambda tx: sessions.claim_more(tx, session, keys, now_ns), Durability.RELAXED)

    async def confirm(self, session: int, keys: Sequence[BlockKey]) -> None:
        now_ns = self._clock.now_ns()
        await self._kv.transact(lambda tx: confirms.confirm_some(tx, session, keys, now_ns), Durability.RELAXED)

    async def end(self, session: int) -> None:
        now_ns = self._clock.now_ns()
        more = await self._kv.transact(lambda tx: sessions.end(tx, session, now_ns), Durability.RELAXED)
        while more:
            dropped = await self._kv.transact(lambda tx: sessions.drop_some_claims(tx, session), Durability.RELAXED)
            more = dropped == sessions.MAX_DROP

    async def owner(self, owner: int) -> OwnerRecord | None:
        row = await self._kv.read(lambda tx: load_owner(tx, owner))
        return None if row is None else row.record(owner)

    async def records(self, keys: Sequence[BlockKey], domain: str = "") -> list[BlockRecord | None]:
        prefix = domain_prefix(domain)
        rows = await self._kv.read(lambda tx: tx.get_many(BLOCKS, [prefix + key.to_bytes() for key in keys]))
        return [
            None if data is None else BlockRow.decode(data).record(key) for key, data in zip(keys, rows, strict=True)
        ]

    async def mark_damaged(self, key: BlockKey, generation: int, domain: str = "") -> bool:
        prefix, now_ns = domain_prefix(domain), self._clock.now_ns()
        block = prefix + key.to_bytes()

        def run(tx: Transaction) -> bool:
            row = _stored_of_generation(tx, block, generation)
            if row is None:
                return False
            tx.put(BLOCKS, block, BlockRow(BlockState.DAMAGED, generation + 1).encode())
            totals.add(tx, prefix, generation, StoreTotals(blocks=-1, stored_bytes=-key.size))
            tell(tx, [block_damaged(prefix, key.text, now_ns)])
            return True

        is_damaged = await self._kv.transact(run)
        self._bell.ring()
        return is_damaged

    async def mark_wanted_back(self, key: BlockKey, generation: int, domain: str = "") -> bool:
        block = domain_prefix(domain) + key.to_bytes()

        def run(tx: Transaction) -> bool:
            row = _stored_of_generation(tx, block, generation)
            if row is not None and not row.wanted_back:
                tx.put(BLOCKS, block, row._replace(wanted_back=True).encode())
            return row is not None

        return await self._kv.transact(run, Durability.RELAXED)

    async def references(self, key: BlockKey, domain: str = "") -> AsyncIterator[int]:
        async for ref, _ in self._kv.scan(REFS, domain_prefix(domain) + key.to_bytes()):
            yield int.from_bytes(ref[-8:], "big")

    async def list(self, domain: str = "", after: BlockKey | None = None) -> AsyncIterator[BlockRecord]:
        prefix = domain_prefix(domain)
        position = None if after is None else prefix + after.to_bytes()
        async for block, data in self._kv.scan(BLOCKS, prefix, position):
            yield BlockRow.decode(data).record(block_key_of(block, BLOCKS))

    async def end_expired(self) -> AsyncIterator[int]:
        now_ns = self._clock.now_ns()
        position: bytes | None = None
        while True:
            found = await self._kv.read(partial(find_expired, after=position, now_ns=now_ns))
            for session in found.owners:
                ending = partial(end_if_expired, session=session, now_ns=now_ns)
                if await self._kv.transact(ending, Durability.RELAXED):
                    yield session
            position = found.position
            if position is None:
                return

    async def release(self, undelete_seconds: float) -> AsyncIterator[Released]:
        due = due_at(self._clock.now_ns(), undelete_seconds)
        position: bytes | None = None
        while True:
            owners, position = await self._kv.read(partial(find_gone, after=position, due=due))
            while owners:
                step = partial(release_some, owners=owners, due=due)
                released, owners = await self._kv.transact(step, Durability.RELAXED)
                yield released
            if position is None:
                return

    async def condemn(self, run: str, limit: int = MAX_OPEN_NOTES) -> Condemned:
        step = partial(condemn, run=run_of(run), limit=check_limit(limit), now_ns=self._clock.now_ns())
        return await self._kv.transact(step)

    async def notes(self, run: str | None = None) -> AsyncIterator[Note]:
        wanted = None if run is None else run_of(run)
        async for key, data in self._kv.scan(NOTES):
            if wanted is None or key[-RUN_BYTES:] == wanted:
                yield note_of(key, NoteRow.decode(data))


def due_at(now_ns: int, undelete_seconds: float) -> Due:
    """What a collector may take away now. Raises InvalidInput."""
    undelete_ns = _duration_ns(undelete_seconds, "the time to undelete")
    return Due(now_ns - undelete_ns, now_ns - int(OWNER_KEPT_SECONDS * 1e9))


def lifetime_ns_of(seconds: float) -> int:
    """The lifetime of a session in nanoseconds. Raises InvalidInput."""
    return _duration_ns(seconds, "the lifetime of a session")


def _duration_ns(seconds: float, what: str) -> int:
    if not 0 <= seconds < MAX_LIFETIME_NS / 1e9:
        raise InvalidInput(f"{what} is 0 seconds to 100 years, not {seconds}")
    return int(seconds * 1e9)


def _stored_of_generation(tx: ReadTransaction, block: bytes, generation: int) -> BlockRow | None:
    data = tx.get(BLOCKS, block)
    row = None if data is None else BlockRow.decode(data)
    return row if row is not None and row.state is BlockState.STORED and row.generation == generation else None
