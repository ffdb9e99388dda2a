"""What one of several processes does to a store that all of them use."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import graviton
from graviton.assembly.store import Store
from tests.faults.harness.opening import open_store
from tests.faults.harness.scenarios import GROUP, SMALL, SMALL_BLOCKS, TOGETHER

_SHARED = [*TOGETHER, SMALL, *GROUP[:5]]

Say = Callable[[str, str], None]


async def be_busy(root: Path, seed: int, steps: int, say: Say) -> None:
    """`steps` random steps: put, put again, put a group, remove, read. Says what it holds at the end."""
    chance = random.Random(seed)
    holds: dict[str, bool] = {}
    async with open_store(root, chunker=SMALL_BLOCKS) as store:
        for _ in range(steps):
            try:
                await _step(store, chance, f"holder-{seed}", holds, say)
            except graviton.Unavailable as error:
                say("failed", json.dumps([error.code, error.hint]))
    say("steps", str(steps))
    say("holds", json.dumps(holds))


async def _step(store: Store, chance: random.Random, holder: str, holds: dict[str, bool], say: Say) -> None:
    plan = graviton.BlobWritePlan(holder=holder)
    blob = chance.choice(_SHARED)
    key = graviton.BlobKey.parse(blob.id)
    match chance.choice(["put", "put", "group", "remove", "read"]):
        case "put":
            await store.put(blob.data, plan)
            holds[blob.id] = True
        case "group":
            async for result in store.put_many([one.data for one in GROUP[:5]], plan):
                holds[result.id] = True
        case "remove":
            removed = await store.delete(key, holder)
            if removed != holds.get(blob.id, False):
                say("broken", f"delete says {removed} for {blob.name}")
            holds[blob.id] = False
        case _:
            await _read(store, key, blob.data, holds, say)


async def _read(store: Store, key: graviton.BlobKey, data: bytes, holds: dict[str, bool], say: Say) -> None:
    try:
        async with await store.get(key) as reader:
            if await reader.read() != data:
                say("broken", f"wrong bytes of {key}")
    except graviton.NotFound:
        if holds.get(key.text):
            say("broken", f"{key} is held and not there")
