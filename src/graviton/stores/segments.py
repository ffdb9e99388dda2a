"""A source as *segments*: stretches of memory that begin at a block start, ready for the kernel.

The undecided tail of one segment has to stand at the head of the next. A buffer therefore keeps room in front of where
it is filled; the tail (at most one block) is copied there, and reading ahead need not know how long it will be:

    | room for a tail: one maximal block | filled from the source |
                       | tail            |
                       ^ the segment begins here

`bytes` are cut in place instead, without any copy.

A source of unknown size begins with little memory and gets more only when its bytes keep coming: a thousand connections
that say nothing must not take the budget from those that do.
"""

from __future__ import annotations

import asyncio
import mmap
from typing import Protocol

from graviton.concurrency.pieces import Filler
from graviton.constraints.budget import ByteBudget, Lease
from graviton.core.chunking import ChunkerSpec

__all__ = ["Segment", "Segments", "bytes_segments", "filled_segments", "step_bytes"]

FILL_BYTES = 8 * 1024 * 1024
"""Bytes read at once when memory is free: some milliseconds of work, next to which a thread hop is nothing."""

LEAN_FILL_BYTES = 1024 * 1024
"""Bytes read at once when memory is short, or when more may never come."""

FIRST_BYTES = 16 * 1024
"""Bytes read first from a source of unknown size. While one that has more waits for a buffer they are not counted."""

MAX_STEP_BLOCKS = 8192
"""Blocks that one step may have: as Python objects they and their claims take about 5 MB. Chunkers with a minimum below
1 KiB get shorter segments for it."""

MAX_BUFFERS = 3
"""One being filled, one being cut and hashed, one being written: more only adds memory."""


class Segment:
    """Memory that begins at a block start. `release` says that nobody but the next segment's head needs it."""

    __slots__ = ("_buffer", "final", "view")

    def __init__(self, view: memoryview, final: bool, buffer: _Buffer | None = None) -> None:
        self.view = view
        self.final = final
        """Whether the source ends here."""
        self._buffer = buffer

    def release(self) -> None:
        """Give the memory back. Idempotent."""
        if self._buffer is not None:
            self._buffer.released()
            self._buffer = None


class Segments(Protocol):
    """The segments of one source."""

    async def next(self, tail_bytes: int) -> Segment:
        """The next segment, whose first `tail_bytes` are the last of the one before. Not after the final one."""
        ...

    async def aclose(self) -> None:
        """Stop reading and give all memory back. Idempotent."""
        ...


def step_bytes(spec: ChunkerSpec, at_most: int) -> int:
    """Bytes to cut at once, so that neither they nor their blocks are too many."""
    return min(at_most, spec.min_bytes * MAX_STEP_BLOCKS)


def bytes_segments(data: bytes, spec: ChunkerSpec) -> Segments:
    """`data` in place."""
    return _InPlace(memoryview(data), spec)


