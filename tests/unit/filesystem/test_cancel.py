"""A put cancelled while its n-th system call runs, for every n: clean, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from graviton.backends.filesystem import FsBlockStore, FsConfig, FsMutableObjectStore, FsObjectConfig
from graviton.concurrency.executors import in_own_thread
from graviton.core.locators import Locator
from graviton.ports.blocks import CanonicalBlock
from tests.unit.filesystem.disks import PausingDisk
from tests.unit.filesystem.helpers import ALWAYS, batch, block, open_files, temp_files


async def cancel_at(disk: PausingDisk, task: asyncio.Task[object]) -> bool:
    """Cancel `task` while the call at which `disk` stops is running; False if it ended before."""
    loop = asyncio.get_running_loop()
    reached = loop.run_in_executor(None, disk.reached.wait, 10.0)
    await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        disk.at = -1
        disk.reached.set()
        await reached
        return False
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # twice: the second must not cut the clean-up short
    await asyncio.sleep(0)
    assert not task.done(), "it returned while its worker was still at it"
    disk.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    return True


PUTS: dict[str, Callable[[], list[CanonicalBlock]]] = {
    "one": lambda: [block(b"hello")],
    "larger": lambda: batch(3, 200_000),
    "small": lambda: batch(10),
}


@pytest.mark.parametrize("kind", PUTS)
async def test_cancelled_put_leaves_whole_blocks_only(tmp_path: Path, kind: str) -> None:
    blocks = PUTS[kind]()
    for at in range(1, 400):
        root = tmp_path / str(at)
        disk = PausingDisk(at)
        before = open_files()
        config = FsConfig(root, workers=1, fsync_workers=1, syncfs_min_files=8)
        store = FsBlockStore(config, disk=disk, syncfs=lambda fd: None)
        task: asyncio.Task[object] = asyncio.ensure_future(store.put_blocks(blocks, ALWAYS))
        cancelled = await cancel_at(disk, task)
        assert temp_files(root) == [], at
        for one in blocks:
            if await store.exists(one.key):
                assert await store.get(one.key) == one.payload
        await store.put_blocks(blocks)
        await store.aclose()
        assert open_files() == before
        if not cancelled:
            return
    raise AssertionError("it never passed")


async def test_cancelled_object_put_leaves_the_old_object(tmp_path: Path) -> None:
    where = Locator("file", "default", "a/b")

    async def source() -> object:
        yield b"x" * 100_000
        yield b"y" * 100_000

    for at in range(1, 400):
        root = tmp_path / str(at)
        disk = PausingDisk(-1)
        store = FsMutableObjectStore(FsObjectConfig(root, workers=1), disk=disk)
        await store.put(where, b"old")
        disk.count, disk.at = 0, at
        task: asyncio.Task[object] = asyncio.ensure_future(store.put(where, source()))  # type: ignore[arg-type]
        cancelled = await cancel_at(disk, task)
        found = b"".join([piece async for piece in await store.get(where)])
        assert found in (b"old", b"x" * 100_000 + b"y" * 100_000)
        assert temp_files(root) == []
        await store.aclose()
        if not cancelled:
            return
    raise AssertionError("it never passed")


async def test_call_cancelled_while_it_waits_for_a_thread_never_begins(tmp_path: Path) -> None:
    disk = PausingDisk(1)
    store = FsBlockStore(FsConfig(tmp_path, workers=1, fsync_workers=1, syncfs_min_files=8), disk=disk)
    first = asyncio.ensure_future(store.put_blocks([block(b"first")]))
    await in_own_thread(disk.reached.wait, 10.0)
    second = asyncio.ensure_future(store.put_blocks([block(b"second")]))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.sleep(0)  # it sees the cancellation
    disk.go_on.set()
    await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await store.exists_many([block(b"first").key, block(b"second").key]) == [True, False]
    await store.aclose()
