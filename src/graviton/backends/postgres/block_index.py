"""`PgBlockIndex`: sessions, claims and block records in SQL of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import islice
from typing import TypeAlias

from graviton.backends.postgres._claims import claim_more, open_sessions
from graviton.backends.postgres._condemning import condemn, note_of, notes_after
from graviton.backends.postgres._confirms import confirm
from graviton.backends.postgres._endings import drop_some_claims, end_session
from graviton.backends.postgres._events import Told, tell
from graviton.backends.postgres._gather import SMALL_KEYS, Gatherer
from graviton.backends.postgres._keys import KEY_ARRAYS, block_key, block_of, columns, key_columns
from graviton.backends.postgres._outcomes import NUMBER, run_once
from graviton.backends.postgres._owners import OWNER_COLUMNS, Owner
from graviton.backends.postgres._releasing import GONE_STATES, end_expired, find_gone, release_some, remove_empty
from graviton.backends.postgres._scripts import Last, Row, Script, Statement
from graviton.backends.postgres._totals import Delta, add_totals
from graviton.backends.postgres.capabilities import CAPABILITIES
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.domains import Domains
from graviton.core.clock import Clock
from graviton.core.keys import BlockKey
from graviton.metadata.block_index import DEFAULT_LIFETIME_SECONDS, due_at, lifetime_ns_of
from graviton.metadata.condemning import check_limit
from graviton.metadata.releasing import Due
from graviton.metadata.rows import run_of
from graviton.metadata.sessions import MAX_DROP
from graviton.ports.block_index import (
    MAX_OPEN_NOTES,
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
from graviton.ports.events import EventKind
from graviton.ports.kv import Durability
from graviton.ports.manifests import StoreTotals

__all__ = ["PgBlockIndex"]

_LIST_ROWS = 1000
"""Records read at once by `list` and `references`."""

_OWNERS_AT_ONCE = 100
"""Owners released per transaction: so many are locked at the same time."""

_Batches: TypeAlias = Sequence[Sequence[BlockKey]]

_STATES = {state.value: state for state in BlockState}

_RECORDS = f"""
SELECT b.algo, b.digest, b.size, b.state, b.generation, b.wanted_back
FROM {KEY_ARRAYS} AS k(algo, digest, size) CROSS JOIN {block_of("%(domain)b")} AS b
"""

_MARK_DAMAGED = f"""
UPDATE blocks SET state = {BlockState.DAMAGED.value}, generation = generation + 1, wanted_back = false
WHERE domain_id = %(domain)b AND algo = %(algo)b AND digest = %(digest)b AND size = %(size)b
    AND state = {BlockState.STORED.value} AND generation = %(generation)b
RETURNING {NUMBER}
"""

_MARK_WANTED = f"""
UPDATE blocks SET wanted_back = true
WHERE domain_id = %(domain)b AND algo = %(algo)b AND digest = %(digest)b AND size = %(size)b
    AND state = {BlockState.STORED.value} AND generation = %(generation)b
