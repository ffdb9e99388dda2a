"""Reading through the cache: what is served, what is fetched, and that nothing of the cache ever fails a reader."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from graviton.backends.filesystem import FsBlockReclaimer, FsBlockStore, FsConfig
from graviton.concurrency.executors import in_own_thread
from graviton.constraints.budget import ByteBudget
from graviton.errors import IntegrityError, NotFound, Unavailable
from graviton.ports.blocks import CanonicalBlock
from graviton.testing.conformance.block_values import ALWAYS, block
from graviton.testing.conformance.checks import gather
from graviton.testing.fake_clock import FakeClock
from graviton.testing.faults import FaultPlan, FaultyBlockStore
from tests.unit.cache.caches import Cached, CountingBlocks, blocks_of_8k, far, files
from tests.unit.filesystem.disks import FailingDisk, PausingDisk


def entry(store: Cached, one: CanonicalBlock) -> Path:
    return Path(store.folder.path(one.key))


def spoil(store: Cached, one: CanonicalBlock, data: bytes) -> None:
    path = entry(store, one)
    path.unlink()
    path.write_bytes(data)


async def test_a_block_is_fetched_once_and_then_served_from_its_file(tmp_path: Path) -> None:
    blocks = blocks_of_8k(5)
    inner = far(*blocks)
    store = Cached(tmp_path, inner)
    await store.read(*blocks, *blocks, *blocks)
    assert inner.fetched == 5
    assert (store.count("reads", outcome="hit"), store.count("reads", outcome="miss")) == (10, 5)
    assert store.count("read_bytes", outcome="hit") == 80_000
    assert files(tmp_path) == {f"{one.key.hex}-8000.cached": 8000 for one in blocks}
    await store.aclose()


async def test_a_file_and_its_folders_are_the_owners_alone(tmp_path: Path) -> None:
    [one] = blocks_of_8k(1)
    store = Cached(tmp_path / "cache", far(one))
    await store.read(one)
    assert entry(store, one).stat().st_mode & 0o777 == 0o400
    for folder in (tmp_path / "cache", tmp_path / "cache/blocks", tmp_path / "cache/blocks/blake3"):
        assert folder.stat().st_mode & 0o777 == 0o700
    await store.aclose()


RIGHT = bytes(range(256)) * 32


@pytest.mark.parametrize(
    "wrong",
    [b"", RIGHT[:-1], RIGHT + b"x", bytes(len(RIGHT)), RIGHT[:5] + b"\xff" + RIGHT[6:], RIGHT[:-1] + b"\x00"],
)
async def test_a_damaged_entry_is_never_served_but_dropped_counted_and_fetched_again(
    tmp_path: Path, wrong: bytes
) -> None:
    one = block(RIGHT)
    inner = far(one)
    store = Cached(tmp_path, inner)
    await store.read(one)
    spoil(store, one, wrong)
    await store.read(one)
    assert (inner.fetched, store.count("damaged")) == (2, 1)
    assert entry(store, one).read_bytes() == RIGHT, "it was written anew"
    await store.read(one)
    assert (inner.fetched, store.count("damaged")) == (2, 1)
    await store.aclose()


async def test_a_damaged_entry_whose_original_is_gone_is_not_served_either(tmp_path: Path) -> None:
    [one] = blocks_of_8k(1)
    inner = far(one)
    store = Cached(tmp_path, inner)
    await store.read(one)
    spoil(store, one, bytes(8000))
    inner.blocks.clear()
    with pytest.raises(NotFound):
        await store.get(one.key)
    await store.cache.settled()
    assert files(tmp_path) == {}
    await store.aclose()


@pytest.mark.parametrize("kind", ["folder", "link", "fifo", "unreadable"])
async def test_whatever_else_lies_at_the_place_of_an_entry_is_passed_by(tmp_path: Path, kind: str) -> None:
    [one] = blocks_of_8k(1)
    store = Cached(tmp_path, far(one))
    await store.read(one)
    path = entry(store, one)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("elsewhere")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(one.payload)
        path.chmod(0)
    await store.read(one, one)
    await store.aclose()


async def test_what_exists_is_asked_below_and_a_loss_there_is_not_hidden(tmp_path: Path) -> None:
    blocks = blocks_of_8k(3)
    inner = far(*blocks)
    store = Cached(tmp_path, inner)
    await store.read(*blocks)
    del inner.blocks[blocks[0].key]
    assert await store.exists_many([one.key for one in blocks]) == [False, True, True]
    assert [key async for key in store.list()] == sorted(one.key for one in blocks[1:])
    result = await store.put_blocks([blocks[0]])
    assert result.fresh_bytes == 8000, "a cached copy is no reason not to write"
    assert inner.blocks[blocks[0].key] == blocks[0].payload
    await store.aclose()


async def test_puts_go_below_and_fill_nothing(tmp_path: Path) -> None:
    blocks = blocks_of_8k(3)
    inner = CountingBlocks()
    store = Cached(tmp_path, inner)
    await store.put_blocks(blocks, ALWAYS)
    assert set(inner.blocks) == {one.key for one in blocks}
    assert list(tmp_path.iterdir()) == [], "a process that only puts does not even open it"
    await store.aclose()


async def test_a_thousand_readers_of_one_missing_block_make_one_fetch(tmp_path: Path) -> None:
    [one] = blocks_of_8k(1)
    plan = FaultPlan()
    hold = plan.hold("get", 1)
    store = Cached(tmp_path, FaultyBlockStore(far(one), plan))
    readers = [asyncio.ensure_future(store.get(one.key)) for _ in range(500)]
    await hold.reached.wait()
    readers += [asyncio.ensure_future(store.get(one.key)) for _ in range(500)]
    await asyncio.sleep(0)
    hold.release()
    assert set(await asyncio.gather(*readers)) == {one.payload}
    assert plan.calls["get"] == 1
    await store.read(one)
    assert plan.calls["get"] == 1
    assert (store.count("reads", outcome="miss"), store.count("reads", outcome="shared")) == (1, 999)
    await store.aclose()


async def test_stampedes_again_and_again_fetch_each_block_once(tmp_path: Path) -> None:
    blocks = blocks_of_8k(20)
    inner = far(*blocks)
    store = Cached(tmp_path, inner)
    for _ in range(3):
        await gather(*(store.get(one.key) for one in blocks for _ in range(50)))
    assert inner.fetched == 20
    await store.aclose()


async def test_the_failure_of_the_fetch_reaches_all_and_is_not_remembered(tmp_path: Path) -> None:
    [one] = blocks_of_8k(1)
    plan = FaultPlan()
    plan.fail("get", 1, Unavailable("planned"))
    store = Cached(tmp_path, FaultyBlockStore(far(one), plan))
    readers = [asyncio.ensure_future(store.get(one.key)) for _ in range(1000)]
    outcomes = await asyncio.gather(*readers, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    assert plan.calls["get"] == 1
    await store.read(one)
    await store.aclose()


async def test_a_cancelled_first_reader_does_not_fail_the_others(tmp_path: Path) -> None:
    [one] = blocks_of_8k(1)
    plan = FaultPlan()
    hold = plan.hold("get", 1)
    store = Cached(tmp_path, FaultyBlockStore(far(one), plan))
    readers = [asyncio.ensure_future(store.get(one.key)) for _ in range(10)]
    await hold.reached.wait()
    readers[0].cancel()
    await asyncio.wait([readers[0]])
    assert readers[0].cancelled()
    hold.release()
    assert await asyncio.gather(*readers[1:]) == [one.payload] * 9
    assert plan.calls["get"] == 1
    await store.aclose()


async def test_a_block_put_while_others_are_told_that_it_is_missing_is_found(tmp_path: Path) -> None:
    [one] = blocks_of_8k(1)
    plan = FaultPlan()
    hold = plan.hold("get", 1, after=False)
    inner = CountingBlocks()

    class Late(FaultyBlockStore):
        """Looks first, and answers when it is let go."""

        async def get(self, key):  # type: ignore[no-untyped-def]
            there = key in inner.blocks
            await plan.around("get", _nothing)
            if not there:
                raise NotFound("it was not there")
            return await inner.get(key)

    store = Cached(tmp_path, Late(inner, plan))
    early = asyncio.ensure_future(store.get(one.key))
    await hold.reached.wait()
    await store.put_blocks([one])
    late = asyncio.ensure_future(store.get(one.key))
    await asyncio.sleep(0)
    hold.release()
    with pytest.raises(NotFound):
        await early
    assert await late == one.payload
    await store.aclose()


async def _nothing() -> None:
    pass


async def test_damage_below_is_told_and_never_cached(tmp_path: Path) -> None:
    [one] = blocks_of_8k(1)
    inner = far(one)
    inner.blocks[one.key] = b"something else"
    store = Cached(tmp_path, inner)
    for _ in range(2):
        with pytest.raises(IntegrityError):
            await store.get(one.key)
    assert files(tmp_path) == {}
    inner.blocks[one.key] = bytes(one.payload)
    await store.read(one)
    await store.aclose()


async def test_wrong_bytes_never_get_into_the_cache_even_if_the_store_below_breaks_its_law(tmp_path: Path) -> None:
    [one] = blocks_of_8k(1)

    class Lying(CountingBlocks):
        async def get(self, key):  # type: ignore[no-untyped-def]
            return bytes(8000)

    store = Cached(tmp_path, Lying())
    await store.get(one.key)
    await store.cache.settled()
    assert files(tmp_path) == {}
    assert store.count("fills", outcome="failed") == 1
    await store.aclose()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("call", ["open_folder", "create", "write", "close", "rename"])
async def test_a_write_that_fails_is_counted_leaves_nothing_and_fails_nobody(
    tmp_path: Path, call: str, number: int
) -> None:
    first, second = blocks_of_8k(2)
    # Reads close what they open, and there is nothing to read before the first write.
    store = Cached(tmp_path, far(first, second), disk=FailingDisk(1, number, (call,)))
    await store.read(first)
    assert (store.count("failures", operation="write"), store.count("fills", outcome="failed")) == (1, 1)
    assert files(tmp_path) == {}
    await store.read(second, first)
    assert len(files(tmp_path)) == 2
    assert store.keeper.policy.used == 2 * 8192
    await store.aclose()


@pytest.mark.parametrize("call", ["open", "fstat", "read", "close"])
async def test_a_read_that_fails_is_counted_and_fetched_below(tmp_path: Path, call: str) -> None:
    [one] = blocks_of_8k(1)
    store = Cached(tmp_path, far(one))
    await store.read(one)
    await store.aclose()
    inner = far(one)
    store = Cached(tmp_path, inner, disk=FailingDisk(1, errno.EACCES, (call,)))
    await store.read(one)
    assert (store.count("failures", operation="read"), inner.fetched) == (1, 1)
    await store.read(one)
    assert inner.fetched == 1, "the entry is still there"
    await store.aclose()


async def test_a_disk_that_hangs_keeps_nobody_waiting_and_no_more_than_a_little_memory(tmp_path: Path) -> None:
    disk = PausingDisk(1)
    large = [block(bytes([number]) * (4 << 20)) for number in range(8)]

    class Slow(PausingDisk):
        """Only writes hang."""

        def step(self, name, args):  # type: ignore[no-untyped-def]
            if name == "create":
                disk.step(name, args)

    store = Cached(tmp_path, far(*large), limit=64 << 20, disk=Slow(0))
    for one in large:
        assert await store.get(one.key) == one.payload
    assert await in_own_thread(disk.reached.wait, 10)
    assert store.count("fills", outcome="busy") == 4, "16 MiB wait, the rest is not cached this time"
    assert await store.get(large[0].key) == large[0].payload
    assert store.count("reads", outcome="hit") == 1, "what waits to be written is served already"
    disk.go_on.set()
    await store.cache.settled()
    assert store.count("fills", outcome="stored") == 4
    await store.read(large[7])
    await store.aclose()


async def test_what_was_written_makes_room_for_more_to_wait(tmp_path: Path) -> None:
    large = [block(bytes([number]) * (4 << 20)) for number in range(12)]
    budget = ByteBudget(32 << 20)
    store = Cached(tmp_path, far(*large), limit=64 << 20, budget=budget)
    await store.read(*large)
    assert (store.count("fills", outcome="stored"), store.count("fills", outcome="busy")) == (12, 0)
    assert budget.used == 0
    assert budget.try_acquire(30 << 20)
    (one,) = [block(b"x" * (4 << 20))]
    store.inner.blocks[one.key] = one.payload  # type: ignore[attr-defined]
    await store.read(one)
    assert store.count("fills", outcome="busy") == 1, "memory that others use is not taken"
    await store.aclose()


async def test_a_block_that_was_collected_is_not_brought_back(tmp_path: Path) -> None:
    [one] = blocks_of_8k(1)
    inner = FsBlockStore(FsConfig(tmp_path / "store"))
    store = Cached(tmp_path / "cache", inner)
    await store.put_blocks([one])
    await store.read(one)
    entry = await FsBlockReclaimer(inner).move_to_trash(one.key, 1)
    assert entry is not None
    for _ in range(3):
        assert await store.get(one.key) == one.payload, "right bytes; whether it exists is for others to say"
    assert await store.exists(one.key) is False
    assert [key async for key in store.list()] == []
    with pytest.raises(NotFound):
        await inner.get(one.key)
    assert await FsBlockReclaimer(inner).purge(entry) is True
    await store.cache.settled()
    assert [key async for key in inner.list()] == []
    await store.aclose()


async def test_a_machine_without_threads_reads_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [one] = blocks_of_8k(1)
    store = Cached(tmp_path, far(one))

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert await store.get(one.key) == one.payload
    assert store.count("failures", operation="read") == 1
    await store.read(one, one)
    await store.aclose()


async def test_an_entry_that_somebody_removed_is_fetched_and_cached_again(tmp_path: Path) -> None:
    blocks = blocks_of_8k(3)
    inner = far(*blocks)
    store = Cached(tmp_path, inner)
    await store.read(*blocks)
    entry(store, blocks[1]).unlink()
    await store.read(*blocks)
    assert inner.fetched == 4
    assert len(files(tmp_path)) == 3
    assert store.keeper.policy.used == 3 * 8192
    await store.aclose()


async def test_a_cache_removed_while_it_is_in_use_fills_again(tmp_path: Path) -> None:
    blocks = blocks_of_8k(3)
    store = Cached(tmp_path, far(*blocks))
    await store.read(*blocks)
    (tmp_path / "blocks").rename(tmp_path / "elsewhere")
    await store.read(*blocks)
    assert len(files(tmp_path)) == 3
    await store.aclose()


async def test_the_bound_holds_with_sizes_as_a_disk_counts_them(tmp_path: Path) -> None:
    blocks = [block(b"%d" % number) for number in range(300)]
    store = Cached(tmp_path, far(*blocks), limit=100 * 4096)
    await store.read(*blocks)
    assert len(files(tmp_path)) == 100
    assert store.count("evictions") == 200
    assert store.count("evicted_bytes") == 200 * 4096
    await store.aclose()


async def test_a_block_larger_than_the_cache_is_passed_on(tmp_path: Path) -> None:
    one = block(bytes(100_000))
    store = Cached(tmp_path, far(one), limit=65_536)
    await store.read(one, one)
    assert (files(tmp_path), store.count("fills", outcome="large")) == ({}, 2)
    await store.aclose()


async def test_what_cannot_be_removed_still_counts_and_nothing_new_comes(tmp_path: Path) -> None:
    blocks = blocks_of_8k(5)
    store = Cached(tmp_path, far(*blocks), limit=3 * 8192)
    await store.read(*blocks[:3])
    for one in blocks[:3]:  # a folder in the place of a file: unlink refuses it
        path = entry(store, one)
        path.unlink()
        path.mkdir()
    await store.read(*blocks[3:])
    assert store.keeper.policy.used == 3 * 8192
    assert store.count("fills", outcome="failed") == 2
    await store.aclose()


async def test_nothing_that_is_not_the_caches_is_touched(tmp_path: Path) -> None:
    blocks = blocks_of_8k(300)
    folder = tmp_path / "blocks/blake3"
    folder.mkdir(parents=True)
    names = ["README", f"{blocks[0].key.hex}-8000", f".tmp-session-{'0' * 24}", ".fill-x", "x.cached"]
    for name in names:
        (folder / name).write_bytes(b"precious")
    store = Cached(tmp_path, far(*blocks), limit=10 * 8192)
    await store.read(*blocks)
    await store.aclose()
    assert [(folder / name).read_bytes() for name in names] == [b"precious"] * 5


async def test_two_loops_and_two_stores_share_a_cache(tmp_path: Path) -> None:
    blocks = blocks_of_8k(10)
    store = Cached(tmp_path, far(*blocks))
    failures: list[BaseException] = []

    def elsewhere() -> None:
        async def read() -> None:
            for one in blocks * 5:
                assert await store.get(one.key) == one.payload

        try:
            asyncio.run(read())
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=elsewhere) for _ in range(4)]
    for thread in threads:
        thread.start()
    await store.read(*blocks)
    for thread in threads:
        await in_own_thread(thread.join)
    assert failures == []
    assert store.keeper.policy.used == 10 * 8192
    await store.aclose()


async def test_the_last_user_closes_it(tmp_path: Path) -> None:
    [one] = blocks_of_8k(1)
    store = Cached(tmp_path, far(one), clock=FakeClock())
    assert store.cache.join()
    await store.read(one)
    await store.aclose()
    assert await store.cache.read(one.key) == one.payload
    await store.cache.aclose()
    assert not store.cache.join()
    with pytest.raises(Unavailable):
        await store.cache.read(one.key)
