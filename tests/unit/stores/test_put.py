"""What a put promises, over memory: every kind of source, every failure, nothing left behind."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import os
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from graviton.constraints.budget import ByteBudget
from graviton.core.attribute_values import SIZE, digest_name
from graviton.core.attributes import BinaryAttributes
from graviton.core.chunking import ChunkerSpec, Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobLayout, BlobWritePlan, StorePolicy
from graviton.errors import (
    Conflict,
    DigestMismatch,
    InvalidInput,
    LimitExceeded,
    NotFound,
    StorageFull,
    Unavailable,
    Unsupported,
)
from graviton.metadata.rows import PAGES
from graviton.ports.blobs import BlobSource, SmallBlob
from graviton.ports.blocks import DEFAULT_WRITE_PLAN, BlockBatchResult, BlockWritePlan, CanonicalBlock
from graviton.ports.kv import Durability
from tests.support import SMALL_SPEC, World, YieldingBlocks, YieldingKv, some_bytes

pytestmark = pytest.mark.python_kernel

DATA = some_bytes(60_000)
KEY = BlobKey(HashAlgo.BLAKE3.digest(DATA), len(DATA))


def _advertise(values: dict[str, object]) -> BlobWritePlan:
    return BlobWritePlan(BinaryAttributes.EMPTY.advertise(values, at_ns=1))  # type: ignore[arg-type]


async def _pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]


def _sources(tmp_path: Path) -> Iterator[tuple[str, BlobSource]]:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    yield "bytes", DATA
    yield "bytearray", bytearray(DATA)
    yield "memoryview", memoryview(DATA)
    yield "wide memoryview", memoryview(DATA).cast("I")
    yield "path", path
    yield "raw file", open(path, "rb", buffering=0)  # noqa: SIM115 - closed by the test
    yield "buffered file", open(path, "rb")  # noqa: SIM115
    yield "bytes io", io.BytesIO(DATA)
    yield "iterator", iter([DATA[:1], b"", DATA[1:50_000], DATA[50_000:]])
    yield "list of bytearrays", [bytearray(DATA[:777]), memoryview(DATA)[777:]]
    yield "async iterator", _pieces(DATA, 7001)


async def test_every_kind_of_source_gives_the_key_of_its_bytes(kernel: Kernel, tmp_path: Path) -> None:
    for name, source in _sources(tmp_path):
        world = World(kernel)
        result = await world.store.put(source)
        assert result.key == KEY, name
        assert world.budget.used == 0, name
        async with await world.store.get(result.key) as reader:
            assert await reader.read() == DATA, name
        if isinstance(source, io.IOBase):
            assert not source.closed, "a file of the caller's stays open"
            source.close()
        await world.store.aclose()


_GRID = memoryview(bytearray(range(24)))


@pytest.mark.parametrize(
    "view",
    [
        _GRID.cast("B", (2, 3, 4)),
        _GRID.cast("d"),
        _GRID.cast("?"),
        memoryview((ctypes.c_int * 6).from_buffer(_GRID)),
        _GRID[:0],
        _GRID.cast("B", (4, 6))[:0],
        _GRID.toreadonly(),
    ],
)
async def test_any_contiguous_view_is_a_source(kernel: Kernel, view: memoryview) -> None:
    data = view.tobytes()
    for source in (view, iter([view, b"more"]), _Changing([view])):  # type: ignore[list-item]
        result = await World(kernel).store.put(source)  # type: ignore[arg-type]
        expected = data + b"more" if isinstance(source, Iterator) else data
        assert result.key == BlobKey(HashAlgo.BLAKE3.digest(expected), len(expected))


async def test_other_views_are_refused(kernel: Kernel) -> None:
    released = memoryview(b"x")
    released.release()
    for view in (_GRID[::2], _GRID[::-1], _GRID.cast("B", (4, 6))[::2], released):
        for source in (view, iter([view]), _Changing([view])):  # type: ignore[list-item]
            world = World(kernel)
            with pytest.raises(InvalidInput, match=r"contiguous|released"):
                await world.store.put(source)  # type: ignore[arg-type]
            assert world.budget.used == 0


async def test_a_file_that_gives_more_or_else_than_asked_for_is_refused(kernel: Kernel) -> None:
    class File:
        def __init__(self, given: object) -> None:
            self.given = given

        def read(self, size: int) -> object:
            return self.given

    for given in (bytes(10_000_000), ""):
        with pytest.raises(InvalidInput):
            await World(kernel).store.put(File(given))  # type: ignore[arg-type]


async def test_a_file_object_is_read_from_its_position(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    world = World(kernel)
    for buffering in (0, -1):
        with open(path, "rb", buffering=buffering) as file:
            file.seek(1000)
            result = await world.store.put(file)
        assert result.key == BlobKey(HashAlgo.BLAKE3.digest(DATA[1000:]), len(DATA) - 1000)


async def test_a_pipe_is_read_to_its_end(kernel: Kernel) -> None:
    read_end, write_end = os.pipe()
    world = World(kernel)

    def write() -> None:
        with open(write_end, "wb") as file:
            file.write(DATA)

    thread = threading.Thread(target=write)
    thread.start()
    with open(read_end, "rb", buffering=0) as file:
        result = await world.store.put(file)
    thread.join()
    assert result.key == KEY


class _Counted(io.FileIO):
    """A raw file with something to say to each read."""

    count = 0

    def readinto(self, buffer: Any, /) -> int | None:
        got = super().readinto(buffer)
        self.count += got or 0
        return got


async def test_a_raw_file_is_read_by_its_own_method(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    read_end, write_end = os.pipe()

    def write() -> None:
        with open(write_end, "wb") as file:
            file.write(DATA)

    thread = threading.Thread(target=write)
    thread.start()
    for source in (tmp_path / "data", read_end):
        with _Counted(source) as file:
            assert (await World(kernel).store.put(file)).key == KEY
            assert file.count == len(DATA)
    thread.join()


async def test_a_raw_file_that_is_closed_while_it_is_read_is_told(kernel: Kernel, tmp_path: Path) -> None:
    """Its number may be another file's by then: that one must not be read in its place."""

    class Closing(io.FileIO):
        def readinto(self, buffer: Any, /) -> int | None:
            self.close()
            return super().readinto(buffer)

    (tmp_path / "data").write_bytes(DATA)
    world = World(kernel)
    with pytest.raises(Unavailable, match="closed"):
        await world.store.put(Closing(tmp_path / "data"))
    assert world.budget.used == 0


