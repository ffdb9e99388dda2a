"""What is done while faults are injected: the same deterministic inputs in every process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import graviton
from graviton.assembly.store import Store
from graviton.metadata.backup import backup_metadata
from graviton.ports.kv import Transaction
from tests.faults.harness.opening import open_store

SMALL_BLOCKS = "w16-v1:256:1024:4096"
"""Many blocks from few bytes; they are made durable by one syncfs."""

LARGE_BLOCKS = "w16-v1:65536:131072:262144"
"""A few blocks, each with an fsync of its own."""


def some_bytes(name: str, size: int) -> bytes:
    """Random bytes, the same for the same name."""
    return random.Random(name).randbytes(size)


class Blob(NamedTuple):
    """A blob of the scenarios with its id."""

    name: str
    data: bytes

    @property
    def id(self) -> str:
        return f"blake3:{graviton.HashAlgo.BLAKE3.digest(self.data).raw.hex()}:{len(self.data)}"


OLD = [Blob("old-0", some_bytes("old-0", 700)), Blob("old-1", some_bytes("old-1", 9_000)), Blob("empty", b"")]
"""In the template store of every scenario but the first initialisation."""

SMALL = Blob("small", some_bytes("small", 3_000))
MANY_BLOCKS = Blob("many", some_bytes("many", 40_000))
FEW_LARGE = Blob("large", some_bytes("large", 600_000))
GROUP = [Blob(f"group-{number}", some_bytes(f"group-{number}", 200 + 90 * number)) for number in range(14)]
TOGETHER = [Blob(f"at-once-{number}", some_bytes(f"at-once-{number}", 500 + 800 * number)) for number in range(6)]
KNOWN = {blob.id: blob for blob in [*OLD, SMALL, MANY_BLOCKS, FEW_LARGE, *GROUP, *TOGETHER]}

Say: TypeAlias = Callable[[str, str], None]
"""`say(verb, subject)`: told the parent, flushed, the moment something is acknowledged."""

Scenario: TypeAlias = Callable[[Store, Say, Path], Awaitable[None]]


async def make_template(root: Path) -> None:
    """The store that most scenarios begin with."""
    async with open_store(root, chunker=SMALL_BLOCKS) as store:
        for blob in OLD:
            await store.put(blob.data)


async def _put(store: Store, say: Say, blob: Blob, chunker: str = SMALL_BLOCKS) -> None:
    plan = graviton.BlobWritePlan(chunker=graviton.ChunkerSpec.parse(chunker))
    result = await store.put(blob.data, plan)
    say("put", result.id)


async def put_small(store: Store, say: Say, out: Path) -> None:
    await _put(store, say, SMALL)


async def put_many_blocks(store: Store, say: Say, out: Path) -> None:
    await _put(store, say, MANY_BLOCKS)


async def put_large_blocks(store: Store, say: Say, out: Path) -> None:
    await _put(store, say, FEW_LARGE, LARGE_BLOCKS)


async def put_group(store: Store, say: Say, out: Path) -> None:
    async for result in store.put_many(blob.data for blob in GROUP):
        say("put", result.id)


async def put_at_once(store: Store, say: Say, out: Path) -> None:
    """Several tasks; every one ends before the first failure is told, as the clean-up of all is looked at."""
    ended = await asyncio.gather(*(_put(store, say, blob) for blob in TOGETHER), return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException):
            raise one


async def remove(store: Store, say: Say, out: Path) -> None:
    await store.delete(graviton.BlobKey.parse(OLD[1].id))
    say("rm", OLD[1].id)


async def remove_and_put(store: Store, say: Say, out: Path) -> None:
    await remove(store, say, out)
    await _put(store, say, OLD[1])


async def back_up(store: Store, say: Say, out: Path) -> None:
    await backup_metadata(await store.metadata(), out / "backup.meta", overwrite=True)
    say("backup", str(out / "backup.meta"))


async def read_all(store: Store, say: Say, out: Path) -> None:
    """Reads and nothing else: what comes back is compared here."""
    async for stat in store.list():
        async with await store.get(stat.key) as reader:
            if await reader.read() != KNOWN[stat.key.text].data:
                say("wrong", stat.key.text)


class Work(NamedTuple):
    """A scenario and the blobs it stores or removes."""

    run: Scenario
    blobs: list[Blob]


SCENARIOS: dict[str, Work] = {
    "put_small": Work(put_small, [SMALL]),
    "put_many_blocks": Work(put_many_blocks, [MANY_BLOCKS]),
    "put_large_blocks": Work(put_large_blocks, [FEW_LARGE]),
    "put_group": Work(put_group, GROUP),
    "put_at_once": Work(put_at_once, TOGETHER),
    "remove": Work(remove, [OLD[1]]),
    "remove_and_put": Work(remove_and_put, [OLD[1]]),
    "back_up": Work(back_up, []),
    "init": Work(put_small, [SMALL]),
    "read_all": Work(read_all, []),
}
"""`init` is put_small where there is no store yet."""

SMALL_WORKS = {"put_small": 1, "remove": 1, "back_up": 1, "remove_and_put": 3}
"""So few calls that the short form too tries each of them; of the last, which is made of the first two, every third."""


def put_pair(tx: Transaction, number: int) -> None:
    """The transaction `number` of `key_values`: the same key in two namespaces, all over both trees, so that half of it
    would be seen, and pages of many transactions in one."""
    key = b"%03d" % (number * 7 % 100)
    tx.put("left", key, b"%d" % number * 300)
    tx.put("right", key, b"%d" % number * 300)


def begins_empty(scenario: str) -> bool:
    """Whether the scenario makes its store."""
    return scenario == "init"
