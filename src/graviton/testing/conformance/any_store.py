"""The laws of `AnyStore`: those of `BlobStore`, and what users have beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.policies import BlobWritePlan
from graviton.errors import InvalidInput, NotFound, Unavailable
from graviton.ports.any_store import AnyStore
from graviton.ports.blobs import SmallBlob
from graviton.testing.conformance.blob_values import key_of, noise, read
from graviton.testing.conformance.blobs import BlobStoreContract
from graviton.testing.conformance.checks import collect, raises

__all__ = ["AnyStoreContract"]

BLAKE3 = BlobWritePlan(hash=HashAlgo.BLAKE3)


class Oops(Exception):  # noqa: N818 - no error of ours, on purpose
    """What a law's own source raises."""


class AnyStoreContract(BlobStoreContract):
    """All laws of `graviton.ports.any_store`."""

    port = AnyStore

    async def open(self) -> Any:
        """A store from the factory."""
        return await super().open()

    async def test_put_many_gives_a_result_for_each_source_in_order(self) -> None:
        store = await self.open()
        contents = [b"%d" % n for n in range(30)] + [b"", noise(400_000), b"7"]
        results = await collect(store.put_many(iter(contents), BLAKE3))
        assert [result.key for result in results] == [key_of(data) for data in contents]
        assert [result.created for result in results].count(True) == len(contents) - 1
        assert await read(store, key_of(contents[-2])) == contents[-2]

    async def test_put_many_keeps_attributes_of_each(self) -> None:
        store = await self.open()
        named = [
            SmallBlob(b"%d" % n, BinaryAttributes.EMPTY.advertise({"user.name": f"n{n}"}, at_ns=1)) for n in (1, 2)
        ]
        plan = BlobWritePlan(attributes=BinaryAttributes.EMPTY.advertise({"user.x": "y"}, at_ns=2), holder="me")
        results = await collect(store.put_many([*named, b"3"], plan))
        assert [result.attributes.file_name for result in results] == ["n1", "n2", None]
        assert [result.attributes.custom["user.x"] for result in results] == ["y", "y", "y"]
        assert await store.delete(results[0].key, "me") is True

    async def test_put_many_raises_what_its_sources_do_after_what_came_before(self) -> None:
        store = await self.open()

        def failing() -> Iterator[bytes]:
            yield from (b"%d" % n for n in range(20))
            raise Oops("planned")

        found = []
        with raises(Oops):
            async for result in store.put_many(failing()):
                found.append(result.key)  # noqa: PERF401 - what came before the error is what matters
        assert found == [stat.key for n in range(20) if (stat := await store.stat(found[n]))]
        wrong: list[Any] = [b"good", "text"]
        with raises(InvalidInput):
            async for result in store.put_many(wrong, BLAKE3):
                assert result.key == key_of(b"good")

    async def test_put_many_can_be_left_early(self) -> None:
        store = await self.open()
        async with aclosing(store.put_many(b"%d" % n for n in range(200))) as results:
            first = await anext(results)
        assert await store.stat(first.key) is not None
        assert (await store.put(b"another")).created is True

    async def test_a_deleted_blob_can_be_brought_back(self) -> None:
        store = await self.open()
        key = (await store.put(noise(100_000), BLAKE3)).key
        assert await store.undelete(key) is False
        assert await store.delete(key) is True
        assert await store.stat(key) is None
        assert await store.undelete(key) is True
        assert await read(store, key) == noise(100_000)
        assert await store.undelete(key_of(b"nobody")) is False

    async def test_totals_agree_with_the_list(self) -> None:
        store = await self.open()
        assert (await store.totals())[:2] == (0, 0)
        contents = [noise(self.large_bytes), b"small", b""]
        for data in contents:
            await store.put(data, BLAKE3)
        totals = await store.totals()
        assert (totals.blobs, totals.logical_bytes) == (3, sum(map(len, contents)))
        assert totals.stored_bytes == totals.logical_bytes
        assert totals.blocks == sum([stat.blocks for stat in await collect(store.list())])
        assert (await store.totals("elsewhere"))[:2] == (0, 0)
        await store.delete(key_of(b"small"))
        assert (await store.totals()).blobs == 2

    async def test_manifest_is_the_blob_without_a_gap(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        result = await store.put(data, BLAKE3)
        entries = await collect(store.manifest(result.key))
        assert len(entries) == result.blocks > 1
        at = 0
        for entry in entries:
            assert entry.offset == at
            assert entry.key.digest == entry.key.algo.digest(data[at : entry.end])
            at = entry.end
        assert at == len(data)
        empty = await store.put(b"", BLAKE3)
        assert await collect(store.manifest(empty.key)) == []
        with raises(NotFound):
            await collect(store.manifest(key_of(b"missing")))

    async def test_store_that_is_prepared_can_be_read(self) -> None:
        store = await self.open()
        await store.prepare()
        await store.prepare()
        inside = await store.required()
        result = await store.put(b"the bytes")
        assert await inside.stat(result.key) is not None

    async def test_store_closes_with_its_block(self) -> None:
        async with await self.open() as store:
            result = await store.put(b"the bytes")
        for call in (store.totals(), collect(store.manifest(result.key)), collect(store.put_many([b"x"]))):
            with raises(Unavailable):
                await call
