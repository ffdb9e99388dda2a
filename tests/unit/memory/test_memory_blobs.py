"""What the reference blob store promises beyond its port."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from pathlib import Path

import pytest

from graviton.backends.memory.blobs import InMemoryBlobStore
from graviton.core.hashing import HashAlgo
from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.core.policies import BlobLayout, BlobWritePlan, Compression, StorePolicy
from graviton.errors import Unavailable, Unsupported
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


async def test_a_pipe_that_nobody_reads_leaves_no_thread_to_a_reader_that_was_cancelled() -> None:
    """The port's own `write_to`, which this store inherits."""
    store = InMemoryBlobStore()
    key = (await store.put(bytes(300_000))).key
    before = threading.enumerate()
    read_end, write_end = os.pipe()
    async with await store.get(key) as reader:
        writing = asyncio.ensure_future(reader.write_to(write_end))
        await asyncio.sleep(0.05)
        writing.cancel()
        await asyncio.wait([writing], timeout=10.0)
        left = [thread for thread in threading.enumerate() if thread not in before]
    os.close(read_end)  # ends whoever still writes
    os.close(write_end)
    assert writing.cancelled()
    assert left == []


async def test_a_silent_pipe_can_be_left_and_keeps_what_comes_later() -> None:
    store = InMemoryBlobStore()
    before = threading.enumerate()
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as pipe:
        os.write(write_end, b"first")
        putting = asyncio.ensure_future(store.put(pipe))
        await asyncio.sleep(0.05)
        putting.cancel()
        await asyncio.wait([putting], timeout=10.0)
        left = [thread for thread in threading.enumerate() if thread not in before]
        os.write(write_end, b"second")
        os.close(write_end)
        await asyncio.sleep(0.05)
        assert pipe.read() == b"second"
    assert putting.cancelled()
    assert left == []
    assert store.blobs == {}


async def test_a_file_without_data_now_is_not_at_its_end() -> None:
    class Empty(io.RawIOBase):
        def readinto(self, buffer: object, /) -> int | None:
            return None

    with pytest.raises(Unavailable, match="block"):
        await InMemoryBlobStore().put(Empty())


async def test_a_source_for_which_there_is_no_thread_is_not_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    (tmp_path / "file").write_bytes(b"the bytes")
    store = InMemoryBlobStore()
    with open(tmp_path / "file", "rb") as file:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(Unavailable, match="thread"):
                await store.put(file)
        await store.put(tmp_path / "file")
        assert file.tell() == 0
