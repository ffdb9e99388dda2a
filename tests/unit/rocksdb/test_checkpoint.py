"""A checkpoint is a store itself, as it was at one moment."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from graviton.errors import AlreadyExists, InvalidInput, NotFound, PermissionDenied
from graviton.ports.kv import ReadTransaction, Transaction
from tests.unit.rocksdb.stores import opened


async def test_a_checkpoint_beside_a_writer_is_whole_and_stays_as_it_is(tmp_path: Path) -> None:
    done = False
    count = 0

    async with opened(tmp_path / "kv", memtable_bytes=1 << 20) as store:

        async def write() -> None:
            nonlocal count
            while not done:

                def fn(tx: Transaction, n: int = count) -> None:
                    tx.put("left", b"%06d" % n, bytes(2_000))
                    tx.put("right", b"%06d" % n, b"")

                await store.transact(fn)
                count += 1

        writing = asyncio.ensure_future(write())
        for n in range(3):
            before = count
            while count < before + 20:
                await asyncio.sleep(0.01)
            await store.checkpoint(tmp_path / f"copy {n}")
        done = True
        await writing
        with pytest.raises(AlreadyExists):
            await store.checkpoint(tmp_path / "copy 0")
        all_of_them = [key async for key, _ in store.scan("left")]

    def look(tx: ReadTransaction) -> tuple[list[bytes], list[bytes]]:
        return [key for key, _ in tx.scan("left")], [key for key, _ in tx.scan("right")]

    counts = []
    for n in range(3):
        async with opened(tmp_path / f"copy {n}", create=False) as copy:
            left, right = await copy.read(look)
            assert left == right == all_of_them[: len(left)]
            assert await copy.check() == []
            await copy.put("left", b"more", b"")
        counts.append(len(left))
    assert counts == sorted(counts)
    assert counts[0] >= 20
    async with opened(tmp_path / "kv") as store:
        assert [key async for key, _ in store.scan("left")] == all_of_them


async def test_what_cannot_be_copied_to_is_refused_with_a_reason_and_leaves_nothing(tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    async with opened(tmp_path / "kv") as store, opened(tmp_path / "kv", read_only=True) as looker:
        await store.put("a", b"key", b"value")
        before = sorted(os.listdir(tmp_path / "kv"))
        with pytest.raises(NotFound, match="missing"):
            await store.checkpoint(tmp_path / "missing" / "copy")
        with pytest.raises(AlreadyExists):
            await store.checkpoint(tmp_path / "kv")
        with pytest.raises(InvalidInput, match="within the store"):
            await store.checkpoint(tmp_path / "kv" / "copy")
        with pytest.raises(PermissionDenied, match="reading only"):
            await looker.checkpoint(tmp_path / "copy")
        if shared_memory.is_dir() and shared_memory.stat().st_dev != tmp_path.stat().st_dev:
            with pytest.raises(InvalidInput, match="another file system") as caught:
                await store.checkpoint(shared_memory / "graviton-test-copy")
            assert "beside the store" in caught.value.hint
            assert not (shared_memory / "graviton-test-copy").exists()
        assert sorted(os.listdir(tmp_path / "kv")) == before
    assert os.listdir(tmp_path) == ["kv"]


async def test_a_checkpoint_is_as_private_as_a_store(tmp_path: Path) -> None:
    async with opened(tmp_path / "kv") as store:
        await store.put("a", b"key", b"value")
        await store.checkpoint(tmp_path / "copy")
    assert oct((tmp_path / "copy").stat().st_mode & 0o777) == "0o700"
    assert sorted(os.listdir(tmp_path)) == ["copy", "kv"]