async def test_a_silent_pipe_that_does_not_wait_is_told(kernel: Kernel) -> None:
    class Empty(io.FileIO):
        def readinto(self, buffer: Any, /) -> int | None:
            return None  # as of a pipe opened without blocking, from which somebody else took what was there

    read_end, write_end = os.pipe()
    os.write(write_end, b"x")
    with Empty(read_end) as file, pytest.raises(Unavailable, match="block"):
        await World(kernel).store.put(file)
    os.close(write_end)


async def test_a_silent_pipe_can_be_cancelled(kernel: Kernel) -> None:
    read_end, write_end = os.pipe()
    world = World(kernel)
    with open(read_end, "rb", buffering=0) as file, open(write_end, "wb"):
        task = asyncio.create_task(world.store.put(file))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
    assert world.budget.used == 0
    await asyncio.wait_for(world.store.aclose(), 5)


async def test_an_empty_blob_is_a_blob(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for source in (b"", tmp_path / "empty", iter([]), _pieces(b"", 1)):
        world = World(kernel)
        result = await world.store.put(source)
        assert (result.key.size, result.stats.blocks, result.created) == (0, 0, True)
        assert await (await world.store.get(result.key)).read() == b""
        assert not (await world.store.put(b"")).created


async def test_the_same_bytes_again_store_nothing(kernel: Kernel) -> None:
    world = World(kernel)
    first = await world.store.put(DATA)
    assert first.created
    assert first.stats.fresh_blocks == first.stats.blocks > 10
    assert first.stats.fresh_bytes == len(DATA)
    again = await world.store.put(DATA)
    assert not again.created
    assert (again.stats.fresh_blocks, again.stats.dedup_ratio) == (0, 1.0)
    totals = await world.store.totals()
    assert (totals.blobs, totals.logical_bytes, totals.stored_bytes) == (1, len(DATA), len(DATA))


async def test_equal_blocks_of_one_blob_are_written_once(kernel: Kernel) -> None:
    world = World(kernel, spec=ChunkerSpec.parse("fixed:4096"))
    result = await world.store.put(bytes(40_960))
    assert (result.stats.blocks, result.stats.fresh_blocks) == (10, 1)


async def test_a_caller_who_changes_the_buffer_gets_the_key_of_what_was_stored(kernel: Kernel) -> None:
    world = World(kernel)
    buffer = bytearray(DATA)
    task = asyncio.create_task(world.store.put(buffer))
    for round_ in range(50):
        await asyncio.sleep(0)
        buffer[round_ * 1000] ^= 0xFF
    result = await task
    async with await world.store.get(result.key) as reader:
        stored = await reader.read()
    assert HashAlgo.BLAKE3.digest(stored) == result.key.digest


class _Changing:
    """A file that is changed while it is read: each read sees what the next step left."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def read(self, size: int) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, bytes) and len(piece) > size:
            self.pieces.insert(0, piece[size:])
            piece = piece[:size]
        return piece


async def test_the_key_is_that_of_the_bytes_as_read(kernel: Kernel) -> None:
    world = World(kernel)
    result = await world.store.put(_Changing([DATA[:30_000], b"x" * 10, DATA[5:9000]]))  # type: ignore[arg-type]
    data = DATA[:30_000] + b"x" * 10 + DATA[5:9000]
    assert result.key == BlobKey(HashAlgo.BLAKE3.digest(data), len(data))


async def test_a_file_that_grew_after_it_was_opened_is_read_to_its_end(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(DATA[:100])
    real = os.fstat

    def stale(fd: int) -> os.stat_result:
        info = real(fd)
        path.write_bytes(DATA)
        return info

    monkeypatch.setattr("graviton.stores.fillers.os.fstat", stale)
    world = World(kernel)
    assert (await world.store.put(path)).key == KEY
    assert world.budget.used == 0


async def test_a_put_that_is_cancelled_while_its_file_is_opened_closes_it(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").write_bytes(DATA)
    opening, go_on = threading.Event(), threading.Event()
    opened: list[int] = []
    real = os.open

    def slow(path: Path, flags: int) -> int:
        opening.set()
        go_on.wait(20)
        opened.append(real(path, flags))
        return opened[0]

    world = World(kernel)
    with monkeypatch.context() as patch:
        patch.setattr("graviton.stores.fillers.os.open", slow)
        task = asyncio.create_task(world.store.put(tmp_path / "data"))
        while not opening.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda tmp: tmp / "missing", NotFound),
        (lambda tmp: tmp, InvalidInput),
        (lambda tmp: tmp / "data" / "below", NotFound),
        (lambda _: "text", InvalidInput),
        (lambda _: 5, InvalidInput),
        (lambda _: iter([b"ok", "text"]), InvalidInput),
        (lambda _: iter([b"ok", None, b"more"]), InvalidInput),
        (lambda _: _Changing([b"ok", None]), Unavailable),  # type: ignore[list-item]
    ],
)
async def test_a_source_that_is_none_says_so(kernel: Kernel, tmp_path: Path, make: object, error: type) -> None:
    (tmp_path / "data").write_bytes(b"x")
    world = World(kernel)
    with pytest.raises(error):
        await world.store.put(make(tmp_path))  # type: ignore[operator]
    assert world.budget.used == 0
    assert await world.open_sessions() == 0


async def test_a_fifo_does_not_hang(kernel: Kernel, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidInput, match="not a regular file"):
        await asyncio.wait_for(World(kernel).store.put(tmp_path / "fifo"), 5)


async def test_claims_that_the_bytes_do_not_meet_leave_nothing(kernel: Kernel) -> None:
    wrong = HashAlgo.BLAKE3.digest(b"other")
    for values in ({SIZE: len(DATA) + 1}, {digest_name(HashAlgo.BLAKE3): wrong}):
        world = World(kernel)
        with pytest.raises(DigestMismatch):
            await world.store.put(DATA, _advertise(dict(values)))
        assert await world.store.stat(KEY) is None
        assert await world.open_sessions() == 0


async def test_a_digest_that_cannot_be_compared_is_refused_before_anything_is_read(kernel: Kernel) -> None:
    plan = _advertise({digest_name(HashAlgo.SHA256): HashAlgo.SHA256.digest(DATA)})
    with pytest.raises(InvalidInput, match="sha256"):
        await World(kernel).store.put(DATA, plan)
    checked = await World(kernel).store.put(DATA, plan.replace(hash=HashAlgo.SHA256))
    assert checked.key.digest == HashAlgo.SHA256.digest(DATA)


async def test_true_claims_are_kept_and_confirmed(kernel: Kernel) -> None:
    world = World(kernel)
    result = await world.store.put(DATA, _advertise({SIZE: len(DATA), "user.name": "a.bin"}))
    stat = await world.store.stat(result.key)
    assert stat is not None
    assert stat.attributes.file_name == "a.bin"
    assert stat.attributes.confirmed[SIZE].value == len(DATA)
    assert stat.attributes.chunk_count == result.stats.blocks == stat.blocks


async def test_policies_that_are_not_offered_are_refused(kernel: Kernel) -> None:
    with pytest.raises(Unsupported, match="framed"):
        await World(kernel).store.put(DATA, BlobWritePlan(policy=StorePolicy(layout=BlobLayout.FRAMED)))


class _FailingBlocks(YieldingBlocks):
    fails_at = 0
    calls = 0

    async def put_blocks(self, blocks, plan=DEFAULT_WRITE_PLAN) -> BlockBatchResult:  # type: ignore[no-untyped-def]
        self.calls += 1
        if self.calls == self.fails_at:
            raise StorageFull("no room")
        return await super().put_blocks(blocks, plan)


async def test_a_failing_block_store_fails_the_put_and_leaves_no_session(kernel: Kernel) -> None:
    world = World(kernel, blocks=(blocks := _FailingBlocks()))
    blocks.fails_at = 1
    with pytest.raises(StorageFull):
        await world.store.put(_pieces(DATA, 1000))
    assert blocks.calls == 1
    assert await world.store.stat(KEY) is None
    assert await world.open_sessions() == 0
    assert world.budget.used == 0
    assert (await world.store.put(DATA)).created


async def test_a_failing_source_fails_the_put_with_its_own_error(kernel: Kernel) -> None:
    class BrokenError(Exception):
        pass

    async def source() -> AsyncIterator[bytes]:
        yield DATA
        raise BrokenError

    world = World(kernel)
    with pytest.raises(BrokenError):
        await world.store.put(source())
    assert await world.open_sessions() == 0
    assert world.budget.used == 0


_VARIABLE: ContextVar[int] = ContextVar("_VARIABLE", default=-1)


async def test_an_async_source_runs_in_one_task(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also its end, whether it comes to it or is closed: a timeout or task group around a yield needs that."""
    monkeypatch.setattr("graviton.stores.segments.FIRST_BYTES", 1000)
    monkeypatch.setattr("graviton.stores.segments.LEAN_FILL_BYTES", 4000)
    monkeypatch.setattr("graviton.stores.segments.FILL_BYTES", 8000)
    tasks: list[asyncio.Task[None] | None] = []
    values: list[int] = []

    async def source() -> AsyncIterator[bytes]:
        tasks.append(asyncio.current_task())
        try:
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
                for number, start in enumerate(range(0, len(DATA), 3000)):
                    _VARIABLE.set(number)
                    yield DATA[start : start + 3000]
                    tasks.append(asyncio.current_task())
                    values.append(_VARIABLE.get() - number)
        finally:
            tasks.append(asyncio.current_task())

    world = World(kernel)
    assert (await world.store.put(source())).key == KEY
    blocks = _FailingBlocks()
    blocks.fails_at = 2
    failing = World(kernel, blocks=blocks)
    assert (len(set(tasks)), len(tasks), set(values)) == (1, 22, {0})
    tasks.clear()
    with pytest.raises(StorageFull):
        await failing.store.put(source())
    assert len(set(tasks)) == 1
    assert failing.budget.used == 0
    assert _VARIABLE.get() == -1


class _LostReply(YieldingKv):
    """The `lose`-th durable transaction happens, but its caller is told that nobody knows."""

    lose = 0
    durable = 0

    async def transact(self, fn, durability=Durability.FULL):  # type: ignore[no-untyped-def]
        result = await super().transact(fn, durability)
        if durability is Durability.FULL:
            self.durable += 1
            if self.durable == self.lose:
                raise Unavailable("the connection broke")
        return result


async def test_a_lost_reply_to_a_commit_is_resolved_by_looking(kernel: Kernel) -> None:
    world = World(kernel, kv=(kv := _LostReply()))
    kv.lose = 1
    result = await world.store.put(DATA)
    assert kv.durable == 1
    assert result.created
    assert result.key == KEY
    kv.lose = 2
    again = await world.store.put(DATA)
    assert not again.created


async def test_a_lost_reply_to_the_commit_of_many_is_resolved_by_looking(kernel: Kernel) -> None:
    world = World(kernel, kv=(kv := _LostReply()))
    sources = [b"a", b"b", b"a", some_bytes(5000)]
    for lose in (1, 2):
        kv.lose = lose
        results = [result async for result in world.store.put_many(sources)]
        assert kv.durable == lose
        assert [result.key.size for result in results] == [1, 1, 1, 5000]
        assert [result.created for result in results] == ([True, True, False, True] if lose == 1 else [False] * 4)
    assert await world.open_sessions() == 0


class _RefusedCommit(YieldingKv):
    async def transact(self, fn, durability=Durability.FULL):  # type: ignore[no-untyped-def]
        if durability is Durability.FULL:
            raise Unavailable("down")
        return await super().transact(fn, durability)


async def test_a_commit_that_did_not_happen_is_an_error(kernel: Kernel) -> None:
    world = World(kernel, kv=_RefusedCommit())
    with pytest.raises(Unavailable):
        await world.store.put(DATA)
    with pytest.raises(Unavailable):
        [result async for result in world.store.put_many([b"a", b"b"])]
    assert [stat async for stat in world.store.list()] == []
    assert await world.open_sessions() == 0


async def test_a_session_ended_by_somebody_else_is_a_conflict(kernel: Kernel) -> None:
    world = World(kernel)

    async def source() -> AsyncIterator[bytes]:
        yield DATA
        while not await world.open_sessions():
            await asyncio.sleep(0)
            yield some_bytes(9_000_000)
            break

    class Ending(YieldingBlocks):
        async def put_blocks(self, blocks, plan=DEFAULT_WRITE_PLAN) -> BlockBatchResult:  # type: ignore[no-untyped-def]
            await world.index.end(int(plan.session, 16))
            return await super().put_blocks(blocks, plan)

    world = World(kernel, blocks=Ending())
    with pytest.raises(Conflict):
        await world.store.put(DATA)
    assert await world.store.stat(KEY) is None


async def test_cancelling_at_any_point_leaves_nothing_behind(kernel: Kernel) -> None:
    """Cancel after 0, 1, 2, … turns of the event loop until the put is faster than the cancellation."""
    turns = 0
    for turns in range(2000):
        world = World(kernel)
        task = asyncio.create_task(world.store.put(_pieces(DATA[:20_000], 2500)))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            assert (await task).created
            break
        task.cancel()
        try:
            await asyncio.wait_for(task, 10)
        except asyncio.CancelledError:
            assert await world.open_sessions() == 0
            if await world.store.totals() != (0, 0, 0, 0):  # the commit came first: then all of it is there
                stats = [stat async for stat in world.store.list()]
                assert len(stats) <= 1
        assert world.budget.used == 0
        await world.store.aclose()
    else:
        pytest.fail("the put never finished")
    assert turns > 10


async def test_memory_stays_within_the_budget_and_everybody_gets_through(kernel: Kernel) -> None:
    budget = ByteBudget(8 * 1024 * 1024)
    world = World(kernel, budget=budget)
    peak = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, budget.used)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    datas = [some_bytes(30_000, seed) for seed in range(20)]
    results = await asyncio.wait_for(asyncio.gather(*(world.store.put(_pieces(data, 5000)) for data in datas)), 60)
    watcher.cancel()
    assert len({result.key for result in results}) == 20
    assert 1024 * 1024 < peak <= budget.for_puts
    assert budget.used == 0


