"""Rows as they lie in the tables of every version, written by hand: what a migration must take along.

`ROWS[n]` are those of the tables that version n brought; a version without any here fails the test. There is something
in every table: a blob, one that was deleted and can be brought back, a session under way, one that was ended, blocks in
every state; a value, an object, ranges, a copy, an event, a note.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from psycopg import AsyncConnection

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.objects import PgMutableObjectStore
from graviton.backends.postgres.outbox import PgOutbox
from graviton.backends.postgres.range_tracker import PgRangeTracker
from graviton.backends.postgres.replica_index import PgReplicaIndex
from graviton.core.attributes import BinaryAttributes
from graviton.core.locators import Locator
from graviton.core.manifests import PageChain
from graviton.core.ranges import Span
from graviton.ports.block_index import BlockState
from graviton.ports.replicas import ReplicaState
from graviton.testing.conformance.metadata_values import Upload, block_keys

__all__ = ["ROWS", "add_rows", "check_rows", "rows_of", "use_rows"]

STORED, SHARED, CONDEMNED, DAMAGED, PENDING = block_keys(5, "old")
BLOB, DELETED = Upload.of([STORED, SHARED], "old"), Upload.of([SHARED], "deleted")
PLACE = Locator("s3", "uploads", "old")
OBJECT = Locator("pg", "default", "old")


def _page(upload: Upload) -> bytes:
    return upload.pages[0].seal(upload.key)


def _chain(upload: Upload) -> bytes:
    chain = PageChain(upload.key.algo)
    chain.add(_page(upload))
    return chain.digest()


_BLOCKS = {"stored": STORED, "shared": SHARED, "condemned": CONDEMNED, "damaged": DAMAGED, "pending": PENDING}
_BLOBS = {"blob": BLOB, "deleted": DELETED}

_VALUES: dict[str, Any] = {
    **{name: key.digest.raw for name, key in _BLOCKS.items()},
    **{f"{name}_size": key.size for name, key in _BLOCKS.items()},
    **{name: upload.key.digest.raw for name, upload in _BLOBS.items()},
    **{f"{name}_size": upload.key.size for name, upload in _BLOBS.items()},
    **{f"{name}_page": _page(upload) for name, upload in _BLOBS.items()},
    **{f"{name}_chain": _chain(upload) for name, upload in _BLOBS.items()},
    "attributes": BinaryAttributes.EMPTY.to_bytes(),
    "content": "01900000-0000-7000-8000-000000000001",
    "place": hashlib.blake2b(PLACE.text.encode(), digest_size=32).digest(),
    "place_id": hashlib.blake2b(PLACE.text.encode(), digest_size=16).digest(),
    "locator": PLACE.text,
    "for_ever": 2**62,
    "subject": BLOB.key.text,
}

ROWS = {
    1: """
INSERT INTO domains (name) VALUES ('tenant');
INSERT INTO owners (id, domain_id, state, unconfirmed, losing_claims, changed_at, expires_at, lifetime) VALUES
    (10, 1, 2, 0, false, 5, 5, 5), (11, 1, 3, 0, false, %(for_ever)s, 5, 5),
    (12, 1, 1, 1, false, 5, %(for_ever)s, 5), (13, 1, 4, 0, true, 5, 5, 5);
INSERT INTO blocks (domain_id, algo, digest, size, state, generation) VALUES
    (1, 1, %(stored)s, %(stored_size)s, 2, 1), (1, 1, %(shared)s, %(shared_size)s, 2, 3),
    (1, 1, %(condemned)s, %(condemned_size)s, 3, 2), (1, 1, %(damaged)s, %(damaged_size)s, 4, 2),
    (1, 1, %(pending)s, %(pending_size)s, 1, 1);
INSERT INTO refs (owner_id, block_id, kind) VALUES (10, 1, 3), (10, 2, 3), (11, 2, 1), (12, 2, 1), (12, 5, 2);
INSERT INTO candidates (block_id) VALUES (2), (4);
INSERT INTO blobs (domain_id, algo, digest, size, owner_id, page_count, block_count, pages_digest, chunker, created_at,
    attributes) VALUES
    (1, 1, %(blob)s, %(blob_size)s, 10, 1, 2, %(blob_chain)s, 'fixed-v1:100', 5, %(attributes)s),
    (1, 1, %(deleted)s, %(deleted_size)s, 11, 1, 1, %(deleted_chain)s, 'fixed-v1:100', 5, %(attributes)s);
INSERT INTO pages (owner_id, end_offset, data) VALUES
    (10, %(blob_size)s, %(blob_page)s), (11, %(deleted_size)s, %(deleted_page)s);
