"""A process of test_quota_processes.py: it puts and removes at random, or kills itself after one step."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from graviton.assembly.store import Store
from graviton.constraints.quota import Quota, Reservation
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.errors import StorageFull, Unavailable
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.stores.limits.arrivals import GroupArrival
from tests.faults.test_quota_processes import DATA, HOLDERS, KEY, settings
from tests.support import some_bytes

SHARED = [some_bytes(size, size) for size in (3_000, 40_000, 90_000)]


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 7_000):
        yield data[start : start + 7_000]


async def race(store: Store, seed: int, steps: int) -> None:
    """Put blobs of its own and shared ones, in all ways; remove and bring back what it holds."""
    chance = random.Random(seed)
    mine: list[tuple[str, BlobKey]] = []
    refused = 0
    for step in range(steps):
        holder = chance.choice(HOLDERS)
        plan = BlobWritePlan(holder=holder)
        own = some_bytes(chance.choice([500, 30_000, 70_000, 120_000]), seed * 1000 + step)
        data = chance.choice([*SHARED, own, own, own, own])
        way = chance.choice(["bytes", "pieces", "many"] * 4 + ["delete", "undelete"])
        try:
            if way == "bytes":
                mine.append((holder, (await store.put(data, plan)).key))
            elif way == "pieces":
                mine.append((holder, (await store.put(pieces(data), plan)).key))
            elif way == "many":
                blobs = [data, own[:300], own[:200]]
                mine += [(holder, result.key) async for result in store.put_many(blobs, plan)]
            elif mine:
                holder, key = chance.choice(mine)
                await (store.delete(key, holder) if way == "delete" else store.undelete(key, holder))
        except StorageFull:
            refused += 1
            if mine:
                holder, key = mine.pop(chance.randrange(len(mine)))
                await store.delete(key, holder)
        except Unavailable:  # the file was locked for too long on a busy machine
            continue
    sys.stdout.write("refused\n" if refused else "had room\n")


def kill_after(owner: type, name: str) -> None:
    """Let the process die when that method has done its work."""
    real = getattr(owner, name)

    async def last(self: Any, *args: Any, **more: Any) -> None:
        await real(self, *args, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, last)


async def kill(store: Store, step: str) -> None:
    *what, name = step.split(" ")
    owners = {"admit": GroupArrival, "commit": KvBlobManifestRepo, "reserve": Quota, "changing": Quota}
    owners |= {"delete": KvBlobManifestRepo, "undelete": KvBlobManifestRepo}
    kill_after(owners.get(name, Reservation), name)
    plan = BlobWritePlan(holder="ann")
    if what == ["put"]:
        await store.put(pieces(DATA), plan)
    elif what == ["small", "put"]:
        await store.put(DATA, plan)
    elif what == ["delete"]:
        await store.delete(KEY, "ann")
    else:
        await store.undelete(KEY, "ann")
    sys.stdout.write("lived\n")


async def main(root: str, job: str, *arguments: str) -> None:
    async with Store(settings(Path(root))) as store:
        if job == "race":
            await race(store, *map(int, arguments))
        else:
            await kill(store, *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
