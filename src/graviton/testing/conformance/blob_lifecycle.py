"""The laws of `BlobStore`: cancellation, closing, reopening."""

from __future__ import annotations

import threading

from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.policies import BlobWritePlan
from graviton.errors import Unavailable
from graviton.testing.conformance.blob_values import BlobStoreHooks, key_of, noise, read
from graviton.testing.conformance.checks import (
    cancelled_everywhere,
    collect,
    gather,
    no_threads_left,
    pieces_of,
    raises,
)
from graviton.testing.conformance.contract import needs

__all__ = ["BlobLifecycleLaws"]

BLAKE3 = BlobWritePlan(hash=HashAlgo.BLAKE3)


class BlobLifecycleLaws(BlobStoreHooks):
    """Part of `BlobStoreContract`."""

    async def test_capabilities_are_those_the_suite_was_chosen_by(self) -> None:
        store = await self.open()
        assert store.capabilities == self.declared()

    async def test_cancelled_put_leaves_no_blob(self) -> None:
        store = await self.open()
        number = 0

        def pieces() -> list[bytes]:
            return [b"blob %d " % number, noise(200_000, number), b"end"]

        async for attempt in cancelled_everywhere(lambda: store.put(pieces_of(pieces()), BLAKE3)):
            key = key_of(b"".join(pieces()))
            stat = await store.stat(key)
            assert attempt.cancelled or stat is not None
            if attempt.number == 0:
                assert stat is None
            if stat is not None:  # it was durable before the cancellation came
                assert await read(store, key) == b"".join(pieces())
                assert await store.delete(key) is True
            assert await collect(store.list()) == []
            assert (await store.put(pieces(), BLAKE3)).created is True
            assert await read(store, key) == b"".join(pieces())
            assert await store.delete(key) is True
            number += 1

    @needs("leftovers")
    async def test_cancelled_puts_and_gets_leave_no_traces(self) -> None:
        store = await self.open()
        number = 0

        async def put() -> None:
            await store.put(pieces_of([b"blob %d " % number, noise(100_000, number)]), BLAKE3)

        async for _ in cancelled_everywhere(put):
            assert list(await self.leftovers(store)) == []
            number += 1
        key = (await store.put(noise(self.large_bytes), BLAKE3)).key
        async for _ in cancelled_everywhere(lambda: read(store, key)):
            assert list(await self.leftovers(store)) == []

    async def test_cancelled_get_leaves_the_store_usable(self) -> None:
        store = await self.open()
        data = noise(400_000)
        key = (await store.put(data, BLAKE3)).key
        async for _ in cancelled_everywhere(lambda: read(store, key)):
            pass
        assert await read(store, key) == data

    async def test_cancelled_delete_has_happened_or_not(self) -> None:
        store = await self.open()
        key = (await store.put(b"the bytes", BLAKE3)).key
        async for attempt in cancelled_everywhere(lambda: store.delete(key)):
            stat = await store.stat(key)
            assert attempt.cancelled or stat is None
            if stat is None:
                assert (await store.put(b"the bytes", BLAKE3)).created is True
            assert await read(store, key) == b"the bytes"

    async def test_closed_store_is_unavailable(self) -> None:
        store = await self.open()
        key = (await store.put(b"the bytes")).key
        await store.aclose()
        await store.aclose()
        with raises(Unavailable):
            await store.put(b"new")
        with raises(Unavailable):
            await store.get(key)
        with raises(Unavailable):
            await store.stat(key)
        with raises(Unavailable):
            await store.delete(key)
        with raises(Unavailable):
            await collect(store.list())

    async def test_closing_gives_threads_back(self) -> None:
        before = set(threading.enumerate())
        store = await self.open()
        contents = [noise(300_000, seed) for seed in range(4)]
        await gather(*(store.put(pieces_of([data]), BLAKE3) for data in contents))
        assert await gather(*(read(store, key_of(data)) for data in contents)) == contents
        await store.aclose()
        await no_threads_left(before)

    @needs("persistent")
    async def test_acknowledged_blobs_are_there_after_reopening(self) -> None:
        store = await self.open()
        attributes = BinaryAttributes.EMPTY.advertise({"user.name": "file"}, at_ns=1)
        data = noise(self.large_bytes)
        plan = BlobWritePlan(attributes=attributes, hash=HashAlgo.BLAKE3, holder="me")
        result = await store.put(data, plan)
        await store.put(b"", BLAKE3)
        gone = (await store.put(b"gone", BLAKE3)).key
        assert await store.delete(gone) is True
        before = await collect(store.list())
        store = await self.reopen(store)
        assert await collect(store.list()) == before
        assert await read(store, result.key) == data
        assert await store.stat(gone) is None
        again = await store.put(data, BLAKE3)
        assert (again.created, again.stats.fresh_blocks) == (False, 0)
        assert again.attributes.file_name == "file"
        assert await store.delete(result.key, "me") is True
        store = await self.reopen(store)
        assert await read(store, result.key) == data

    @needs("multi_process")
    async def test_two_handles_see_each_others_blobs_at_once(self) -> None:
        first, second = await self.open(), await self.open()
        for number in range(5):
            data = noise(100_000, number)
            assert (await first.put(data, BLAKE3)).created is True
            assert await read(second, key_of(data)) == data
            assert (await second.put(data, BLAKE3)).created is False
            assert await second.delete(key_of(data)) is True
            assert await first.stat(key_of(data)) is None
        data = noise(300_000, 99)
        results = await gather(*(store.put(data, BLAKE3) for store in (first, second) for _ in range(3)))
        assert [result.created for result in results].count(True) == 1
