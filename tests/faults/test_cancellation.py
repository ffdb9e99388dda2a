"""A put that is cancelled at any moment leaves no session, temporary file or thread; closing and forking likewise."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import graviton
from graviton.assembly.store import Store
from graviton.errors import StorageFull
from graviton.metadata.rows import OWNERS, OwnerRow
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import Durability
from tests.faults.harness.bench import Bench, Figures
from tests.faults.harness.laws import temporary_files, unclean
from tests.faults.harness.scenarios import FEW_LARGE, GROUP, LARGE_BLOCKS, MANY_BLOCKS, SMALL_BLOCKS
from tests.support import World, YieldingKv, some_bytes


async def _open_sessions(store: Store) -> int:
    kv = await store.metadata()
    states = [OwnerRow.decode(value).state async for _, value in kv.scan(OWNERS)]
    return states.count(OwnerState.OPEN)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _put_many_blocks(store: Store) -> None:
    await store.put(MANY_BLOCKS.data)


async def _put_large_blocks(store: Store) -> None:
    await store.put(FEW_LARGE.data, graviton.BlobWritePlan(chunker=graviton.ChunkerSpec.parse(LARGE_BLOCKS)))


async def _put_group(store: Store) -> None:
    async for _ in store.put_many(blob.data for blob in GROUP):
        pass


async def _put_pieces(store: Store) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(MANY_BLOCKS.data), 5_000):
            await asyncio.sleep(0)
            yield MANY_BLOCKS.data[start : start + 5_000]

    await store.put(pieces())


async def _read(store: Store) -> None:
    async with await store.get(graviton.BlobKey.parse(MANY_BLOCKS.id)) as reader:
        await reader.read()


_Work = Callable[[Store], Coroutine[Any, Any, None]]


@pytest.mark.parametrize("work", [_put_many_blocks, _put_large_blocks, _put_group, _put_pieces])
async def test_a_cancelled_put_leaves_nothing(tmp_path: Path, bench: Bench, figures: Figures, work: _Work) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    root = tmp_path / "store"
    async with graviton.open(root, chunker=SMALL_BLOCKS) as store:
        await store.put(b"the store is there")
        await work(store)
        before = _descriptors()
        for _ in range(bench.reach.times(25, 300)):
            for blob in (MANY_BLOCKS, FEW_LARGE, *GROUP):
                await store.delete(graviton.BlobKey.parse(blob.id))
            task = asyncio.ensure_future(work(store))
            await _cancel_some_time(task, chance)
            assert await _open_sessions(store) == 0, seed
            assert not temporary_files(root), seed
            figures.add(f"cancelled: {work.__name__.strip('_')}")
        assert await unclean(store) == [], seed
        assert _descriptors() <= before + 12, seed  # more readers of the metadata, three files each, and no more
        await work(store)
        if work is not _put_large_blocks and work is not _put_group:
            await _read(store)
    assert _ours() == []


async def _cancel_some_time(task: asyncio.Future[None], chance: random.Random) -> None:
    """After some turns of the loop or some time; half of them twice."""
    if chance.random() < 0.5:
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(chance.random() * 0.02)
    task.cancel()
    if chance.random() < 0.5:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled() or task.exception() is None, repr(task)


def _ours() -> list[str]:
    """Threads that a store begins; those of the loop's own pool stay until it is closed."""
    names = ("graviton", "blocks")
    found = [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]
    return [name for name in found if name != "graviton-loop"]  # of graviton.sync: one per process, to its end


async def test_a_reader_that_is_left_gives_everything_back(tmp_path: Path) -> None:
    async with graviton.open(tmp_path / "store", chunker=SMALL_BLOCKS) as store:
        key = (await store.put(MANY_BLOCKS.data)).key
        cas = await store.required()
        for pieces in range(12):
            async with await store.get(key) as reader:
                for _ in range(pieces):
                    await anext(reader)
            assert cas.budget.used == 0
            task = asyncio.ensure_future(_read(store))
            await _cancel_some_time(task, random.Random(pieces))
            assert cas.budget.used == 0


async def test_closing_a_store_with_running_puts(tmp_path: Path) -> None:
    """Each put ends as done or refused, and what was acknowledged is there."""
    for turns in range(0, 40, 4):
        root = tmp_path / f"store-{turns}"
        store = graviton.open(root, chunker=SMALL_BLOCKS)
        tasks = [asyncio.ensure_future(store.put(blob.data)) for blob in GROUP]
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        await store.aclose()
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        assert _ours() == []
        async with graviton.open(root) as again:
            for blob, one in zip(GROUP, ended, strict=True):
                if isinstance(one, BaseException):
                    assert isinstance(one, graviton.GravitonError), repr(one)
                    continue
                async with await again.get(one.key) as reader:
                    assert await reader.read() == blob.data
            assert await unclean(again) == []


