"""One pass over a blob: cuts, the digest of each block, the running digest of the blob.

The caller owns the memory. It hands over *segments*, each of which begins where a block begins: the undecided tail of
one segment is put at the head of the next. What was scanned once is not scanned again.
"""

from __future__ import annotations

from typing import Protocol

from graviton.core.buffers import Buffer
from graviton.core.chunking.chunker import Cutter
from graviton.core.hashing import HashAlgo
from graviton.errors import InvalidInput

__all__ = ["Ingest", "PythonIngest"]


class Ingest(Protocol):
    """The state of one blob on its way in. Use by two threads at once raises RuntimeError.

    Every other misuse (a segment shorter than the tail it must begin with, a feed after the final one, a digest asked
    for before the end) raises a ValueError that says so.
    """

    def feed(self, segment: Buffer, final: bool = False) -> tuple[list[int], list[bytes]]:
        """Cut and hash; gives the lengths and raw digests of the blocks whose end is decided.

        `segment` is contiguous bytes that begin at a block start and must not change during the call. The lengths
        cover `segment[: sum(lengths)]`; the rest, less than one maximal block, must be the head of the next segment.
        Both lists are empty if nothing is decided yet. With `final` everything is consumed.
        """
        ...

    def finish(self) -> tuple[bytes, int]:
        """The raw digest of the blob and its size in bytes, after the final feed (or none at all: the empty blob)."""
        ...


class PythonIngest:
    """`Ingest` over a reference cutter. A blob of one block is hashed once if both algorithms are the same."""

    __slots__ = (
        "_blob_algo",
        "_blob_hash",
        "_block_algo",
        "_cutter",
        "_final",
        "_only_digest",
        "_seen",
        "_size",
        "_turn",
    )

    def __init__(self, cutter: Cutter, block_algo: HashAlgo, blob_algo: HashAlgo | None = None) -> None:
        self._cutter = cutter
        self._block_algo = block_algo
        self._blob_algo = blob_algo or block_algo
        self._blob_hash = self._blob_algo.hasher()
        self._only_digest: bytes | None = None
        self._seen = 0
        self._size = 0
        self._final = False
        self._turn = [True]  # popped while in use: one atomic step, and core has no locks

    def feed(self, segment: Buffer, final: bool = False) -> tuple[list[int], list[bytes]]:
        """See `Ingest.feed`."""
        try:
            turn = self._turn.pop()
        except IndexError:
            raise RuntimeError("this ingest is in use by another thread") from None
        try:
            with memoryview(segment) as whole, whole.cast("B") as view:
                self._check(len(view))
                return self._cut_and_hash(view, final)
        finally:
            self._turn.append(turn)

    def _check(self, size: int) -> None:
        if self._final:
            raise InvalidInput("this ingest had its final segment: nothing can be fed any more")
        if size < self._seen:
            raise InvalidInput(
                f"the segment has {size} bytes, but must begin with the undecided {self._seen} before it"
            )

    def _cut_and_hash(self, view: memoryview, final: bool) -> tuple[list[int], list[bytes]]:
        lengths: list[int] = []
        digests: list[bytes] = []
        start = 0
        while (length := self._cutter.cut(view[start:], self._seen, final)) is not None:
            self._seen = 0
            with view[start : start + length] as block:
                only = final and self._size == 0 and length == len(view)
                digests.append(self._hash(block, only))
            lengths.append(length)
            self._size += length
            start += length
        self._seen = len(view) - start
        self._final = final
        return lengths, digests

    def _hash(self, block: memoryview, only: bool) -> bytes:
        digest = self._block_algo.digest(block).raw
        if only and self._blob_algo is self._block_algo:
            self._only_digest = digest
        else:
            self._blob_hash.update(block)
        return digest

    def finish(self) -> tuple[bytes, int]:
        """See `Ingest.finish`."""
        if self._seen:
            raise InvalidInput(f"the last {self._seen} bytes are undecided: feed them again with final=True")
        return self._only_digest or self._blob_hash.digest().raw, self._size
