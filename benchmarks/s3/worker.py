"""One measured process: `python -m benchmarks.s3.worker WORK CONFIG`, which prints seconds and CPU seconds as JSON.

Ours goes through the whole store: cut, hash, claim, put, commit; and back, verified. Bare is `obstore` alone, with
objects of one MiB and as many requests at once. Both read the same file and write to /dev/null.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import graviton
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.backends.objectstore import Credentials, S3Config
from graviton.backends.objectstore.clients import data_store
from graviton.backends.objectstore.objects import S3MutableObjectStore
from graviton.core.keys import BlobKey
from graviton.core.locators import Locator
from graviton.core.secret import Secret

MIB = 1024 * 1024
REQUESTS = 16


class Plan(NamedTuple):
    """What the parent says."""

    endpoint: str
    keys: list[str]
    bucket: str
    folder: str = ""
    file: str = ""
    blob: str = ""
    """Key text, of what is got."""
    prefix: str = "bench/blocks"
    size: int = 0
    """Bytes of an object that no file has."""

    def config(self) -> S3Config:
        """The bucket, with the bounds of both sides."""
        credentials = Credentials(self.keys[0], Secret(self.keys[1]))
        return S3Config(
            self.bucket, self.prefix, endpoint=self.endpoint, credentials=credentials, max_requests=REQUESTS
        )

    def store(self) -> Store:
        """The whole store."""
        return Store(Settings(blob_backend="s3", s3=self.config(), fs_root=Path(self.folder)))


async def ours_put(plan: Plan) -> str:
    """The file into the store; the key text of the blob."""
    async with plan.store() as store:
        return (await store.put(Path(plan.file))).id


async def ours_get(plan: Plan) -> str:
    """The blob out of the store."""
    sink = os.open(os.devnull, os.O_WRONLY)
    async with plan.store() as store, await store.get(BlobKey.parse(plan.blob)) as reader:
        await reader.write_to(sink)
    os.close(sink)
    return plan.blob


async def bare_put(plan: Plan) -> str:
    """The file in objects of one MiB."""
    store, slots = data_store(plan.config()), asyncio.Semaphore(REQUESTS)

    async def one(number: int, data: bytes) -> None:
        try:
            await store.put_async(f"bare/{number:06}", data, use_multipart=False)
        finally:
            slots.release()

    jobs = []
    for data in _pieces(plan.file):
        await slots.acquire()
        jobs.append(asyncio.ensure_future(one(len(jobs), data)))
        if len(jobs) == 1:
            await jobs[0]  # rclone makes the folder; two that make it at once are answered 500
    await asyncio.gather(*jobs)
    return ""


def _pieces(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while data := file.read(MIB):
            yield data


def _count(path: str) -> int:
    return os.path.getsize(path) // MIB


async def bare_get(plan: Plan) -> str:
    """Those objects again."""
    store, slots = data_store(plan.config()), asyncio.Semaphore(REQUESTS)
    sink = os.open(os.devnull, os.O_WRONLY)

    async def one(number: int) -> None:
        async with slots:
            data = await (await store.get_async(f"bare/{number:06}")).bytes_async()
            os.write(sink, memoryview(data))

    await asyncio.gather(*(one(number) for number in range(_count(plan.file))))
    os.close(sink)
    return ""


async def large_put(plan: Plan) -> str:
    """One object in parts, whose size nobody knows beforehand."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(plan.size // MIB):
            yield bytes(MIB)  # a new one each time, as a socket gives them

    store = S3MutableObjectStore(plan.config())
    await store.put(Locator("s3", plan.bucket, "large"), pieces())
    await store.aclose()
    return ""


WORKS: dict[str, Callable[[Plan], Awaitable[str]]] = {
    "ours-put": ours_put,
    "ours-get": ours_get,
    "bare-put": bare_put,
    "bare-get": bare_get,
    "large-put": large_put,
}


def _peak_bytes() -> int:
    """The largest resident size of this process so far. Not ru_maxrss, which has the parent's in it."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def main() -> None:
    """The program."""
    plan = Plan(**json.loads(sys.argv[2]))
    began, cpu = time.perf_counter(), time.process_time()
    blob = asyncio.run(WORKS[sys.argv[1]](plan))  # type: ignore[arg-type]
    done: dict[str, Any] = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "blob": blob}
    done["peak"] = _peak_bytes()
    print(json.dumps(done | {"version": graviton.__version__}), flush=True)
    os._exit(0)  # the driver's threads abort an interpreter that is being taken down now and then


if __name__ == "__main__":
    main()