async def test_a_budget_below_one_block_is_refused_with_advice(kernel: Kernel) -> None:
    world = World(kernel, budget=ByteBudget(1024 * 1024))
    with pytest.raises(LimitExceeded, match="memory"):
        await world.store.put(_pieces(DATA, 5000))


async def test_manifests_larger_than_a_page_are_written_while_reading(kernel: Kernel) -> None:
    spec = ChunkerSpec.parse("fixed:64")
    world = World(kernel, spec=spec)
    data = some_bytes(64 * 4096 * 3 + 17)  # three full pages and one short block
    result = await world.store.put(data)
    record = await world.manifests.get(result.key)
    assert (record.page_count, record.block_count) == (4, 3 * 4096 + 1)
    async with await world.store.get(result.key) as reader:
        assert await reader.read() == data
    assert not (await world.store.put(data)).created


async def test_put_many_is_put_for_each(kernel: Kernel) -> None:
    world = World(kernel)
    sources = [b"", b"a", b"b", b"a", some_bytes(5000), some_bytes(300_000), b"c", b""]
    results = [result async for result in world.store.put_many(sources)]
    assert [result.key for result in results] == [BlobKey(HashAlgo.BLAKE3.digest(data), len(data)) for data in sources]
    assert [result.created for result in results] == [True, True, True, False, True, True, True, False]
    for source, result in zip(sources, results, strict=True):
        async with await world.store.get(result.key) as reader:
            assert await reader.read() == source
    assert sum(result.stats.fresh_bytes for result in results) == (await world.store.totals()).stored_bytes
    assert await world.open_sessions() == 0
    assert world.budget.used == 0


