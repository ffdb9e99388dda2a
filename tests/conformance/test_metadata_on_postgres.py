"""The laws of `BlockIndex` and `BlobManifestRepo` over PostgreSQL."""

from __future__ import annotations

import pytest

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.capabilities import CAPABILITIES
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.outbox import PgOutbox
from graviton.testing.conformance.block_index import BlockIndexContract
from graviton.testing.conformance.manifests import BlobManifestRepoContract
from graviton.testing.conformance.metadata_values import Metadata, MetadataContract
from graviton.testing.conformance.outbox import OutboxContract
from tests.postgres_schemas import drop_schema, make_schema, schema_of
from tests.postgres_server import server

pytestmark = pytest.mark.postgres


class _OverPostgres(MetadataContract):
    backend = "postgres"
    capabilities = CAPABILITIES

    async def set_up(self) -> None:
        await super().set_up()
        await make_schema(server(), schema_of(self.space))

    async def tear_down(self) -> None:
        await drop_schema(server(), schema_of(self.space))

    def make_store(self) -> PgDatabase:
        return PgDatabase(server().config(schema_of(self.space)), clock=self.clock)

    def make_metadata(self, store: PgDatabase) -> Metadata:
        return Metadata(PgBlockIndex(store), PgBlobManifestRepo(store))


class TestPgBlockIndex(_OverPostgres, BlockIndexContract):
    implementation = PgBlockIndex


class TestPgOutbox(_OverPostgres, OutboxContract):
    implementation = PgOutbox

    def make_outbox(self, store: PgDatabase) -> PgOutbox:
        return PgOutbox(store, poll_seconds=0.05)


class TestPgBlobManifestRepo(_OverPostgres, BlobManifestRepoContract):
    implementation = PgBlobManifestRepo

    async def raw_read_pages(self, store: PgDatabase, owner: int) -> list[bytes]:
        rows = await store.fetch(
            "test", "SELECT end_offset, data FROM pages WHERE owner_id = %b ORDER BY end_offset", [owner]
        )
        self.ends = {**getattr(self, "ends", {}), owner: [end for end, _ in rows]}
        return [data for _, data in rows]

    async def raw_write_pages(self, store: PgDatabase, owner: int, pages: list[bytes | None]) -> None:
        async with store.connection() as connection:
            for end, page in zip(self.ends[owner], pages, strict=True):
                if page is None:
                    await connection.execute("DELETE FROM pages WHERE owner_id = %b AND end_offset = %b", [owner, end])
                else:
                    await connection.execute(
                        "INSERT INTO pages VALUES (%b, %b, %b) ON CONFLICT (owner_id, end_offset)"
                        " DO UPDATE SET data = EXCLUDED.data",
                        [owner, end, page],
                    )
