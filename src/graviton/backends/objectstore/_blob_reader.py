"""Bytes of a whole blob or of a span of it, piece by piece, each verified before any of it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from graviton.backends.objectstore._blob_records import BlobPlace, BlobRecord
from graviton.backends.objectstore._s3_api import S3Api
from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.concurrency.finishing import finish_anyway, until_done
from graviton.constraints.budget import ByteBudget, Lease
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound, RangeNotSatisfiable
from graviton.ports.blobs import BlobReader

__all__ = ["DIGEST_ALGO", "PIECE_BYTES", "ReadParts", "S3BlobReader", "digests_size"]

PIECE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of what is verified at once, and fetched in one request; a stored format. A read of one byte costs so many."""

DIGEST_ALGO: Final = HashAlgo.BLAKE3
"""Of pieces, whatever the key's is: the faster one."""

_DIGESTS_AT_ONCE: Final = 4096
"""Digests fetched in one request: 128 KiB, which cover 16 GiB."""


class ReadParts(NamedTuple):
    """What a reader works with."""

    api: S3Api
    pool: WorkerPool
    budget: ByteBudget
    place: BlobPlace


class _Ahead(NamedTuple):
    """The next piece on its way, and the memory that it takes."""

    job: asyncio.Task[bytes]
    lease: Lease


class S3BlobReader(BlobReader):
    """The next piece is fetched while the last one is used, if the budget has room for it."""

    def __init__(self, parts: ReadParts, record: BlobRecord, span: Span) -> None:
        self.key = record.stat.key
        self.span = span
        self.attributes = record.stat.attributes
        self._parts = parts
        self._position = span.start
        self._held: Lease | None = None
        self._ahead: _Ahead | None = None
        self._digests = _Digests(parts, self.key)

    def __aiter__(self) -> AsyncIterator[memoryview | bytes]:
        return self

    async def __anext__(self) -> memoryview | bytes:
        self._give_back()
        if self._position >= self.span.end:
            raise StopAsyncIteration
        number = self._position // PIECE_BYTES
        try:
            data = await self._next(number)
        except BaseException:
            self._give_back()
            raise
        start, offset = self._position, number * PIECE_BYTES
        self._position = min(offset + len(data), self.span.end)
        self._fetch_ahead(number + 1)
        return memoryview(data)[start - offset : self._position - offset]

    async def _next(self, number: int) -> bytes:
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            self._held = await self._parts.budget.lease(PIECE_BYTES)
            return await self._fetch(number)
        self._held = ahead.lease
        return await ahead.job

    def _fetch_ahead(self, number: int) -> None:
        if number * PIECE_BYTES < self.span.end:
            lease = self._parts.budget.try_lease(PIECE_BYTES, self._parts.budget.for_prefetch)
            if lease is not None:
                self._ahead = _Ahead(asyncio.ensure_future(self._fetch(number)), lease)

    async def _fetch(self, number: int) -> bytes:
        """A piece that is right. Raises IntegrityError, and NotFound if the blob is gone."""
        start = number * PIECE_BYTES
        span = Span(start, min(start + PIECE_BYTES, self.key.size))
        what = ""
        for _ in range(2):  # it may have changed on its way, or be put again meanwhile; it hardly is so twice
            try:
                digest = await self._digests.get(number)
                data = (await self._parts.api.get(self._parts.place.bytes, self.key.text, span)).data
                if await in_thread(self._parts.pool, _is_right, data, digest, span):
                    return data
                what = "are not what was stored"
                self._digests.forget()  # which of both has changed, nobody knows
            except (NotFound, RangeNotSatisfiable):
                what = "are missing"
                await self._check_is_there()
        raise self._damaged(span, what)

    async def _check_is_there(self) -> None:
        """Raise NotFound if the blob was deleted."""
        if await self._parts.api.head(self._parts.place.record, self.key.text) is None:
            raise NotFound(f"blob {self.key.text} was deleted", operation="blobs.get", subject=self.key.text)

    def _damaged(self, span: Span, what: str) -> IntegrityError:
        return IntegrityError(
            f"bytes {span.start}-{span.end - 1} of blob {self.key.text} {what}",
            operation="blobs.get",
            subject=self.key.text,
            hint="Delete the blob, then put the same bytes again.",
        )

    def _give_back(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.release()

    async def aclose(self) -> None:
        self._position = self.span.end
        self._give_back()
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.job.cancel()
            await finish_anyway(until_done(ahead.job))
            ahead.lease.release()


class _Digests:
    """The digests of the pieces of one blob. The only piece of a small one has that of the key."""

    def __init__(self, parts: ReadParts, key: BlobKey) -> None:
        self._parts, self._key = parts, key
        self._first = 0
        self._known = b""

    async def get(self, number: int) -> Digest:
        """Of one piece. Raises NotFound or RangeNotSatisfiable if it is not there."""
        if self._key.size <= PIECE_BYTES:
            return self._key.digest
        size = DIGEST_ALGO.digest_bytes
        offset = (number - self._first) * size
        if not 0 <= offset <= len(self._known) - size:
            span = Span(number * size, (number + _DIGESTS_AT_ONCE) * size)
            self._known = (await self._parts.api.get(self._parts.place.digests, self._key.text, span)).data
            self._first, offset = number, 0
        return Digest(DIGEST_ALGO, self._known[offset : offset + size].ljust(size, b"\0"))

    def forget(self) -> None:
        """Fetch them again when they are wanted."""
        self._known = b""


def digests_size(key: BlobKey) -> int:
    """Bytes of the digests of all pieces of a blob that has several."""
    return -(-key.size // PIECE_BYTES) * DIGEST_ALGO.digest_bytes


def _is_right(data: bytes, digest: Digest, span: Span) -> bool:
    return len(data) == span.length and digest.algo.digest(data) == digest
