"""Every kind of source of a put: what is read, what is refused, and who closes it."""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from pathlib import Path

import pytest

from graviton.core.chunking import Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import InvalidInput, NotFound, StorageFull, Unavailable
from graviton.ports.blobs import BlobSource
from tests.support import World
from tests.unit.stores.puts import DATA, KEY, Changing, FailingBlocks, pieces

pytestmark = pytest.mark.python_kernel


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
    yield "async iterator", pieces(DATA, 7001)


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
    for source in (view, iter([view, b"more"]), Changing([view])):  # type: ignore[list-item]
        result = await World(kernel).store.put(source)  # type: ignore[arg-type]
        expected = data + b"more" if isinstance(source, Iterator) else data
        assert result.key == BlobKey(HashAlgo.BLAKE3.digest(expected), len(expected))


async def test_other_views_are_refused(kernel: Kernel) -> None:
    released = memoryview(b"x")
    released.release()
    for view in (_GRID[::2], _GRID[::-1], _GRID.cast("B", (4, 6))[::2], released):
        for source in (view, iter([view]), Changing([view])):  # type: ignore[list-item]
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


async def test_the_key_is_that_of_the_bytes_as_read(kernel: Kernel) -> None:
    world = World(kernel)
    result = await world.store.put(Changing([DATA[:30_000], b"x" * 10, DATA[5:9000]]))  # type: ignore[arg-type]
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
        (lambda _: Changing([b"ok", None]), Unavailable),  # type: ignore[list-item]
    ],
)
async def test_a_source_that_is_none_says_so(kernel: Kernel, tmp_path: Path, make: object, error: type) -> None:
    (tmp_path / "data").write_bytes(b"x")
    world = World(kernel)
    with pytest.raises(error):
        await world.store.put(make(tmp_path))  # type: ignore[operator]
    assert world.budget.used == 0
    assert await world.open_sessions() == 0


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
    blocks = FailingBlocks()
    blocks.fails_at = 2
    failing = World(kernel, blocks=blocks)
    assert (len(set(tasks)), len(tasks), set(values)) == (1, 22, {0})
    tasks.clear()
    with pytest.raises(StorageFull):
        await failing.store.put(source())
    assert len(set(tasks)) == 1
    assert failing.budget.used == 0
    assert _VARIABLE.get() == -1
