"""Every kind of operation on PostgreSQL, each of which checks what it was told against what is there.

They work over connections that may break, at any message, and look over others. An operation that says it happened has
happened, once; one whose reply was lost is told apart; reads are right or fail.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.config import parse_address
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.migrate import check_version, migrate
from graviton.backends.postgres.objects import PgMutableObjectStore, PgObjectConfig
from graviton.backends.postgres.range_tracker import PgRangeTracker
from graviton.backends.postgres.replica_index import PgReplicaIndex
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span
from graviton.errors import ConfigError, Unavailable
from graviton.metadata.audit import audit
from graviton.metadata.backup import backup_metadata
from graviton.metadata.restore import restore_metadata
from graviton.ports.block_index import BlockState, OwnerState
from graviton.ports.kv import Delete, Put
from graviton.ports.replicas import ReplicaState
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys, commit_of
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import PgServer

__all__ = ["OPERATIONS", "Operation", "Place", "place"]

OLD = Upload.of(block_keys(3, "old"), "old")


class Place:
    """A schema with one blob in it, the ports over a connection that may break, and over one that does not."""

    def __init__(self, broken: PgDatabase, straight: PgDatabase, through: Path, of: PgServer) -> None:
        self.database = broken
        self.through, self.server = through, of
        self.ports = Metadata(PgBlockIndex(broken), PgBlobManifestRepo(broken))
        self.kv = PgKeyValueStore(broken)
        self.straight = straight
        self.look = Metadata(PgBlockIndex(straight), PgBlobManifestRepo(straight))
        self.rows = PgMetadataRows(straight)
        self.objects = PgMutableObjectStore(broken, PgObjectConfig(part_bytes=1000))
        self.deleted: set[BlockKey] = set()
        """Blocks of deleted blobs that no collection has condemned."""

    async def events(self, upload: Upload) -> list[str]:
        """What the outbox tells of a blob."""
        subject = upload.key.text
        rows = await self.straight.fetch("test", "SELECT kind FROM events WHERE subject = %b ORDER BY id", [subject])
        return [kind for (kind,) in rows]

    async def check(self) -> None:
        if self.deleted:
            await collect(self)
            assert not self.deleted, "the next collection does what a server that crashed forgot of the last one"
        findings = [finding async for finding in audit(self.rows)]
        assert not findings, findings


def opened(through: Path, schema: str) -> PgDatabase:
    address = f"postgresql://graviton@/postgres?host={through}&currentSchema={schema}"
    return PgDatabase(parse_address(address, max_connections=2))


@asynccontextmanager
async def place(through: Path, of: PgServer) -> AsyncIterator[Place]:
    schema = f"broken_{secrets.token_hex(8)}"
    await make_schema(of, schema)
    straight, broken = PgDatabase(of.config(schema)), opened(through, schema)
    made = Place(broken, straight, through, of)
    await made.look.put(OLD)
    await made.kv.put("ns", b"key", b"before")
    await made.ports.repo.get(OLD.key)  # versions are looked at, the pool is open
    try:
        yield made
    finally:
        await broken.aclose()
        await straight.aclose()
        await drop_schema(of, schema)


Operation = Callable[[Place], Awaitable[None]]


async def put_new(world: Place) -> None:
    upload = Upload.of(block_keys(4, secrets.token_hex(4)), secrets.token_hex(4))
    before = await world.look.repo.totals()
    result = await world.ports.put(upload)
    assert result.created is True
    assert await world.look.repo.get(upload.key) == result.record
    after = await world.look.repo.totals()
    assert (after.blobs, after.blocks) == (before.blobs + 1, before.blocks + 4)
    assert await world.events(upload) == ["blob.committed"]


async def put_again(world: Place) -> None:
    before = await world.look.repo.totals()
    result = await world.ports.put(OLD, holder=f"h{secrets.token_hex(4)}")
    assert result.created is False
    assert await world.look.repo.totals() == before
    assert await world.events(OLD) == ["blob.committed"]


async def put_in_steps(world: Place) -> None:
    upload = Upload.of(block_keys(6, secrets.token_hex(4)), secrets.token_hex(4))
    session = await world.ports.session(upload.blocks[:3])
    claims = await world.ports.index.claim(session, upload.blocks)
    written = set(upload.blocks[:3]) | {claim.key for claim in claims if claim.must_write}
    assert written == set(upload.blocks), "a claim whose reply was lost must not be taken for stored"
    await world.ports.repo.add_pages(session, upload.pages, upload.blocks)
    await world.ports.repo.commit([commit_of(session, upload, pages=[], confirm=[])])
    assert (await world.look.repo.get(upload.key)).block_count == 6


async def delete_and_bring_back(world: Place) -> None:
    upload = Upload.of(block_keys(2, secrets.token_hex(4)), secrets.token_hex(4))
    await world.look.put(upload)
    before = await world.look.repo.totals()
    assert await world.ports.repo.delete(upload.key) is True
    assert upload.key not in [record.key for record in await world.look.repo.list()]
    assert (await world.look.repo.totals()).blobs == before.blobs - 1
    assert await world.ports.repo.undelete(upload.key) is True
    assert await world.look.repo.totals() == before
    assert await world.events(upload) == ["blob.committed", "blob.deleted", "blob.committed"]


async def end_a_session(world: Place) -> None:
    session = await world.ports.session(block_keys(3, secrets.token_hex(4)))
    await world.ports.index.end(session)
    record = await world.look.index.owner(session)
    # Nothing of a session is waited for on the disk before its commit: a server that crashes may forget all of it.
    assert record is None or record.state is OwnerState.ENDED


async def mark_a_block(world: Place) -> None:
    upload = Upload.of(block_keys(1, secrets.token_hex(4)), secrets.token_hex(4))
    await world.look.put(upload)  # durable, also when the server crashes
    (key,) = upload.blocks
    assert await world.ports.index.mark_damaged(key, 1) is True
    (record,) = await world.look.index.records([key])
    assert record is not None
    assert record.generation == 2
    subject = key.text
    assert await world.straight.fetch("test", "SELECT kind FROM events WHERE subject = %b", [subject]) == [
        ("block.damaged",)
    ]


async def change_a_key(world: Place) -> None:
    value = secrets.token_bytes(4)
    await world.kv.put("ns", b"key", value)
    assert await world.kv.get("ns", b"key") == value
    assert await world.kv.delete("ns", b"key") is True
    assert await world.kv.get("ns", b"key") is None


async def put_a_group(world: Place) -> None:
    """Several commits in one transaction, one of them of a blob that is there."""
    names = [secrets.token_hex(4) for _ in range(2)]
    uploads = [OLD, *(Upload.of(block_keys(2, name), name) for name in names)]
    before = await world.look.repo.totals()
    opened = await world.ports.index.open([upload.blocks for upload in uploads])
    holder = f"h{names[0]}"
    results = await world.ports.repo.commit(
        [commit_of(one.session, upload, holder=holder) for one, upload in zip(opened, uploads, strict=True)]
    )
    assert [(one.record.key, one.created) for one in results] == [(upload.key, upload is not OLD) for upload in uploads]
    rows = await world.straight.fetch("test", "SELECT count(*) FROM holders WHERE name = %b", [holder])
    assert rows == [(3,)]
    after = await world.look.repo.totals()
    assert (after.blobs, after.blocks) == (before.blobs + 2, before.blocks + 4)
    for upload in uploads:
        assert await world.events(upload) == ["blob.committed"]


async def read_everything(world: Place) -> None:
    here, there = world.ports, world.look
    assert [one.key for one in await here.repo.list()] == [one.key for one in await there.repo.list()]
    record = await here.repo.get(OLD.key)
    pages = [page async for page in here.repo.pages(record)]
    assert [key for page in pages for key in page.keys] == OLD.blocks
    assert await here.index.records(OLD.blocks) == await there.index.records(OLD.blocks)
    assert [one async for one in here.index.list()] == [one async for one in there.index.list()]
    assert [one async for one in here.index.references(OLD.blocks[0])] != []
    assert await here.repo.totals() == await there.repo.totals()
    assert [pair async for pair in world.kv.scan("ns")] == [(b"key", b"before")]
    assert await world.kv.namespaces() == ["ns"]


async def collect(world: Place) -> None:
    """A collection of a blob that was deleted."""
    upload = Upload.of(block_keys(2, secrets.token_hex(4)), secrets.token_hex(4))
    await world.look.put(upload)
    await world.look.repo.delete(upload.key)
    world.deleted.update(upload.blocks)
    run = secrets.token_hex(16)
    async for _ in world.ports.index.end_expired():
        pass
    async for _ in world.ports.index.release(0.0):
        pass
    while (await world.ports.index.condemn(run)).more:
        pass
    noted = {note.key async for note in world.ports.index.notes(run)}
    records = await world.look.index.records(list(world.deleted))
    condemned = {one.key for one in records if one is not None and one.state is BlockState.CONDEMNED}
    # What `release` did is not waited for on the disk: a server that crashes may forget it, and the next run does it,
    # for both blobs.
    assert noted == condemned
    world.deleted -= condemned
    assert not world.deleted or condemned == set(), "all that was deleted, or nothing"


async def change_many_keys(world: Place) -> None:
    first, second = secrets.token_bytes(4), secrets.token_bytes(4)
    await world.kv.batch([Put("many", b"a", first), Put("many", b"b", first), Delete("many", b"c")])
    try:
        assert await world.kv.compare_and_set("many", b"a", first, second) is True
    except LostReply:  # the one thing that only its caller can tell apart
        if await world.kv.get("many", b"a") == first:
            assert await world.kv.compare_and_set("many", b"a", first, second) is True
    assert [pair async for pair in world.kv.scan("many")] == [(b"a", second), (b"b", first)]


async def change_replicas(world: Place) -> None:
    index, look = PgReplicaIndex(world.database), PgReplicaIndex(world.straight)
    name = secrets.token_hex(4)
    [key] = block_keys(1, name)
    places = [Locator("s3", f"bucket{number}", name) for number in range(3)]
    await index.update(key, places)
    assert await index.mark(key, places[0], ReplicaState.MISSING) is True
    assert await index.replicas(key) == set(places)
    assert (key, 2) in [one async for one in index.short_of(3)]
    assert await index.details(key) == await look.details(key)
    await index.update(key, places[:1])
    assert await look.replicas(key) == {places[0]}
    await index.update(key, [])
    assert await look.details(key) == []


async def track_ranges(world: Place) -> None:
    tracker, look = PgRangeTracker(world.database), PgRangeTracker(world.straight)
    locator = Locator("s3", "uploads", secrets.token_hex(4))
    await tracker.merge_many(locator, [Span(0, 5), Span(7, 9)])
    whole = RangeSet([Span(0, 9)])
    assert await tracker.merge(locator, Span(5, 7)) == whole
    assert await tracker.current(locator) == await look.current(locator) == whole
    assert await tracker.clear(locator) is True
    assert await look.current(locator) == RangeSet()


async def change_objects(world: Place) -> None:
    data = secrets.token_bytes(2500)  # three parts
    here, there = (Locator("pg", "default", secrets.token_hex(4)) for _ in range(2))
    assert (await world.objects.put(here, data)).size == len(data)
    assert (await world.objects.copy(here, there)).size == len(data)
    assert b"".join([piece async for piece in await world.objects.get(there)]) == data
    assert [one.locator async for one in world.objects.list(there.path)] == [there]
    for locator in (here, there):
        assert await world.objects.delete(locator) is True
        assert await world.objects.head(locator) is None


async def stubbornly(call: Callable[[], Awaitable[object]]) -> None:
    """What nobody but its caller tries again: the first call of a process, and migrating."""
    async with asyncio.timeout(30):
        while True:
            try:
                await call()
                return
            except Unavailable:
                await asyncio.sleep(0.05)


async def back_up_and_restore(world: Place) -> None:
    """From one schema into another, which both are behind connections that break."""
    name = f"restored_{secrets.token_hex(8)}"
    file = world.through / f"{name}.backup"
    await make_schema(world.server, name)
    target = opened(world.through, name)
    try:
        await stubbornly(PgMetadataRows(target).namespaces)
        written = await backup_metadata(PgMetadataRows(world.database), file)
        try:
            result = await restore_metadata(PgMetadataRows(target), file, blocks_exist=None)
        except LostReply:
            # Begun again it goes on where it was, and if that was its end, finds a store that is in use.
            try:
                await restore_metadata(PgMetadataRows(target), file, blocks_exist=None)
            except ConfigError:
                pass
        else:
            assert result.records == written.records
        assert (await PgBlobManifestRepo(target).get(OLD.key)).block_count == len(OLD.blocks)
        assert [finding async for finding in audit(PgMetadataRows(target))] == []
    finally:
        await target.aclose()
        await drop_schema(world.server, name)


async def migrate_a_schema(world: Place) -> None:
    """Begun again after a failure, it goes on where it was."""
    name = f"migrated_{secrets.token_hex(8)}"
    target = opened(world.through, name)

    async def attempt() -> None:
        async with target.unpooled("db.migrate") as connection:
            await migrate(connection, name, "test")
            assert await check_version(connection) == ""

    try:
        await stubbornly(attempt)
        await stubbornly(PgKeyValueStore(target).namespaces)
        await Metadata(PgBlockIndex(target), PgBlobManifestRepo(target)).put(OLD)
    finally:
        await target.aclose()
        await drop_schema(world.server, name)


OPERATIONS = [
    put_new,
    put_again,
    put_in_steps,
    put_a_group,
    delete_and_bring_back,
    end_a_session,
    mark_a_block,
    collect,
    change_a_key,
    change_many_keys,
    change_replicas,
    track_ranges,
    change_objects,
    read_everything,
    back_up_and_restore,
    migrate_a_schema,
]
