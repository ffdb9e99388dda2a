"""One contender in a process of its own: `worker.py CONTENDER STORE COUNT` prints the seconds that COUNT puts took.

The clock starts after imports, opening the store and a few puts, so that every contender is measured in its stride.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from blake3 import blake3

BLOB_BYTES = 4096
WARM_UP = 64


def blobs(first: int, count: int) -> list[bytes]:
    """Different blobs of random bytes."""
    return [blake3(number.to_bytes(8, "big")).digest(BLOB_BYTES) for number in range(first, first + count)]


def timed(work: Callable[[Sequence[bytes]], object], warm_up: Sequence[bytes], data: Sequence[bytes]) -> float:
    """Seconds for `data`, after `warm_up`."""
    work(warm_up)
    begin = time.perf_counter()
    work(data)
    return time.perf_counter() - begin


def graviton_async(store: Path, warm_up: list[bytes], data: list[bytes]) -> float:
    """`await store.put(blob)`, one after the other."""
    import graviton

    async def main() -> float:
        async with graviton.open(store) as opened:
            for blob in warm_up:
                await opened.put(blob)
            begin = time.perf_counter()
            for blob in data:
                await opened.put(blob)
            return time.perf_counter() - begin

    return asyncio.run(main())


def graviton_sync(store: Path, warm_up: list[bytes], data: list[bytes]) -> float:
    """`store.put(blob)` of the blocking facade."""
    import graviton.sync

    with graviton.sync.open(store) as opened:
        return timed(lambda some: [opened.put(blob) for blob in some], warm_up, data)


def graviton_many(store: Path, warm_up: list[bytes], data: list[bytes]) -> float:
    """`store.put_many(blobs)`."""
    import graviton

    async def main() -> float:
        async with graviton.open(store) as opened:
            async for _ in opened.put_many(warm_up):
                pass
            begin = time.perf_counter()
            stored = 0
            async for _ in opened.put_many(data):
                stored += 1
            assert stored == len(data)
            return time.perf_counter() - begin

    return asyncio.run(main())


def objectstore_loose(store: Path, warm_up: list[bytes], data: list[bytes]) -> float:
    """disk-objectstore: `add_object`, which fsyncs each file and its folder."""
    from disk_objectstore import Container

    with Container(store) as container:
        container.init_container()
        return timed(lambda some: [container.add_object(blob) for blob in some], warm_up, data)


def objectstore_packed(store: Path, warm_up: list[bytes], data: list[bytes]) -> float:
    """disk-objectstore: `add_objects_to_pack`, one fsync per call, no compression (its default)."""
    from disk_objectstore import Container

    with Container(store) as container:
        container.init_container()
        return timed(container.add_objects_to_pack, warm_up, data)


def files_fsynced(store: Path, warm_up: list[bytes], data: list[bytes]) -> float:
    """The floor of a loose put: a file, written, fsynced, renamed, and the folder fsynced. No hash, no metadata."""
    store.mkdir()
    folder = os.open(store, os.O_RDONLY)

    def put(blob: bytes, number: int) -> None:
        _write(folder, blob, f"t{number}", sync=True)
        os.rename(f"t{number}", f"{number:064x}", src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)

    return timed(lambda some: [put(blob, number) for number, blob in enumerate(some)], warm_up, data)


def files_grouped(store: Path, warm_up: list[bytes], data: list[bytes]) -> float:
    """The floor of one file per blob: groups of 1,000 files, written, one sync of the file system, renamed."""
    store.mkdir()
    folder = os.open(store, os.O_RDONLY)
    syncfs = ctypes.CDLL(None).syncfs
    begin = time.perf_counter()
    for first in range(0, len(data), 1000):
        numbers = range(first, min(len(data), first + 1000))
        for number in numbers:
            _write(folder, data[number], f"t{number}", sync=False)
        syncfs(folder)
        for number in numbers:
            os.rename(f"t{number}", f"{number:064x}", src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    return time.perf_counter() - begin


def _write(folder: int, blob: bytes, name: str, sync: bool) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400, dir_fd=folder)
    os.write(file, blob)
    if sync:
        os.fsync(file)
    os.close(file)


CONTENDERS = {
    "bare files, fsync": files_fsynced,
    "bare files, grouped": files_grouped,
    "graviton async": graviton_async,
    "graviton sync": graviton_sync,
    "graviton put_many": graviton_many,
    "disk-objectstore loose": objectstore_loose,
    "disk-objectstore packed": objectstore_packed,
}


def main() -> None:
    """Run the contender named on the command line."""
    name, store, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    print(CONTENDERS[name](store, blobs(0, WARM_UP), blobs(WARM_UP, count)))


if __name__ == "__main__":
    main()
