"""Run as a program: forks children that are killed at their n-th SQL statement, n = 1, 2, 3 …

`crasher.py ROOT`. Each child works on ROOT/<n>/meta.sqlite and writes to ROOT/<n>.acknowledged the number of the last
transaction that it was told is done. Prints how many children there were.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.ports.kv import Durability, Transaction
from tests.unit.sqlite.connections import KillAt, stepping

TRANSACTIONS = 12


async def work(root: Path, at: int) -> None:
    config = SqliteConfig(root / str(at) / "meta.sqlite", checkpoint_pages=5)
    store = SqliteKeyValueStore(config, connect=stepping(KillAt(at)))
    acknowledged = os.open(root / f"{at}.acknowledged", os.O_WRONLY | os.O_CREAT, 0o600)
    for n in range(TRANSACTIONS):

        def fn(tx: Transaction, n: int = n) -> None:
            tx.put("left", b"%03d" % n, b"x" * 1000)
            tx.put("right", b"%03d" % n, b"x" * 1000)

        await store.transact(fn, Durability.FULL if n % 2 else Durability.RELAXED)
        os.pwrite(acknowledged, b"%03d" % n, 0)
    await store.aclose()


def main() -> int:
    root = Path(sys.argv[1])
    for at in range(1, 1000):
        child = os.fork()
        if child == 0:
            asyncio.run(work(root, at))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.stdout.write(f"{at}\n")
            return os.waitstatus_to_exitcode(status)
    return 1


if __name__ == "__main__":
    sys.exit(main())