async def test_a_cancelled_put_stays_cancelled_on_a_full_disk() -> None:
    """Ending the session fails too then; that must not take the place of what happened first."""

    class FullKv(YieldingKv):
        full = False

        async def transact(self, fn: Any, durability: Durability = Durability.FULL) -> Any:
            if self.full:
                raise StorageFull("no room", operation="kv.transact")
            return await super().transact(fn, durability)

    kv = FullKv()
    world = World(_kernel(), kv=kv)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield some_bytes(20_000)
            await asyncio.sleep(0)

    for work in (world.store.put(endless()), _drain(world.store.put_many([b"a", b"b"]))):
        kv.full = False
        task = asyncio.ensure_future(work)
        while await world.open_sessions() == 0:
            await asyncio.sleep(0)
        kv.full = True
        task.cancel()
        [ended] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), repr(ended)
        await _forget_sessions(kv)
    await world.store.aclose()


async def _forget_sessions(kv: YieldingKv) -> None:
    kv.full = False  # type: ignore[attr-defined]
    for key in [key async for key, _ in kv.scan(OWNERS)]:
        await kv.delete(OWNERS, key)


async def _drain(results: AsyncIterator[Any]) -> None:
    async for _ in results:
        pass


def _kernel() -> Any:
    from graviton.core.chunking import select_kernel

    return select_kernel("auto")


async def test_a_store_that_was_open_during_a_fork_is_refused_in_the_child(tmp_path: Path) -> None:
    async with graviton.open(tmp_path / "store") as store:
        key = (await store.put(b"before the fork")).key
        (tmp_path / "file").write_bytes(b"in a file")
        await store.put(tmp_path / "file")  # the threads that read files have begun
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _in_the_child(store, key, tmp_path, writing)
        os.close(writing)
        told = b"".join(iter(lambda: os.read(reading, 4096), b"")).decode()
        os.close(reading)
        assert os.waitpid(pid, 0)[1] == 0
        assert told == (
            "put refused, put of a file refused, put of pieces refused, put_many refused, get refused, stat refused,"
            " delete refused, list refused, totals refused, opened anew refused, another store works, closed"
        )
        async with await store.get(key) as reader:
            assert await reader.read() == b"before the fork"
        await store.put(b"after the fork")
        assert await unclean(store) == []


def _in_the_child(store: Store, key: graviton.BlobKey, folder: Path, writing: int) -> None:
    """Never returns."""
    signal.alarm(20)
    status = 1

    async def use() -> str:
        told = []
        for verb, work in (
            ("put", store.put(b"in the child")),
            ("put of a file", store.put(folder / "file")),
            ("put of pieces", store.put(iter([b"in the child"]))),
            ("put_many", _drain(store.put_many([b"in", b"the child"]))),
            ("get", store.get(key)),
            ("stat", store.stat(key)),
            ("delete", store.delete(key)),
            ("list", _drain(store.list())),
            ("totals", store.totals()),
        ):
            try:
                await work
            except graviton.Unavailable as error:
                told.append(f"{verb} refused" if "before a fork" in error.message else repr(error))
        async with graviton.open(folder / "store") as anew:
            try:
                await anew.put(b"in the child")  # durable only until the parent closes and deletes the WAL
            except graviton.Unavailable:
                told.append("opened anew refused")
        async with graviton.open(folder / "another") as own:
            async with await own.get((await own.put(b"in the child")).key) as reader:
                assert await reader.read() == b"in the child"
            told.append("another store works")
        await store.aclose()
        return ", ".join([*told, "closed"])

    try:
        asyncio._set_running_loop(None)
        os.write(writing, asyncio.run(use()).encode())
        status = 0
    except BaseException as error:  # noqa: BLE001 - shown by the parent
        os.write(writing, repr(error).encode())
    finally:
        sys.stdout.flush()
        os._exit(status)


async def test_first_puts_at_once_open_the_store_once(tmp_path: Path) -> None:
    """Each opened it for itself: threads were left behind, and one that failed closed the metadata for all."""
    async with graviton.open(tmp_path / "store") as store:
        await asyncio.gather(*(store.put(blob.data) for blob in GROUP))
        pools = {
            thread.name.rpartition("_")[0] for thread in threading.enumerate() if thread.name.startswith("graviton")
        }
        cas = await store.existing()
        assert await store.init() == (await store.marker(), False)
        assert await store.existing() is cas
        assert pools
    assert _ours() == []
