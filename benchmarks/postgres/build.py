"""Schemas with many blocks, made in SQL: what as many puts leave."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection

from graviton.backends.postgres.migrate import migrate
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey

__all__ = ["BLOBS", "blob_of", "block_of", "build"]

BLOBS = 10_000
"""Blobs of every schema, so that only the number of blocks differs."""

BLOCK_BYTES = 1 << 20

_FILL = """
INSERT INTO blocks (domain_id, algo, digest, size, state, generation)
SELECT 1, 1, sha256(('block ' || i)::bytea), 1048576, 2, 1 FROM generate_series(1, %(blocks)s) AS i;
INSERT INTO owners (id, domain_id, state, unconfirmed, changed_at, expires_at, lifetime)
SELECT i, 1, 2, 0, 1, 1, 1 FROM generate_series(1, %(blobs)s) AS i;
INSERT INTO refs (owner_id, block_id, kind)
SELECT 1 + (n - 1) / %(each)s, id, 3 FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM blocks) AS b;
INSERT INTO blobs (domain_id, algo, digest, size, owner_id, page_count, block_count, pages_digest, chunker, created_at,
                   attributes)
SELECT 1, 1, sha256(('blob ' || i)::bytea), %(each)s * 1048576::bigint, i, 1 + %(each)s / 4096, %(each)s,
       sha256('pages'), 'fixed-v1:1048576', 1, %(attributes)s
FROM generate_series(1, %(blobs)s) AS i;
INSERT INTO holders (owner_id, name) SELECT i, '' FROM generate_series(1, %(blobs)s) AS i
"""


def block_of(number: int) -> BlockKey:
    """A block that `build` made."""
    return BlockKey(_digest(f"block {number}"), BLOCK_BYTES)


def blob_of(number: int, blocks: int) -> BlobKey:
    """A blob that `build` made, in a schema of so many blocks."""
    return BlobKey(_digest(f"blob {number}"), blocks // BLOBS * BLOCK_BYTES)


def _digest(text: str) -> Digest:
    """Any 32 bytes will do; these the server can work out too."""
    return Digest(HashAlgo.BLAKE3, HashAlgo.SHA256.digest(text.encode()).raw)


async def build(connection: AsyncConnection[Any], schema: str, blocks: int, attributes: bytes) -> None:
    """Make the schema with so many blocks, vacuumed and written out."""
    await migrate(connection, schema, "bench")
    values = {"blocks": blocks, "blobs": BLOBS, "each": blocks // BLOBS, "attributes": attributes}
    for statement in _FILL.split(";\n"):
        await connection.execute(statement, values)
    for table in ("blocks", "owners", "refs", "blobs", "holders"):
        await connection.execute(f"VACUUM (FREEZE, ANALYZE) {table}")
    await connection.execute("CHECKPOINT")
