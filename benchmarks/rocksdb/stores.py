"""The three durable metadata stores doing the same: whole puts of blobs of one block, reads, and what they take."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from psycopg import AsyncConnection

from benchmarks.harness.figures import Verdict, median, ratios
from benchmarks.harness.section import Bench, Section, Table
from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.ports.kv import KeyValueStore
from graviton.testing.conformance.metadata_values import Metadata, Upload
from tests.postgres_schemas import make_schema
from tests.postgres_server import PgServer

__all__ = ["measure_stores"]

_SERVER = "fsync = on\nfull_page_writes = on\nsynchronous_commit = on\nshared_buffers = 1GB\n"
_TASKS = 8

Open = Callable[[], tuple[Metadata, Callable[[], Awaitable[None]]]]


class _Kind(NamedTuple):
    """One metadata store in one repetition."""

    open: Open
    bytes_used: Callable[[], Awaitable[int]]
    """After everything was closed."""


def measure_stores(bench: Bench, section: Section) -> None:
    """Add the figures of SQLite, RocksDB and PostgreSQL."""
    server = PgServer("18", _SERVER)
    try:
        runs = asyncio.run(_run(bench, server))
    finally:
        server.remove()
    section.raw["metadata stores"] = runs
    table = Table(["work", *runs])
    for work in next(iter(runs.values())):
        table.add(work, *(f"{median(found[work]):,.4g}" for found in runs.values()))
    section.tables.append(table)
    for work in ("puts/s, one task", f"puts/s, {_TASKS} tasks"):
        found = ratios(runs["rocksdb"][work], runs["sqlite"][work])
        section.verdicts.append(Verdict.of(f"{work}: RocksDB / SQLite", found, "x", None))
    section.notes.append(
        "puts: all transactions of a blob of one new block, durable, no block written; PostgreSQL 18 on a unix socket"
    )


async def _run(bench: Bench, server: PgServer) -> dict[str, dict[str, list[float]]]:
    runs: dict[str, dict[str, list[float]]] = {"sqlite": {}, "rocksdb": {}, "postgres": {}}
    for repetition in range(bench.pick(5, 2)):
        for name, found in runs.items():
            folder = bench.space.fresh(f"{name}-{repetition}")
            kind = await _postgres(server, f"bench_{repetition}") if name == "postgres" else _embedded(name, folder)
            for work, figure in (await _work(kind, bench.pick(3000, 200))).items():
                found.setdefault(work, []).append(figure)
        bench.say(f"metadata stores, repetition {repetition + 1}")
    return runs


async def _work(kind: _Kind, count: int) -> dict[str, float]:
    begin = time.perf_counter()
    metadata, close = kind.open()
    await metadata.put(_upload())
    opened = time.perf_counter() - begin
    uploads = [_upload() for _ in range(2 * count)]
    begin = time.perf_counter()
    for upload in uploads[:count]:
        await metadata.put(upload)
    alone = time.perf_counter() - begin
    begin = time.perf_counter()
    waiting = iter(uploads[count:])
    await asyncio.gather(*(_puts(metadata, waiting) for _ in range(_TASKS)))
    together = time.perf_counter() - begin
    begin = time.perf_counter()
    for upload in uploads:
        assert await metadata.repo.get(upload.key) is not None
    reading = time.perf_counter() - begin
    await close()
    return {
        "puts/s, one task": count / alone,
        f"puts/s, {_TASKS} tasks": count / together,
        "records read/s": 2 * count / reading,
        "first put, with opening, ms": opened * 1000,
        "bytes per blob": await kind.bytes_used() / (2 * count + 1),
    }


async def _puts(metadata: Metadata, waiting: object) -> None:
    for upload in waiting:  # type: ignore[attr-defined]
        await metadata.put(upload)


def _upload() -> Upload:
    block = BlockKey(Digest(HashAlgo.BLAKE3, os.urandom(32)), 4096)
    return Upload(BlobKey(Digest(HashAlgo.BLAKE3, os.urandom(32)), 4096), [block])


def _embedded(name: str, folder: Path) -> _Kind:
    path = folder / "meta"

    def opened() -> tuple[Metadata, Callable[[], Awaitable[None]]]:
        kv: KeyValueStore = (
            SqliteKeyValueStore(SqliteConfig(path)) if name == "sqlite" else RocksKeyValueStore(RocksConfig(path))
        )
        return Metadata(KvBlockIndex(kv), KvBlobManifestRepo(kv)), kv.aclose

    async def used() -> int:
        return _size(folder)

    return _Kind(opened, used)


def _size(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file() and one.name != "LOG")


async def _postgres(server: PgServer, schema: str) -> _Kind:
    await make_schema(server, schema)

    def opened() -> tuple[Metadata, Callable[[], Awaitable[None]]]:
        database = PgDatabase(server.config(schema))
        return Metadata(PgBlockIndex(database), PgBlobManifestRepo(database)), database.aclose

    async def used() -> int:
        connection = await AsyncConnection.connect(server.config(schema).conninfo(), autocommit=True)
        async with connection:
            cursor = await connection.execute(
                "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class"
                " WHERE relnamespace = %s::regnamespace AND relkind = 'r'",
                [schema],
            )
            [(size,)] = await cursor.fetchall()
        return int(size)

    return _Kind(opened, used)
