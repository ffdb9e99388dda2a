"""The laws of `RangeTracker` and `ReplicaIndex` over PostgreSQL."""

from __future__ import annotations

import pytest

from graviton.backends.postgres.capabilities import CAPABILITIES
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.range_tracker import PgRangeTracker
from graviton.backends.postgres.replica_index import PgReplicaIndex
from graviton.testing.conformance.backed import BackedContract
from graviton.testing.conformance.range_tracker import RangeTrackerContract
from graviton.testing.conformance.replicas import ReplicaIndexContract
from tests.postgres_schemas import drop_schema, make_schema, schema_of
from tests.postgres_server import server

pytestmark = pytest.mark.postgres


class _OverPostgres(BackedContract[object]):
    backend = "postgres"
    capabilities = CAPABILITIES

    async def set_up(self) -> None:
        await super().set_up()
        await make_schema(server(), schema_of(self.space))

    async def tear_down(self) -> None:
        await drop_schema(server(), schema_of(self.space))

    def make_store(self) -> PgDatabase:
        return PgDatabase(server().config(schema_of(self.space)))


class TestPgRangeTracker(_OverPostgres, RangeTrackerContract):
    implementation = PgRangeTracker

    def make_port(self, store: PgDatabase) -> PgRangeTracker:
        return PgRangeTracker(store)


class TestPgReplicaIndex(_OverPostgres, ReplicaIndexContract):
    implementation = PgReplicaIndex

    def make_port(self, store: PgDatabase) -> PgReplicaIndex:
        return PgReplicaIndex(store)
