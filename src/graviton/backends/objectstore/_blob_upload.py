"""The bytes of a blob on their way in: hashed as they are read, and laid where they can be copied from once the key is
known."""

from __future__ import annotations

import secrets
from typing import Final, NamedTuple, cast

from graviton.backends.objectstore._blob_reader import DIGEST_ALGO, PIECE_BYTES
from graviton.backends.objectstore._blob_records import BlobNames
from graviton.backends.objectstore._blob_room import PartRoom
from graviton.backends.objectstore._s3_api import S3Api
from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import finish_anyway
from graviton.concurrency.parts import Parts
from graviton.concurrency.pieces import Filler
from graviton.core.hashing import HashAlgo, Hasher
from graviton.core.keys import BlobKey
from graviton.errors import GravitonError

__all__ = ["HashedParts", "Staged", "Temporary"]

_INLINE_BYTES: Final = 64 * 1024
"""A smaller part is hashed at once: that takes 15 us, a thread 50."""


class HashedParts(Parts):
    """Parts whose bytes are hashed, in order, before they are handed out: as a whole, and piece by piece. What they
    take of memory is taken from `room`; memory of the source itself is not ours to count."""

    def __init__(self, source: memoryview | Filler, algo: HashAlgo, pool: WorkerPool, room: PartRoom) -> None:
        super().__init__(source)
        self.expected = self.size if isinstance(source, memoryview) else source.size_hint
        """Bytes in all, as far as one can tell before."""
        self._pool = pool
        self._room = None if isinstance(source, memoryview) else room
        self._whole = Hasher(algo)
        self._piece = Hasher(DIGEST_ALGO)
        self._digests = bytearray()

    async def next(self, size: int) -> memoryview:
        if self._room is not None:
            await self._room.take(size)
        part = await super().next(size)
        if len(part) <= _INLINE_BYTES:
            self._update(part)
        else:
            await self._pool.run(lambda flag: self._update(part))
        return part

    def release(self, part: memoryview) -> None:
        if self._room is not None:
            self._room.give(len(cast(bytearray, part.obj)))
        super().release(part)

    def _update(self, part: memoryview) -> None:
        self._whole.update(part)
        while part:
            some = part[: PIECE_BYTES - self._piece.size]
            self._piece.update(some)
            part = part[len(some) :]
            if self._piece.size == PIECE_BYTES:
                self._end_piece()

    def _end_piece(self) -> None:
        self._digests += self._piece.digest().raw
        self._piece = Hasher(DIGEST_ALGO)

    def key(self) -> BlobKey:
        """Of all that was read."""
        return BlobKey(self._whole.digest(), self._whole.size)

    def digests(self) -> bytes:
        """Of all pieces, one after the other; after the last part. Empty if the key's own digest says as much."""
        if self._whole.size <= PIECE_BYTES:
            return b""
        if self._piece.size:
            self._end_piece()
        return bytes(self._digests)


class Temporary:
    """The object that has the bytes of a blob whose key is not known yet."""

    def __init__(self, api: S3Api, names: BlobNames) -> None:
        self._api = api
        self.key = names.temporary(secrets.token_hex(16))
        self._may_be_there = False

    def begin(self) -> None:
        """It may be there from now on, and is to be removed."""
        self._may_be_there = True

    async def remove(self) -> None:
        """Idempotent; cancelling does not cut it short. Whatever became of the put is told by its own result."""
        if self._may_be_there:
            self._may_be_there = False
            await finish_anyway(self._remove())

    async def _remove(self) -> None:
        try:
            async with self._api.cleaning() as api:
                await api.delete(self.key, "a temporary object")
        except GravitonError:
            pass  # a lifecycle rule removes what lies below `<prefix>.tmp/`


class Staged(NamedTuple):
    """Bytes that were read to their end: in memory if one part holds them, else in a temporary object."""

    memory: memoryview
    temporary: Temporary | None

    async def remove(self) -> None:
        """Remove the temporary object."""
        if self.temporary is not None:
            await self.temporary.remove()
