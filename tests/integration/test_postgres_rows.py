"""The rows view of metadata on PostgreSQL: the same rows as everywhere, in order, back and forth."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.range_tracker import PgRangeTracker
from graviton.backends.postgres.replica_index import PgReplicaIndex
from graviton.backends.postgres.rows._tables import TABLES
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.metadata.audit import audit
from graviton.metadata.backup import backup_metadata
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.replica_index import KvReplicaIndex
from graviton.metadata.replica_rows import REPLICAS
from graviton.metadata.restore import restore_metadata
from graviton.metadata.rows import CLAIMS, OWNERS, PAGES, RANGES
from graviton.ports.kv import KeyValueStore, prefix_end
from graviton.testing.conformance.checks import collect
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys
from tests.integration.filled_metadata import fill, fill_others, others
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import server

pytestmark = pytest.mark.postgres


@pytest.fixture
async def database() -> AsyncIterator[PgDatabase]:
    schema = f"rows_{secrets.token_hex(8)}"
    await make_schema(server(), schema)
    made = PgDatabase(server().config(schema))
    yield made
    await made.aclose()
    await drop_schema(server(), schema)


def on_postgres(database: PgDatabase) -> Metadata:
    return Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))


async def all_rows(kv: KeyValueStore) -> dict[str, list[tuple[bytes, bytes]]]:
    return {name: await collect(kv.scan(name)) for name in await kv.namespaces()}


async def test_audit_of_a_busy_database_finds_nothing(database: PgDatabase) -> None:
    await fill(on_postgres(database))
    assert [finding async for finding in audit(PgMetadataRows(database))] == []


async def test_scans_are_ordered_and_bounded_as_bytes_are(database: PgDatabase) -> None:
    await fill(on_postgres(database))
    await fill_others(PgReplicaIndex(database), PgRangeTracker(database))
    kv = PgMetadataRows(database)
    draw = random.Random(7)
    for name, rows in (await all_rows(kv)).items():
        keys = [key for key, _ in rows]
        assert keys == sorted(set(keys)), name
        if name not in TABLES or not keys:
            continue
        for _ in range(120):
            some = draw.choice(keys)
            prefix = (
                some[: draw.randint(0, len(some) + 1)] if draw.random() < 0.8 else draw.randbytes(draw.randint(1, 4))
            )
            after = draw.choice(
                [None, draw.choice(keys), some[: draw.randint(0, len(some))] + draw.randbytes(1), b"\xff"]
            )
            limit = draw.choice([None, 1, 3])
            found = await kv.read(lambda tx: list(tx.scan(name, prefix, after, limit)))  # noqa: B023
            end = prefix_end(prefix)
            expected = [
                (key, value)
                for key, value in rows
                if key >= prefix and (end is None or key < end) and (after is None or key > after)
            ]
            assert found == expected[:limit], (name, prefix, after, limit)


async def test_a_range_of_any_table_is_removed(database: PgDatabase) -> None:
    await fill(on_postgres(database))
    await fill_others(PgReplicaIndex(database), PgRangeTracker(database))
    kv = PgMetadataRows(database)
    draw = random.Random(9)
    removed = 0
    for name, rows in (await all_rows(kv)).items():
        keys = [key for key, _ in rows]
        if name not in (PAGES, RANGES, REPLICAS) or not keys:  # those that nothing else refers to
            continue
        start = draw.choice(keys[: len(keys) // 2 + 1])
        end = draw.choice([None, draw.choice(keys), start + b"\xff"])
        await kv.delete_range(name, start, end)
        left = [key for key in keys if key < start or (end is not None and key >= end)]
        assert [key for key, _ in await collect(kv.scan(name))] == left, (name, start, end)
        removed += len(keys) - len(left)
        await kv.delete_range(name, b"")
        assert await collect(kv.scan(name)) == []
    assert removed


async def test_keys_are_found_one_by_one(database: PgDatabase) -> None:
    await fill(on_postgres(database))
    await fill_others(PgReplicaIndex(database), PgRangeTracker(database))
    kv = PgMetadataRows(database)
    for name, rows in (await all_rows(kv)).items():
        wanted = [key for key, _ in rows] + [b"nonsense", b"\x00", rows[0][0] + b"x" if rows else b"x"]
        found = await kv.read(lambda tx: tx.get_many(name, wanted))  # noqa: B023
        expected = dict(rows)
        assert found == [expected.get(key) for key in wanted], name


async def test_backup_goes_to_another_kind_of_metadata_and_back(database: PgDatabase, tmp_path: Path) -> None:
    source = on_postgres(database)
    await fill(source)
    await fill_others(PgReplicaIndex(database), PgRangeTracker(database))
    told = await others(PgReplicaIndex(database), PgRangeTracker(database))
    rows = PgMetadataRows(database)
    await backup_metadata(rows, tmp_path / "one")
    memory = InMemoryKeyValueStore()
    await restore_metadata(memory, tmp_path / "one", blocks_exist=None)
    assert [finding async for finding in audit(memory)] == []
    assert await others(KvReplicaIndex(memory), KvRangeTracker(memory)) == told
    middle = Metadata(KvBlockIndex(memory), KvBlobManifestRepo(memory))
    for domain in ("", "other", "ä-domain"):
        assert await middle.repo.list(domain=domain) == await source.repo.list(domain=domain)
        assert await middle.repo.totals(domain) == await source.repo.totals(domain)
    await backup_metadata(memory, tmp_path / "two")

    schema = f"rows_{secrets.token_hex(8)}"
    await make_schema(server(), schema)
    target = PgDatabase(server().config(schema))
    try:
        await restore_metadata(PgMetadataRows(target), tmp_path / "two", blocks_exist=None)
        before, after = await all_rows(rows), await all_rows(PgMetadataRows(target))
        for name in TABLES:
            if name not in (OWNERS, "totals"):  # open sessions were ended, totals counted anew
                assert after[name] == before[name], name
        assert [finding async for finding in audit(PgMetadataRows(target))] == []
        assert await others(PgReplicaIndex(target), PgRangeTracker(target)) == told
        # What was restored can be worked with.
        restored = on_postgres(target)
        await restored.repo.delete(Upload.of([*block_keys(5, "shared"), *block_keys(3, "1")], "1").key, holder="h1")
        await fill(restored)
        assert [finding async for finding in audit(PgMetadataRows(target))] == []
    finally:
        await target.aclose()
        await drop_schema(server(), schema)


async def test_restore_after_an_interrupted_one_starts_over(database: PgDatabase, tmp_path: Path) -> None:
    await fill(on_postgres(database))
    rows = PgMetadataRows(database)
    await backup_metadata(rows, tmp_path / "file")
    memory = await all_rows(rows)
    schema = f"rows_{secrets.token_hex(8)}"
    await make_schema(server(), schema)
    target = PgDatabase(server().config(schema))
    try:
        kv = PgMetadataRows(target)
        calls = 0

        def stop(done: int, total: int) -> None:
            nonlocal calls
            calls += 1
            raise KeyError("planned")

        with pytest.raises(KeyError):
            await restore_metadata(kv, tmp_path / "file", blocks_exist=None, progress=stop)
        assert calls == 1
        await restore_metadata(kv, tmp_path / "file", blocks_exist=None)
        assert (await all_rows(kv))[CLAIMS] == memory[CLAIMS]
    finally:
        await target.aclose()
        await drop_schema(server(), schema)
