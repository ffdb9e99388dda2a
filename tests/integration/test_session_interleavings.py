"""Two sessions, statement by statement, in every order: what docs/block-life.md promises holds after each.

Over the reference store, and over two SQLite stores on one file, as two processes have them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import paginate
from graviton.errors import Conflict, NotFound
from graviton.metadata import sessions, totals
from graviton.metadata.audit import audit
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.rows import CANDIDATES, KEY_BYTES, domain_prefix
from graviton.ports.block_index import BlockState, OwnerState
from graviton.ports.kv import KeyValueStore
from graviton.ports.manifests import BlobCommit
from tests.integration.stepping import Actor, Scheduler, SteppedStore, explore

X, Y, Z = (BlockKey(HashAlgo.BLAKE3.digest(name), 100 + len(name)) for name in (b"x", b"yy", b"zzz"))


def blob_of(blocks: Sequence[BlockKey]) -> BlobKey:
    digest = HashAlgo.BLAKE3.digest(b"".join(key.to_bytes() for key in blocks))
    return BlobKey(digest, sum(key.size for key in blocks))


class World:
    """What is true outside the metadata, for one run: which blocks were written, and what each actor was told."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.written: set[BlockKey] = set()
        self.committed: list[tuple[int, BlobKey]] = []
        """Acknowledged commits: session and blob."""
        self.deleted: list[BlobKey] = []
        """Acknowledged deletes."""
        self.ended: set[int] = set()
        """Sessions that were told to be ended."""
        self.shared: dict[str, int] = {}


class Session:
    """One actor's hands: the two ports over its own store, in the domain of the run."""

    def __init__(self, kv: KeyValueStore, world: World) -> None:
        self.kv = kv
        self.index = KvBlockIndex(kv)
        self.repo = KvBlobManifestRepo(kv)
        self.world = world

    async def open(self, *blocks: BlockKey) -> int:
        (opened,) = await self.index.open([list(blocks)], self.world.domain)
        self.to_write = {claim.key for claim in opened.claims if claim.must_write}
        return opened.session

    async def claim(self, session: int, *blocks: BlockKey) -> None:
        self.to_write |= {claim.key for claim in await self.index.claim(session, blocks) if claim.must_write}

    def write(self) -> list[BlockKey]:
        """Write what this session was told to write, and nothing else."""
        self.world.written |= self.to_write
        return sorted(self.to_write)

    async def confirm(self, session: int) -> None:
        await self.index.confirm(session, self.write())

    async def commit(self, session: int, *blocks: BlockKey, confirm: bool = True) -> bool:
        key = blob_of(blocks)
        claims = self.write() if confirm else []
        pages = paginate(blocks)
        one = BlobCommit(session, key, pages, claims, BinaryAttributes.EMPTY, "fixed-v1:1024")
        (result,) = await self.repo.commit([one])
        assert self.world.written.issuperset(blocks), "acknowledged before every block was written"
        self.world.committed.append((session, key))
        return result.created

    async def put(self, *blocks: BlockKey) -> int:
        session = await self.open(*blocks)
        await self.commit(session, *blocks)
        return session

    async def end(self, session: int) -> None:
        await self.index.end(session)
        self.world.ended.add(session)

    async def delete(self, key: BlobKey) -> None:
        if await self.repo.delete(key, domain=self.world.domain):
            self.world.deleted.append(key)


Script: TypeAlias = Callable[[Session], Awaitable[None]]
Check: TypeAlias = Callable[[Session], Awaitable[None]]


async def nothing(_: Session) -> None:
    return


class Scenario:
    """What is there before, what the two do, and what must be true after."""

    def __init__(self, a: Script, b: Script, before: Script = nothing, after: Check = nothing) -> None:
        self.a, self.b, self.before, self.after = a, b, before, after


# The scripts.


async def put_x(s: Session) -> None:
    await s.put(X)


async def put_xy_slowly(s: Session) -> None:
    session = await s.open(X)
    await s.claim(session, Y)
    await s.confirm(session)
    await s.commit(session, X, Y, confirm=False)


async def put_yx(s: Session) -> None:
    session = await s.open(Y, X)
    await s.confirm(session)
    await s.commit(session, Y, X, confirm=False)


async def open_and_abort(s: Session) -> None:
    """Ends before a byte is written: nobody may have relied on it."""
    session = await s.open(X, Y)
    await s.end(session)


async def open_shared(s: Session) -> None:
    s.world.shared["session"] = await s.open(X)


async def go_on_with_shared(s: Session) -> None:
    """A writer that may have been taken for dead: whatever it is told, it must be all or nothing."""
    session = s.world.shared["session"]
    s.to_write = {X}
    try:
        await s.claim(session, Y)
        await s.commit(session, X, Y)
    except Conflict:
        row = await s.index.owner(session)
        assert row is not None
        assert row.state is OwnerState.ENDED


