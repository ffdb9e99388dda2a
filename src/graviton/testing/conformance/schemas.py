"""The laws of `SchemaStore`."""

from __future__ import annotations

from graviton.errors import InvalidInput, NotFound
from graviton.ports.schemas import MAX_SCHEMA_BYTES, SchemaStore
from graviton.testing.conformance.backed import BackedContract
from graviton.testing.conformance.checks import cancelled_everywhere, gather, raises
from graviton.testing.conformance.contract import needs

__all__ = ["SchemaStoreContract"]


class SchemaStoreContract(BackedContract[SchemaStore]):
    """All laws of `graviton.ports.schemas`. The store may hold schemas of its own from the start."""

    port = SchemaStore

    async def test_unknown_schema_is_not_found(self) -> None:
        store = await self.open_port()
        await store.put("known", b"1")
        with raises(NotFound):
            await store.get("unknown")
        for version in (0, 2, -1, 2**31):
            with raises(NotFound):
                await store.get("known", version)
        assert await store.versions("unknown") == []
        assert "unknown" not in await store.names()

    async def test_put_appends_the_next_version(self) -> None:
        store = await self.open_port()
        for version in range(1, 13):
            schema = await store.put("page", b"body %d" % version)
            assert (schema.name, schema.version, schema.body) == ("page", version, b"body %d" % version)
            assert schema.created_at_ns > 0
            assert await store.get("page") == schema
        assert await store.versions("page") == list(range(1, 13))

    async def test_old_versions_stay_readable_and_unchanged(self) -> None:
        store = await self.open_port()
        written = [await store.put("page", b"body %d" % n) for n in range(300)]
        assert [await store.get("page", schema.version) for schema in written] == written

    async def test_putting_the_newest_version_again_returns_it(self) -> None:
        store = await self.open_port()
        await store.put("page", b"one")
        second = await store.put("page", b"two")
        assert await store.put("page", b"two") == second
        assert await store.versions("page") == [1, 2]
        third = await store.put("page", b"one")
        assert third.version == 3, "an older version put again is a new one"
        assert (await store.get("page", 1)).body == b"one"

    async def test_names_are_listed_in_order(self) -> None:
        store = await self.open_port()
        before = await store.names()
        mine = ["zz.page", "zz", "zz-1", "zz_", "zza", "zz.page.x"]
        for name in mine:
            await store.put(name, name.encode())
        assert await store.names() == sorted([*before, *mine])
        for name in mine:
            assert (await store.get(name)).body == name.encode()
            assert await store.versions(name) == [1]

    async def test_bounds_of_names_and_bodies(self) -> None:
        store = await self.open_port()
        longest = "a" + "9" * 63
        assert (await store.put(longest, b"x" * MAX_SCHEMA_BYTES)).version == 1
        assert (await store.get(longest)).body == b"x" * MAX_SCHEMA_BYTES
        assert (await store.put("a", b"\x00")).body == b"\x00"
        for bad in ("", "A", "1a", ".a", "-a", "a b", "a/b", "ä", "a\n", "a" * 65):
            with raises(InvalidInput):
                await store.put(bad, b"body")
            with raises(InvalidInput):
                await store.get(bad)
        for body in (b"", b"x" * (MAX_SCHEMA_BYTES + 1)):
            with raises(InvalidInput):
                await store.put("page", body)
        assert await store.versions("page") == []

    async def test_concurrent_puts_of_different_schemas_get_different_versions(self) -> None:
        store = await self.open_port()
        schemas = await gather(*(store.put("page", b"body %d" % n) for n in range(20)))
        assert sorted(schema.version for schema in schemas) == list(range(1, 21))
        for schema in schemas:
            assert await store.get("page", schema.version) == schema

    async def test_concurrent_equal_puts_are_one_version(self) -> None:
        store = await self.open_port()
        schemas = await gather(*(store.put("page", b"same") for _ in range(20)))
        assert {schema.version for schema in schemas} == {1}
        assert await store.versions("page") == [1]

    async def test_cancelled_put_has_happened_or_not(self) -> None:
        store = await self.open_port()
        number = 0

        async def put() -> None:
            await store.put("page", b"body %d" % number)

        async for attempt in cancelled_everywhere(put):
            versions = await store.versions("page")
            assert versions == list(range(1, len(versions) + 1))
            schema = await store.put("page", b"body %d" % number)
            assert schema.version <= len(versions) + 1
            assert attempt.cancelled or schema.version == len(versions)
            number += 1

    @needs("persistent")
    async def test_schemas_are_there_after_reopening(self) -> None:
        store = await self.open_port()
        written = [await store.put("page", body) for body in (b"one", b"two")]
        store = await self.reopened()
        assert [await store.get("page", version) for version in (1, 2)] == written
        assert (await store.put("page", b"two")).version == 2
        assert (await store.put("page", b"three")).version == 3
