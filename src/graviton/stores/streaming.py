"""The way out: pages -> block keys in a window -> fetch in parallel, verify -> bytes in order."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.concurrency.finishing import finish_anyway
from graviton.concurrency.pipes import Sink
from graviton.constraints.budget import ByteBudget, Lease
from graviton.core.manifests import ManifestEntry, ManifestPage
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound, Unavailable
from graviton.ports.blobs import BlobReader
from graviton.ports.manifests import BlobManifestRepo, BlobRecord
from graviton.stores.block_access import BlockAccess
from graviton.stores.operations import Operations
from graviton.stores.placed_file import PlacedFile

__all__ = ["WINDOW_BLOCKS", "WINDOW_BLOCKS_HERE", "CasBlobReader", "Fetched", "FoundBlob", "ReadParts"]

WINDOW_BLOCKS = 8
"""Fetches in flight at most, as in the ancestor: enough to hide a bucket's latency behind 1 MiB blocks."""

WINDOW_BLOCKS_HERE = 4
"""The same where blocks lie on this machine: enough to keep its cores and a disk busy. With more, more memory goes
around than the heap keeps, and new pages cost more than waiting: 1 GiB from the page cache 0.22 s instead of 0.5."""

WINDOW_BYTES = 32 * 1024 * 1024
"""Bytes one reader prefetches at most, so that four readers share the default budget."""


class ReadParts(NamedTuple):
    """What a reader works with."""

    access: BlockAccess
    manifests: BlobManifestRepo
    budget: ByteBudget
    pool: WorkerPool
    operations: Operations
    domain: str
    window_blocks: int = WINDOW_BLOCKS


class Fetched(NamedTuple):
    """A block that is here, verified."""

    entry: ManifestEntry
    data: bytes
    lease: Lease


class FoundBlob(NamedTuple):
    """A visible blob that is to be read."""

    record: BlobRecord
    all_of_it: Fetched | None = None
    """Its only block, if that was fetched along with the record."""


class _Source(NamedTuple):
    """What fetches a reader's blocks. It knows no reader, so that one that was left is garbage at once."""

    access: BlockAccess
    manifests: BlobManifestRepo
    domain: str
    record: BlobRecord

    async def fetch(self, entry: ManifestEntry, lease: Lease) -> bytes:
        """The verified bytes of a block. `lease` is held until nothing works on the block any more."""
        key = self.record.key
        try:
            return await self.access.read(entry.key, self.domain)
        except IntegrityError as error:
            await self._raise_if_gone()
            raise IntegrityError(
                f"blob {key}: {error.message} (bytes {entry.offset}-{entry.end - 1} of the blob)",
                operation="get",
                subject=key.text,
                hint="Put the same file again: that repairs the blob.",
            ) from error

    async def _raise_if_gone(self) -> None:
        """A blob that was deleted meanwhile may lose its blocks; that is not damage."""
        key = self.record.key
        record = await self.manifests.get(key, self.domain)
        if record.owner != self.record.owner:
            raise NotFound(f"blob {key} was deleted and stored again while it was read", subject=key.text)


class _Fetch(NamedTuple):
    """A block on its way."""

    entry: ManifestEntry
    lease: Lease
    task: asyncio.Future[bytes | int]


_Job: TypeAlias = Callable[[ManifestEntry, Lease], Coroutine[Any, Any, bytes | int]]


