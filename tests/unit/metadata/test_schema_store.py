"""Schemas: versions are appended and never change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.errors import IntegrityError, InvalidInput, NotFound
from graviton.metadata.builtin_schemas import BUILTIN_SCHEMAS
from graviton.metadata.rows import SCHEMA_NAMES, SCHEMAS
from graviton.metadata.schema_store import KvSchemaStore, register_builtin_schemas
from graviton.ports.kv import KeyValueStore
from graviton.ports.schemas import MAX_SCHEMA_BYTES
from graviton.testing.fake_clock import FakeClock
from tests.postgres_databases import fresh_schema, opened


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def kv(request: pytest.FixtureRequest) -> AsyncIterator[KeyValueStore]:
    if request.param == "memory":
        yield InMemoryKeyValueStore()
        return
    async with fresh_schema() as schema, opened(schema) as (database,):
        yield PgKeyValueStore(database)


async def test_versions_are_appended_and_stay(kv: KeyValueStore) -> None:
    clock = FakeClock()
    store = KvSchemaStore(kv, clock)
    first = await store.put("a.b-c_d", b"one")
    clock.advance(5)
    second = await store.put("a.b-c_d", b"two")
    assert [first.version, second.version] == [1, 2]
    assert second.created_at_ns - first.created_at_ns == 5_000_000_000
    assert await store.put("a.b-c_d", b"two") == second
    assert (await store.put("a.b-c_d", b"one")).version == 3
    assert await store.get("a.b-c_d", 1) == first
    assert (await store.get("a.b-c_d")).body == b"one"
    assert await store.versions("a.b-c_d") == [1, 2, 3]


async def test_names_share_nothing(kv: KeyValueStore) -> None:
    store = KvSchemaStore(kv)
    for name in ("b", "a", "ab", "a.b"):
        await store.put(name, name.encode())
    assert await store.names() == ["a", "a.b", "ab", "b"]
    assert await store.versions("a") == [1]
    assert await store.versions("c") == []


@pytest.mark.parametrize("version", [None, 0, 1, -1, 2**40])
async def test_unknown_is_not_found(kv: KeyValueStore, version: int | None) -> None:
    with pytest.raises(NotFound):
        await KvSchemaStore(kv).get("a", version)


async def test_version_beyond_the_newest_is_not_found(kv: KeyValueStore) -> None:
    store = KvSchemaStore(kv)
    await store.put("a", b"x")
    for version in (0, 2, 2**32):
        with pytest.raises(NotFound, match=f"a version {version}"):
            await store.get("a", version)


@pytest.mark.parametrize("name", ["", "A", "1a", "a b", "a\x00", "ä", "a" * 65, "a\n"])
async def test_bad_names_are_refused(kv: KeyValueStore, name: str) -> None:
    store = KvSchemaStore(kv)
    for call in (store.put(name, b"x"), store.get(name), store.versions(name)):
        with pytest.raises(InvalidInput):
            await call


async def test_bad_bodies_are_refused(kv: KeyValueStore) -> None:
    store = KvSchemaStore(kv)
    for body in (b"", bytes(MAX_SCHEMA_BYTES + 1)):
        with pytest.raises(InvalidInput):
            await store.put("a", body)
    assert (await store.put("a", bytes(MAX_SCHEMA_BYTES))).version == 1


async def test_concurrent_puts_get_different_versions(kv: KeyValueStore) -> None:
    store = KvSchemaStore(kv)
    made = await asyncio.gather(*(store.put("a", b"%d" % number) for number in range(50)))
    assert sorted(schema.version for schema in made) == list(range(1, 51))
    for schema in made:
        assert await store.get("a", schema.version) == schema


async def test_builtin_schemas_are_registered_once(kv: KeyValueStore) -> None:
    store = KvSchemaStore(kv)
    for _ in range(2):
        await kv.transact(lambda tx: register_builtin_schemas(tx, 5))
    assert {name: (await store.get(name)).body for name in await store.names()} == dict(BUILTIN_SCHEMAS)
    assert all([await store.versions(name) == [1] for name in BUILTIN_SCHEMAS])


@pytest.mark.parametrize(("namespace", "value"), [(SCHEMAS, b""), (SCHEMAS, b"\x02" + bytes(9)), (SCHEMA_NAMES, b"1")])
async def test_damaged_rows_are_an_integrity_error(kv: KeyValueStore, namespace: str, value: bytes) -> None:
    store = KvSchemaStore(kv)
    await store.put("a", b"x")
    ((key, _),) = [row async for row in kv.scan(namespace)]
    await kv.put(namespace, key, value)
    with pytest.raises(IntegrityError):
        await store.get("a")
