"""What a read promises: the right bytes in order, or an error that says where; nothing left behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import threading
import time
from pathlib import Path

import pytest

from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.concurrency.executors import in_own_thread
from graviton.concurrency.finishing import finish_anyway
from graviton.constraints.budget import ByteBudget
from graviton.core.chunking import Kernel
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound, RangeNotSatisfiable, Unavailable
from graviton.metadata.rows import PAGES
from graviton.ports.blobs import BlobReader, BlobWriteResult
from graviton.ports.block_index import BlockState
from graviton.ports.metrics import MetricKeys
from graviton.stores.placed_file import PlacedFile
from tests.support import World, YieldingBlocks, some_bytes

pytestmark = pytest.mark.python_kernel

DATA = some_bytes(40_000, seed=1)


async def _world(kernel: Kernel, **more: object) -> tuple[World, BlobWriteResult]:
    world = World(kernel, **more)  # type: ignore[arg-type]
    return world, await world.store.put(DATA)


async def _blocks_of(world: World, key: BlobKey) -> list[tuple[int, BlockKey]]:
    record = await world.manifests.get(key)
    return [(entry.offset, entry.key) async for page in world.manifests.pages(record) for entry in page]


async def test_every_span_reads_exactly_its_bytes(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    edges = [offset for offset, _ in await _blocks_of(world, result.key)][1:6]
    points = sorted({0, 1, len(DATA) - 1, len(DATA), *(edge + step for edge in edges for step in (-1, 0, 1))})
    rng = random.Random(7)
    spans = [Span(a, b) for a in points for b in points if a < b]
    for span in rng.sample(spans, 60):
        async with await world.store.get(result.key, span) as reader:
            assert reader.size == span.length
            assert await reader.read() == DATA[span.start : span.end], span
    assert world.budget.used == 0


@pytest.mark.parametrize("span", [Span(0, len(DATA) + 1), Span(len(DATA) + 1, len(DATA) + 1)])
async def test_a_span_outside_is_refused_before_anything_is_read(kernel: Kernel, span: Span) -> None:
    world, result = await _world(kernel)
    with pytest.raises(RangeNotSatisfiable):
        await world.store.get(result.key, span)


async def test_an_empty_span_within_yields_nothing(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    for at in (0, 5, len(DATA)):
        async with await world.store.get(result.key, Span(at, at)) as reader:
            assert await reader.read() == b""


async def test_an_unknown_blob_is_not_found_before_anything_is_read(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    with pytest.raises(NotFound):
        await world.store.get(BlobKey(result.key.digest, result.key.size + 1))


class _SlowFirst(YieldingBlocks):
    """Blocks arrive in the reverse of the order in which they were asked for."""

    pending = 0
    most = 0

    async def get(self, key: BlockKey) -> bytes:
        self.pending += 1
        self.most = max(self.most, self.pending)
        for _ in range(20 - self.pending):
            await asyncio.sleep(0)
        self.pending -= 1
        return await super().get(key)


async def test_bytes_come_in_order_however_the_blocks_arrive(kernel: Kernel) -> None:
    world, result = await _world(kernel, blocks=(blocks := _SlowFirst()))
    async with await world.store.get(result.key) as reader:
        assert await reader.read() == DATA
    assert 2 <= blocks.most <= 8


async def test_one_block_of_budget_is_enough_to_read(kernel: Kernel) -> None:
    world, result = await _world(kernel, budget=(budget := ByteBudget(8 * 1024 * 1024)))
    await budget.acquire(budget.total - 4096)
    async with await world.store.get(result.key) as reader:
        async for piece in reader:
            assert budget.used <= budget.total
            assert 0 < len(piece) <= 4096
    assert budget.used == budget.total - 4096


async def test_many_readers_share_a_small_budget_and_all_finish(kernel: Kernel) -> None:
    world, result = await _world(kernel, budget=ByteBudget(8 * 1024 * 1024))
    world.budget.total = 3 * 4096  # room for three blocks

    async def read() -> bytes:
        async with await world.store.get(result.key) as reader:
            return await reader.read()

    copies = await asyncio.wait_for(asyncio.gather(*(read() for _ in range(10))), 60)
    assert set(copies) == {DATA}
    assert world.budget.used == 0


async def test_leaving_early_cancels_fetches_and_returns_memory(kernel: Kernel) -> None:
    world, result = await _world(kernel, blocks=(blocks := _SlowFirst()))
    before = len(asyncio.all_tasks())
    async with await world.store.get(result.key) as reader:
        await anext(reader)
        assert world.budget.used > 0
    assert world.budget.used == 0
    assert len(asyncio.all_tasks()) == before
    with pytest.raises(Unavailable):
        await anext(reader)
    await reader.aclose()
    assert blocks.most > 1


async def test_a_cancelled_reader_returns_its_memory(kernel: Kernel) -> None:
    for turns in range(60):
        world, result = await _world(kernel, blocks=_SlowFirst())

        async def read(world: World = world, result: BlobWriteResult = result) -> bytes:
            async with await world.store.get(result.key) as reader:
                return await reader.read()

        task = asyncio.create_task(read())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert world.budget.used == 0
        await world.store.aclose()


async def test_a_wrong_block_is_named_with_its_place_and_never_leaves(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    blocks = await _blocks_of(world, result.key)
    offset, key = blocks[len(blocks) // 2]
    for damage in (lambda data: data[:-1], lambda data: data[:5] + bytes([data[5] ^ 1]) + data[6:], None):
        payload = await world.blocks.get(key)
        world.blocks.blocks[key] = damage(payload) if damage else payload
        if damage is None:
            del world.blocks.blocks[key]
        got = b""
        reader = await world.store.get(result.key)
        with pytest.raises(IntegrityError) as caught:
            async for piece in reader:
                got += piece
        await reader.aclose()
        assert DATA.startswith(got)
        assert len(got) == offset
        text = str(caught.value)
        assert result.id in text
        assert key.text in text
        assert f"bytes {offset}-{offset + key.size - 1}" in text
        [record] = await world.index.records([key])
        assert record is not None
        assert record.state is BlockState.DAMAGED
        repaired = await world.store.put(DATA)
        assert (repaired.stats.repaired_blocks, repaired.stats.fresh_blocks) == (1, 1)
        async with await world.store.get(result.key) as again:
            assert await again.read() == DATA
    assert (await world.store.totals()).stored_bytes == len(DATA)


async def test_a_block_in_the_trash_is_served_and_asked_back(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    _, key = (await _blocks_of(world, result.key))[3]
    assert await world.reclaimer.move_to_trash(key, 123) is not None
    async with await world.store.get(result.key) as reader:
        assert await reader.read() == DATA
    [record] = await world.index.records([key])
    assert record is not None
    assert record.wanted_back
    assert record.state is BlockState.STORED


async def test_a_block_that_comes_back_while_it_is_looked_for_is_served(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    _, key = (await _blocks_of(world, result.key))[0]
    entry = await world.reclaimer.move_to_trash(key, 123)
    assert entry is not None
    real = world.reclaimer.read_trash

    async def put_back_first(which):  # type: ignore[no-untyped-def]
        await world.reclaimer.put_back(which)
        return await real(which)

    world.reclaimer.read_trash = put_back_first  # type: ignore[method-assign]
    async with await world.store.get(result.key) as reader:
        assert await reader.read() == DATA


async def test_a_damaged_page_is_an_integrity_error_that_names_the_blob(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    [(page_key, page)] = [pair async for pair in world.kv.scan(PAGES)]
    await world.kv.put(PAGES, page_key, page[:40] + bytes([page[40] ^ 1]) + page[41:])
    with pytest.raises(IntegrityError, match=result.key.hex[:12]):
        async with await world.store.get(result.key) as reader:
            await reader.read()
    await world.kv.delete(PAGES, page_key)
    with pytest.raises(IntegrityError, match="missing"):
        async with await world.store.get(result.key) as reader:
            await reader.read()


@pytest.mark.parametrize("how", ["iterated", "written to a file", "appended to a file"])
async def test_damage_found_while_bytes_go_out_is_a_failed_get_once(kernel: Kernel, how: str, tmp_path: Path) -> None:
    metrics = InMemoryMetrics()
    world, result = await _world(kernel, metrics=metrics)
    _, last = (await _blocks_of(world, result.key))[-1]
    world.blocks.blocks[last] = bytes(last.size)
    reader = await world.store.get(result.key)
    for error in (IntegrityError, Unavailable):
        with pytest.raises(error):
            if how == "iterated":
                await reader.read()
            else:
                with open(tmp_path / "out", "ab" if "appended" in how else "wb") as out:
                    await reader.write_to(out.fileno())
    await reader.aclose()
    counted = {
        dict(series.labels)["outcome"]: value
        for series, value in metrics.snapshot().counters.items()
        if series.name == MetricKeys.BLOB_OPERATIONS and ("operation", "get") in series.labels
    }
    assert counted == {"ok": 1, "integrity": 1}


async def test_a_blob_deleted_while_it_is_read_is_read_to_its_end_or_not_found(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    async with await world.store.get(result.key) as reader:
        first = await anext(reader)
        head = bytes(first)
        assert await world.store.delete(result.key)
        assert head + await reader.read() == DATA
    async with await world.store.get((await world.store.put(DATA)).key) as reader:
        await world.store.delete(result.key)
        world.blocks.blocks.clear()
        with pytest.raises(NotFound):
            await reader.read()


async def test_a_file_gets_the_same_bytes_as_the_iterator(kernel: Kernel, tmp_path: Path) -> None:
    world, result = await _world(kernel)
    for span in (None, Span(1, 2), Span(3000, 39_000)):
        fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.write(fd, b"head")
        async with await world.store.get(result.key, span) as reader:
            written = await reader.write_to(fd)
        expected = DATA if span is None else DATA[span.start : span.end]
        assert written == len(expected)
        os.write(fd, b"tail")
        os.close(fd)
        assert (tmp_path / "out").read_bytes() == b"head" + expected + b"tail"
        assert world.budget.used == 0


async def test_a_pipe_gets_the_same_bytes_too(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    read_end, write_end = os.pipe()

    def drain() -> bytes:
        with open(read_end, "rb") as file:
            return file.read()

    received = asyncio.get_running_loop().run_in_executor(None, drain)
    async with await world.store.get(result.key) as reader:
        assert await reader.write_to(write_end) == len(DATA)
    os.close(write_end)
    assert await received == DATA


async def test_a_pipe_that_nobody_reads_can_be_left(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a kernel that cannot write to a pipe without waiting."""
    data = some_bytes(300_000, seed=2)  # more than a pipe takes
    for nowait in (True, False):
        for leave in ("cancel", "close"):
            world = World(kernel)
            key = (await world.store.put(data)).key
            read_end, write_end = os.pipe()
            if not nowait:
                monkeypatch.setattr("graviton.concurrency.pipes.os.pwritev", _unsupported)
            reader = await world.store.get(key)
            task = asyncio.create_task(reader.write_to(write_end))
            await asyncio.sleep(0.05)
            assert not task.done()
            if leave == "cancel":
                task.cancel()
            else:
                await asyncio.wait_for(world.store.aclose(), 5)
            with pytest.raises(asyncio.CancelledError if leave == "cancel" else Unavailable):
                await asyncio.wait_for(task, 5)
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("graviton-sink")]
            os.close(write_end)
            with open(read_end, "rb") as file:
                assert data.startswith(file.read())
            assert world.budget.used == 0
            with pytest.raises(Unavailable):
                await anext(reader)
    world, result = await _world(kernel)
    read_end, write_end = os.pipe()
    drained = asyncio.ensure_future(in_own_thread(_drain, read_end))
    async with await world.store.get(result.key) as reader:
        assert await reader.write_to(write_end) == len(DATA)
    os.close(write_end)
    assert await drained == DATA


