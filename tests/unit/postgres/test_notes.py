"""Notes of garbage collection are read in pages, in one order over all domains and runs."""

from __future__ import annotations

import pytest

from graviton.backends.postgres import block_index
from graviton.backends.postgres.block_index import PgBlockIndex
from tests.postgres_databases import fresh_schema, opened

pytestmark = pytest.mark.postgres

DOMAINS = ("", "b", "Z", "ä", "a")
"""In the order in which they are made."""

FILL = """
INSERT INTO notes SELECT d.id, algo, sha256(int8send(n)), 7, decode(repeat(run, 16), 'hex'), 1, 5
FROM domains d, generate_series(1, 3) n, generate_series(1, 2) algo, unnest('{01,02}'::text[]) run
"""


async def test_pages_hold_every_note_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fresh_schema() as schema, opened(schema) as (database,):
        index = PgBlockIndex(database)
        for domain in DOMAINS:
            await index.open([[]], domain)
        async with database.unpooled("test") as connection:
            await connection.execute(FILL)
        for rows in (1, 2, 7, 60, 1000):
            monkeypatch.setattr(block_index, "_LIST_ROWS", rows)
            found = [note async for note in index.notes()]
            assert len(found) == len(set(found)) == 60
            assert found == sorted(found, key=lambda note: (note.domain.encode(), note.key.to_bytes(), note.run))
            for run in ("01" * 16, "02" * 16):
                assert [note async for note in index.notes(run)] == [note for note in found if note.run == run]
