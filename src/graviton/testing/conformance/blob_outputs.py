"""The laws of `BlobStore`: blobs into descriptors."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading

from graviton.core.ranges import Span
from graviton.testing.conformance.blob_values import BlobStoreHooks, noise

__all__ = ["BlobOutputLaws"]


class BlobOutputLaws(BlobStoreHooks):
    """Part of `BlobStoreContract`."""

    async def test_write_to_writes_what_is_left_at_the_position_of_the_descriptor(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        key = (await store.put(data)).key
        path = self.scratch / "target"
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.write(fd, b"before")
            async with await store.get(key, Span(5, len(data))) as reader:
                assert await reader.write_to(fd) == len(data) - 5
            os.write(fd, b"after")
        finally:
            os.close(fd)
        assert path.read_bytes() == b"before" + data[5:] + b"after"

    async def test_write_to_a_pipe_writes_everything_in_order(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        key = (await store.put(data)).key
        read_end, write_end = os.pipe()
        received: list[bytes] = []

        def drain() -> None:
            with open(read_end, "rb") as pipe:
                received.append(pipe.read())

        draining = threading.Thread(target=drain)
        draining.start()
        try:
            async with await store.get(key, Span(3, len(data))) as reader:
                assert await reader.write_to(write_end) == len(data) - 3
        finally:
            os.close(write_end)
            draining.join()
        assert received == [data[3:]]

    async def test_write_to_a_pipe_that_nobody_reads_can_be_left(self) -> None:
        """Nothing is written afterwards: the caller may have closed the descriptor, whose number is another file's
        then."""
        store = await self.open()
        data = noise(self.large_bytes)
        key = (await store.put(data)).key
        read_end, write_end = os.pipe()
        room = fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
        with open(read_end, "rb", buffering=0) as pipe:  # noqa: ASYNC230 - nobody writes when it is read
            async with await store.get(key) as reader:
                writing = asyncio.ensure_future(reader.write_to(write_end))
                await asyncio.wait([writing], timeout=0.05)
                assert not writing.done()
                writing.cancel()
                await asyncio.wait([writing], timeout=10.0)
                assert writing.cancelled()
            os.close(write_end)
            received = pipe.readall()  # gets more from a thread that was left behind
        assert len(received) <= room
        assert data.startswith(received)