async def test_a_failing_group_leaves_nothing_of_it(kernel: Kernel) -> None:
    world = World(kernel, blocks=(blocks := _FailingBlocks()))
    blocks.fails_at = 1
    with pytest.raises(StorageFull):
        async for _ in world.store.put_many([b"a", b"b"]):
            pytest.fail("nothing was stored")
    assert blocks.calls == 1
    assert [stat async for stat in world.store.list()] == []
    assert await world.open_sessions() == 0
    assert world.budget.used == 0


async def test_the_spec_is_stored_with_the_blob(kernel: Kernel) -> None:
    world = World(kernel)
    result = await world.store.put(DATA, BlobWritePlan(chunker=ChunkerSpec.parse("fixed:1000")))
    stat = await world.store.stat(result.key)
    assert stat is not None
    assert stat.chunker == "fixed-v1:1000"
    assert (await world.store.put(b"x")).chunker == SMALL_SPEC.text


async def test_putting_again_with_another_chunker_keeps_manifest_and_what_is_confirmed_about_it(kernel: Kernel) -> None:
    world = World(kernel)
    first = await world.store.put(DATA)
    again = await world.store.put(DATA, BlobWritePlan(chunker=ChunkerSpec.parse("fixed:1000")))
    assert again.stats.blocks == 60 != first.stats.blocks
    stat = await world.store.stat(first.key)
    assert stat is not None
    assert (stat.blocks, stat.chunker) == (first.stats.blocks, SMALL_SPEC.text)
    assert stat.attributes.chunk_count == first.stats.blocks


