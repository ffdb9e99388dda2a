"""Damage to the file's own structure: reads get past it where they can, and `check` names it each time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from graviton.backends.sqlite.config import SqliteConfig
from graviton.backends.sqlite.kv import SqliteKeyValueStore
from graviton.errors import IntegrityError
from graviton.ports.kv import ReadTransaction

_T = TypeVar("_T")

_ROWS = [(b"a", b"first"), (b"b", b"second")]

_SECOND_CELL = 10
"""In a leaf of a table without row ids: 8 bytes of header, then two bytes for where each cell lies
(https://sqlite.org/fileformat.html section 1.6)."""


async def _with_store(path: Path, use: Callable[[SqliteKeyValueStore], Awaitable[_T]]) -> _T:
    store = SqliteKeyValueStore(SqliteConfig(path))
    try:
        return await use(store)
    finally:
        await store.aclose()


async def _fill(store: SqliteKeyValueStore) -> None:
    await store.transact(lambda tx: tx.put_many("things", _ROWS))


def _point_out_of_the_page(path: Path) -> None:
    """SQLite cuts such a pointer down to the page, so that it still finds the cell, but for the one who reads the page
    from the file: that one gets an error, and only once for each connection."""
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ns_things'").fetchone()[0]
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    data = bytearray(path.read_bytes())
    data[(root - 1) * page_bytes + _SECOND_CELL] ^= 1 << 6
    path.write_bytes(data)


@pytest.fixture
async def damaged_file(tmp_path: Path) -> Path:
    path = tmp_path / "meta.sqlite"
    await _with_store(path, _fill)
    _point_out_of_the_page(path)
    return path


async def test_a_read_that_got_past_the_damage_has_its_result(damaged_file: Path) -> None:
    failures = []

    def read_twice(tx: ReadTransaction) -> list[tuple[bytes, bytes]]:
        try:
            list(tx.scan("things"))
        except IntegrityError as error:
            failures.append(error)
        return list(tx.scan("things"))

    assert await _with_store(damaged_file, lambda store: store.read(read_twice)) == _ROWS
    assert len(failures) == 1


async def test_a_read_that_failed_says_why_itself(damaged_file: Path) -> None:
    def read(tx: ReadTransaction) -> None:
        try:
            list(tx.scan("things"))
        except IntegrityError as error:
            raise IntegrityError("of my own words") from error

    with pytest.raises(IntegrityError, match="of my own words"):
        await _with_store(damaged_file, lambda store: store.read(read))


async def test_check_names_the_damage_whatever_was_read_before(damaged_file: Path) -> None:
    async def check_again(store: SqliteKeyValueStore) -> tuple[list[str], list[str]]:
        return await store.check(), await store.check()

    for found in await _with_store(damaged_file, check_again):
        assert ["page" in told for told in found] == [True]


async def test_check_finds_nothing_in_a_sound_file(tmp_path: Path) -> None:
    async def check(store: SqliteKeyValueStore) -> list[str]:
        await _fill(store)
        return await store.check()

    assert await _with_store(tmp_path / "meta.sqlite", check) == []


async def test_a_cancelled_check_ends_and_harms_nothing(tmp_path: Path) -> None:
    rows = [(number.to_bytes(4, "big"), bytes(4_000)) for number in range(10_000)]

    async def check(store: SqliteKeyValueStore) -> list[str]:
        await store.transact(lambda tx: tx.put_many("things", rows))
        task = asyncio.ensure_future(store.check())
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await store.check()

    assert await _with_store(tmp_path / "meta.sqlite", check) == []
