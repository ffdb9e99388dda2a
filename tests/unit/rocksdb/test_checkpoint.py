"""A checkpoint is a store itself, as it was at one moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from graviton.errors import AlreadyExists
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
