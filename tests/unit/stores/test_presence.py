"""Which of many blobs are there."""

from __future__ import annotations

from graviton.core.chunking import Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.names import encode_name
from graviton.metadata.rows import BLOBS
from graviton.stores.presence import present
from tests.support import World, YieldingKv


class CountedKv(YieldingKv):
    """Counts transactions."""

    reads = 0

    async def read(self, fn):  # type: ignore[no-untyped-def]
        self.reads += 1
        return await super().read(fn)


def key_of(number: int) -> BlobKey:
    data = number.to_bytes(4, "big")
    return BlobKey(HashAlgo.BLAKE3.digest(data), len(data))


async def test_ten_thousand_are_looked_for_in_ten_transactions(kernel: Kernel) -> None:
    kv = CountedKv()
    world = World(kernel, kv=kv)
    there = {result.key async for result in world.store.put_many(n.to_bytes(4, "big") for n in range(0, 10_000, 50))}
    keys = [key_of(number) for number in range(10_000)]
    kv.reads = 0
    assert await present(world.manifests, keys) == [key in there for key in keys]
    assert kv.reads == 10
    assert await present(world.manifests, keys[:3], "elsewhere") == [False] * 3
    assert await present(world.manifests, []) == []
    await world.store.aclose()


async def test_one_that_is_damaged_costs_the_others_nothing(kernel: Kernel) -> None:
    world = World(kernel)
    keys = [(await world.store.put(n.to_bytes(4, "big"))).key for n in range(3)]
    await world.kv.put(BLOBS, encode_name("") + keys[1].to_bytes(), b"damaged")
    assert await present(world.manifests, [*keys, key_of(7), keys[0]]) == [True, False, True, False, True]
    await world.store.aclose()
