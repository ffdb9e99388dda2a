"""Sources that change while they are read: the id is always that of the bytes as read, and they come back."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from pathlib import Path

import pytest

import graviton
from graviton.assembly.store import Store
from tests.faults.harness.laws import unclean
from tests.faults.harness.scenarios import SMALL_BLOCKS, some_bytes


async def _is_what_its_id_says(store: Store, key: graviton.BlobKey) -> bytes:
    async with await store.get(key) as reader:
        data = await reader.read()
    assert len(data) == key.size
    assert key.digest == graviton.HashAlgo.BLAKE3.digest(data)
    assert await unclean(store) == []
    return data


@pytest.mark.parametrize("change", ["shrinks", "grows", "is written over", "is emptied"])
async def test_a_file_that_changes_while_it_is_read(tmp_path: Path, change: str) -> None:
    """Cut off, appended to or written over again and again, without a pause, until the put has ended."""
    path, size = tmp_path / "changing", 24 << 20
    stop = threading.Event()
    async with graviton.open(tmp_path / "store") as store:
        for _ in range(3):
            path.write_bytes(some_bytes("changing", size))
            stop.clear()
            other = threading.Thread(target=_keep_changing, args=(path, change, size, stop))
            other.start()
            try:
                result = await store.put(path)
            except graviton.GravitonError as error:
                assert error.code in ("unavailable", "conflict", "invalid_input"), repr(error)  # noqa: PT017
            else:
                await _is_what_its_id_says(store, result.key)
            finally:
                stop.set()
                other.join()


def _keep_changing(path: Path, change: str, size: int, stop: threading.Event) -> None:
    chance = random.Random(change)
    with open(path, "r+b", buffering=0) as file:
        while not stop.is_set():
            match change:
                case "shrinks":
                    size = max(1000, size - (1 << 20))
                    os.ftruncate(file.fileno(), size)
                case "grows":
                    size = min(64 << 20, size + 5000)
                    os.ftruncate(file.fileno(), size)
                case "is emptied":
                    os.ftruncate(file.fileno(), 0)
                case _:
                    os.pwrite(file.fileno(), chance.randbytes(4096), chance.randrange(size))


@pytest.mark.parametrize("size", [3_000, 200_000, 6_000_000])
async def test_a_buffer_that_is_changed_during_the_put(tmp_path: Path, size: int) -> None:
    async with graviton.open(tmp_path / "store") as store:
        for turns in range(6):
            buffer = bytearray(some_bytes(f"buffer {size}", size))
            task = asyncio.ensure_future(store.put(buffer))
            for _ in range(turns):
                await asyncio.sleep(0)
            for at in range(0, size, 97):
                buffer[at] ^= 0xFF
            data = await _is_what_its_id_says(store, (await task).key)
            assert len(data) == size


async def test_pieces_that_are_used_again_by_their_giver(tmp_path: Path) -> None:
    """As a reader with one buffer does: each piece is valid only until the next is asked for."""
    pieces = [some_bytes(f"piece {number}", 7_000) for number in range(9)]

    def one_buffer() -> object:
        buffer = bytearray(7_000)
        for piece in pieces:
            buffer[:] = piece
            yield buffer

    async with graviton.open(tmp_path / "store", chunker=SMALL_BLOCKS) as store:
        result = await store.put(one_buffer())  # type: ignore[arg-type]
        assert await _is_what_its_id_says(store, result.key) == b"".join(pieces)
