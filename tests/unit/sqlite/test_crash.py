"""kill -9: acknowledged transactions are there, unfinished ones are not there in part."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.concurrency.executors import in_own_thread
from tests.unit.sqlite.crasher import TRANSACTIONS

REPOSITORY = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"}


async def test_killed_at_every_statement(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.sqlite.crasher", str(tmp_path)]
    done = await in_own_thread(
        partial(subprocess.run, command, env=ENVIRONMENT, cwd=REPOSITORY, capture_output=True, text=True, timeout=250)
    )
    assert done.returncode == 0, done.stderr
    points = int(done.stdout)
    assert points > 40
    for at in range(1, points + 1):
        acknowledged = (tmp_path / f"{at}.acknowledged").read_text() or "-1"
        path = tmp_path / str(at) / "meta.sqlite"
        store = SqliteKeyValueStore(SqliteConfig(path))
        left = [key async for key, _ in store.scan("left")]
        assert left == [key async for key, _ in store.scan("right")]
        assert left == [b"%03d" % n for n in range(len(left))]
        assert int(acknowledged) + 1 <= len(left) <= TRANSACTIONS
        await store.put("left", b"after", b"")
        await store.aclose()
        assert [found.name for found in path.parent.iterdir()] == ["meta.sqlite"]


WRITER = """
import asyncio, os, sys
from pathlib import Path
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
async def main():
    store = SqliteKeyValueStore(SqliteConfig(Path(sys.argv[1]), busy_timeout_seconds=60))
    async def lane(lane):
        n = 0
        while True:
            key = b"%s %d %06d" % (sys.argv[2].encode(), lane, n)
            def fn(tx):
                total = int(tx.get("total", b"total") or b"0")
                tx.put("total", b"total", b"%d" % (total + 1))
                tx.put("keys", key, b"x" * (n % 3000))
            await store.transact(fn)
            os.write(1, key + b"\\n")
            n += 1
    await asyncio.gather(*map(lane, range(4)))
asyncio.run(main())
"""


async def test_two_processes_killed_in_the_middle_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "meta.sqlite"
    keys: set[bytes] = set()
    for round_ in range(4):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), f"{round_}-{which}"],
                env=ENVIRONMENT,
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
            )
            for which in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            await in_own_thread(writer.stdout.readline)
        await asyncio.sleep(0.07 * round_)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            out, _ = await in_own_thread(writer.communicate)
            keys.update(out.splitlines())
        store = SqliteKeyValueStore(SqliteConfig(path))
        there = {key async for key, _ in store.scan("keys")}
        assert keys <= there
        assert await store.get("total", b"total") == b"%d" % len(there), "a transaction took effect in part"
        await store.aclose()
    assert len(keys) > 20
