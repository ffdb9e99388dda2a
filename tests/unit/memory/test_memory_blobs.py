"""What the reference blob store promises beyond its port."""

import pytest

from graviton.backends.memory.blobs import InMemoryBlobStore
from graviton.core.hashing import HashAlgo
from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.core.policies import BlobLayout, BlobWritePlan, Compression, StorePolicy
from graviton.errors import Unsupported
from graviton.testing.fake_clock import FakeClock


async def test_hash_is_sha256_unless_chosen() -> None:
    assert (await InMemoryBlobStore().put(b"hello")).key.algo is HashAlgo.SHA256
    assert (await InMemoryBlobStore(hash=HashAlgo.BLAKE3).put(b"hello")).key.algo is HashAlgo.BLAKE3


async def test_locator_is_memory_bucket_and_digest() -> None:
    result = await InMemoryBlobStore(bucket="photos").put(b"hello")
    assert result.locator.text == f"memory://photos/{result.key.hex}"
    assert (await InMemoryBlobStore().put(b"hello")).locator.text == f"memory://default/{result.key.hex}"


@pytest.mark.parametrize(
    ("size", "blocks"),
    [(0, 0), (1, 1), (MAX_BLOCK_BYTES - 1, 1), (MAX_BLOCK_BYTES, 1), (MAX_BLOCK_BYTES + 1, 2)],
)
async def test_block_count_is_the_size_in_units_of_16_mib(size: int, blocks: int) -> None:
    result = await InMemoryBlobStore().put(bytes(size))
    assert (result.stats.blocks, result.attributes.chunk_count) == (blocks, blocks)


async def test_times_come_from_the_clock() -> None:
    clock = FakeClock(5_000)
    store = InMemoryBlobStore(clock=clock)
    key = (await store.put(b"hello")).key
    clock.advance(1)
    await store.put(b"hello")
    stat = await store.stat(key)
    assert stat is not None
    assert stat.created_at_ns == 5_000
    assert stat.attributes.confirmed["graviton.size"].at_ns == 1_000_005_000


@pytest.mark.parametrize("policy", [StorePolicy(layout=BlobLayout.FRAMED), StorePolicy(compression=Compression.zstd())])
async def test_policy_it_cannot_follow_is_refused(policy: StorePolicy) -> None:
    store = InMemoryBlobStore()
    with pytest.raises(Unsupported):
        await store.put(b"hello", BlobWritePlan(policy=policy))
    assert store.blobs == {}
