"""A cache whose disk hangs: whoever reads goes below or leaves, and the end comes all the same."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graviton.backends.filesystem._disk import Disk
from graviton.constraints.budget import ByteBudget
from graviton.ports.blocks import CanonicalBlock
from graviton.stores.layers.cache.looks import PAUSE_SECONDS
from graviton.testing.conformance.block_values import block
from graviton.testing.fake_clock import FakeClock
from tests.unit.cache.caches import Cached, blocks_of_8k, far

HANG_SECONDS = 20.0
"""So long at most: a caller that waits for the disk is found out by it."""

SOON = 5.0
"""What takes less did not wait for the disk, however loaded the machine is."""


class HangingDisk(Disk):
    """Calls of one kind hang while `hangs` is set, until it is let go."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.hangs = False
        self.hanging = 0
        self.go_on = threading.Event()

    def _hang(self, call: str) -> None:
        if self.hangs and call == self.call:
            self.hanging += 1
            self.go_on.wait(HANG_SECONDS)

    def open(self, name: Any, folder: int | None = None) -> int:
        self._hang("open")
        return super().open(name, folder)

    def read(self, fd: int, size: int) -> bytes:
        self._hang("read")
        return super().read(fd, size)

    def create(self, name: Any, folder: int, mode: int = 0o400) -> int:
        self._hang("create")
        return super().create(name, folder, mode)


@pytest.fixture(params=["open", "read"])
def disk(request: pytest.FixtureRequest) -> Iterator[HangingDisk]:
    disk = HangingDisk(request.param)
    yield disk
    disk.go_on.set()


async def hanging(root: Path, disk: HangingDisk, *blocks: CanonicalBlock, **how: Any) -> Cached:
    """A cache that has the blocks, on a disk that hangs from now on."""
    store = Cached(root, far(*blocks), disk=disk, **how)
    await store.read(*blocks)
    store.inner.gets.clear()  # type: ignore[attr-defined]
    disk.hangs = True
    return store


async def until(disk: HangingDisk, count: int) -> None:
    while disk.hanging < count:
        await asyncio.sleep(0.001)


async def test_a_cancelled_reader_leaves_a_hanging_disk_at_once(tmp_path: Path, disk: HangingDisk) -> None:
    blocks = blocks_of_8k(3)
    store = await hanging(tmp_path, disk, *blocks)
    began = time.monotonic()
    readers = [asyncio.ensure_future(store.get(one.key)) for one in blocks]
    await until(disk, 2)
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    assert all(reader.cancelled() for reader in readers)
    assert time.monotonic() - began < SOON
    disk.go_on.set()
    await store.aclose()
    assert disk.hanging == 2, "the third was taken back"


async def test_who_waited_long_enough_is_served_from_below(tmp_path: Path, disk: HangingDisk) -> None:
    blocks = blocks_of_8k(10)
    store = await hanging(tmp_path, disk, *blocks, patience=0.2)
    began = time.monotonic()
    found = await asyncio.gather(*(store.get(one.key) for one in blocks))
    assert time.monotonic() - began < SOON
    assert found == [one.payload for one in blocks]
    assert store.inner.fetched == 10  # type: ignore[attr-defined]
    assert store.count("failures", operation="read", code="timeout") == 10
    disk.go_on.set()
    await store.aclose()


async def test_after_a_time_out_the_cache_is_passed_by_until_its_disk_is_back(
    tmp_path: Path, disk: HangingDisk
) -> None:
    blocks, clock = blocks_of_8k(5), FakeClock()
    store = await hanging(tmp_path, disk, *blocks, patience=2.0, clock=clock)
    early = [asyncio.ensure_future(store.get(one.key)) for one in blocks[:2]]
    await until(disk, 2)
    clock.advance(1.1)
    assert await store.get(blocks[2].key) == blocks[2].payload
    assert not early[0].done(), "the others still have patience"
    assert disk.hanging == 2, "it was not even asked"
    assert store.count("failures") == 0
    [new] = blocks_of_8k(1, "new")
    store.inner.blocks[new.key] = new.payload  # type: ignore[attr-defined]
    assert await store.get(new.key) == new.payload
    assert store.count("fills", outcome="busy") == 2, "nor given anything to write"
    clock.advance(10 * PAUSE_SECONDS)
    assert await store.get(blocks[3].key) == blocks[3].payload
    assert disk.hanging == 2, "as long as it hangs"
    disk.go_on.set()
    assert await asyncio.gather(*early) == [one.payload for one in blocks[:2]]
    await store.read(blocks[4])
    assert store.inner.fetched == 4, "and a little longer"  # type: ignore[attr-defined]
    clock.advance(PAUSE_SECONDS)
    await store.read(*blocks)
    assert store.inner.fetched == 4  # type: ignore[attr-defined]
    await store.aclose()


