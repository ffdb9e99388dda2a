"""What events cost those who write, and those who follow, in the metadata of one machine.

`PYTHONPATH=src python -m benchmarks.outbox.measure FOLDER [--rounds N]` prints one JSON object per figure. Variants
take turns in one process, in another order each time, each on a store of its own below FOLDER: without events, with
them, and with the full number of them kept, so that the oldest go. Differences are between neighbours of one round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import graviton
from benchmarks.harness.order import in_turn
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import paginate
from graviton.metadata import commits, event_rows
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.outbox import KvOutbox
from graviton.ports.events import Event, EventKind
from graviton.ports.kv import Durability, KeyValueStore
from graviton.ports.manifests import BlobCommit

KINDS: dict[str, Callable[[Path], KeyValueStore]] = {
    "sqlite": lambda path: SqliteKeyValueStore(SqliteConfig(path / "meta.sqlite")),
    "rocksdb": lambda path: RocksKeyValueStore(RocksConfig(path / "meta.rocks")),
}
WITHOUT, WITH, FULL = "without events", "with events", "with events, the oldest go"
PUTS = 40
"""One by one, in each turn."""
GROUP = 250
"""Blobs of one batch."""
TASKS = 8

_tell = event_rows.tell


class Place:
    """The metadata of one variant."""

    def __init__(self, kv: KeyValueStore, variant: str) -> None:
        self.kv, self.variant = kv, variant
        self._index, self._repo = KvBlockIndex(kv), KvBlobManifestRepo(kv)

    async def put(self, count: int = 1) -> None:
        """Claim, confirm and commit `count` blobs of a block each, as put_many does."""
        blocks = [[BlockKey(HashAlgo.BLAKE3.digest(secrets.token_bytes(16)), 4096)] for _ in range(count)]
        opened = await self._index.open(blocks)
        await self._repo.commit(
            [
                BlobCommit(
                    one.session,
                    BlobKey(keys[0].digest, 4096),
                    paginate(keys),
                    keys,
                    BinaryAttributes.EMPTY,
                    "fixed-v1:4096",
                    "",
                )
                for one, keys in zip(opened, blocks, strict=True)
            ]
        )

    async def side_by_side(self) -> None:
        """As many puts as `one_by_one` makes, by some tasks."""

        async def some() -> None:
            for _ in range(PUTS // TASKS):
                await self.put()

        await asyncio.gather(*(some() for _ in range(TASKS)))

    async def one_by_one(self) -> None:
        for _ in range(PUTS):
            await self.put()

    async def in_a_group(self) -> None:
        await self.put(GROUP)


class Whole:
    """A whole store of one variant, with blocks."""

    def __init__(self, folder: Path, kind: str, variant: str) -> None:
        self.variant = variant
        self.store = graviton.open(folder, metadata="rocksdb://" if kind == "rocksdb" else None)

    async def one_by_one(self) -> None:
        for _ in range(PUTS):
            await self.store.put(random.randbytes(4096))

    async def in_a_group(self) -> None:
        async for _ in self.store.put_many(random.randbytes(4096) for _ in range(GROUP)):
            pass


P = TypeVar("P", Place, Whole)
Works = Sequence[tuple[str, Callable[[P], Awaitable[None]], int]]


async def measure_writers(kind: str, folder: Path, rounds: int) -> None:
    """Puts of metadata alone: what an event adds to one."""
    places = [Place(KINDS[kind](_fresh(folder / f"{kind}-{number}")), name) for number, name in enumerate(_variants())]
    for place in places:
        await place.put()
    await _fill(places[2].kv)
    works: Works[Place] = [
        ("put of one block", Place.one_by_one, PUTS),
        (f"put of one block, {TASKS} tasks", Place.side_by_side, PUTS),
        (f"blob of a batch of {GROUP}", Place.in_a_group, GROUP),
    ]
    await _in_turns(kind, places, works, rounds)
    for place in places:
        await place.kv.aclose()


async def measure_stores(kind: str, folder: Path, rounds: int) -> None:
    """Puts of 4 KiB, with the blocks."""
    places = [Whole(_fresh(folder / f"{kind}-whole-{number}"), kind, name) for number, name in enumerate(_variants())]
    for place in places:
        await place.one_by_one()
    await _fill(await places[2].store.metadata())
    works: Works[Whole] = [
        ("put of 4 KiB", Whole.one_by_one, PUTS),
        (f"put_many of {GROUP} of 4 KiB, each", Whole.in_a_group, GROUP),
    ]
    await _in_turns(kind, places, works, rounds)
    for place in places:
        await place.store.aclose()


async def _in_turns(kind: str, places: Sequence[P], works: Works[P], rounds: int) -> None:
    found: dict[tuple[str, str, str], list[float]] = {}
    for number in range(rounds):
        for work, run, count in works:
            for place in in_turn(places, number):
                commits.tell = _tell if place.variant != WITHOUT else _nothing  # type: ignore[assignment]
                begin, cpu = time.perf_counter(), time.process_time()
                await run(place)
                for clock, taken in (("us", time.perf_counter() - begin), ("cpu us", time.process_time() - cpu)):
                    found.setdefault((work, place.variant, clock), []).append(taken / count * 1e6)
    for work, variant, clock in sorted(found, key=lambda one: (one[0], one[2], one[1])):
        mine, base = found[work, variant, clock], found[work, WITHOUT, clock]
        more = [one - other for one, other in zip(mine, base, strict=True)]
        quarters = [round(one, 1) for one in statistics.quantiles(more, n=4)]
        _say(kind=kind, work=work, variant=variant, clock=clock, median=_middle(mine), more=quarters)


async def measure_followers(kind: str, folder: Path) -> None:
    """Looks, reads, trims, and the room that events take."""
    kv = KINDS[kind](_fresh(folder / f"{kind}-follow"))
    await _fill(kv)
    outbox = KvOutbox(kv)
    position = await outbox.latest()
    looks = []
    for _ in range(300):
        begin = time.perf_counter()
        assert await outbox.read(position) == []
        looks.append((time.perf_counter() - begin) * 1e6)
    begin = time.perf_counter()
    count, after = 0, None
    while events := await outbox.read(after):
        count, after = count + len(events), events[-1][0]
    _say(kind=kind, work="look at the end, us", us=_middle(looks))
    _say(kind=kind, work="events read per second", count=round(count / (time.perf_counter() - begin)))
    size = [len(key) + len(value) async for key, value in kv.scan(event_rows.EVENTS)]
    _say(kind=kind, work="bytes of a row", bytes=round(statistics.mean(size)))
    begin = time.perf_counter()
    assert await outbox.trim(2**62, 1000) == 1000
    _say(kind=kind, work="trim of 1,000, ms", ms=round((time.perf_counter() - begin) * 1e3, 2))
    await kv.aclose()
    files = sum(path.stat().st_size for path in (folder / f"{kind}-follow").rglob("*") if path.is_file())
    _say(kind=kind, work="bytes of files with 99,000 events", bytes=files)


async def _fill(kv: KeyValueStore) -> None:
    """All events that are kept, and as many more as there may be."""
    step = 5_000
    for first in range(0, event_rows.KEPT_EVENTS, step):
        events = [
            Event(EventKind.BLOB_COMMITTED, time.time_ns(), f"blake3:{random.randbytes(32).hex()}:4096", {"blocks": 1})
            for _ in range(first, first + step)
        ]
        await kv.transact(lambda tx, events=events: _tell(tx, events), Durability.RELAXED)  # type: ignore[misc]


def _variants() -> Sequence[str]:
    return (WITHOUT, WITH, FULL)


def _nothing(*_: object) -> None:
    """Instead of `tell`."""


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _middle(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1)


def _say(**figure: Any) -> None:
    print(json.dumps(figure), flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    for kind in KINDS:
        asyncio.run(measure_writers(kind, arguments.folder, arguments.rounds))
        asyncio.run(measure_stores(kind, arguments.folder, arguments.rounds // 2))
        asyncio.run(measure_followers(kind, arguments.folder))


if __name__ == "__main__":
    main()
