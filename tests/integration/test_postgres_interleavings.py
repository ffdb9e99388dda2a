"""Sessions and collectors on PostgreSQL, statement by statement, in every order: the promises hold after each COMMIT.

The two transactions that everything hangs on, a claim and the loss of one against condemning, are taken in every order
there is, and so are three: two that end the same session, and a claim of its block. In longer scenarios a schedule
goes from one actor to another that could still go on only so many times: here once or twice, in
scripts/campaigns/interleavings (FAULTS_REACH=long) more often.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import pytest

from graviton.backends.postgres import _condemning, _endings
from graviton.backends.postgres._claims import claim_more, open_sessions
from graviton.backends.postgres._commits import commit
from graviton.backends.postgres._condemning import condemn
from graviton.backends.postgres._confirms import confirm
from graviton.backends.postgres._deletes import delete, undelete
from graviton.backends.postgres._endings import drop_some_claims, end_session
from graviton.backends.postgres._releasing import GONE_STATES, end_expired, find_gone, release_some, remove_empty
from graviton.backends.postgres._scripts import run_script
from graviton.backends.postgres.config import DEFAULT_EVENTS
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage, paginate
from graviton.errors import Conflict
from graviton.metadata.preparing import Prepared, prepare
from graviton.metadata.releasing import Due
from graviton.ports.block_index import Claim
from graviton.ports.kv import Durability
from graviton.ports.manifests import BlobCommit
from tests.integration.postgres_stepping import Actor, Program, Scheduler, connect
from tests.integration.stepping import explore
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import server

_T = TypeVar("_T")

IS_LONG = os.environ.get("FAULTS_REACH") == "long"

DOMAIN = 1
NOW_NS = 1_700_000_000_000_000_000
KINDS = DEFAULT_EVENTS

LATER_NS = NOW_NS + 10
LIFETIME_NS = 5
DUE = Due(LATER_NS, LATER_NS)
"""Everything that is gone may be taken away and removed."""

W, X, Y = sorted(BlockKey(HashAlgo.BLAKE3.digest(name), 100 + len(name)) for name in (b"w", b"x", b"yy"))


def blob_of(blocks: Sequence[BlockKey]) -> BlobKey:
    digest = HashAlgo.BLAKE3.digest(b"".join(key.to_bytes() for key in blocks))
    return BlobKey(digest, sum(key.size for key in blocks))


def prepared(session: int, blocks: Sequence[BlockKey], to_confirm: Sequence[BlockKey]) -> Prepared:
    one = BlobCommit(
        session, blob_of(blocks), paginate(blocks), to_confirm, BinaryAttributes.EMPTY, "fixed-v1:1024", ""
    )

    async def none(after: Any) -> Sequence[tuple[ManifestPage, bytes, Any]]:
        return []

    try:
        prepare(one, none).send(None)
    except StopIteration as done:
        found: Prepared = done.value
        return found
    raise AssertionError("all its pages came with it")


class World:
    """What is true outside of the metadata, for one run: what was written, and what each actor was told."""

    def __init__(self) -> None:
        self.written: set[BlockKey] = set()
        self.committed: list[BlobKey] = []
        self.deleted: set[BlobKey] = set()
        self.ended: set[int] = set()
        self.session = 0
        """A session, or the owner of a blob, from before."""

    def write(self, claims: Sequence[Claim]) -> list[BlockKey]:
        """Write what a session was told to write, and nothing else."""
        keys = [claim.key for claim in claims if claim.must_write]
        self.written.update(keys)
        return keys


# What actors do.


def put(world: World, *blocks: BlockKey) -> Program:
    """A small put: everything in two transactions."""
    [(session, claims)] = yield lambda: open_sessions(DOMAIN, [blocks], LATER_NS, LIFETIME_NS)
    keys = world.write(claims)
    yield lambda: commit([prepared(session, blocks, keys)], LATER_NS, {}, KINDS)
    world.committed.append(blob_of(blocks))
    world.deleted.discard(blob_of(blocks))


def put_slowly(world: World, *blocks: BlockKey) -> Program:
    """Claims one block after the other, confirms and commits apart."""
    [(session, claims)] = yield lambda: open_sessions(DOMAIN, [blocks[:1]], LATER_NS, LIFETIME_NS)
    keys = world.write(claims)
    for block in blocks[1:]:
        claims = yield lambda block=block: claim_more(session, [block], LATER_NS)  # type: ignore[misc]
        keys += world.write(claims)
    yield lambda: confirm(session, keys, LATER_NS, KINDS)
    yield lambda: commit([prepared(session, blocks, [])], LATER_NS, {}, KINDS)
    world.committed.append(blob_of(blocks))


def commit_old(world: World, *blocks: BlockKey) -> Program:
    """A writer that may have been taken for dead: whatever it is told, it must be all or nothing."""
    try:
        yield lambda: commit([prepared(world.session, blocks, blocks)], LATER_NS, {}, KINDS)
    except Conflict:
        assert world.session in world.ended
    else:
        assert world.session not in world.ended
        world.committed.append(blob_of(blocks))


def abort_old(world: World) -> Program:
    try:
        yield lambda: end_session(world.session, LATER_NS)
    except Conflict:
        return
    world.ended.add(world.session)
    while (yield lambda: drop_some_claims(world.session, 1)):
        pass


def delete_blob(world: World, *blocks: BlockKey) -> Program:
    if (yield lambda: delete(DOMAIN, blob_of(blocks), "", NOW_NS, KINDS)):
        world.deleted.add(blob_of(blocks))


def undelete_blob(world: World, *blocks: BlockKey) -> Program:
    if (yield lambda: undelete(DOMAIN, blob_of(blocks), "", LATER_NS, KINDS)):
        world.deleted.discard(blob_of(blocks))


def claim(world: World, *blocks: BlockKey) -> Program:
    [(_, claims)] = yield lambda: open_sessions(DOMAIN, [blocks], LATER_NS, LIFETIME_NS)
    world.write(claims)


def end_old(world: World) -> Program:
    yield lambda: end_session(world.session, NOW_NS)
    world.ended.add(world.session)


def drop_old(world: World) -> Program:
    yield lambda: drop_some_claims(world.session, 1000)


def condemn_all(world: World, run: int = 1) -> Program:
    yield lambda: condemn(bytes([run]) * 16, 256, LATER_NS)


def collect(world: World, run: int = 1, expire: bool = False) -> Program:
    """A whole collection."""
    if expire:
        world.ended.update((yield lambda: end_expired(LATER_NS)))
    for state in GONE_STATES:
        owners, _ = yield lambda state=state: find_gone(state, DUE, (-1, 0))  # type: ignore[misc]
        if owners:
            yield lambda owners=owners: release_some(owners, DUE)  # type: ignore[misc]
            yield lambda owners=owners: remove_empty(owners, DUE)  # type: ignore[misc]
    yield from condemn_all(world, run)


def in_turn(*programs: Program) -> Program:
    for program in programs:
        yield from program


# What was there before.


def abandoned(world: World, *blocks: BlockKey) -> Program:
    """Stored blocks, each a candidate, and nobody holds them."""
    [(session, claims)] = yield lambda: open_sessions(DOMAIN, [blocks], NOW_NS, LIFETIME_NS)
    keys = world.write(claims)
    yield lambda: confirm(session, keys, NOW_NS, KINDS)
    yield lambda: end_session(session, NOW_NS)
    yield lambda: drop_some_claims(session, 1000)
    yield lambda: remove_empty([session], DUE._replace(over_until_ns=0))


def held_by_old(world: World, *blocks: BlockKey) -> Program:
    """An open session from before, whose time is past, and which holds them."""
    [(session, claims)] = yield lambda: open_sessions(DOMAIN, [blocks], NOW_NS, LIFETIME_NS)
    world.session = session
    world.write(claims)


def deleted_blob(world: World, *blocks: BlockKey) -> Program:
    yield from put(world, *blocks)
    yield from delete_blob(world, *blocks)


class Scenario(NamedTuple):
    """What is there before, what actors do at the same time, and how often a schedule may switch between them."""

    before: Callable[[World], Program]
    actors: Sequence[Callable[[World], Program]]
    switches: int
    long_switches: int


ALL = 99
SCENARIOS = {
    "claim-against-condemn": Scenario(lambda w: abandoned(w, X), [lambda w: claim(w, X), condemn_all], ALL, ALL),
    "loss-against-condemn": Scenario(
        lambda w: in_turn(abandoned(w, X), held_by_old(w, X), end_old(w)), [drop_old, condemn_all], ALL, ALL
    ),
    "two-ends-and-claim": Scenario(
        lambda w: in_turn(abandoned(w, X), held_by_old(w, X)),
        [end_old, end_old, lambda w: claim(w, X)],
        ALL,
        ALL,
    ),
    "two-losses-and-claim": Scenario(
        lambda w: in_turn(abandoned(w, X), held_by_old(w, X), end_old(w)),
        [drop_old, drop_old, lambda w: claim(w, X)],
        2,
        ALL,
    ),
    "put-against-condemn": Scenario(lambda w: abandoned(w, X), [lambda w: put(w, X), condemn_all], 2, 4),
    "put-of-two-against-condemn": Scenario(
        lambda w: abandoned(w, X, Y), [lambda w: put_slowly(w, Y, X), condemn_all], 2, 4
    ),
    "expire-against-commit": Scenario(
        lambda w: held_by_old(w, X), [lambda w: commit_old(w, X), lambda w: collect(w, expire=True)], 2, 4
    ),
    "abort-against-collection": Scenario(
        lambda w: held_by_old(w, X), [abort_old, lambda w: collect(w, expire=True)], 2, 4
    ),
    "undelete-against-collection": Scenario(
        lambda w: deleted_blob(w, X), [lambda w: undelete_blob(w, X), collect], 2, 4
    ),
    "put-against-deletion": Scenario(lambda w: in_turn(), [lambda w: delete_blob(w, X), lambda w: put(w, X)], 2, ALL),
    "two-puts-and-deletion": Scenario(
        lambda w: abandoned(w, X), [lambda w: put(w, X), lambda w: put(w, X), lambda w: delete_blob(w, X)], 2, 3
    ),
    "put-again-and-deletion": Scenario(lambda w: put(w, X), [lambda w: put(w, X), lambda w: delete_blob(w, X)], 2, ALL),
    "put-deletion-and-undeletion": Scenario(
        lambda w: in_turn(), [lambda w: put(w, X), lambda w: delete_blob(w, X), lambda w: undelete_blob(w, X)], 2, 3
    ),
    "put-again-against-collection": Scenario(lambda w: deleted_blob(w, X), [lambda w: put(w, X), collect], 2, 4),
    "two-puts-and-condemn": Scenario(
        lambda w: abandoned(w, X, Y), [lambda w: put(w, X, Y), lambda w: put(w, Y), condemn_all], 1, 3
    ),
    "put-loss-and-condemn": Scenario(
        lambda w: in_turn(held_by_old(w, X), end_old(w)), [lambda w: claim(w, X), drop_old, condemn_all], 2, 3
    ),
    "two-collectors-and-claim": Scenario(
        lambda w: abandoned(w, W, X),
        [lambda w: claim(w, X), condemn_all, lambda w: condemn_all(w, 2)],
        1,
        3,
    ),
    "two-collections-and-undelete": Scenario(
        lambda w: deleted_blob(w, X), [lambda w: undelete_blob(w, X), collect, lambda w: collect(w, 2)], 1, 2
    ),
}

ON_OLD_TOO = ("claim-against-condemn", "loss-against-condemn")
"""What also runs on the oldest PostgreSQL: how locks behave there is what all others rely on too."""


# What must be true.

BROKEN_PROMISES = """
SELECT 'a claim on a condemned block' FROM refs r JOIN blocks b ON b.id = r.block_id WHERE b.state = 3
UNION ALL
SELECT 'a block that nobody holds and nobody will ever look at' FROM blocks b
WHERE b.state <> 3 AND NOT EXISTS (SELECT FROM refs WHERE block_id = b.id)
    AND NOT EXISTS (SELECT FROM candidates WHERE block_id = b.id)