"""

_REFERENCES = """
SELECT owner_id FROM refs WHERE owner_id > %(after)b AND block_id = (
    SELECT id FROM blocks WHERE domain_id = %(domain)b AND algo = %(algo)b AND digest = %(digest)b AND size = %(size)b
) ORDER BY owner_id LIMIT %(limit)b
"""

_LIST = """
SELECT algo, digest, size, state, generation, wanted_back FROM blocks
WHERE domain_id = %(domain)b AND (algo, digest, size) > (%(algo)b::smallint, %(digest)b, %(size)b::int)
ORDER BY algo, digest, size LIMIT %(limit)b
"""


class PgBlockIndex(BlockIndex):
    """Sessions, claims and block records; see the port for the laws and docs/formats/postgres.md for the rows."""

    capabilities = CAPABILITIES

    def __init__(self, database: PgDatabase, clock: Clock | None = None) -> None:
        self._database = database
        self._domains = Domains(database)
        self._clock = clock or database.clock
        self._small = Gatherer(self._open_group)

    async def open(
        self,
        batches: Sequence[Sequence[BlockKey]],
        domain: str = "",
        lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS,
    ) -> list[OpenedSession]:
        lifetime_ns = lifetime_ns_of(lifetime_seconds)
        number = await self._domains.made(domain)
        if not batches:
            return []
        if sum(map(len, batches)) <= SMALL_KEYS:
            return await self._small((number, lifetime_ns), batches)
        return await self._open(number, batches, lifetime_ns)

    async def _open(self, number: int, batches: Sequence[Sequence[BlockKey]], lifetime_ns: int) -> list[OpenedSession]:
        now_ns = self._clock.now_ns()
        # Run twice because a reply was lost, it leaves sessions that nobody uses and that expire.
        return await self._database.run(
            "index.open", lambda: open_sessions(number, batches, now_ns, lifetime_ns), Durability.RELAXED
        )

    async def _open_group(self, key: tuple[int, int], group: Sequence[_Batches]) -> list[list[OpenedSession]]:
        number, lifetime_ns = key
        opened = iter(await self._open(number, [batch for batches in group for batch in batches], lifetime_ns))
        return [list(islice(opened, len(batches))) for batches in group]

    async def claim(self, session: int, keys: Sequence[BlockKey]) -> list[Claim]:
        now_ns = self._clock.now_ns()
        tries = 0

        def script() -> Script[list[Claim]]:
            nonlocal tries
            tries += 1
            return claim_more(session, keys, now_ns, again=tries > 1)

        return await self._database.run("index.claim", script, Durability.RELAXED)

    async def confirm(self, session: int, keys: Sequence[BlockKey]) -> None:
        now_ns, kinds = self._clock.now_ns(), self._database.config.events
        script = partial(confirm, session, keys, now_ns, kinds)
        await self._database.run("index.confirm", script, self._database.confirm_durability)
        if EventKind.BLOCK_STORED in kinds:
            self._database.ring()

    async def end(self, session: int) -> None:
        now_ns = self._clock.now_ns()
        more = await self._database.run("index.end", lambda: end_session(session, now_ns), Durability.RELAXED)
        while more:
            dropped = await self._database.run(
                "index.end", lambda: drop_some_claims(session, MAX_DROP), Durability.RELAXED
            )
            more = dropped == MAX_DROP

    async def owner(self, owner: int) -> OwnerRecord | None:
        rows = await self._database.fetch("index.owner", f"SELECT {OWNER_COLUMNS} FROM owners WHERE id = %b", [owner])
        return Owner.of(rows[0]).record() if rows else None

    async def records(self, keys: Sequence[BlockKey], domain: str = "") -> list[BlockRecord | None]:
        number = await self._domains.number(domain)
        distinct = list(dict.fromkeys(keys))
        rows = await self._database.fetch("index.records", _RECORDS, {"domain": number} | columns(distinct))
        found = {record.key: record for record in map(_record, rows)}
        return [found.get(key) for key in keys]

    async def mark_damaged(self, key: BlockKey, generation: int, domain: str = "") -> bool:
        number = await self._domains.number(domain)
        now_ns, kinds = self._clock.now_ns(), self._database.config.events
        delta = Delta(number, StoreTotals(blocks=-1, stored_bytes=-key.size))
        event = Told(number, EventKind.BLOCK_DAMAGED, key.text)

        def script() -> Script[bool]:
            values = {"domain": number, "generation": generation} | key_columns(key)
            (marked,) = yield [Statement(_MARK_DAMAGED, values)]
            if not marked.rows:
                return False
            yield Last([*add_totals(generation, [delta]), *tell(now_ns, event, kinds)], marked.rows[0][0])
            return True

        did = await run_once(self._database, "index.mark_damaged", script)
        if did and event.kind in kinds:
            self._database.ring()
        return did

    async def mark_wanted_back(self, key: BlockKey, generation: int, domain: str = "") -> bool:
        number = await self._domains.number(domain)

        def script() -> Script[bool]:
            values = {"domain": number, "generation": generation} | key_columns(key)
            (marked,) = yield [Statement(_MARK_WANTED, values)]
            return marked.changed > 0

        return await self._database.run("index.mark_wanted_back", script, Durability.RELAXED)

    async def references(self, key: BlockKey, domain: str = "") -> AsyncIterator[int]:
        number = await self._domains.number(domain)
        values = {"domain": number, "after": 0, "limit": _LIST_ROWS} | key_columns(key)
        while True:
            rows = await self._database.fetch("index.references", _REFERENCES, values)
            for (owner,) in rows:
                yield owner
            if len(rows) < _LIST_ROWS:
                return
            values["after"] = rows[-1][0]

    async def list(self, domain: str = "", after: BlockKey | None = None) -> AsyncIterator[BlockRecord]:
        number = await self._domains.number(domain)
        position = {"algo": 0, "digest": b"", "size": 0} if after is None else key_columns(after)
        while True:
            values = {"domain": number, "limit": _LIST_ROWS} | position
            rows = await self._database.fetch("index.list", _LIST, values)
            for row in rows:
                yield _record(row)
            if len(rows) < _LIST_ROWS:
                return
            position = dict(zip(("algo", "digest", "size"), rows[-1][:3], strict=True))

    async def end_expired(self) -> AsyncIterator[int]:
        now_ns = self._clock.now_ns()
        # After a lost reply those that it told are ended, and not told again.
        while ended := await self._database.run("index.end_expired", lambda: end_expired(now_ns), Durability.RELAXED):
            for session in ended:
                yield session

    async def release(self, undelete_seconds: float) -> AsyncIterator[Released]:
        due = due_at(self._clock.now_ns(), undelete_seconds)
        for state in GONE_STATES:
            position: tuple[int, int] | None = (-1, 0)
            while position is not None:
                find = partial(find_gone, state, due, position)
                gone, position = await self._database.run("index.find_gone", find, Durability.RELAXED)
                for at in range(0, len(gone), _OWNERS_AT_ONCE):
                    async for released in self._release_some(gone[at : at + _OWNERS_AT_ONCE], due):
                        yield released

    async def _release_some(self, owners: Sequence[int], due: Due) -> AsyncIterator[Released]:
        more = True
        while more:
            step = partial(release_some, owners, due)
            claims, pages, more = await self._database.run("index.release", step, Durability.RELAXED)
            if claims or pages:
                yield Released(claims, pages, 0)
        remove = partial(remove_empty, owners, due)
        removed = await self._database.run("index.remove_owners", remove, Durability.RELAXED)
        if removed:
            yield Released(0, 0, removed)

    async def condemn(self, run: str, limit: int = MAX_OPEN_NOTES) -> Condemned:
        step = partial(condemn, run_of(run), check_limit(limit), self._clock.now_ns())
        return await self._database.run("index.condemn", step)

    async def notes(self, run: str | None = None) -> AsyncIterator[Note]:
        wanted = None if run is None else run_of(run)
        last: Row | None = None
        while True:
            rows = await self._database.fetch("index.notes", *notes_after(wanted, last, _LIST_ROWS))
            for row in rows:
                yield note_of(row)
            if len(rows) < _LIST_ROWS:
                return
            last = rows[-1]


def _record(row: Row) -> BlockRecord:
    algo, digest, size, state, generation, wanted_back = row
    return BlockRecord(block_key(algo, digest, size), _STATES[state], generation, wanted_back)
