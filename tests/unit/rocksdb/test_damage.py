"""Damaged files are refused by name, never silently shortened; a log that was cut short by a crash is whole enough."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from graviton.errors import GravitonError, IntegrityError
from graviton.ports.kv import ReadTransaction
from tests.unit.rocksdb.stores import keys, opened

REPOSITORY = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"}
COUNT = 60

CRASHED = """
import asyncio, os, sys
from pathlib import Path
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore

async def main():
    store = RocksKeyValueStore(RocksConfig(Path(sys.argv[1])))
    for n in range(60):
        await store.put("a", b"%03d" % n, os.urandom(3000))
    os._exit(0)

asyncio.run(main())
"""
"""Leaves everything in one log."""


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crashed") / "meta.rocks"
    subprocess.run([sys.executable, "-c", CRASHED, str(path)], env=ENVIRONMENT, check=True, timeout=60)
    return path


@pytest.fixture
def store(crashed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(crashed, tmp_path / "meta.rocks"))


def change(path: Path, how: Callable[[bytearray], bytearray | None]) -> Path:
    data = bytearray(path.read_bytes())
    path.write_bytes(how(data) or data)
    return path


def flip(at: int) -> Callable[[bytearray], None]:
    def how(data: bytearray) -> None:
        data[at] ^= 0x10

    return how


def newest_log(store: Path) -> Path:
    return max(store.glob("*.log"))


@pytest.mark.parametrize("cut", [1, 3, 6, 7, 8, 100, 2_900, 3_000])
async def test_a_torn_tail_loses_only_what_was_torn(store: Path, cut: int) -> None:
    change(newest_log(store), lambda data: data[:-cut])
    assert await keys(store) == [b"%03d" % n for n in range(COUNT - 1)]
    async with opened(store) as again:
        await again.put("a", b"zzz", b"")
        assert await again.check() == []
    assert len(await keys(store)) == COUNT


async def test_a_tail_of_zeros_is_no_damage(store: Path) -> None:
    change(newest_log(store), lambda data: data + bytes(70_000))
    assert len(await keys(store)) == COUNT


@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("read_only", [False, True])
async def test_a_flipped_bit_in_a_log_is_refused_by_name_and_nothing_is_lost(
    store: Path, where: float, read_only: bool
) -> None:
    log = newest_log(store)
    at = int(where * log.stat().st_size)
    change(log, flip(at))
    for _ in range(2):
        with pytest.raises(IntegrityError, match=log.name) as caught:
            await keys(store, read_only=read_only)
        assert str(store) in str(caught.value)
        assert "graviton-look" not in str(caught.value)
        assert "checkpoint" in caught.value.hint
        assert "meta restore" in caught.value.hint
    change(log, flip(at))
    assert len(await keys(store)) == COUNT


async def test_a_damaged_table_is_named_and_never_ends_a_scan_early(store: Path) -> None:
    assert len(await keys(store)) == COUNT  # closing writes tables
    table = max(store.glob("*.sst"), key=lambda found: found.stat().st_size)
    change(table, flip(table.stat().st_size // 2))
    seen: list[bytes] = []

    def scan(tx: ReadTransaction) -> None:
        seen.extend(key for key, _ in tx.scan("a"))

    def get(tx: ReadTransaction) -> None:
        for n in range(COUNT):
            tx.get_many("a", [b"%03d" % n])

    async with opened(store) as damaged:
        for look in (scan, get):
            with pytest.raises(IntegrityError, match=table.name) as caught:
                await damaged.read(look)
            with pytest.raises(IntegrityError, match=table.name):
                await damaged.transact(look)
            assert "meta restore" in caught.value.hint
        assert len(seen) < 2 * COUNT
        [problem] = await damaged.check()
        assert table.name in problem


async def test_check_names_every_damaged_table_and_finds_nothing_in_a_sound_store(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    for part in range(4):
        async with opened(path) as one:
            await one.transact(
                lambda tx, part=part: tx.put_many("a", [(b"%d %04d" % (part, n), os.urandom(200)) for n in range(300)])  # type: ignore[misc]
            )
            assert await one.check() == []
    tables = sorted(path.glob("*.sst"), key=lambda found: -found.stat().st_size)
    broken = tables[:2] if len(tables) > 4 else tables[:1]
    for table in broken:
        change(table, flip(table.stat().st_size // 2))
    async with opened(path) as damaged:
        problems = await damaged.check()
    assert sorted(name.name for name in broken) == sorted(
        name.name for name in tables if any(name.name in problem for problem in problems)
    )


@pytest.mark.parametrize("pattern", ["*.sst", "MANIFEST-*", "CURRENT"])
@pytest.mark.parametrize("what", ["removed", "emptied", "cut", "flipped"])
async def test_no_damage_of_a_file_passes_for_an_empty_store(store: Path, pattern: str, what: str) -> None:
    assert len(await keys(store)) == COUNT
    file = max(store.glob(pattern), key=lambda found: found.stat().st_size)
    if what == "removed":
        file.unlink()
    elif what == "flipped":
        change(file, flip(file.stat().st_size // 3))
    else:
        os.truncate(file, 0 if what == "emptied" else file.stat().st_size // 2)
    found: object
    try:
        found = len(await keys(store))
    except GravitonError as error:
        found = error
    assert isinstance(found, IntegrityError), repr(found)
    assert str(store) in str(found)
    assert "meta restore" in found.hint
