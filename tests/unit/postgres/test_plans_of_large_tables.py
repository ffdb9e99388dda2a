"""No statement about blocks, blobs, keys and events walks an index along, however much there is.

A plan without a sequential scan says little: our connections switch those off, and a whole index walked is as slow. So
every statement of every operation is looked at as it is run, about a few rows among 100,000: which indexes it uses,
whether it says where in them to begin and end, and how many pages it touches.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from graviton.backends.postgres import kv
from graviton.backends.postgres._scripts import Statement
from graviton.backends.postgres._totals import fold
from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.outbox import PgOutbox
from graviton.core.attributes import BinaryAttributes
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys, commit_of
from tests.postgres_databases import fresh_schema
from tests.postgres_plans import Explained, Look
from tests.postgres_server import server

pytestmark = pytest.mark.postgres

FILL = """
INSERT INTO blocks (domain_id, algo, digest, size, state, generation)
SELECT 1, 1, sha256(int8send(n)), 100, 2, 1 FROM generate_series(1, 100000) n;
INSERT INTO owners SELECT n, 1, 2, 0, false, 1, 1, 1 FROM generate_series(1, 100000) n;
INSERT INTO refs SELECT n, n, 3 FROM generate_series(1, 100000) n;
INSERT INTO blobs SELECT 1, 1, sha256(int8send(n)), 100, n, 1, 1, sha256('pages'), 'fixed-v1:100', 1, %(attributes)s
FROM generate_series(1, 100000) n;
INSERT INTO pages SELECT n, 100, 'page' FROM generate_series(1, 100000) n;
INSERT INTO holders SELECT n, '' FROM generate_series(1, 100000) n;
INSERT INTO events (at, domain_id, kind, subject, data)
SELECT n, 1, 'blob.committed', 'blake3:' || n, '{}' FROM generate_series(1, 100000) n;
INSERT INTO notes SELECT 1, 1, sha256(int8send(n)), 100, substr(sha256(int8send(n / 100)), 1, 16), 1, 1
FROM generate_series(1, 100000) n;
INSERT INTO kv_namespaces VALUES ('many');
INSERT INTO kv SELECT 'many', int8send(n), 'value' FROM generate_series(1, 100000) n
"""

FEW = 4
"""Rows that each operation is about."""


INDEXES = {
    "domain": "domains_name_is_unique",
    "events.follow": "domains_pkey events_by_transaction events_pkey",
    "events.trim": "events_pkey",
    "index.claim": "blocks_key_is_unique owners_pkey refs_are_unique",
    "index.condemn": "blocks_pkey candidates_pkey domains_name_is_unique notes_by_run refs_by_block",
    "index.confirm": "blocks_key_is_unique blocks_pkey owners_pkey refs_are_unique refs_by_block",
    "index.end": "blocks_pkey owners_pkey refs_are_unique",
    "index.end_expired": "owners_open",
    "index.find_gone": "holders_are_unique owners_gone pages_are_unique refs_are_unique",
    "index.list": "blocks_key_is_unique",
    "index.mark_damaged": "blocks_key_is_unique",
    "index.mark_wanted_back": "blocks_key_is_unique",
    "index.notes": "domains_name_is_unique notes_are_unique notes_by_run",
    "index.open": "blocks_key_is_unique blocks_pkey",
    "index.owner": "owners_pkey",
    "index.records": "blocks_key_is_unique",
    "index.references": "blocks_key_is_unique refs_by_block",
    "index.release": "blocks_pkey holders_are_unique owners_pkey pages_are_unique refs_are_unique",
    "index.remove_owners": "blobs_have_an_owner_of_their_own holders_are_unique owners_gone owners_pkey"
    " pages_are_unique refs_are_unique",
    "kv": "kv_key_is_unique",
    "manifests.add_pages": "blocks_key_is_unique blocks_pkey owners_pkey refs_are_unique refs_by_block",
    "manifests.commit": "blobs_key_is_unique blocks_key_is_unique blocks_pkey owners_pkey pages_are_unique"
    " refs_are_unique refs_by_block",
    "manifests.delete": "blobs_key_is_unique holders_are_unique owners_pkey",
    "manifests.find": "blobs_key_is_unique owners_pkey",
    "manifests.fold": "totals_are_unique",
    "manifests.forget": "blocks_pkey holders_are_unique owners_pkey pages_are_unique refs_are_unique",
    "manifests.get": "blobs_key_is_unique owners_pkey",
    "manifests.list": "blobs_key_is_unique owners_pkey",
    "manifests.pages": "owners_pkey pages_are_unique",
    "manifests.seal": "owners_pkey pages_are_unique",
    "manifests.totals": "totals_are_unique",
    "manifests.undelete": "blobs_key_is_unique owners_pkey",
}
"""By operation."""

WALKED = {"candidates_pkey", "domains_name_is_unique", "events_by_transaction", "events_pkey", "totals_are_unique"}
"""Where statements begin at one end: some candidates or totals, the oldest event, the newest one; all domains."""

MAX_BUFFERS = 200
"""Of a statement about eight keys. The smallest index of 100,000 entries has 270 pages, and each entry that is walked
along costs a page of its table too."""

MAX_BUFFERS_PER_ROW = 4


async def use(database: Explained) -> None:
    """Every operation."""
    metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
    index, repo = metadata.index, metadata.repo
    known = await first(index.list())
    upload = Upload.of([*[record.key for record in known], *block_keys(FEW)])
    record = (await metadata.put(upload)).record
    await metadata.put(upload, holder="again")
    session = await metadata.session(upload.blocks)
    await index.claim(session, block_keys(FEW, "more"))
    await index.confirm(session, block_keys(FEW, "more"))
    stepped = Upload.of(block_keys(FEW, "more"))
    await repo.add_pages(session, stepped.pages)
    await repo.commit([commit_of(session, stepped, pages=[], confirm=[])])
    await repo.get(upload.key)
    await repo.find([upload.key, Upload.of(block_keys(1), "absent").key])
    await first(repo.pages(record))
    for prefix in ("", "blake3:", "sha256:", "blake3:8", "blake3:ff", "blake3:ffff8"):
        await repo.list(prefix, limit=FEW)
    await repo.list(after=upload.key, limit=FEW)
    await repo.totals()
    await database.run("manifests.fold", fold)
    await index.records(upload.blocks)
    await first(index.references(known[-1].key))
    await index.mark_wanted_back(known[1].key, known[1].generation)
    await index.mark_damaged(known[2].key, known[2].generation)
    await metadata.put(Upload.of([known[2].key], "repaired"))
    await repo.delete(upload.key)
    await repo.delete(upload.key, "again")
    await repo.undelete(upload.key)
    await repo.delete(upload.key)
    await index.owner(session)
    await index.end(await metadata.session(block_keys(FEW, "ended")))
    await index.open([block_keys(FEW, "expired")], lifetime_seconds=0.001)
    await asyncio.sleep(0.002)
    await first(index.end_expired())
    await first(index.release(0.0), 100)
    run = secrets.token_hex(16)
    await index.condemn(run, FEW)
    await metadata.put(upload)
    await first(index.notes())
    await first(index.notes(run))


async def use_others(database: Explained) -> None:
    """Events, keys and values."""
    outbox = PgOutbox(database, poll_seconds=0.01)
    positions = [position for position, _ in await first(outbox.follow())]
    await first(outbox.follow(positions[0]))
    latest = await outbox.latest()
    following = asyncio.ensure_future(first(outbox.follow(latest), 1))
    await Metadata(PgBlockIndex(database), PgBlobManifestRepo(database)).put(Upload.of(block_keys(1, "told"), "told"))
    await following
    await outbox.trim(1000, FEW)
    items = [[b"a", b"b"], [b"c", b"d"]]
    for sql, values in (
        (kv._GET, ["many", b"a"]),
        (kv._GET_MANY, [items[0], "many"]),
        (kv._SCAN, ["many", b"\0", b"\0" * 6, FEW]),
        (kv._SCAN_BELOW, ["many", b"\0", b"\0" * 6, b"\1", FEW]),
        (kv._PUT_MANY, ["many", *items]),
        (kv._DELETE_MANY, ["many", items[0]]),
    ):
        await database.look("kv", Statement(sql, values))


async def first(found: AsyncIterator[Any], count: int = FEW) -> list[Any]:
    some = []
    async with contextlib.aclosing(found):
        async for one in found:
            some.append(one)
            if len(some) == count:
                break
    return some


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def looks() -> AsyncIterator[list[Look]]:
    async with fresh_schema() as schema:
        database = Explained(server().config(schema))
        async with database.unpooled("test") as connection:
            for statement in FILL.split(";\n"):
                await connection.execute(statement, {"attributes": BinaryAttributes.EMPTY.to_bytes()}, binary=True)
            await connection.execute("ANALYZE")
        await use(database)
        await use_others(database)
        await database.aclose()
        yield database.looks


def test_only_known_indexes_are_used(looks: list[Look]) -> None:
    used: dict[str, set[str]] = {}
    for look in looks:
        assert look.sequential <= {"event_stream"}, look  # which has one row
        used.setdefault(look.operation, set()).update(name for name, _ in look.indexes if not name.startswith("pg_"))
    assert set(used) == set(INDEXES)
    for operation, names in used.items():
        assert names <= set(INDEXES[operation].split()), operation


def test_statements_say_where_in_an_index_they_look(looks: list[Look]) -> None:
    for look in looks:
        assert {name for name, is_bounded in look.indexes if not is_bounded} <= WALKED, look


def test_pages_touched_are_a_few_for_each_row(looks: list[Look]) -> None:
    for look in looks:
        assert look.buffers <= MAX_BUFFERS + MAX_BUFFERS_PER_ROW * look.rows, look
