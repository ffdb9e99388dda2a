"""The body of a request as the source of a put.

A body is whole only if its last message came: a connection that broke in the middle raises ClientGone out of the
source, whereupon the put leaves nothing. Sizes are looked at before and while it comes, and so is the client's speed.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final

from graviton.core.clock import Clock
from graviton.core.hashing import Digest, HashAlgo
from graviton.errors import DigestMismatch, InvalidInput, LimitExceeded
from graviton.server.http.asgi import Receive, Scope, header
from graviton.server.http.errors import ClientGone
from graviton.server.http.pace import Pace

__all__ = ["Pieces", "RequestBody", "announced_length", "check_length", "checked", "read_small"]

_MAX_LENGTH_DIGITS: Final = 19
"""2**63 - 1 has as many; the server below refuses more than 64 bits anyway."""


def announced_length(scope: Scope) -> int | None:
    """The Content-Length of a request, None if it has none. Raises InvalidInput."""
    text = header(scope, b"content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_LENGTH_DIGITS):
        raise InvalidInput("Content-Length is no number of bytes", subject="content-length")
    return int(text)


def check_length(length: int, max_bytes: int) -> None:
    """Raises LimitExceeded for a body of more than `max_bytes`."""
    if length > max_bytes:
        raise LimitExceeded(f"a body has at most {max_bytes} bytes here", subject=str(length))


class RequestBody:
    """Pieces of the body as they come: an async iterator, to be used once and by one task.

    `announced` is its length if the client said it, `received` what has come, `is_whole` whether all of it has.
    """

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int, clock: Clock) -> None:
        """Raises InvalidInput, and LimitExceeded if the length that was announced is too large: nothing is read then,
        and a client that waits for `100 Continue` sends nothing."""
        self.announced = announced_length(scope)
        if self.announced is not None:
            check_length(self.announced, max_bytes)
        self._max_bytes = max_bytes
        self._receive = receive
        self._pace = Pace(clock)
        self.received = 0
        self.is_whole = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises ClientGone, TooSlow, LimitExceeded."""
        while not self.is_whole:
            message: Any = await self._pace.wait(self._receive())
            if message["type"] != "http.request":
                raise ClientGone(f"the client left after {self.received} bytes of its body")
            piece: bytes = message.get("body", b"")
            self.received += len(piece)
            check_length(self.received, self._max_bytes)
            self._pace.moved(len(piece))
            if not message.get("more_body", False):
                self._end()
            if piece:
                return piece
        raise StopAsyncIteration

    def _end(self) -> None:
        if self.announced is not None and self.received != self.announced:
            raise ClientGone(f"{self.received} bytes of the body came, not {self.announced}")
        self.is_whole = True


class Pieces:
    """A large body as the source of a put, which is told how many bytes were announced: what cannot be taken is refused
    before it is sent."""

    def __init__(self, pieces: AsyncIterator[bytes], announced: int | None) -> None:
        self._pieces, self.announced = pieces, announced

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


async def read_small(body: RequestBody, limit: int) -> bytes | Pieces:
    """The whole body if it has at most `limit` bytes, otherwise all its pieces: small blobs are put
    together by the store, which shares what they cost, if they come as bytes. Raises what the body does."""
    pieces: list[bytes] = []
    while body.received <= limit and not (body.announced is not None and body.announced > limit):
        piece = await anext(body, None)
        if piece is None:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.append(piece)
        if body.is_whole and body.received <= limit:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return Pieces(_chained(pieces, body), body.announced)


async def _chained(first: list[bytes], rest: RequestBody) -> AsyncIterator[bytes]:
    for piece in first:
        yield piece
    async for piece in rest:
        yield piece


def checked(source: bytes | Pieces, claimed: Digest | None) -> bytes | Pieces:
    """`source`, which ends with DigestMismatch if its bytes do not have the SHA-256 `claimed`; bytes raise it at
    once. A put that its source fails leaves nothing."""
    if claimed is None:
        return source
    if isinstance(source, bytes):
        _compare(HashAlgo.SHA256.digest(source), claimed)
        return source
    return Pieces(_hashed(source, claimed), source.announced)


async def _hashed(source: Pieces, claimed: Digest) -> AsyncIterator[bytes]:
    hasher = hashlib.sha256()
    async for piece in source:
        hasher.update(piece)
        yield piece
    _compare(Digest(HashAlgo.SHA256, hasher.digest()), claimed)


def _compare(found: Digest, claimed: Digest) -> None:
    if found != claimed:
        raise DigestMismatch(f"the bytes that arrived have digest {found}, not the {claimed} announced")
