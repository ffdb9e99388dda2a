"""The way out: pages -> block keys in a window -> fetch in parallel, verify -> bytes in order."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from graviton.constraints.budget import ByteBudget
from graviton.core.manifests import ManifestEntry, ManifestPage
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound, Unavailable
from graviton.ports.blobs import BlobReader
from graviton.ports.manifests import BlobManifestRepo, BlobRecord
from graviton.stores.block_access import BlockAccess
from graviton.stores.placed_file import PlacedFile
from graviton.stores.threads import finish_anyway, in_thread

__all__ = ["CasBlobReader", "ReadParts"]

WINDOW_BLOCKS = 8
"""Fetches in flight at most, as in the ancestor: enough to hide a disk's or bucket's latency behind 1 MiB blocks."""

WINDOW_BYTES = 32 * 1024 * 1024
"""Bytes one reader prefetches at most, so that four readers share the default budget."""

_T = TypeVar("_T")


class ReadParts(NamedTuple):
    """What a reader works with."""

    access: BlockAccess
    manifests: BlobManifestRepo
    budget: ByteBudget
    pool: Executor
    domain: str


class _Fetch(NamedTuple):
    """A block on its way."""

    entry: ManifestEntry
    task: asyncio.Task[bytes | int]


class CasBlobReader(BlobReader):
    """See `BlobReader`. Draws the size of every block in flight from the budget."""

    def __init__(self, parts: ReadParts, record: BlobRecord, span: Span, whole: bool) -> None:
        self.key = record.key
        self.span = span
        self.attributes = record.attributes
        self._parts, self._record = parts, record
        self._entries = _overlapping(parts.manifests.pages(record, None if whole else span, parts.domain), span)
        self._window: deque[_Fetch] = deque()
        self._in_flight = 0
        self._handed_out = 0
        self._next: ManifestEntry | None = None
        self._exhausted = span.start == span.end
        self._closed = False
        self._failed = False
        self._yielded = 0

    def __aiter__(self) -> CasBlobReader:
        return self

    async def __anext__(self) -> memoryview:
        self._give_back(self._handed_out)
        self._handed_out = 0
        with self._failing_for_good():
            fetch = await self._take(self._fetch)
            if fetch is not None:
                self._handed_out = fetch.entry.key.size
                data = await fetch.task
                assert isinstance(data, bytes)
                piece = self._cropped(fetch.entry, data)
                self._yielded += len(piece)
                return piece
        raise StopAsyncIteration

    async def write_to(self, fd: int) -> int:
        """See `BlobReader.write_to`. Into a regular file blocks are verified and written side by side, in any order;
        if it fails, what was written so far may have holes, and the reader is closed: nothing uses `fd` any more when
        this returns or raises, so the caller may close it."""
        if not stat.S_ISREG(os.fstat(fd).st_mode) or fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
            return await super().write_to(fd)  # appending ignores offsets
        try:
            with self._failing_for_good():
                return await self._place_all(fd)
        except BaseException:
            await finish_anyway(self.aclose())
            raise

    async def _place_all(self, fd: int) -> int:
        self._give_back(self._handed_out)
        self._handed_out = 0
        already = self._yielded
        begin = os.lseek(fd, 0, os.SEEK_CUR)
        file = PlacedFile(fd, self.size - already)

        async def write(entry: ManifestEntry, data: bytes) -> int:
            piece = self._cropped(entry, data)
            at = begin + max(entry.offset, self.span.start) - self.span.start - already
            await in_thread(self._parts.pool, file.write, piece, at)
            return len(piece)

        async def place(entry: ManifestEntry) -> int:
            return await write(entry, await self._fetch(entry))

        while (fetch := await self._take(place)) is not None:
            done = await fetch.task
            # What was asked for before, by iterating, comes as bytes.
            self._yielded += done if isinstance(done, int) else await write(fetch.entry, done)
            self._give_back(fetch.entry.key.size)
        os.lseek(fd, begin + self._yielded - already, os.SEEK_SET)
        return self._yielded - already

    @contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        """A reader that raised once never goes on: what follows a hole must not look like what follows the bytes."""
        try:
            yield
        except BaseException:
            self._failed = True
            raise

    async def _take(self, job: Callable[[ManifestEntry], Awaitable[bytes | int]]) -> _Fetch | None:
        """The oldest fetch in the window, after the window was filled; None at the end."""
        if self._closed:
            raise Unavailable("this reader is closed", operation="get", subject=self.key.text)
        if self._failed:
            raise Unavailable("this reader failed before", operation="get", subject=self.key.text)
        budget = self._parts.budget
        while not self._exhausted and len(self._window) < WINDOW_BLOCKS:
            if self._next is None:
                self._next = await anext(self._entries, None)
                if self._next is None:
                    self._exhausted = True
                    break
            size = self._next.key.size
            if not self._window:
                await budget.acquire(size)
            elif self._in_flight + size > WINDOW_BYTES or not budget.try_acquire(size, budget.for_prefetch):
                break
            self._in_flight += size
            entry, self._next = self._next, None
            self._window.append(_Fetch(entry, asyncio.ensure_future(job(entry))))
        if self._window:
            return self._window.popleft()
        if self._yielded != self.size:
            raise IntegrityError(
                f"blob {self.key}: the manifest gave {self._yielded} of {self.size} bytes",
                operation="get",
                subject=self.key.text,
            )
        return None

    async def _fetch(self, entry: ManifestEntry) -> bytes:
        try:
            return await self._parts.access.read(entry.key, self._parts.domain)
        except IntegrityError as error:
            await self._raise_if_gone()
            raise IntegrityError(
                f"blob {self.key}: {error.message} (bytes {entry.offset}-{entry.end - 1} of the blob)",
                operation="get",
                subject=self.key.text,
                hint="Put the same file again: that repairs the blob.",
            ) from error

    async def _raise_if_gone(self) -> None:
        """A blob that was deleted meanwhile may lose its blocks; that is not damage."""
        record = await self._parts.manifests.get(self.key, self._parts.domain)
        if record.owner != self._record.owner:
            raise NotFound(f"blob {self.key} was deleted and stored again while it was read", subject=self.key.text)

    def _cropped(self, entry: ManifestEntry, data: bytes) -> memoryview:
        start = max(0, self.span.start - entry.offset)
        return memoryview(data)[start : max(start, min(len(data), self.span.end - entry.offset))]

    def _give_back(self, size: int) -> None:
        if size:
            self._in_flight -= size
            self._parts.budget.release(size)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        tasks = [fetch.task for fetch in self._window]
        self._window.clear()
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await finish_anyway(asyncio.wait(tasks))
        finally:  # also if leaving is cancelled itself
            for task in tasks:
                if not task.cancelled():
                    task.exception()
            self._give_back(self._in_flight)


async def _overlapping(pages: AsyncIterator[ManifestPage], span: Span) -> AsyncIterator[ManifestEntry]:
    async for page in pages:
        for entry in page:
            if entry.end > span.start and entry.offset < span.end:
                yield entry