class CasBlobReader(BlobReader):
    """See `BlobReader`. Draws the size of every block in flight from the budget.

    A reader that was left without `aclose` and is garbage ends its fetches too: each gives back its part of the budget
    when nothing works on its block any more.
    """

    def __init__(self, parts: ReadParts, blob: FoundBlob, span: Span, whole: bool) -> None:
        self._window: deque[_Fetch] = deque()
        self._loop = asyncio.get_running_loop()
        record = blob.record
        self.key = record.key
        self.span = span
        self.attributes = record.attributes
        self._parts = parts
        self._source = _Source(parts.access, parts.manifests, parts.domain, record)
        self._entries = _overlapping(parts.manifests.pages(record, None if whole else span, parts.domain), span)
        self._in_flight = 0
        self._handed_out: Lease | None = None
        self._next: ManifestEntry | None = None
        self._exhausted = span.start == span.end
        self._closed = False
        self._failed = False
        self._yielded = 0
        if blob.all_of_it is not None and not self._exhausted:
            self._have(blob.all_of_it)

    def _have(self, block: Fetched) -> None:
        """Begin with a block, the only one, as if it had been fetched."""
        ready: asyncio.Future[bytes | int] = self._loop.create_future()
        ready.set_result(block.data)
        self._window.append(_Fetch(block.entry, block.lease, ready))
        self._in_flight, self._exhausted = block.lease.size, True

    def __aiter__(self) -> CasBlobReader:
        return self

    async def __anext__(self) -> memoryview | bytes:
        self._give_back(self._handed_out)
        with self._failing_for_good():
            fetch = await self._take(self._source.fetch)
            if fetch is not None:
                data = await fetch.task
                assert isinstance(data, bytes)
                piece = self._cropped(fetch.entry, data)
                self._yielded += len(piece)
                self._parts.operations.handed_out(len(piece))
                return piece
        raise StopAsyncIteration

    async def write_to(self, fd: int) -> int:
        """See `BlobReader.write_to`. Into a regular file blocks are verified and written side by side, in any order;
        if it fails, what was written so far may have holes, and the reader is closed."""
        # Appending ignores offsets.
        anywhere = stat.S_ISREG(os.fstat(fd).st_mode) and not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
        try:
            with self._parts.operations.running("write_to", measured=False), self._failing_for_good():
                return await (self._place_all(fd) if anywhere else self._write_in_order(fd))
        except BaseException:
            await finish_anyway(self.aclose())
            raise

    async def _write_in_order(self, fd: int) -> int:
        already = self._yielded
        with Sink(fd) as sink:
            async for piece in self:
                await sink.write(piece)
        return self._yielded - already

    async def _place_all(self, fd: int) -> int:
        self._give_back(self._handed_out)
        already = self._yielded
        begin = os.lseek(fd, 0, os.SEEK_CUR)
        file = PlacedFile(fd, self.size - already)

        async def write(entry: ManifestEntry, data: bytes) -> int:
            piece = self._cropped(entry, data)
            at = begin + max(entry.offset, self.span.start) - self.span.start - already
            await in_thread(self._parts.pool, file.write, memoryview(piece), at)
            return len(piece)

        async def place(entry: ManifestEntry, lease: Lease) -> int:
            return await write(entry, await self._source.fetch(entry, lease))

        while (fetch := await self._take(place)) is not None:
            done = await fetch.task
            # What was asked for before, by iterating, comes as bytes.
            written = done if isinstance(done, int) else await write(fetch.entry, done)
            self._yielded += written
            self._parts.operations.handed_out(written)
            self._give_back(fetch.lease)
        os.lseek(fd, begin + self._yielded - already, os.SEEK_SET)
        return self._yielded - already

    @contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        """A reader that raised once never goes on: what follows a hole must not look like what follows the bytes."""
        try:
            yield
        except BaseException as error:
            if not self._failed and not self._closed:
                self._parts.operations.failed("get", error)
            self._failed = True
            raise

    async def _take(self, job: _Job) -> _Fetch | None:
        """The oldest fetch in the window, after the window was filled; None at the end."""
        if self._closed:
            raise Unavailable("this reader is closed", operation="get", subject=self.key.text)
        if self._failed:
            raise Unavailable("this reader failed before", operation="get", subject=self.key.text)
        budget = self._parts.budget
        while not self._exhausted and len(self._window) < self._parts.window_blocks:
            if self._next is None:
                self._next = await anext(self._entries, None)
                if self._next is None:
                    self._exhausted = True
                    break
            size = self._next.key.size
            if not self._window:
                lease = await budget.lease(size)
            elif self._in_flight + size > WINDOW_BYTES or not (ahead := budget.try_lease(size, budget.for_prefetch)):
                break
            else:
                lease = ahead
            self._in_flight += size
            entry, self._next = self._next, None
            task = asyncio.ensure_future(job(entry, lease))
            task.add_done_callback(_retrieve)
            self._window.append(_Fetch(entry, lease, task))
        if self._window:
            fetch = self._window.popleft()
            self._handed_out = fetch.lease
            return fetch
        if self._yielded != self.size:
            raise IntegrityError(
                f"blob {self.key}: the manifest gave {self._yielded} of {self.size} bytes",
                operation="get",
                subject=self.key.text,
            )
        return None

    def _cropped(self, entry: ManifestEntry, data: bytes) -> memoryview | bytes:
        """The part of a block that lies within the span; the block itself, as it is, if that is all of it."""
        start = max(0, self.span.start - entry.offset)
        end = max(start, min(len(data), self.span.end - entry.offset))
        return data if end - start == len(data) else memoryview(data)[start:end]

    def _give_back(self, lease: Lease | None) -> None:
        if lease is not None:
            self._in_flight -= lease.size
            lease.release()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        left = list(self._window)
        self._window.clear()
        tasks = [fetch.task for fetch in left]
        _cancel(tasks)
        try:
            if tasks:
                await finish_anyway(asyncio.wait(tasks))
        finally:  # also if leaving is cancelled itself
            for fetch in left:
                self._give_back(fetch.lease)
            self._give_back(self._handed_out)

    def __del__(self) -> None:
        running = [fetch.task for fetch in self._window if not fetch.task.done()]
        if running and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(_cancel, running)
            except RuntimeError:
                pass  # closed in this very moment, and its tasks with it


def _cancel(tasks: Sequence[asyncio.Future[bytes | int]]) -> None:
    for task in tasks:
        task.cancel()


def _retrieve(task: asyncio.Future[bytes | int]) -> None:
    """What a fetch raised is told to who takes it; nobody takes the fetches of a reader that was left."""
    if not task.cancelled():
        task.exception()


async def _overlapping(pages: AsyncIterator[ManifestPage], span: Span) -> AsyncIterator[ManifestEntry]:
    async for page in pages:
        for entry in page:
            if entry.end > span.start and entry.offset < span.end:
                yield entry