async def test_groups_are_committed_in_order_and_the_first_failure_ends_all(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graviton.stores.put_many.MAX_GROUP_ITEMS", 2)
    sources = [b"a", b"b", b"c", b"a", b"e", some_bytes(300_000), b"f", b"g"]
    world = World(kernel)
    results = [result async for result in world.store.put_many(sources)]
    assert [result.created for result in results] == [True, True, True, False, True, True, True, True]
    assert world.budget.used == 0
    world = World(kernel, blocks=(blocks := _FailingBlocks()))
    blocks.fails_at = 2  # the second group
    seen = []
    with pytest.raises(StorageFull):
        async for result in world.store.put_many(sources):
            seen += [result.key.size]
    assert seen in ([], [1, 1])
    assert {stat.key async for stat in world.store.list()} <= {result.key for result in results[:2]}
    assert await world.open_sessions() == 0
    assert world.budget.used == 0


async def test_leaving_put_many_early_leaves_nothing_open(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graviton.stores.put_many.MAX_GROUP_ITEMS", 2)
    world = World(kernel)
    async with aclosing(world.store.put_many(b"%d" % n for n in range(100))) as results:
        async for _ in results:
            break
    assert await world.open_sessions() == 0
    assert world.budget.used == 0


async def test_leaving_put_many_by_break_ends_it_within_some_turns(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graviton.stores.put_many.MAX_GROUP_ITEMS", 2)
    world = World(kernel, kv=YieldingKv())
    before = asyncio.all_tasks()
    async for _ in world.store.put_many(b"%d" % n for n in range(100)):
        break
    for _ in range(100):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert await world.open_sessions() == 0
    assert world.budget.used == 0
    assert (await world.store.totals()).blobs <= 4, "nothing more is begun"


async def test_what_comes_before_a_bad_one_of_many_is_put(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graviton.stores.put_many.MAX_GROUP_ITEMS", 3)

    class BrokenError(Exception):
        pass

    def breaking(good: list[bytes]) -> Iterator[bytes]:
        yield from good
        raise BrokenError

    wrong = SmallBlob(b"x", BinaryAttributes.EMPTY.advertise({digest_name(HashAlgo.SHA256): _SHA}, at_ns=1))
    for count in (0, 1, 3, 5, 7):
        good = [b"%d" % n for n in range(count)]
        for sources, error in (
            ([*good, "text", b"after"], InvalidInput),
            ([*good, wrong, b"after"], InvalidInput),
            (breaking(good), BrokenError),
        ):
            world = World(kernel)
            results = []
            with pytest.raises(error):
                async for result in world.store.put_many(sources):  # type: ignore[arg-type]
                    results += [result.key]
            assert results == [BlobKey(HashAlgo.BLAKE3.digest(data), len(data)) for data in good]
            assert {stat.key async for stat in world.store.list()} == set(results)
            assert await world.open_sessions() == 0
            assert world.budget.used == 0


_SHA = HashAlgo.SHA256.digest(b"x")


async def test_each_of_many_may_have_attributes_of_its_own(kernel: Kernel) -> None:
    world = World(kernel)

    def named(name: str) -> BinaryAttributes:
        return BinaryAttributes.EMPTY.advertise({"user.name": name}, at_ns=1)

    plan = _advertise({"user.batch": "7"})
    sources = [SmallBlob(b"a", named("a.txt")), b"b", SmallBlob(some_bytes(300_000), named("c.bin"))]
    results = [result async for result in world.store.put_many(sources, plan)]
    assert [result.attributes.file_name for result in results] == ["a.txt", None, "c.bin"]
    assert {result.attributes.custom["user.batch"] for result in results} == {"7"}
    wrong = SmallBlob(b"x", BinaryAttributes.EMPTY.advertise({SIZE: 2}, at_ns=1))
    with pytest.raises(DigestMismatch):
        [result async for result in world.store.put_many([b"y", wrong])]
    assert await world.open_sessions() == 0


async def test_putting_again_replaces_a_damaged_manifest_of_any_length(kernel: Kernel) -> None:
    for pages, chunk in ((1, "fixed:20000"), (6, "fixed:64")):
        world = World(kernel, spec=ChunkerSpec.parse(chunk))
        data = some_bytes(64 * 4096 * pages - 100)
        result = await world.store.put(data)
        assert not (await world.store.put(data)).created
        rows = [row async for row in world.kv.scan(PAGES)]
        assert len(rows) == pages
        place, page = rows[-1]
        await world.kv.put(PAGES, place, page[:50] + bytes([page[50] ^ 1]) + page[51:])
        await world.store.put(data)
        async with await world.store.get(result.key) as reader:
            assert await reader.read() == data
        totals = await world.store.totals()
        assert (totals.blobs, totals.logical_bytes) == (1, len(data))


async def test_writers_that_fail_together_are_told_once(kernel: Kernel) -> None:
    """Two segments are written side by side: on a full disk both fail, and nobody asks the second one."""

    class Full(YieldingBlocks):
        def __init__(self) -> None:
            super().__init__()
            self.waiting = 0

        async def put_blocks(
            self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
        ) -> BlockBatchResult:
            self.waiting += 1
            while self.waiting < 2:
                await asyncio.sleep(0)
            raise StorageFull("planned")

    world = World(kernel, blocks=Full(), spec=ChunkerSpec.parse("fixed-v1:65536"))
    untold: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: untold.append(context))
    with pytest.raises(StorageFull):
        await world.store.put(bytearray(some_bytes(24 * 1024 * 1024)))
    gc.collect()
    await asyncio.sleep(0)
    assert untold == []
    assert world.budget.used == 0
