"""Damaged files are refused by name, never silently shortened; a log that was cut short by a crash is whole enough."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rocksdict import Rdict

from graviton.backends.rocksdb import RocksConfig
from graviton.backends.rocksdb._options import Tuning
from graviton.errors import GravitonError, IntegrityError
from graviton.ports.kv import ReadTransaction
from tests.unit.rocksdb.stores import keys, opened

REPOSITORY = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"}
COUNT = 60

SMALL = """
import asyncio, os, sys
from pathlib import Path
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore

async def main():
    store = RocksKeyValueStore(RocksConfig(Path(sys.argv[1]), memtable_bytes=8 << 20))
    async def write(namespace, numbers, size):
        for n in numbers:
            await store.put(namespace, b"%03d" % n, os.urandom(size))
    await write("a", range(30), 300)
    await write("large", range(int(sys.argv[2])), 500_000)  # a memtable is full: another log begins
    await write("a", range(30, 60), 300)
    os._exit(0)

asyncio.run(main())
"""

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


def left(tmp_path: Path, large: int) -> Path:
    """What a process that was killed leaves, which wrote `large` large values among the others."""
    path = tmp_path / "left" / "meta.rocks"
    path.parent.mkdir()
    subprocess.run([sys.executable, "-c", SMALL, str(path), str(large)], env=ENVIRONMENT, check=True, timeout=60)
    return path


async def refused(store: Path, name: str) -> None:
    """It is not opened, whatever for, and what is in it stays."""
    before = {log.name: log.read_bytes() for log in store.glob("*.log")}
    for read_only in (True, False):
        with pytest.raises(IntegrityError, match=name) as caught:
            await keys(store, read_only=read_only)
        assert "meta restore" in caught.value.hint
    assert {log.name: log.read_bytes() for log in store.glob("*.log")} == before


@pytest.mark.parametrize("bit", [32 + 11, 32 + 13, 32 + 14, 32 + 15, 48, 50, 54])
async def test_a_bit_of_a_header_hides_nothing(tmp_path: Path, bit: int) -> None:
    """Lengths that point past the end of the file, and kinds that are not in use: ends of the log to RocksDB."""
    store = left(tmp_path, 0)
    log = newest_log(store)
    content = log.read_bytes()
    starts = [0]
    while starts[-1] < len(content):
        starts.append(starts[-1] + 7 + int.from_bytes(content[starts[-1] + 4 : starts[-1] + 6], "little"))
    for start in (starts[0], starts[30], starts[-2]):
        at = start + bit // 8
        change(log, lambda data, at=at: data.__setitem__(at, data[at] ^ 1 << bit % 8))  # type: ignore[misc]
        await refused(store, log.name)
        log.write_bytes(content)
    change(log, lambda data: data[: starts[30]] + bytes(starts[31] - starts[30]) + data[starts[31] :])
    await refused(store, log.name)
    log.write_bytes(content)
    assert len(await keys(store)) == COUNT


async def test_an_older_log_that_was_cut_short_is_missed(tmp_path: Path) -> None:
    store = left(tmp_path, 9)
    logs = sorted(store.glob("*.log"))
    assert len(logs) > 1, "there is one log: the test is too easy"
    content = logs[0].read_bytes()
    os.truncate(logs[0], 9_000)
    await refused(store, logs[0].name)
    logs[0].write_bytes(content)
    assert len(await keys(store)) == COUNT


async def test_rows_of_a_namespace_that_is_not_registered_say_that_a_log_is_lost(tmp_path: Path) -> None:
    """The oldest log is removed, in which the namespaces were registered: what came later is no empty store."""
    store = left(tmp_path, 9)
    logs = sorted(store.glob("*.log"))
    logs[0].rename(store.parent / logs[0].name)
    copy = Path(shutil.copytree(store, tmp_path / "copy"))
    for _ in range(2):  # RocksDB has written what it found into tables by then, and it stays refused
        with pytest.raises(IntegrityError, match="is not registered"):
            await keys(copy)
    with pytest.raises(IntegrityError, match="is not registered"):
        await keys(store, read_only=True)
    (store.parent / logs[0].name).rename(logs[0])
    assert len(await keys(store)) == COUNT


async def test_a_family_that_was_made_before_a_crash_is_none_of_a_namespace(store: Path) -> None:
    options = Tuning(RocksConfig(store)).options
    raw = Rdict(str(store), options, {"ns_a": options})
    raw.create_column_family("ns_b", options)
    raw.close()
    async with opened(store) as again:
        assert await again.namespaces() == ["a"]
        await again.put("b", b"key", b"value")
        assert await again.namespaces() == ["a", "b"]


async def test_a_store_whose_logs_were_removed_is_not_an_older_one(store: Path) -> None:
    log = newest_log(store)
    log.rename(store.parent / log.name)
    await refused(store, "has no log")
    (store.parent / log.name).rename(log)
    assert len(await keys(store)) == COUNT


async def test_a_crash_right_after_a_recovery_is_no_damage(store: Path) -> None:
    """RocksDB begins the new log with an empty batch."""
    for n in range(3):
        change(newest_log(store), lambda data: data[:-5])
        script = CRASHED.replace("range(60)", f"range({100 * n + 100}, {100 * n + 104})")
        subprocess.run([sys.executable, "-c", script, str(store)], env=ENVIRONMENT, check=True, timeout=60)
        assert len(await keys(store, read_only=True)) == COUNT - 1 + 4 + 3 * n
    assert len(await keys(store)) == COUNT - 1 + 10


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


@pytest.mark.parametrize("pattern", ["OPTIONS-*", "IDENTITY", "LOCK", "LOG", "rocksdict-config.json"])
@pytest.mark.parametrize("what", ["removed", "emptied", "garbage"])
async def test_files_that_hold_nothing_of_the_store_may_be_damaged(store: Path, pattern: str, what: str) -> None:
    for file in store.glob(pattern):
        if what == "removed":
            file.unlink()
        else:
            file.write_bytes(b"" if what == "emptied" else os.urandom(100))
    assert len(await keys(store, read_only=True)) == COUNT
    async with opened(store) as again:
        await again.put("a", b"zzz", b"")
        assert await again.check() == []
    assert len(await keys(store)) == COUNT + 1
