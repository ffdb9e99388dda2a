"""Single calls inside one process: `worker.py STORE COUNT SEED ID...` prints JSON, operation to median seconds.

A command takes 100 ms to start, next to which a lookup that became ten times slower would not be seen.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import graviton

LIST_LIMIT = 100


async def seconds(count: int, call: Callable[[int], Awaitable[object]]) -> float:
    """Median time of `count` calls."""
    found = []
    for number in range(count):
        begin = time.perf_counter()
        await call(number)
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


async def opening(root: Path) -> None:
    """What a process does before its first answer, without starting Python."""
    async with graviton.open(root) as store:
        await store.required()


async def main() -> None:
    """Measure, print."""
    root, count, seed, ids = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    wanted = [graviton.BlobKey.parse(one) for one in ids]
    result = {"open the store": await seconds(max(5, count // 20), lambda _: opening(root))}
    async with graviton.open(root) as store:

        async def listing(number: int) -> None:
            after = wanted[number % len(wanted)]
            assert len([stat async for stat in store.list(after=after, limit=LIST_LIMIT)]) > 0

        async def put(number: int) -> None:
            await store.put(f"small blob {seed} {number}".encode())

        await put(-1)
        result["stat"] = await seconds(count, lambda number: store.stat(wanted[number % len(wanted)]))
        result["list, limit 100"] = await seconds(count // 4, listing)
        result["put of a small blob"] = await seconds(count // 2, put)
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main())
