"""kill -9 of processes that write to RocksDB, also during compaction: acknowledged transactions are there, whole."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from graviton.concurrency.executors import in_own_thread

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"}
ROUNDS = 8

WRITER = """
import asyncio, os, sys
from pathlib import Path
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from graviton.ports.kv import Durability

async def main():
    # Memtables of half a MiB: files are written and compacted several times a second.
    store = RocksKeyValueStore(RocksConfig(Path(sys.argv[1]), memtable_bytes=1 << 20, lock_wait_seconds=20))
    async def lane(lane):
        n = 0
        while True:
            key = b"%s %d %06d" % (sys.argv[2].encode(), lane, n)
            def fn(tx):
                total = int(tx.get("total", b"total") or b"0")
                tx.put("total", b"total", b"%d" % (total + 1))
                tx.put("keys", key, os.urandom(20_000) * 2)
                tx.put("other_%d" % (n % 5), key, b"")
            await store.transact(fn, Durability.RELAXED if n % 3 == 1 else Durability.FULL)
            os.write(1, key + b"\\n")
            n += 1
    await asyncio.gather(*map(lane, range(4)))

asyncio.run(main())
"""


async def test_killed_while_it_writes_and_compacts_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    acknowledged: set[bytes] = set()
    compacted = 0
    for round_ in range(ROUNDS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(round_)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        await in_own_thread(writer.stdout.readline)
        await asyncio.sleep(0.15 * round_)
        writer.send_signal(signal.SIGKILL)
        out, _ = await in_own_thread(writer.communicate)
        acknowledged.update(out.splitlines())
        compacted += (path / "LOG").read_text(errors="replace").count("compaction_started")
        store = RocksKeyValueStore(RocksConfig(path))
        there = {key async for key, _ in store.scan("keys")}
        beside = {key for n in range(5) for key in [key async for key, _ in store.scan(f"other_{n}")]}
        assert acknowledged <= there
        assert there == beside, "a transaction took effect in part"
        assert await store.get("total", b"total") == b"%d" % len(there)
        assert await store.check() == []
        await store.aclose()
    assert len(acknowledged) > 100
    assert compacted > 0, "no process was killed near a compaction: the test is too easy"