async def end_shared(s: Session) -> None:
    try:
        await s.end(s.world.shared["session"])
    except Conflict:
        assert s.world.shared["session"] in {session for session, _ in s.world.committed} or await committed(s)


async def committed(s: Session) -> bool:
    row = await s.index.owner(s.world.shared["session"])
    return row is not None and row.state is OwnerState.COMMITTED


async def shared_is_final(s: Session) -> None:
    row = await s.index.owner(s.world.shared["session"])
    assert row is not None
    assert (row.state is OwnerState.ENDED) != bool(s.world.committed)


async def delete_x(s: Session) -> None:
    await s.delete(blob_of([X]))


async def delete_and_undelete_x(s: Session) -> None:
    await s.delete(blob_of([X]))
    await s.repo.undelete(blob_of([X]), domain=s.world.domain)


async def x_is_visible(s: Session) -> None:
    await s.repo.get(blob_of([X]), s.world.domain)


async def x_may_be_gone(s: Session) -> None:
    """Visible exactly if the last acknowledged word was a put: delete and put are serial, so one of the two orders."""
    try:
        await s.repo.get(blob_of([X]), s.world.domain)
    except NotFound:
        assert s.world.deleted


async def mark_x_damaged(s: Session) -> None:
    (record,) = await s.index.records([X], s.world.domain)
    if record is not None and record.state is BlockState.STORED:
        await s.index.mark_damaged(X, record.generation, s.world.domain)


async def damaged_x(s: Session) -> None:
    await put_x(s)
    await mark_x_damaged(s)


async def x_is_repaired_or_damaged(s: Session) -> None:
    (record,) = await s.index.records([X], s.world.domain)
    assert record is not None
    assert record.state in (BlockState.STORED, BlockState.DAMAGED)


async def lose_claims_of_deleted_x(s: Session) -> None:
    """What a collector does with a dropped owner, and with no other."""
    owner = s.world.committed[0][0]
    row = await s.index.owner(owner)
    if row is not None and row.state is OwnerState.DROPPED:
        try:
            await s.kv.transact(lambda tx: sessions.drop_some_claims(tx, owner))
        except Conflict:
            assert (await s.repo.get(blob_of([X]), s.world.domain)).owner == owner  # undeleted meanwhile


async def undelete_x(s: Session) -> None:
    await s.repo.undelete(blob_of([X]), domain=s.world.domain)


async def put_and_delete_x(s: Session) -> None:
    await put_x(s)
    await delete_x(s)
    s.world.deleted.clear()


async def abandoned_x(s: Session) -> None:
    """A stored block that nobody holds, a candidate."""
    session = await s.open(X)
    await s.confirm(session)
    await s.end(session)


async def abandoned_and_held_x(s: Session) -> None:
    """A candidate that somebody holds again."""
    await abandoned_x(s)
    await open_expired(s)


async def open_expired(s: Session) -> None:
    """A session whose time is past at once."""
    [opened] = await s.index.open([[X]], s.world.domain, lifetime_seconds=0.0)
    s.world.shared["session"] = opened.session


async def condemn(s: Session) -> None:
    more = True
    while more:
        more = (await s.index.condemn(secrets.token_hex(16))).more


async def sweep(s: Session) -> None:
    """A whole collection of everything that is gone."""
    async for session in s.index.end_expired():
        if session == s.world.shared.get("session"):
            s.world.ended.add(session)
    async for _ in s.index.release(0.0):
        pass
    await condemn(s)


SCENARIOS = {
    "same-blob": Scenario(put_x, put_x, after=x_is_visible),
    "shared-blocks": Scenario(put_xy_slowly, put_yx),
    "one-aborts": Scenario(open_and_abort, put_yx),
    "taken-for-dead": Scenario(go_on_with_shared, end_shared, before=open_shared, after=shared_is_final),
    "delete-against-put": Scenario(delete_x, put_x, before=put_x, after=x_may_be_gone),
    "undelete-against-put": Scenario(delete_and_undelete_x, put_x, before=put_x, after=x_is_visible),
    "delete-twice": Scenario(delete_x, delete_and_undelete_x, before=put_x, after=x_may_be_gone),
    "damage-against-first-put": Scenario(mark_x_damaged, put_xy_slowly, after=x_is_repaired_or_damaged),
    "damage-against-reuse": Scenario(mark_x_damaged, put_yx, before=put_x, after=x_is_repaired_or_damaged),
    "two-repair": Scenario(put_xy_slowly, put_yx, before=damaged_x),
    "collector-against-undelete": Scenario(lose_claims_of_deleted_x, undelete_x, before=put_and_delete_x),
    "collector-against-put": Scenario(lose_claims_of_deleted_x, put_x, before=put_and_delete_x, after=x_is_visible),
    "condemn-against-put": Scenario(condemn, put_x, before=abandoned_x, after=x_is_visible),
    "condemn-against-last-loss": Scenario(condemn, end_shared, before=abandoned_and_held_x),
    "expiry-against-commit": Scenario(go_on_with_shared, sweep, before=open_expired, after=shared_is_final),
    "sweep-against-undelete": Scenario(sweep, undelete_x, before=put_and_delete_x),
    "sweep-against-put": Scenario(sweep, put_x, before=put_and_delete_x, after=x_is_visible),
}


