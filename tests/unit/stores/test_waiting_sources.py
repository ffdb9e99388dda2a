"""Sources that wait for others hold up nobody: neither threads, nor memory, nor the end of the store."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from graviton.constraints.budget import ByteBudget
from graviton.core.chunking import Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import Unavailable
from graviton.stores import segments
from tests.support import World, some_bytes

pytestmark = pytest.mark.python_kernel

DATA = some_bytes(300_000)
MANY = 12
"""More than a store has threads."""


def _silent_pipe(stack: ExitStack) -> object:
    read_end, write_end = os.pipe()
    stack.enter_context(open(write_end, "wb"))  # noqa: SIM115 - closed by the stack
    return stack.enter_context(open(read_end, "rb", buffering=0))


def _silent_iterator(stack: ExitStack) -> Iterator[bytes]:
    go_on = threading.Event()
    stack.callback(go_on.set)
    go_on.wait(30)
    yield b"late"


async def _silent_async() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b"never"


async def test_silent_sources_hold_up_no_other_put_or_get(kernel: Kernel, tmp_path: Path) -> None:
    world = World(kernel)
    (tmp_path / "data").write_bytes(DATA)
    with ExitStack() as stack:
        sources = [make(stack) for make in (_silent_pipe, _silent_iterator) for _ in range(MANY)]
        waiting = [asyncio.create_task(world.store.put(source)) for source in sources]  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        for source in (DATA, bytearray(DATA), tmp_path / "data", iter([DATA])):
            result = await asyncio.wait_for(world.store.put(source), 5)
            async with await world.store.get(result.key) as reader:
                assert await asyncio.wait_for(reader.read(), 5) == DATA
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
    await asyncio.wait_for(asyncio.wait(waiting), 10)
    assert all(task.cancelled() for task in waiting)
    assert world.budget.used == 0
    await world.store.aclose()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("graviton-source")]


async def test_what_has_not_begun_is_taken_back(kernel: Kernel, tmp_path: Path) -> None:
    world = World(kernel)
    (tmp_path / "data").write_bytes(DATA)
    go_on = threading.Event()
    for _ in range(MANY):
        world.store._pool.post(partial(go_on.wait, 30))
    try:
        for source in (DATA, bytearray(DATA), tmp_path / "data"):
            task = asyncio.create_task(world.store.put(source))
            await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.wait_for(asyncio.wait([task]), 5)
            assert task.cancelled()
        assert world.budget.used == 0
    finally:
        go_on.set()
    await world.store.aclose()


async def test_a_put_that_got_no_thread_leaves_nothing_to_be_done_later(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said that the store is closed, and a later put did its rest: on memory that was somebody else's by then."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    world = World(kernel)
    (tmp_path / "data").write_bytes(DATA)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for source in (DATA, bytearray(DATA), tmp_path / "data", iter([DATA])):
            with pytest.raises(Unavailable, match="no thread") as caught:
                await asyncio.wait_for(world.store.put(source), 5)
            assert caught.value.hint
    assert world.budget.used == 0
    assert world.store._pool._crew._jobs.queue.empty()
    assert (await world.store.put(bytearray(DATA))).created
    await world.store.aclose()


async def test_idle_sources_leave_the_budget_to_those_that_speak(kernel: Kernel) -> None:
    world = World(kernel, budget=ByteBudget(32 * 1024 * 1024))
    waiting = [asyncio.create_task(world.store.put(_silent_async())) for _ in range(200)]
    await asyncio.sleep(0.01)
    assert world.budget.used <= 200 * segments.FIRST_BYTES
    result = await asyncio.wait_for(world.store.put(iter([DATA, DATA])), 10)
    assert result.key.size == 2 * len(DATA)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert world.budget.used == 0


async def test_memory_grows_only_while_bytes_keep_coming(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "FIRST_BYTES", 1024)
    monkeypatch.setattr(segments, "LEAN_FILL_BYTES", 8 * 1024)
    monkeypatch.setattr(segments, "FILL_BYTES", 64 * 1024)
    world = World(kernel)
    used: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 1000):
            used.append(world.budget.used)
            await asyncio.sleep(0)
            yield DATA[start : start + 1000]

    result = await world.store.put(pieces())
    assert result.key == BlobKey(HashAlgo.BLAKE3.digest(DATA), len(DATA))
    async with await world.store.get(result.key) as reader:
        assert await reader.read() == DATA
    room = 4096
    assert set(used[:1]) == {1024}
    assert set(used[3:8]) == {room + 8 * 1024}
    assert max(used) in range(3 * (room + 64 * 1024), 4 * (room + 64 * 1024))
    assert used[-1] == 3 * (room + 64 * 1024), "the first small buffer was given back"
    assert world.budget.used == 0


async def test_closing_ends_puts_from_silent_sources(kernel: Kernel) -> None:
    world = World(kernel)
    with ExitStack() as stack:
        sources = [_silent_pipe(stack) for _ in range(MANY)] + [_silent_async()]
        waiting = [asyncio.create_task(world.store.put(source)) for source in sources]  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(world.store.aclose(), 5)
        assert all(task.done() for task in waiting), "aclose waits until they have cleaned up"
        for ended in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(ended, Unavailable)
    assert world.budget.used == 0
    assert await world.open_sessions() == 0


async def test_closing_waits_for_a_blocking_source_without_stopping_the_loop(kernel: Kernel) -> None:
    world = World(kernel)
    with ExitStack() as stack:
        put = asyncio.create_task(world.store.put(_silent_iterator(stack)))
        await asyncio.sleep(0.02)
        closing = asyncio.create_task(world.store.aclose())
        await asyncio.sleep(0.05)
        assert not closing.done()
        with pytest.raises(Unavailable):
            await world.store.put(b"x")
    await asyncio.wait_for(closing, 5)
    with pytest.raises(Unavailable):
        await put
    second = World(kernel)
    with ExitStack() as stack:
        put = asyncio.create_task(second.store.put(_silent_iterator(stack)))
        await asyncio.sleep(0.02)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.store.aclose(), 0.05)
    with pytest.raises(Unavailable):
        await put


async def test_closing_ends_a_put_that_waits_for_memory(kernel: Kernel) -> None:
    world = World(kernel)
    await world.budget.acquire(world.budget.total)
    put = asyncio.create_task(world.store.put(bytearray(DATA)))
    group = asyncio.create_task(anext(world.store.put_many([b"a", b"b"])))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(world.store.aclose(), 5)
    for task in (put, group):
        with pytest.raises(Unavailable):
            await task
    world.budget.release(world.budget.total)
    assert world.budget.used == 0


async def test_a_put_that_is_cancelled_and_closed_at_once_stays_cancelled(kernel: Kernel) -> None:
    world = World(kernel)
    put = asyncio.create_task(world.store.put(_silent_async()))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(world.store.aclose())
    put.cancel()
    await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await put
    await asyncio.wait_for(closing, 5)


async def test_a_source_may_close_its_own_store(kernel: Kernel) -> None:
    world = World(kernel)

    async def closing() -> AsyncIterator[bytes]:
        yield b"some"
        await world.store.aclose()
        yield b"more"

    with pytest.raises(Unavailable):
        await asyncio.wait_for(world.store.put(closing()), 5)
    await world.store.aclose()
