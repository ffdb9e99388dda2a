"""A range of a blob of ten million blocks costs the pages that hold it, and nothing for the others.

The manifest has 2,442 pages. Only those in the middle and at the end are real; the rest are rows that no read survives,
a tenth as large, so that they are quickly made. What the server did is told by its own counters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio

from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.manifests import MAX_PAGE_ENTRIES, ManifestPage
from graviton.core.ranges import Span
from graviton.errors import IntegrityError
from graviton.metadata.page_reads import READ_PAGES
from graviton.testing.conformance.metadata_values import block_key
from tests.postgres_databases import Watched, fresh_schema, opened

pytestmark = pytest.mark.postgres

PAGES = 2442
BLOCK_BYTES = 100
PAGE_BYTES = MAX_PAGE_ENTRIES * BLOCK_BYTES
KEY = BlobKey(HashAlgo.BLAKE3.digest(b"ten million blocks"), PAGES * PAGE_BYTES)
OWNER, MIDDLE, LAST = 7, 1221, PAGES - 1

BLOCKS_PER_PAGE = 25
"""Of 8 KiB that the server touches for one page of a manifest, 147,500 bytes: 19 that hold it, and an index to them."""

FILL = """
INSERT INTO owners VALUES (%(owner)s, 1, 2, 0, false, 1, 1, 1);
INSERT INTO holders VALUES (%(owner)s, '');
INSERT INTO blobs VALUES (1, 1, %(digest)s, %(size)s, %(owner)s, %(pages)s, %(pages)s * 4096::bigint, sha256('pages'),
    'fixed-v1:100', 1, %(attributes)s);
INSERT INTO pages SELECT %(owner)s, (n + 1) * %(page_bytes)s::bigint, decode(repeat(md5(n::text), 900), 'hex')
FROM generate_series(0, %(pages)s - 1) n
"""


class Counters(NamedTuple):
    """What was read of the table `pages` so far."""

    rows: int
    by_scans: int
    blocks: int


READ_COUNTERS = """
SELECT idx_tup_fetch, seq_tup_read, heap_blks_read + heap_blks_hit + toast_blks_read + toast_blks_hit
    + idx_blks_read + idx_blks_hit + tidx_blks_read + tidx_blks_hit
FROM pg_stat_user_tables JOIN pg_statio_user_tables USING (relid) WHERE relid = 'pages'::regclass
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def schema() -> AsyncIterator[str]:
    values = {"owner": OWNER, "digest": KEY.digest.raw, "size": KEY.size, "pages": PAGES, "page_bytes": PAGE_BYTES}
    values["attributes"] = BinaryAttributes.EMPTY.to_bytes()
    async with fresh_schema() as made, opened(made) as (database,):
        async with database.unpooled("test") as connection:
            for statement in FILL.split(";\n"):
                await connection.execute(statement, values)
            for number in (MIDDLE, MIDDLE + 1, LAST):
                keys = [block_key(f"{number}-{entry}", BLOCK_BYTES) for entry in range(MAX_PAGE_ENTRIES)]
                page = ManifestPage(number, number * PAGE_BYTES, keys)
                await connection.execute(
                    "UPDATE pages SET data = %s WHERE end_offset = %s", [page.seal(KEY), page.end], binary=True
                )
            await connection.execute("VACUUM ANALYZE pages")
        yield made


@pytest.fixture
async def database(schema: str) -> AsyncIterator[Watched]:
    async with opened(schema, max_connections=1) as (made,):  # one, which tells of itself
        yield made


async def counters(database: Watched) -> Counters:
    await database.fetch("test", "SELECT pg_stat_force_next_flush()")
    return Counters(*(await database.fetch("test", READ_COUNTERS))[0])


@pytest.mark.parametrize(
    ("span", "pages", "statements"),
    [
        (Span(MIDDLE * PAGE_BYTES + 5, MIDDLE * PAGE_BYTES + 6), [MIDDLE], 1),
        (Span((MIDDLE + 1) * PAGE_BYTES - 1, (MIDDLE + 1) * PAGE_BYTES + 1), [MIDDLE, MIDDLE + 1], 1),
        (Span(KEY.size - 1, KEY.size), [LAST], 1),
        (Span(LAST * PAGE_BYTES, 2**62), [LAST], 1),
        (Span(KEY.size, KEY.size + 1), [], 0),
    ],
)
async def test_range_read_touches_only_its_pages(
    database: Watched, span: Span, pages: list[int], statements: int
) -> None:
    repo = PgBlobManifestRepo(database)
    record = await repo.get(KEY)
    assert record.block_count == 10_002_432
    before = await counters(database)
    found = [page async for page in repo.pages(record, span)]
    after = await counters(database)
    assert [page.number for page in found] == pages
    assert after.by_scans == before.by_scans
    assert after.rows - before.rows <= READ_PAGES * statements
    assert after.blocks - before.blocks <= READ_PAGES * statements * BLOCKS_PER_PAGE


async def test_the_other_pages_would_have_been_noticed(database: Watched) -> None:
    repo = PgBlobManifestRepo(database)
    with pytest.raises(IntegrityError):
        [page async for page in repo.pages(await repo.get(KEY), Span(0, 1))]