UNION ALL
SELECT 'a condemned block without a note' FROM blocks b WHERE b.state = 3 AND NOT EXISTS (
    SELECT FROM notes n WHERE (n.domain_id, n.algo, n.digest, n.size, n.generation)
        = (b.domain_id, b.algo, b.digest, b.size, b.generation))
UNION ALL
SELECT 'unconfirmed claims that are miscounted' FROM owners o
WHERE o.state = 1 AND o.unconfirmed <> (SELECT count(*) FROM refs WHERE owner_id = o.id AND kind = 2)
UNION ALL
SELECT 'a visible blob whose owner is losing its claims' FROM blobs b JOIN owners o ON o.id = b.owner_id
WHERE o.state = 2 AND o.losing_claims
UNION ALL
SELECT 'totals that are miscounted' WHERE
    (SELECT coalesce(sum(blocks), 0) FROM totals) <> (SELECT count(*) FROM blocks WHERE state = 2)
    OR (SELECT coalesce(sum(blobs), 0) FROM totals)
        <> (SELECT count(*) FROM blobs b JOIN owners o ON o.id = b.owner_id WHERE o.state = 2)
"""

VISIBLE = """
SELECT b.owner_id, b.algo, b.digest, b.size, p.data FROM blobs b
JOIN owners o ON o.id = b.owner_id JOIN pages p ON p.owner_id = o.id WHERE o.state = 2
"""

HELD_AND_STORED = """
SELECT b.algo, b.digest, b.size FROM refs r JOIN blocks b ON b.id = r.block_id WHERE r.owner_id = %b AND b.state = 2
"""

EMPTY = "; ".join(
    f"DELETE FROM {table}"
    for table in ("notes", "candidates", "totals", "refs", "pages", "holders", "blobs", "owners", "blocks")
)


class Stage:
    """A schema with its connections, in which scenarios are run again and again."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._schema = f"stepping_{secrets.token_hex(8)}"

    async def open(self) -> None:
        await make_schema(server(), self._schema)
        self._monitor = await connect(server(), self._schema)
        self._connections = [await connect(server(), self._schema) for _ in range(3)]

    async def close(self) -> None:
        for connection in (self._monitor, *self._connections):
            await connection.close()
        await drop_schema(server(), self._schema)

    def explore(self, scenario: Scenario) -> int:
        """Run a scenario in every order; how many there were."""
        switches = scenario.long_switches if IS_LONG else scenario.switches
        *_, schedules = explore(lambda prefix: self._runner.run(self._run(scenario, prefix, switches)))
        return schedules

    async def _run(self, scenario: Scenario, prefix: Sequence[int], switches: int) -> list[tuple[int, int]]:
        world = World()
        await self._monitor.execute(EMPTY)
        await self._directly(scenario.before(world))
        await self._check_promises()
        changed = asyncio.Event()
        actors = [
            Actor(name, connection, changed, self._check_promises)
            for name, connection, _ in zip("abc", self._connections, scenario.actors, strict=False)
        ]
        scheduler = Scheduler(actors, changed, self._monitor, prefix, switches)
        tasks = [
            asyncio.create_task(actor.run(program(world)))
            for actor, program in zip(actors, scenario.actors, strict=True)
        ]
        try:
            await scheduler.run(tasks)
            await self._check_blobs(world)
            assert not any("DeadlockDetected" in actor.log for actor in actors), "there is one order of locks"
        except BaseException as error:
            error.add_note("\n".join(scheduler.story))
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return scheduler.decisions

    async def _directly(self, program: Program) -> None:
        result: Any = None
        try:
            while True:
                make = program.send(result)
                result = await run_script(self._monitor, make(), Durability.RELAXED)
        except StopIteration:
            return

    async def _check_promises(self) -> None:
        cursor = await self._monitor.execute(BROKEN_PROMISES)
        assert [what for (what,) in await cursor.fetchall()] == []

    async def _check_blobs(self, world: World) -> None:
        await self._check_promises()
        cursor = await self._monitor.execute(VISIBLE, binary=True)
        visible = set()
        for owner, _algo, digest, size, data in await cursor.fetchall():
            [key] = {key for key in world.committed if (key.digest.raw, key.size) == (digest, size)}
            visible.add(key)
            blocks = ManifestPage.open(data, key).keys
            assert world.written.issuperset(blocks), "a visible blob has a block that nobody wrote"
            held = await (await self._monitor.execute(HELD_AND_STORED, [owner], binary=True)).fetchall()
            assert {(block.digest.raw, block.size) for block in blocks} <= {row[1:] for row in held}
        assert set(world.committed) - world.deleted <= visible, "acknowledged, and gone"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with asyncio.Runner() as runner:
        made = Stage(runner)
        runner.run(made.open())
        yield made
        runner.run(made.close())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.postgres if name in ON_OLD_TOO else ()) for name in SCENARIOS],
)
def test_every_order_keeps_the_promises(name: str, stage: Stage) -> None:
    schedules = stage.explore(SCENARIOS[name])
    assert schedules > 20, schedules


def test_condemning_that_locks_and_looks_at_once_would_lose_a_block(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write skew that two statements are there for."""
    monkeypatch.setattr(_condemning, "_LOCK_BLOCKS", "SELECT %(blocks)b::bigint[]")
    monkeypatch.setattr(_condemning, "_FIND_UNHELD", f"{_condemning._FIND_UNHELD} ORDER BY b.id FOR UPDATE OF b")
    with pytest.raises(AssertionError, match="a claim on a condemned block"):
        stage.explore(SCENARIOS["claim-against-condemn"])


def test_candidates_that_are_not_locked_would_be_forgotten(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim is taken away while a collector, which still sees it, takes the block off its list."""
    statement = _endings._DROP.replace("DO UPDATE SET block_id = EXCLUDED.block_id", "DO NOTHING")
    assert statement != _endings._DROP
    monkeypatch.setattr(_endings, "_DROP", statement)
    with pytest.raises(AssertionError, match="nobody will ever look at"):
        stage.explore(SCENARIOS["loss-against-condemn"])