INSERT INTO holders (owner_id, name) VALUES (10, ''), (10, 'another');
INSERT INTO totals (domain_id, suffix, blobs, logical_bytes, blocks, stored_bytes) VALUES
    (1, '\\x01', 1, %(blob_size)s, 2, %(stored_size)s::bigint + %(shared_size)s::bigint);
INSERT INTO kv_namespaces (name) VALUES ('old');
INSERT INTO kv (namespace, key, value) VALUES ('old', 'key', 'value');
INSERT INTO object_contents (id, state, size, part_bytes, expires_at) VALUES (%(content)s, 2, 5, 3, 5);
INSERT INTO object_parts (content_id, number, data) VALUES (%(content)s, 0, 'abc'), (%(content)s, 1, 'de');
INSERT INTO objects (bucket, path, content_id, modified_at) VALUES ('default', 'old', %(content)s, 5)
""",
    2: """
INSERT INTO range_heads (place, tag, locator) VALUES (%(place)s, 'any tag.', %(locator)s);
INSERT INTO ranges (head_id, start_offset, end_offset) VALUES (1, 0, 10), (1, 20, 30);
INSERT INTO replica_counts (algo, digest, size, live) VALUES (1, %(stored)s, %(stored_size)s, 1);
INSERT INTO replicas (algo, digest, size, locator_id, locator, state, verified_at) VALUES
    (1, %(stored)s, %(stored_size)s, %(place_id)s, %(locator)s, 1, 7)
""",
    3: """
INSERT INTO events (at, domain_id, kind, subject, data) VALUES (5, 1, 'blob.committed', %(subject)s, '{"blocks": 2}')
""",
    4: """
INSERT INTO notes (domain_id, algo, digest, size, run, generation, noted_at) VALUES
    (1, 1, %(condemned)s, %(condemned_size)s, decode(repeat('ab', 16), 'hex'), 2, 5)
""",
}


async def add_rows(connection: AsyncConnection[Any], version: int) -> None:
    """Fill the tables that `version` brought."""
    for statement in ROWS[version].split(";\n"):
        await connection.execute(statement, _VALUES, binary=True)


async def rows_of(connection: AsyncConnection[Any], schema: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables but `migrations`, by names of columns."""
    cursor = await connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename <> 'migrations'", [schema]
    )
    found = {}
    for (name,) in await cursor.fetchall():
        rows = await connection.execute(f"SELECT to_jsonb(t) FROM {name} t ORDER BY t")
        found[name] = [row for (row,) in await rows.fetchall()]
    return found


async def check_rows(database: PgDatabase, version: int) -> None:
    """Whether everything that the rows of the versions up to `version` say is known through the ports."""
    index, repo = PgBlockIndex(database), PgBlobManifestRepo(database)
    record = await repo.get(BLOB.key)
    assert [page.keys async for page in repo.pages(record)] == [(STORED, SHARED)]
    assert [one.key for one in await repo.list()] == [BLOB.key]
    records = await index.records([STORED, SHARED, CONDEMNED, DAMAGED, PENDING])
    states = [BlockState.STORED, BlockState.STORED, BlockState.CONDEMNED, BlockState.DAMAGED, BlockState.PENDING]
    assert [one and one.state for one in records] == states
    assert await PgKeyValueStore(database).get("old", b"key") == b"value"
    assert b"".join([piece async for piece in await PgMutableObjectStore(database).get(OBJECT)]) == b"abcde"
    if version >= 2:
        assert list(await PgRangeTracker(database).current(PLACE)) == [Span(0, 10), Span(20, 30)]
        [copy] = await PgReplicaIndex(database).details(STORED)
        assert (copy.locator, copy.state) == (PLACE, ReplicaState.PRESENT)
    if version >= 3:
        assert await _first(PgOutbox(database).follow()) == BLOB.key.text
    if version >= 4:
        assert [note.key async for note in index.notes()] == [CONDEMNED]


async def use_rows(database: PgDatabase) -> None:
    """Go on with them: bring the deleted blob back, end the session, remove everything, collect."""
    index, repo = PgBlockIndex(database), PgBlobManifestRepo(database)
    assert await repo.undelete(DELETED.key)
    await index.end(12)
    for holder in ("", "another"):
        await repo.delete(BLOB.key, holder)
    assert (await repo.totals()).blobs == 1
    released = [one async for one in index.release(0.0)]
    assert sum(one.claims for one in released) == 2  # those of the blob; the session's went at its end
    condemned = await index.condemn("cd" * 16)
    assert {note.key for note in condemned.notes} == {STORED, DAMAGED, PENDING}


async def _first(following: AsyncIterator[Any]) -> str:
    async for _, event in following:
        await following.aclose()  # type: ignore[attr-defined]
        return str(event.subject)
    raise AssertionError("there is no event")