async def filled_segments(filler: Filler, spec: ChunkerSpec, budget: ByteBudget) -> Segments:
    """What `filler` gives, in memory of ours: just enough for a small source, several large buffers for one that is
    known to be large if memory is free, else one small one, for which this waits. Closes `filler` when it is closed
    or fails to begin."""
    try:
        expected = FIRST_BYTES - 1 if filler.size_hint is None else filler.size_hint
        if expected < LEAN_FILL_BYTES:
            return await _small(filler, expected, spec, budget)
        buffers = _large_buffers(min(MAX_BUFFERS, expected // step_bytes(spec, FILL_BYTES) + 1), spec, budget)
        return _Buffered(filler, buffers or [await _lean_buffer(spec, budget)], spec, budget)
    except BaseException:
        await filler.aclose()
        raise


async def _small(filler: Filler, expected: int, spec: ChunkerSpec, budget: ByteBudget) -> Segments:
    # One byte more than expected shows whether the end was reached.
    lease = await budget.lease(expected + 1, budget.for_puts)
    try:
        memory = memoryview(bytearray(expected + 1))
        count = await filler.fill(memory)
        if count <= expected:
            return _InPlace(memory[:count], spec, filler, lease)
    except BaseException:
        lease.release()
        raise
    lease.release()  # there is more: this goes on as the head of a larger buffer, and nobody waits while holding
    return _Buffered(_Continued(filler, bytes(memory)), [await _lean_buffer(spec, budget)], spec, budget)


async def _lean_buffer(spec: ChunkerSpec, budget: ByteBudget) -> _Buffer:
    return _Buffer(await budget.lease(spec.max_bytes + step_bytes(spec, LEAN_FILL_BYTES), budget.for_puts))


def _large_buffers(most: int, spec: ChunkerSpec, budget: ByteBudget) -> list[_Buffer]:
    """As many as there is memory for, none if there is too little."""
    buffers: list[_Buffer] = []
    size = spec.max_bytes + step_bytes(spec, FILL_BYTES)
    while len(buffers) < most and (lease := budget.try_lease(size, budget.for_puts)):
        buffers.append(_Buffer(lease))
    return buffers


class _Continued:
    """A filler some of whose bytes were read already."""

    size_hint: int | None = None

    def __init__(self, filler: Filler, head: bytes) -> None:
        self._filler, self._head = filler, memoryview(head)

    async def fill(self, memory: memoryview) -> int:
        """The head, then the rest."""
        count = min(len(self._head), len(memory))
        memory[:count], self._head = self._head[:count], self._head[count:]
        return count + await self._filler.fill(memory[count:])

    async def aclose(self) -> None:
        """Close the filler behind it."""
        await self._filler.aclose()


class _InPlace:
    """Slices of one stretch of memory, and what has to be given back after it."""

    def __init__(
        self, view: memoryview, spec: ChunkerSpec, filler: Filler | None = None, lease: Lease | None = None
    ) -> None:
        self._view = view
        self._step = step_bytes(spec, FILL_BYTES)
        self._end = 0
        self._filler, self._lease = filler, lease

    async def next(self, tail_bytes: int) -> Segment:
        start = self._end - tail_bytes
        self._end = min(len(self._view), self._end + self._step)
        return Segment(self._view[start : self._end], self._end == len(self._view))

    async def aclose(self) -> None:
        filler, self._filler = self._filler, None
        if self._lease is not None:
            self._lease.release()
        if filler is not None:
            await filler.aclose()


class _Buffer:
    """Anonymous memory with room for a tail in front."""

    def __init__(self, lease: Lease) -> None:
        memory = mmap.mmap(-1, lease.size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                memory.madvise(mmap.MADV_HUGEPAGE)  # 2 MiB pages: 512 times fewer faults
            except OSError:
                pass  # a kernel without huge pages: only slower
        self.view = memoryview(memory)
        self.free = asyncio.Event()
        self.free.set()
        self.end = 0
        self._lease = lease
        self._retired = False

    def released(self) -> None:
        """Nobody needs the segment in it any more."""
        self.free.set()
        if self._retired:
            self.drop()

    def retire(self) -> None:
        """It is not filled again: its memory goes back as soon as nobody needs it."""
        self._retired = True
        if self.free.is_set():
            self.drop()

    def drop(self) -> None:
        """Its memory goes back now, because nothing works on it. Idempotent."""
        self.view = memoryview(b"")
        self._lease.release()


class _Buffered:
    """Segments in rotating buffers, one of which is being filled ahead where there is more than one.

    With a single lean buffer it asks for large ones as soon as that was filled to its end.
    """

    def __init__(self, filler: Filler, buffers: list[_Buffer], spec: ChunkerSpec, budget: ByteBudget) -> None:
        self._filler, self._budget, self._spec = filler, budget, spec
        self._room = spec.max_bytes
        self._buffers = buffers
        self._held = [*buffers]
        """Those, and the one they took the place of."""
        self._turn = 0
        self._last: _Buffer | None = None
        self._ahead: asyncio.Task[_Buffer] | None = None

    async def next(self, tail_bytes: int) -> Segment:
        if len(self._buffers) == 1:
            buffer = await self._next_of_one(tail_bytes)
        else:
            self._ahead = self._ahead or asyncio.ensure_future(self._fill_next())
            buffer = await self._ahead
            self._move_tail(buffer, tail_bytes)
        buffer.free.clear()
        self._last = buffer
        final = buffer.end < len(buffer.view)
        self._ahead = None if final or len(self._buffers) == 1 else asyncio.ensure_future(self._fill_next())
        return Segment(buffer.view[self._room - tail_bytes : buffer.end], final, buffer)

    async def _next_of_one(self, tail_bytes: int) -> _Buffer:
        last = self._last
        larger = _large_buffers(MAX_BUFFERS, self._spec, self._budget) if last is not None and self._is_lean else []
        if last is not None and larger:
            self._buffers = larger
            self._held += larger
            self._move_tail(larger[0], tail_bytes)
            last.retire()
        buffer = self._buffers[0]
        await buffer.free.wait()
        if not larger:
            self._move_tail(buffer, tail_bytes)
        self._turn = 1
        await self._fill(buffer)
        return buffer

    @property
    def _is_lean(self) -> bool:
        return len(self._buffers[0].view) < self._room + step_bytes(self._spec, FILL_BYTES)

    async def _fill_next(self) -> _Buffer:
        buffer = self._buffers[self._turn % len(self._buffers)]
        self._turn += 1
        await buffer.free.wait()
        await self._fill(buffer)
        return buffer

    async def _fill(self, buffer: _Buffer) -> None:
        buffer.end = self._room + await self._filler.fill(buffer.view[self._room :])

    def _move_tail(self, target: _Buffer, tail_bytes: int) -> None:
        """The tail of the last segment, which may lie in the same buffer, to the room of `target`."""
        if tail_bytes:
            assert self._last is not None, "a tail comes from a segment"
            last = self._last
            target.view[self._room - tail_bytes : self._room] = last.view[last.end - tail_bytes : last.end]

    async def aclose(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.wait([ahead])
            if not ahead.cancelled():
                ahead.exception()
        held, self._held = self._held, []
        self._buffers, self._last = [], None
        if held:
            for buffer in held:
                buffer.drop()
            await self._filler.aclose()
