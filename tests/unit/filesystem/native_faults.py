"""Run as a program with the shim of tests/faults/harness preloaded: puts a small batch with the native kernel while its
n-th system call fails, n = 1, 2, 3 …, each time in a folder of its own.

`native_faults.py ROOT ERRNO`. Prints, per n that was hit, the error and what was left behind, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from graviton.backends.filesystem import FsBlockStore, FsConfig
from graviton.core.chunking import select_kernel
from graviton.errors import GravitonError
from tests.faults.harness.shim import Act, Arm, Calls, Shim
from tests.unit.filesystem.helpers import batch, open_files, temp_files

FILES = 20


async def case(root: Path, n: int, number: int) -> dict[str, object] | None:
    """One put whose n-th call fails; None if it has fewer."""
    kernel, shim, blocks = select_kernel("native"), Shim(), batch(FILES)
    config = FsConfig(root / f"{n}", workers=1, fsync_workers=1, syncfs_min_files=8)
    store = FsBlockStore(config, syncfs=kernel.syncfs, batches=kernel)
    await store.put_blocks(batch(1, stem="first"))
    before, error = open_files(), ""
    shim.arm(str(root), Arm(Act.FAIL, n, number, Calls.CHANGES), -1)
    try:
        await store.put_blocks(blocks)
    except GravitonError as raised:
        error = type(raised).__name__
    finally:
        _, hits = shim.disarm()
    left = {"error": error, "temps": temp_files(config.root), "open": sorted(open_files() - before)}
    there = await store.exists_many([one.key for one in blocks])
    whole = [await store.get(one.key) == one.payload for one, lies in zip(blocks, there, strict=True) if lies]
    await store.put_blocks(blocks)
    await store.aclose()
    return {**left, "there": sum(there), "whole": all(whole)} if hits else None


async def main() -> None:
    n = 1
    while (found := await case(Path(sys.argv[1]), n, int(sys.argv[2]))) is not None:
        sys.stdout.write(json.dumps(found) + "\n")
        n += 1


if __name__ == "__main__":
    asyncio.run(main())