async def check_invariants(s: Session) -> None:
    world = s.world
    await check_no_block_is_forgotten(s)
    assert [finding async for finding in audit(s.kv, world.domain)] == []
    for record in await s.repo.list(domain=world.domain):
        keys = [key async for page in s.repo.pages(record, domain=world.domain) for key in page.keys]
        assert sum(key.size for key in keys) == record.key.size
        assert world.written.issuperset(keys), "a visible blob has a block nobody wrote"
        for key in keys:
            assert record.owner in [owner async for owner in s.index.references(key, world.domain)]
    for session, key in world.committed:
        owner = await s.index.owner(session)
        assert owner is not None
        assert owner.state in (OwnerState.COMMITTED, OwnerState.DROPPED)
        assert owner.unconfirmed == 0
        if key not in world.deleted and owner.state is OwnerState.COMMITTED:
            await s.repo.get(key, world.domain)
    for session in world.ended:
        owner = await s.index.owner(session)
        assert owner is None or owner.state is OwnerState.ENDED
        assert session not in {session for session, _ in world.committed}


async def check_no_block_is_forgotten(s: Session) -> None:
    """Each is held, or a candidate, or condemned and noted. An audit has told that none is held and condemned."""
    candidates = {key[-KEY_BYTES:] async for key, _ in s.kv.scan(CANDIDATES, domain_prefix(s.world.domain))}
    noted = {(note.key, note.generation) async for note in s.index.notes() if note.domain == s.world.domain}
    async for record in s.index.list(s.world.domain):
        if record.state is BlockState.CONDEMNED:
            assert (record.key, record.generation) in noted
        elif record.key.to_bytes() not in candidates:
            assert [owner async for owner in s.index.references(record.key, s.world.domain)]


class Stage:
    """Runs one scenario in every order. Every run has a domain of its own, so the stores need not be emptied."""

    def __init__(self, scenario: Scenario, stores: Sequence[KeyValueStore], switches: int) -> None:
        self.scenario = scenario
        self.stores = stores
        self.switches = switches
        self.runs = 0

    def run(self, prefix: Sequence[int]) -> list[tuple[int, int]]:
        world = World(f"run {self.runs}")
        self.runs += 1
        asyncio.run(self._directly(world, self.scenario.before))
        actors = [Actor("a"), Actor("b")]
        for actor, store, script in zip(actors, self.stores, (self.scenario.a, self.scenario.b), strict=True):
            hands = Session(SteppedStore(store, actor), world)
            actor.start(lambda script=script, hands=hands: script(hands))  # type: ignore[misc]
        decisions = Scheduler(actors, prefix, self.switches).run()
        for actor in actors:
            actor.join()
            if actor.error is not None:
                raise actor.error
        asyncio.run(self._directly(world, self.scenario.after))
        asyncio.run(self._directly(world, check_invariants))
        asyncio.run(self._directly(world, sweep))  # the next run begins as this one did
        return decisions

    async def _directly(self, world: World, script: Script) -> None:
        await script(Session(self.stores[0], world))


@pytest.mark.parametrize("name", SCENARIOS)
def test_over_the_reference_store_every_order_keeps_the_promises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "_FOLD_ONE_IN", 1)  # always: whether it happens is drawn by lot otherwise
    kv = InMemoryKeyValueStore()
    stage = Stage(SCENARIOS[name], [kv, kv], switches=1)
    *_, schedules = explore(stage.run)
    assert schedules > 5


@pytest.mark.parametrize("name", SCENARIOS)
def test_over_two_sqlite_stores_every_order_keeps_the_promises(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(totals, "_FOLD_ONE_IN", 2**62)  # never
    stores = [SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite")) for _ in range(2)]
    stage = Stage(SCENARIOS[name], stores, switches=0)
    *_, schedules = explore(stage.run)
    assert schedules > 5
    for store in stores:
        asyncio.run(store.aclose())
