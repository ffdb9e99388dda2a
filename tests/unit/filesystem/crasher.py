"""Run as a program: forks children that put blocks and are killed at their n-th system call, n = 1, 2, 3 …

`crasher.py ROOT one|larger|small|trash`. Each child works in ROOT/<n> and writes the text of every key it was told is
durable to ROOT/<n>.acknowledged. Prints how many children were killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from graviton.backends.filesystem import FsBlockReclaimer, FsBlockStore, FsConfig
from graviton.ports.blocks import BlockWritePlan, CanonicalBlock, WriteMode
from tests.unit.filesystem.disks import KillingDisk
from tests.unit.filesystem.helpers import batch

SESSION = "the-session"


def batches(kind: str) -> list[list[CanonicalBlock]]:
    if kind == "small":
        return [batch(10), batch(12, stem="more")]
    if kind == "larger":
        return [batch(2, 100_000), batch(3, 150_000, stem="more")]
    return [batch(1), batch(1, stem="more"), batch(1)]


async def work(root: Path, at: int, kind: str) -> None:
    config = FsConfig(root / str(at), workers=1, fsync_workers=1, syncfs_min_files=8)
    store = FsBlockStore(config, disk=KillingDisk(at), syncfs=lambda fd: None)
    acknowledged = os.open(root / f"{at}.acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for blocks in batches(kind):
        await store.put_blocks(blocks, BlockWritePlan(WriteMode.ALWAYS, SESSION))
        os.write(acknowledged, "".join(f"{one.key.text}\n" for one in blocks).encode())
        if kind == "trash":
            reclaimer = FsBlockReclaimer(store)
            entry = await reclaimer.move_to_trash(blocks[0].key, at)
            assert entry is not None
            await reclaimer.put_back(entry)


def main() -> int:
    root, kind = Path(sys.argv[1]), sys.argv[2]
    for at in range(1, 1000):
        child = os.fork()
        if child == 0:
            asyncio.run(work(root, at, kind))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.stdout.write(f"{at}\n")
            return os.waitstatus_to_exitcode(status)
    return 1


if __name__ == "__main__":
    sys.exit(main())
