"""Kinds of metadata a store can have, as people name them and as programs open them. Another kind is one line here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

from graviton.assembly import metadata_side
from graviton.assembly.moving import metadata_at
from graviton.assembly.settings import Settings
from graviton.backends.postgres.range_tracker import PgRangeTracker
from graviton.backends.postgres.replica_index import PgReplicaIndex
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.read_only import MetadataStore
from graviton.metadata.replica_index import KvReplicaIndex
from graviton.ports.range_tracker import RangeTracker
from graviton.ports.replicas import ReplicaIndex
from graviton.testing.conformance.metadata_values import Metadata
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import server

__all__ = ["FILES", "KINDS", "PAIRS", "Opened", "Spot", "opened", "spot", "spot_for_commands"]

FILES = ("sqlite", "rocksdb")
"""Kinds that are `KIND:PATH`."""
KINDS = (*FILES, "postgres")
PAIRS = [(source, target) for source in KINDS for target in KINDS]


class Spot(NamedTuple):
    """Where there is no metadata yet."""

    place: str
    """As an option names it."""
    environment: dict[str, str]
    """As the environment does."""

    def settings(self, root: Path) -> Settings:
        """Of a store with its metadata there."""
        return metadata_at(Settings(fs_root=root), self.place, {})


@asynccontextmanager
async def spot(kind: str, folder: Path) -> AsyncIterator[Spot]:
    """A place for metadata of that kind, removed afterwards."""
    made, schema = _named(kind, folder)
    if schema is not None:
        await make_schema(server(), schema)
    try:
        yield made
    finally:
        if schema is not None:
            await drop_schema(server(), schema)


@contextmanager
def spot_for_commands(kind: str, folder: Path) -> Iterator[Spot]:
    """The same where no event loop runs."""
    made, schema = _named(kind, folder)
    if schema is not None:
        asyncio.run(make_schema(server(), schema))
    try:
        yield made
    finally:
        if schema is not None:
            asyncio.run(drop_schema(server(), schema))


def _named(kind: str, folder: Path) -> tuple[Spot, str | None]:
    """The place, and the schema to be made for it."""
    if kind in FILES:
        path = folder / f"meta-{secrets.token_hex(4)}"
        return Spot(f"{kind}:{path}", {"GRAVITON_METADATA": kind, "GRAVITON_META_PATH": str(path)}), None
    schema = f"copy_{secrets.token_hex(8)}"
    url = server().url(schema)
    return Spot(url, {"GRAVITON_METADATA": "postgres", "PG_JDBC_URL": url}), schema


class Opened(NamedTuple):
    """The ports over one metadata store."""

    kv: MetadataStore
    metadata: Metadata
    replicas: ReplicaIndex
    ranges: RangeTracker


@asynccontextmanager
async def opened(one: Spot, root: Path) -> AsyncIterator[Opened]:
    """What a program has that opened it."""
    settings = one.settings(root)
    kv = metadata_side.open_metadata(settings, create=True)
    metadata = Metadata(*metadata_side.metadata_ports(settings, kv))
    try:
        if isinstance(kv, PgMetadataRows):
            yield Opened(kv, metadata, PgReplicaIndex(kv.database), PgRangeTracker(kv.database))
        else:
            yield Opened(kv, metadata, KvReplicaIndex(kv), KvRangeTracker(kv))
    finally:
        await kv.aclose()
