from __future__ import annotations

import asyncio
import errno
import gc
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.constraints import spill_folder
from graviton.constraints.budget import ByteBudget
from graviton.constraints.spill import Spill, SpillBuffer, SpillPolicy
from graviton.constraints.spill_folder import SpillFolder
from graviton.errors import (
    IntegrityError,
    InvalidInput,
    LimitExceeded,
    PermissionDenied,
    Retry,
    StorageFull,
    Unavailable,
)
from graviton.ports.metrics import MetricKeys, Series
from tests.support import some_bytes

DATA = some_bytes(300_000)


def spill(root: Path, memory: int = 1000, disk: int = 10**6, budget: ByteBudget | None = None) -> Spill:
    return Spill(SpillPolicy(memory, disk, root / "spill"), budget or ByteBudget())


async def all_of(buffer: SpillBuffer, start: int = 0) -> bytes:
    return b"".join([piece async for piece in buffer.read(start)])


@pytest.fixture(params=["unnamed files", "named files"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With named files as where the file system cannot make unnamed ones."""
    if request.param == "named files":
        real = os.open

        def no_unnamed(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "not here")
            return real(path, flags, mode, dir_fd=dir_fd)

        monkeypatch.setattr(spill_folder.os, "open", no_unnamed)
    return tmp_path


async def test_little_stays_in_memory_and_touches_no_disk(root: Path) -> None:
    budget = ByteBudget()
    made = spill(root, budget=budget)
    async with made.buffer() as buffer:
        await buffer.write(DATA[:600])
        await buffer.write(DATA[600:1000])
        await buffer.write(b"")
        assert (buffer.size, buffer.bytes_on_disk, made.disk_bytes, budget.used) == (1000, 0, 0, 1000)
        assert await all_of(buffer) == await all_of(buffer) == DATA[:1000]
    assert budget.used == 0
    await made.aclose()
    assert not (root / "spill").exists()


async def test_more_goes_to_a_file_and_is_read_as_often_as_wanted(root: Path) -> None:
    budget = ByteBudget()
    made = spill(root, budget=budget)
    async with made.buffer() as buffer:
        for start in range(0, len(DATA), 700):
            await buffer.write(DATA[start : start + 700])
        assert buffer.size == len(DATA)
        assert len(DATA) - 1000 <= buffer.bytes_on_disk == made.disk_bytes
        assert budget.used == buffer.size - buffer.bytes_on_disk
        assert await all_of(buffer) == await all_of(buffer) == DATA
        assert await all_of(buffer, 299_000) == DATA[299_000:]
        assert await all_of(buffer, 299_999) == DATA[-1:]
        assert await all_of(buffer, 300_000) == b""
        assert stat.S_IMODE((root / "spill").stat().st_mode) == 0o700
    assert (budget.used, made.disk_bytes) == (0, 0)
    await made.aclose()
    assert list((root / "spill").iterdir()) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=12), st.integers(0, 3000), st.integers(0, 4000))
def test_any_sizes_come_back(sizes: list[int], memory: int, budget_bytes: int) -> None:
    async def run(folder: Path) -> None:
        budget = ByteBudget(budget_bytes + 1)
        made = spill(folder, memory, budget=budget)
        async with made.buffer() as buffer:
            at = 0
            for size in sizes:
                await buffer.write(memoryview(DATA)[at : at + size])
                at += size
                assert buffer.size - buffer.bytes_on_disk == budget.used <= memory
                assert buffer.bytes_on_disk == made.disk_bytes
            assert await all_of(buffer) == DATA[:at]
        assert (budget.used, made.disk_bytes) == (0, 0)
        await made.aclose()

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def test_without_memory_everything_goes_to_disk_and_nobody_waits(root: Path) -> None:
    budget = ByteBudget(100)
    await budget.acquire(100)
    made = spill(root, budget=budget)
    async with made.buffer() as buffer:
        await buffer.write(b"x" * 10)
        assert buffer.bytes_on_disk == 10
        assert await all_of(buffer) == b"x" * 10
    assert budget.used == 100
    await made.aclose()


async def test_the_disk_is_bounded_over_all_buffers(root: Path) -> None:
    made = spill(root, memory=0, disk=1000)
    async with made.buffer() as first, made.buffer() as second:
        await first.write(b"a" * 700)
        with pytest.raises(StorageFull, match="700 of the 1000 bytes") as full:
            await second.write(b"b" * 301)
        assert full.value.retry is Retry.TEMPORARY
        await second.write(b"b" * 300)
        with pytest.raises(StorageFull):
            await first.write(b"a")
        with pytest.raises(LimitExceeded, match="1001 bytes have to wait"):
            await first.write(b"a" * 301)
        assert await all_of(first) == b"a" * 700
        assert await all_of(second) == b"b" * 300
        await second.aclose()
        await first.write(b"a" * 300)
        assert await all_of(first) == b"a" * 1000
    assert made.disk_bytes == 0
    await made.aclose()


async def test_a_buffer_of_the_callers_may_be_used_again(root: Path) -> None:
    made = spill(root, memory=10)
    memory = bytearray(b"123456")
    async with made.buffer() as buffer:
        for _ in range(4):
            await buffer.write(memory)
        memory[:] = b"......"
        assert await all_of(buffer) == b"123456" * 4
    await made.aclose()


async def test_what_is_written_while_it_is_read_is_read_too(root: Path) -> None:
    made = spill(root, memory=100)
    async with made.buffer() as buffer:
        await buffer.write(DATA[:90])
        reader = buffer.read()
        assert await anext(reader) == DATA[:90]
        await buffer.write(DATA[90:400])
        assert b"".join([piece async for piece in reader]) == DATA[90:400]
    await made.aclose()


async def test_a_write_that_fails_or_is_cancelled_has_not_happened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = ByteBudget()
    made = spill(root, memory=100, budget=budget)
    async with made.buffer() as buffer:
        await buffer.write(DATA[:60])
        writing = os.pwrite
        for code, error in (
            (errno.ENOSPC, StorageFull),
            (errno.EACCES, PermissionDenied),
            (errno.EIO, Unavailable),
        ):

            def fail(fd: int, data: bytes, at: int, code: int = code) -> int:
                writing(fd, data[:7], at)
                raise OSError(code, "broken")

            monkeypatch.setattr(os, "pwrite", fail)
            with pytest.raises(error):
                await buffer.write(DATA[60:200])
            assert (buffer.size, made.disk_bytes, budget.used) == (60, 0, 60)

        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(fd: int, data: bytes, at: int) -> int:
            loop.call_soon_threadsafe(begun.set)
            return writing(fd, data[:1], at)

        monkeypatch.setattr(os, "pwrite", slow)
        task = asyncio.ensure_future(buffer.write(DATA[60:100_000]))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (buffer.size, made.disk_bytes) == (60, 0)
        monkeypatch.undo()
        await buffer.write(DATA[60:200])
        assert await all_of(buffer) == DATA[:200]
    await made.aclose()


async def test_forgotten_buffers_give_everything_back(root: Path) -> None:
    budget = ByteBudget()
    made = spill(root, memory=100, budget=budget)
    before = len(os.listdir("/proc/self/fd"))
    buffers = [made.buffer() for _ in range(5)]
    for buffer in buffers:
        await buffer.write(DATA[:150])
        await buffer.write(DATA[:50])
    assert made.disk_bytes == 750
    del buffer, buffers
    gc.collect()
    assert (budget.used, made.disk_bytes) == (0, 0)
    assert len(os.listdir("/proc/self/fd")) <= before + 1, "the folder's own may stay"
    await made.aclose()


async def test_a_closed_buffer_says_so(root: Path) -> None:
    made = spill(root, memory=10)
    buffer = made.buffer()
    await buffer.write(DATA[:300_000])
    reader = buffer.read()
    await anext(reader)
    await buffer.aclose()
    await buffer.aclose()
    with pytest.raises(Unavailable):
        await anext(reader)
    with pytest.raises(Unavailable):
        await buffer.write(b"x")
    open_still = made.buffer()
    await open_still.write(DATA[:20])
    await made.aclose()
    await made.aclose()
    with pytest.raises(Unavailable):
        await all_of(open_still)
    await open_still.aclose()


async def test_a_file_that_lost_bytes_is_told(root: Path) -> None:
    made = spill(root, memory=0)
    async with made.buffer() as buffer:
        await buffer.write(b"x" * 100)
        os.truncate(buffer._file._fd, 50)
        with pytest.raises(IntegrityError, match="ends before byte 50"):
            await all_of(buffer)
    await made.aclose()


async def test_a_root_that_cannot_be_used_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "spill").write_bytes(b"a file")
    made = spill(tmp_path, memory=10)
    async with made.buffer() as buffer:
        await buffer.write(b"12345")
        with pytest.raises(Unavailable, match="cannot write to"):
            await buffer.write(b"1234567890")
        assert await all_of(buffer) == b"12345"
    await made.aclose()


def test_policies_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for memory, disk in ((-1, 1), (0, 0)):
        with pytest.raises(InvalidInput):
            spill(tmp_path, memory, disk)


async def test_gauges_tell_what_is_used(root: Path) -> None:
    metrics = InMemoryMetrics()
    made = Spill(SpillPolicy(0, 1000, root / "spill"), ByteBudget(), metrics)

    def gauge(kind: str) -> float:
        return metrics.snapshot().gauges[Series(MetricKeys.SPILL_BYTES, (("kind", kind),))]

    async with made.buffer() as buffer:
        await buffer.write(b"x" * 70)
        assert (gauge("used"), gauge("limit")) == (70, 1000)
    assert gauge("used") == 0
    await made.aclose()


KILLED = """
import asyncio, errno, os, sys
from pathlib import Path
from graviton.constraints import spill_folder
from graviton.constraints.budget import ByteBudget
from graviton.constraints.spill import Spill, SpillPolicy

real = os.open
def no_unnamed(path, flags, mode=0o777, *, dir_fd=None):
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(errno.EOPNOTSUPP, "not here")
    return real(path, flags, mode, dir_fd=dir_fd)
if sys.argv[2] != "unnamed":
    spill_folder.os.open = no_unnamed
if sys.argv[2] == "before unlink":
    os.unlink = lambda *args, **more: os.kill(os.getpid(), 9)

async def run():
    spill = Spill(SpillPolicy(0, 10**6, Path(sys.argv[1])), ByteBudget())
    buffer = spill.buffer()
    await buffer.write(b"x" * 100_000)
    print("ready", flush=True)
    await asyncio.sleep(1000)

asyncio.run(run())
"""


@pytest.mark.parametrize("how", ["unnamed", "named", "before unlink"])
async def test_nothing_is_left_of_a_process_that_was_killed(tmp_path: Path, how: str) -> None:
    place = tmp_path / "spill"
    command = [sys.executable, "-c", KILLED, str(place), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ}) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        alive = list(place.iterdir())
        made = spill(tmp_path, memory=0)
        if how != "before unlink":
            assert line == b"ready\n"
            assert len(alive) == (how == "named")
            assert await made.sweep() == 0, "who lives is left alone"
            assert list(place.iterdir()) == alive
            assert all(stat.S_IMODE(one.stat().st_mode) == 0o700 for one in alive)
        child.kill()
        child.wait()
    if how == "before unlink":
        assert [path for one in place.iterdir() for path in one.iterdir()], "a file with its name was left"
    async with made.buffer() as buffer:
        await buffer.write(b"y")  # the next start
        assert list(place.iterdir()) == []
    await made.aclose()


def test_sweeping_takes_nothing_else_away(tmp_path: Path) -> None:
    for name in ("graviton-spill-0123456789abcdef", "graviton-spill-0123456789abcde", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "graviton-spill-fedcba9876543210").symlink_to(tmp_path / "other")
    (tmp_path / "graviton-spill-0000000000000000").write_bytes(b"")
    (tmp_path / "graviton-spill-1111111111111111" / "sub").mkdir(parents=True)
    folder = SpillFolder(tmp_path)
    assert folder.sweep() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "graviton-spill-0000000000000000",
        "graviton-spill-0123456789abcde",
        "graviton-spill-1111111111111111",
        "graviton-spill-fedcba9876543210",
        "other",
    ]


def test_a_folder_that_was_swept_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SpillFolder(tmp_path)
    other = SpillFolder(tmp_path)
    opened = spill_folder._open_folder
    sweeps = iter(["before opening", "before locking"])

    def meanwhile(path: str) -> int:
        monkeypatch.setattr(spill_folder, "_open_folder", opened)
        when = next(sweeps, None)
        fd = -1
        if when == "before locking":
            fd = opened(path)
        if when:
            assert other.sweep() == 1
            monkeypatch.setattr(spill_folder, "_open_folder", meanwhile)
        return fd if fd >= 0 else opened(path)

    monkeypatch.setattr(spill_folder, "_open_folder", meanwhile)
    path, _ = folder._own = folder._make_folder()
    assert os.path.isdir(path)
    assert other.sweep() == 0
    folder.close()
    assert list(tmp_path.iterdir()) == []
