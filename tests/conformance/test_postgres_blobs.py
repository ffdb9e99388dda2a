"""The laws of `BlobStore`, over files in a folder and metadata on PostgreSQL."""

from __future__ import annotations

import os

import pytest

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from tests.conformance.test_embedded_blobs import TestEmbeddedStore as _Embedded
from tests.postgres_schemas import drop_schema, make_schema, schema_of
from tests.postgres_server import server
from tests.support import SMALL_SPEC

pytestmark = pytest.mark.postgres


class TestStoreOnPostgres(_Embedded):
    backend = "postgres"

    async def set_up(self) -> None:
        await make_schema(server(), schema_of(self.space))

    async def tear_down(self) -> None:
        await drop_schema(server(), schema_of(self.space))

    def make_store(self) -> Store:
        self.store = Store(
            Settings(
                fs_root=self.scratch / "store",
                kernel=os.environ.get("GRAVITON_KERNEL", "auto"),
                chunker=SMALL_SPEC,
                metadata="postgres",
                postgres=server().config(schema_of(self.space)),
            )
        )
        return self.store


del _Embedded  # collected where it is defined