def _unsupported(*_: object) -> int:
    raise OSError(errno.EOPNOTSUPP, "not supported")


def _drain(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


async def test_a_pipe_whose_reader_has_gone_is_an_error(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    read_end, write_end = os.pipe()
    os.close(read_end)
    async with await world.store.get(result.key) as reader:
        with pytest.raises(BrokenPipeError):
            await reader.write_to(write_end)
    os.close(write_end)
    assert world.budget.used == 0


async def test_a_file_open_for_appending_gets_its_bytes_in_order(kernel: Kernel, tmp_path: Path) -> None:
    world, result = await _world(kernel, blocks=_SlowFirst())
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"head")
    async with await world.store.get(result.key) as reader:
        assert await reader.write_to(fd) == len(DATA)
    os.close(fd)
    assert (tmp_path / "out").read_bytes() == b"head" + DATA


async def test_nothing_is_written_after_write_to_has_failed(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller closes the descriptor then, and its number may be another file by the time a late write comes."""
    world, result = await _world(kernel)
    _, key = (await _blocks_of(world, result.key))[0]
    del world.blocks.blocks[key]
    real, late, over = PlacedFile.write, [], False

    def slow(file: PlacedFile, data: memoryview, at: int) -> None:
        time.sleep(0.02)
        late.append(over)
        real(file, data, at)

    monkeypatch.setattr(PlacedFile, "write", slow)
    for cancel in (False, True):
        fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
        reader = await world.store.get(result.key)
        task = asyncio.create_task(reader.write_to(fd))
        await asyncio.sleep(0.01)
        if cancel:
            task.cancel()
        with pytest.raises((IntegrityError, asyncio.CancelledError)):
            await task
        over = True
        os.close(fd)
        await asyncio.sleep(0.1)
        assert not any(late)
        over = False
    assert world.budget.used == 0


async def test_a_reader_that_failed_never_goes_on(kernel: Kernel) -> None:
    world, result = await _world(kernel)
    blocks = await _blocks_of(world, result.key)
    del world.blocks.blocks[blocks[2][1]]
    async with await world.store.get(result.key) as reader:
        with pytest.raises(IntegrityError):
            await reader.read()
        with pytest.raises(Unavailable):
            await anext(reader)
        with pytest.raises(Unavailable):
            await reader.read()


async def test_a_timed_out_reader_never_skips_a_block(kernel: Kernel) -> None:
    world, result = await _world(kernel, blocks=_SlowFirst())
    async with await world.store.get(result.key) as reader:
        task = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        with pytest.raises(Unavailable):
            await reader.read()


async def test_a_file_gets_only_what_is_left(kernel: Kernel, tmp_path: Path) -> None:
    world, result = await _world(kernel)
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    async with await world.store.get(result.key, Span(100, 30_000)) as reader:
        head = bytes(await anext(reader)) + bytes(await anext(reader))
        assert await reader.write_to(fd) == 29_900 - len(head)
    os.close(fd)
    assert head + (tmp_path / "out").read_bytes() == DATA[100:30_000]


async def test_a_reader_left_by_break_gives_its_memory_back(kernel: Kernel) -> None:
    world, result = await _world(kernel, blocks=_SlowFirst())
    before = asyncio.all_tasks()
    async for piece in await world.store.get(result.key):
        assert piece
        break
    gc.collect()
    await _turns(20)
    assert world.budget.used == 0
    assert asyncio.all_tasks() == before
    reader = await world.store.get(result.key)
    await anext(reader)
    await _turns(50)  # what it fetched ahead is there
    assert world.budget.used > 4096
    del reader
    assert world.budget.used == 0


async def test_a_fetch_on_a_thread_is_counted_until_it_ends(kernel: Kernel) -> None:
    """Also of a reader that is garbage: the thread goes on using the memory."""
    go_on = threading.Event()

    class Blocks(YieldingBlocks):
        async def get(self, key: BlockKey) -> bytes:
            await finish_anyway(in_own_thread(go_on.wait, 20))
            return await super().get(key)

    world, result = await _world(kernel, blocks=Blocks())
    reader = await world.store.get(result.key)
    task = asyncio.ensure_future(anext(reader))
    await _turns(5)
    used = world.budget.used
    assert used > 0
    task.cancel()
    del reader, task
    gc.collect()
    await _turns(20)
    assert world.budget.used == used
    go_on.set()
    while world.budget.used:
        await asyncio.sleep(0.001)


def test_a_reader_left_in_another_thread_or_after_its_loop_gives_its_memory_back(kernel: Kernel) -> None:
    async def begin() -> tuple[World, BlobReader]:
        world, result = await _world(kernel)
        reader = await world.store.get(result.key)
        await anext(reader)
        await _turns(50)
        return world, reader

    loop = asyncio.new_event_loop()
    for close in (False, True):
        held = [*loop.run_until_complete(begin())]
        world = held[0]
        assert isinstance(world, World)
        assert world.budget.used > 0
        if close:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        assert world.budget.used == 0


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