async def test_readers_without_patience_of_their_own_get_to_the_store_below(tmp_path: Path, disk: HangingDisk) -> None:
    """Each leaves before the cache's patience ends; still the fetch begins in the end."""
    [one] = blocks_of_8k(1)
    store = await hanging(tmp_path, disk, one, patience=2.0)
    for _ in range(100):
        try:
            found = await asyncio.wait_for(store.get(one.key), 0.05)
        except TimeoutError:
            continue
        break
    assert found == one.payload
    assert store.inner.fetched == 1  # type: ignore[attr-defined]
    assert disk.hanging <= 2
    disk.go_on.set()
    await store.aclose()


async def test_a_look_that_comes_back_when_everybody_left_is_no_trouble(tmp_path: Path, disk: HangingDisk) -> None:
    blocks = blocks_of_8k(2)
    store = await hanging(tmp_path, disk, *blocks, patience=0.1)
    for one in blocks:
        assert await store.get(one.key) == one.payload
    disk.go_on.set()
    await store.aclose()
    assert store.count("damaged") == 0


async def test_the_end_does_not_wait_for_a_look_that_hangs(tmp_path: Path, disk: HangingDisk) -> None:
    [one] = blocks_of_8k(1)
    store = await hanging(tmp_path, disk, one, patience=0.1)
    assert await store.get(one.key) == one.payload
    began = time.monotonic()
    await store.aclose()
    assert time.monotonic() - began < SOON


async def test_the_end_does_not_wait_for_a_write_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graviton.stores.layers.cache.cache.CLOSE_SECONDS", 0.1)
    blocks, disk = blocks_of_8k(2), HangingDisk("create")
    store = await hanging(tmp_path, disk, *blocks[:1])
    store.inner.blocks[blocks[1].key] = blocks[1].payload  # type: ignore[attr-defined]
    assert await store.get(blocks[1].key) == blocks[1].payload
    await until(disk, 1)
    began = time.monotonic()
    await store.aclose()
    assert time.monotonic() - began < SOON
    disk.go_on.set()


async def test_what_waits_for_a_hanging_disk_leaves_the_memory_to_streams(tmp_path: Path) -> None:
    blocks, disk = [block(bytes([number]) * (1 << 20)) for number in range(12)], HangingDisk("create")
    budget = ByteBudget(16 << 20)
    disk.hangs = True
    store = Cached(tmp_path, far(*blocks), limit=64 << 20, disk=disk, budget=budget)
    for one in blocks:
        assert await store.get(one.key) == one.payload
    assert budget.used == 2 << 20, "an eighth"
    assert store.count("fills", outcome="busy") == 10
    assert budget.try_acquire(8 << 20, budget.for_puts), "a put"
    assert budget.try_acquire(6 << 20), "and a read"
    budget.release(14 << 20)
    disk.go_on.set()
    await store.aclose()
    assert budget.used == 0


async def test_what_reads_ahead_and_what_waits_to_be_written_share_half_of_the_memory(tmp_path: Path) -> None:
    one, budget = block(bytes(1 << 20)), ByteBudget(16 << 20)
    store = Cached(tmp_path, far(one), limit=64 << 20, budget=budget)
    assert budget.try_acquire(8 << 20)
    await store.read(one)
    assert store.count("fills", outcome="busy") == 1
    budget.release(8 << 20)
    await store.read(one)
    assert store.count("fills", outcome="stored") == 1
    await store.aclose()


async def test_a_block_that_may_never_wait_is_too_large(tmp_path: Path) -> None:
    one = block(bytes((2 << 20) + 1))
    store = Cached(tmp_path, far(one), limit=64 << 20, budget=ByteBudget(16 << 20))
    await store.read(one, one)
    assert store.count("fills", outcome="large") == 2
    await store.aclose()
