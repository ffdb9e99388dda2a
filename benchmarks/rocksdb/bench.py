"""`RocksKeyValueStore` beside rocksdict, metadata stores beside each other, and a large store being opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rocksdict import Rdict, WriteBatch, WriteOptions

from benchmarks.harness.figures import Verdict, median, ratios
from benchmarks.harness.section import Bench, Section, Table
from benchmarks.rocksdb.stores import measure_stores
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from graviton.backends.rocksdb._options import Tuning
from graviton.ports.kv import Durability, Transaction

__all__ = ["measure"]

_VALUE = bytes(range(64))
_BATCH = 1000

Seconds = dict[str, list[float]]
"""Of one operation each, by repetition."""


def measure(bench: Bench) -> Section:
    """The store beside its driver, then beside the others, then large."""
    section = Section("rocksdb", "metadata on RocksDB")
    bare: Seconds = {}
    ours: Seconds = {}
    for repetition in range(bench.pick(9, 2)):
        _add(bare, _bare(bench.space.fresh(f"bare-{repetition}") / "db", bench.pick(2000, 100)))
        _add(ours, asyncio.run(_ours(bench.space.fresh(f"ours-{repetition}") / "db", bench.pick(2000, 100))))
        bench.say(f"repetition {repetition + 1}")
    section.raw["seconds, rocksdict"], section.raw["seconds, ours"] = bare, ours
    section.tables.append(_table(bare, ours))
    for work, bound in (("put, synced", 0.7), ("batch of 1,000, not synced", 0.7), ("get of 1,000", 0.5)):
        found = ratios(bare[work], ours[work])
        section.verdicts.append(Verdict.of(f"{work}: speed / rocksdict's", found, "x", bound, at_least=True))
    more = [(a - b) * 1e6 for a, b in zip(ours["get of 1"], bare["get of 1"], strict=True)]
    section.verdicts.append(Verdict.of("get of 1: what a call adds", more, "us", 150))
    measure_stores(bench, section)
    _open_large(bench, section)
    return section


def _add(seconds: Seconds, found: dict[str, float]) -> None:
    for work, one in found.items():
        seconds.setdefault(work, []).append(one)


def _table(bare: Seconds, ours: Seconds) -> Table:
    table = Table(["work", "rocksdict, us", "ours, us"])
    for work in bare:
        table.add(work, f"{median(bare[work]) * 1e6:.1f}", f"{median(ours[work]) * 1e6:.1f}")
    return table


def _key(number: int) -> bytes:
    """In no order, as digests are."""
    return (number * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "big") + number.to_bytes(32, "big")


def _bare(path: Path, puts: int) -> dict[str, float]:
    tuning = Tuning(RocksConfig(path))
    tuning.options.create_if_missing(True)
    db = Rdict(str(path), tuning.options)
    synced, relaxed = WriteOptions(), WriteOptions()
    synced.sync = True
    found: dict[str, float] = {}
    begin = time.perf_counter()
    for number in range(puts):
        db.put(_key(number), _VALUE, synced)
    found["put, synced"] = (time.perf_counter() - begin) / puts
    begin = time.perf_counter()
    for batch in range(puts // 20):
        changes = WriteBatch(raw_mode=True)
        for number in range(batch * _BATCH, (batch + 1) * _BATCH):
            changes.put(_key(number), _VALUE)
        db.write(changes, relaxed)
    found["batch of 1,000, not synced"] = (time.perf_counter() - begin) / (puts // 20)
    keys = [_key(number) for number in range(_BATCH)]
    begin = time.perf_counter()
    for _ in range(puts // 20):
        assert len(db.get(keys)) == _BATCH
    found["get of 1,000"] = (time.perf_counter() - begin) / (puts // 20)
    begin = time.perf_counter()
    for number in range(puts):
        assert db.get(_key(number)) is not None
    found["get of 1"] = (time.perf_counter() - begin) / puts
    db.close()
    return found


async def _ours(path: Path, puts: int) -> dict[str, float]:
    store = RocksKeyValueStore(RocksConfig(path))

    def writes(batch: int) -> Callable[[Transaction], None]:
        numbers = range(batch * _BATCH, (batch + 1) * _BATCH)
        return lambda tx: tx.put_many("bench", [(_key(number), _VALUE) for number in numbers])

    keys = [_key(number) for number in range(_BATCH)]
    await store.put("bench", b"first", b"")  # makes the store
    found = {
        "put, synced": await _each(puts, lambda number: store.put("bench", _key(number), _VALUE)),
        "batch of 1,000, not synced": await _each(
            puts // 20, lambda batch: store.transact(writes(batch), Durability.RELAXED)
        ),
        "get of 1,000": await _each(puts // 20, lambda _: store.read(lambda tx: tx.get_many("bench", keys))),
        "get of 1": await _each(puts, lambda number: store.get("bench", _key(number))),
    }
    await store.aclose()
    return found


async def _each(count: int, call: Callable[[int], Awaitable[object]]) -> float:
    """Seconds of one of `count` calls, one after the other."""
    begin = time.perf_counter()
    for number in range(count):
        await call(number)
    return (time.perf_counter() - begin) / count


def _open_large(bench: Bench, section: Section) -> None:
    count = bench.pick(10_000_000, 200_000)
    bench.space.need(count * 150)
    path = bench.space.fresh("large") / "db"
    asyncio.run(_fill(path, count))
    bench.say(f"{count:,} pairs are there")
    seconds = [asyncio.run(_first_read(path, count)) for _ in range(5)]
    section.raw[f"seconds until {count} pairs answer"] = seconds
    section.verdicts.append(Verdict.of(f"opening a store of {count:,} pairs", seconds, "s", 2.0))


async def _fill(path: Path, count: int) -> None:
    store = RocksKeyValueStore(RocksConfig(path))
    step = 20_000
    for start in range(0, count, step):
        rows = [(_key(number), _VALUE) for number in range(start, start + step)]
        await store.transact(lambda tx, rows=rows: tx.put_many("bench", rows), Durability.RELAXED)  # type: ignore[misc]
    await store.aclose()


async def _first_read(path: Path, count: int) -> float:
    begin = time.perf_counter()
    store = RocksKeyValueStore(RocksConfig(path, create=False))
    assert await store.get("bench", _key(count // 2)) == _VALUE
    seconds = time.perf_counter() - begin
    await store.aclose()
    return seconds
