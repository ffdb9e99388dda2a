"""kill -9 at every system call of a put and of a move to the trash: what was acknowledged is there, whole."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from graviton.backends.filesystem import FsBlockReclaimer, FsBlockStore, FsConfig
from graviton.concurrency.executors import in_own_thread
from graviton.core.keys import BlockKey
from graviton.errors import NotFound
from tests.unit.filesystem.crasher import SESSION, batches

REPOSITORY = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"}


@pytest.mark.parametrize("kind", ["one", "larger", "small", "trash"])
async def test_killed_at_every_system_call(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-m", "tests.unit.filesystem.crasher", str(tmp_path), kind]
    done = await in_own_thread(
        partial(subprocess.run, command, env=ENVIRONMENT, cwd=REPOSITORY, capture_output=True, text=True, timeout=250)
    )
    assert done.returncode == 0, done.stderr
    points = int(done.stdout)
    assert points > 30
    for at in range(1, points + 1):
        await check(tmp_path, at, kind)


async def check(root: Path, at: int, kind: str) -> None:
    acknowledged = root / f"{at}.acknowledged"
    keys = [BlockKey.parse(line) for line in acknowledged.read_text().splitlines()] if acknowledged.exists() else []
    store = FsBlockStore(FsConfig(root / str(at)))
    reclaimer = FsBlockReclaimer(store)
    for entry in [entry async for entry in reclaimer.trash_entries()]:
        assert kind == "trash"
        assert await reclaimer.put_back(entry) is True
    for key in keys:
        await store.get(key)
    possible = {one.key for blocks in batches(kind) for one in blocks}
    listed = {key async for key in store.list()}
    assert set(keys) <= listed <= possible
    for key in listed:
        await store.get(key)  # verified: nothing half lies under a block's name
    temps = [name async for name in store.temp_files()]
    assert all(name.session == SESSION for name in temps)
    for name in temps:
        assert await store.remove_temp(name) is True
    files = [Path(folder, name) for folder, _, names in os.walk(root / str(at)) for name in names]
    assert len(files) == len(listed), "something else was left behind"
    for blocks in batches(kind):
        await store.put_blocks(blocks)
    await store.aclose()


WRITER = """
import asyncio, os, sys
from pathlib import Path
from graviton.backends.filesystem import FsBlockStore, FsConfig
from tests.unit.filesystem.helpers import block
async def main():
    store = FsBlockStore(FsConfig(Path(sys.argv[1])))
    async def lane(lane):
        n = 0
        while True:
            one = block(b"%d %d " % (lane, n) + bytes(n % 5000))
            await store.put_blocks([one])
            os.write(1, one.key.text.encode() + b"\\n")
            n += 1
    await asyncio.gather(*map(lane, range(6)))
asyncio.run(main())
"""


async def test_two_processes_killed_in_the_middle_lose_nothing(tmp_path: Path) -> None:
    acknowledged = 0
    for round_ in range(5):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path)], env=ENVIRONMENT, cwd=REPOSITORY, stdout=subprocess.PIPE
            )
            for _ in range(2)
        ]
        keys = []
        for writer in writers:
            assert writer.stdout is not None
            await in_own_thread(writer.stdout.readline)  # it is at work
        await asyncio.sleep(0.05 * round_)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            out, _ = await in_own_thread(writer.communicate)
            keys.extend(BlockKey.parse(line) for line in out.decode().splitlines() if line.count(":") == 2)
        store = FsBlockStore(FsConfig(tmp_path))
        acknowledged += len(keys)
        for key in keys:
            await store.get(key)
        async for key in store.list():
            try:
                await store.get(key)
            except NotFound:
                raise AssertionError("listed, and not there") from None
        await store.aclose()
    assert acknowledged > 20
