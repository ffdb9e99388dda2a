"""The body of a request made of a source, and the hash of what was read for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from graviton.backends.http.outgoing import Outgoing
from graviton.backends.http.sources import PIECE_BYTES, Run
from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.core.hashing import HashAlgo, MultiHasher
from graviton.core.keys import BlobKey
from graviton.errors import Conflict

__all__ = ["Body", "Hashes"]

_INLINE_BYTES: Final = 64 * 1024
"""Less is hashed at once: that takes 15 us, a thread 50."""


class Hashes:
    """The hashes of all bytes so far, and of no byte twice: what is sent again after a break was counted before."""

    def __init__(self, algos: Iterable[HashAlgo], pool: WorkerPool) -> None:
        self._hashes, self._pool = MultiHasher(algos), pool

    async def add(self, part: memoryview, offset: int) -> None:
        """Bytes that stand at `offset` of the source."""
        new = part[max(0, self._hashes.size - offset) :]
        if len(new) <= _INLINE_BYTES:
            self._hashes.update(new)
        else:
            await in_thread(self._pool, self._hashes.update, new)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._hashes.size

    def key(self, algo: HashAlgo) -> BlobKey | None:
        """The key of the bytes so far, if they were hashed with that."""
        digest = self._hashes.digests().get(algo)
        return None if digest is None else BlobKey(digest, self._hashes.size)


class Body(Outgoing):
    """The bytes of a run, as the body of one request."""

    has_bytes = True

    def __init__(self, run: Run, hashes: Hashes, idle_seconds: float, offset: int = 0, end: int | None = None) -> None:
        """The run begins at `offset` of the source. With `end` the bytes up to there are promised: a source that has
        fewer raises Conflict, and what it has more is left out."""
        self._run, self._hashes, self._idle_seconds = run, hashes, idle_seconds
        self._offset, self._end = offset, end
        self.size = None if end is None else end - offset
        self.asks_first = end is None or end - offset > PIECE_BYTES
        self.may_be_whole = self.size == 0  # then its head is all

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> memoryview:
        self.has_begun = True
        self.put_off(None)
        try:
            piece = await self._next()
        except asyncio.CancelledError:
            raise
        except (StopIteration, StopAsyncIteration) as error:  # would be taken for the end of the body
            self.failure = RuntimeError(f"the source raised {type(error).__name__}")
            raise self.failure from error
        except BaseException as error:
            self.failure = error
            raise
        self.put_off(self._idle_seconds)
        if not piece:
            self.may_be_whole = True
            raise StopAsyncIteration
        # With a length that was promised the last byte says that it is the last.
        self.may_be_whole = self._offset == self._end
        return piece

    async def _next(self) -> memoryview:
        left = PIECE_BYTES if self._end is None else min(PIECE_BYTES, self._end - self._offset)
        piece = await self._run.next(left) if left else memoryview(b"")
        if left and not piece and self._end is not None:
            raise Conflict("the source became shorter while it was read", operation="put", hint="Put it again.")
        await self._hashes.add(piece, self._offset)
        self._offset += len(piece)
        return piece

    async def aclose(self) -> None:
        """Wait until nobody reads the source any more, which stays open."""
        await self._run.aclose()
