"""The bytes of a blob as the server sends them, looked at again on this side.

A whole blob is hashed as it comes. What is small enough is only handed out when that is done; of a larger one the last
piece waits for it. So nobody ever has all bytes of a blob that are not the blob's. Of a part of a blob only the number
of bytes can be told here: the server has verified each block of it.

A connection that breaks is no end: the rest is asked for again, from the byte after the last one that came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, NamedTuple

from graviton.backends.http.errors import strange
from graviton.backends.http.requests import Requests, blob_path
from graviton.backends.http.retrying import Retrying
from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.constraints.budget import ByteBudget, Lease
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import Hasher
from graviton.core.keys import BlobKey
from graviton.core.ranges import Span
from graviton.errors import GravitonError, IntegrityError, Unavailable
from graviton.ports.blobs import BlobReader

if TYPE_CHECKING:
    import aiohttp

__all__ = ["HttpBlobReader", "Opened", "ReadParts", "damaged", "open_bytes"]

WHOLE_BYTES: Final = 1024 * 1024
"""A blob of so many bytes is handed out when all of them were looked at, a larger one in pieces of about as many."""

HELD_BYTES: Final = 3 * 1024 * 1024
"""What a reader may hold: two pieces, and what aiohttp has read ahead."""

_INLINE_BYTES: Final = 64 * 1024
"""Less is hashed at once: that takes 15 us, a thread 50."""

_FORWARD_BYTES: Final = 64 * 1024
"""So much must have come since the last break for the next one to be met with patience again: a server that breaks off
after each byte is not followed to the end."""


class ReadParts(NamedTuple):
    """What readers of one store work with."""

    requests: Requests
    pool: WorkerPool
    budget: ByteBudget
    domain: str


class Opened(NamedTuple):
    """A request for bytes that is being answered."""

    response: aiohttp.ClientResponse
    etag: str


class HttpBlobReader(BlobReader):
    """Yields pieces of about 1 MiB, or all of a small blob at once."""

    def __init__(
        self,
        parts: ReadParts,
        key: BlobKey,
        span: Span,
        attributes: BinaryAttributes,
        opened: Opened | None,
        retrying: Retrying,
    ) -> None:
        """`opened` is the answer that has the bytes of `span`; None for a span of none."""
        self.key, self.span, self.attributes = key, span, attributes
        self._parts, self._retrying = parts, retrying
        self._opened = opened
        self._etag = "" if opened is None else opened.etag
        self._position = span.start
        """Of the next byte that comes."""
        self._broke_at = span.start
        self._hasher = Hasher(key.algo) if span == Span(0, key.size) else None
        self._waiting: deque[bytes] = deque()
        self._late: GravitonError | None = None
        """Ended the answer after some bytes, which are used first."""
        self._lease: Lease | None = None
        self._is_done = False
        """All came, and is right."""
        self._is_left = False
        """It was closed, failed or was cancelled before: it must not seem to be at its end."""

    def __aiter__(self) -> AsyncIterator[memoryview | bytes]:
        return self

    async def __anext__(self) -> memoryview | bytes:
        if self._is_left:
            raise Unavailable("this reader was left before its end", operation="blobs.get", subject=self.key.text)
        if self._lease is None and not self._is_done:
            self._lease = await self._parts.budget.lease(min(HELD_BYTES, 2 * self.size + 1))
        try:
            while self._wants_more():
                await self._take()
        except BaseException:
            await self.aclose()
            raise
        if self._waiting:
            return self._waiting.popleft()
        await self.aclose()
        raise StopAsyncIteration

    def _wants_more(self) -> bool:
        """Of a whole blob one piece is kept back until it is known that another follows or that all is well, and all of
        a small one."""
        if self._is_done:
            return False
        if self._hasher is None:
            return not self._waiting
        return len(self._waiting) < 2 or self.size <= WHOLE_BYTES

    async def _take(self) -> None:
        """Take the next piece from the server, or find that all of them came and are right."""
        if self._position == self.span.end:
            self._finish()
            self._is_done = True
            return
        piece = await self._next_piece()
        if self._hasher is not None:
            if len(piece) <= _INLINE_BYTES:
                self._hasher.update(piece)
            else:
                await in_thread(self._parts.pool, self._hasher.update, piece)
        self._position += len(piece)
        self._waiting.append(piece)

    async def _next_piece(self) -> bytes:
        while True:
            try:
                late, self._late = self._late, None
                if late is not None:
                    raise late
                if self._opened is None:
                    rest = Span(self._position, self.span.end)
                    self._opened = await open_bytes(self._parts, self.key, rest, if_range=self._etag)
                return await self._read(self._opened.response)
            except IntegrityError as error:
                raise damaged(self.key, self.span, self._position, error) from error
            except GravitonError as error:
                self._leave()
                if self._position - self._broke_at >= _FORWARD_BYTES:
                    self._retrying.progressed()
                self._broke_at = self._position
                await self._retrying.again(error)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """About a piece of the body; what came before a break is kept."""
        pieces: list[bytes] = []
        left = min(WHOLE_BYTES, self.span.end - self._position)
        try:
            with self._parts.requests.translated("blobs.get", self.key.text):
                while left > 0:
                    piece = await response.content.read(left)
                    if not piece:
                        raise Unavailable("the body ended early", operation="blobs.get", subject=self.key.text)
                    pieces.append(piece)
                    left -= len(piece)
        except Unavailable as error:
            if not pieces:
                raise
            self._late = error
        return b"".join(pieces)

    def _finish(self) -> None:
        self._leave()
        if self._hasher is not None and self._hasher.digest() != self.key.digest:
            raise IntegrityError(
                f"what came as blob {self.key.text} is something else (bytes 0-{self.key.size - 1})",
                operation="blobs.get",
                subject=self.key.text,
                hint="The server, or something on the way, changed the bytes: use https, and verify on the server.",
            )

    def _leave(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.response.close()

    async def aclose(self) -> None:
        self._is_left = self._is_left or not self._is_done or bool(self._waiting)
        self._waiting.clear()
        self._leave()
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()


def damaged(key: BlobKey, span: Span, position: int, error: IntegrityError) -> IntegrityError:
    """The error for a blob that the server cannot read. Its own says little, because a server tells strangers nothing
    of its inside; which bytes it was asked for, we know."""
    return IntegrityError(
        f"blob {key.text} cannot be read from byte {position} on (of bytes {span.start}-{span.end - 1}):"
        f" {error.message}",
        operation="blobs.get",
        subject=key.text,
        hint=error.hint,
    )


async def open_bytes(parts: ReadParts, key: BlobKey, span: Span, *, if_range: str = "") -> Opened:
    """Ask for the bytes of a span that has some; when this returns the server has begun to send exactly these. Raises
    what the server says, and Unavailable."""
    headers: dict[str, str] = {}
    is_part = span != Span(0, key.size)
    if is_part:
        headers["Range"] = f"bytes={span.start}-{span.end - 1}"
        if if_range:
            headers["If-Range"] = if_range
    query = {"domain": parts.domain} if parts.domain else {}
    response = await parts.requests.begin(
        "GET", blob_path(key), operation="blobs.get", subject=key.text, headers=headers, query=query
    )
    try:
        _check(response, key, span, is_part)
    except BaseException:
        response.close()
        raise
    return Opened(response, response.headers.get("ETag", ""))


def _check(response: aiohttp.ClientResponse, key: BlobKey, span: Span, is_part: bool) -> None:
    """Raises Unavailable unless the answer is about to have the bytes of `span`, and no others."""
    fields = response.headers
    problem = ""
    if fields.get("Content-Encoding", "identity").lower() != "identity":
        problem = "it is compressed, which nobody asked for"
    elif response.status != (206 if is_part else 200):
        problem = f"status {response.status} for {'a part of' if is_part else 'all of'} a blob"
    elif is_part and fields.get("Content-Range", "") != f"bytes {span.start}-{span.end - 1}/{key.size}":
        problem = "it has other bytes than those asked for"
    elif response.content_length not in (None, span.length):
        problem = f"it has {response.content_length} bytes, not {span.length}"
    if problem:
        raise strange(problem, "blobs.get", key.text)
