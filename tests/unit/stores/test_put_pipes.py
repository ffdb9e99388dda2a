"""Raw files and pipes as sources of a put: read to their end, left when nobody wants them any more."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from graviton.core.chunking import Kernel
from graviton.errors import InvalidInput, Unavailable
from tests.support import World
from tests.unit.stores.puts import DATA, KEY

pytestmark = pytest.mark.python_kernel


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


async def test_a_fifo_does_not_hang(kernel: Kernel, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidInput, match="not a regular file"):
        await asyncio.wait_for(World(kernel).store.put(tmp_path / "fifo"), 5)
