"""What a large put holds in memory, measured by the system: a process of its own, and a server that keeps nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.s3_sink import sink_server

pytestmark = pytest.mark.s3

MIB = 1024 * 1024
SIZE = 256 * MIB
GROWTH = 64 * MIB
"""What a put may add: four parts of 8 MiB, what goes through sockets, and as much again for the allocator."""

PUT = """
import asyncio, resource, sys
from graviton.backends.objectstore.blobs import S3BlobStore
from graviton.backends.objectstore.config import Credentials, S3Config
from graviton.backends.objectstore.objects import S3MutableObjectStore
from graviton.core.locators import Locator
from graviton.core.secret import Secret

MIB = 1024 * 1024

async def pieces(size):
    for _ in range(size // MIB):
        yield bytes(MIB)  # a new one each time, as a socket gives them

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

async def main(endpoint, size):
    store = S3MutableObjectStore(S3Config("bucket", endpoint=endpoint, credentials=Credentials("a", Secret("b"))))
    locator = Locator("s3", "bucket", "large")
    await store.put(locator, b"small")  # whatever the first request of a process needs
    before = peak()
    await store.put(locator, pieces(size))
    print(peak() - before)
    await store.aclose()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.parametrize("size", [SIZE])
def test_put_of_a_large_stream_holds_four_parts(size: int) -> None:
    with sink_server() as sink:
        command = [sys.executable, "-c", PUT, sink.endpoint, str(size)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert ran.returncode == 0, ran.stderr
        assert int(ran.stdout) < GROWTH
        assert sum(size for number, size in sink.sizes.items() if number) == size
        assert 2 <= sink.most <= 4
