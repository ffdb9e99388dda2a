"""A source as *segments*: stretches of memory that begin at a block start, ready for the kernel.

The undecided tail of one segment has to stand at the head of the next. A buffer therefore keeps room in front of where
it is filled; the tail (at most one block) is copied there, and reading ahead need not know how long it will be:

    | room for a tail: one maximal block | filled from the source |
                       | tail            |
                       ^ the segment begins here

`bytes` are cut in place instead, without any copy.
"""

from __future__ import annotations

import asyncio
import mmap
from typing import Protocol

from graviton.constraints.budget import ByteBudget
from graviton.stores.fillers import Filler

__all__ = ["Segment", "Segments", "bytes_segments", "filled_segments"]

FILL_BYTES = 8 * 1024 * 1024
"""Bytes read at once when memory is free: some milliseconds of work, next to which a thread hop is nothing."""

LEAN_FILL_BYTES = 1024 * 1024
"""Bytes read at once when memory is short."""

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
            self._buffer.free.set()
            self._buffer = None


class Segments(Protocol):
    """The segments of one source."""

    async def next(self, tail_bytes: int) -> Segment:
        """The next segment, whose first `tail_bytes` are the last of the one before. Not after the final one."""
        ...

    async def aclose(self) -> None:
        """Stop reading and give all memory back. Idempotent."""
        ...


def bytes_segments(data: bytes) -> Segments:
    """`data` in place."""
    return _InPlace(memoryview(data))


async def filled_segments(filler: Filler, max_block_bytes: int, budget: ByteBudget) -> Segments:
    """What `filler` gives, in memory of ours: just enough for a small file, several large buffers if memory is free,
    else one small one, for which this waits. Closes `filler` when it is closed or fails to begin."""
    try:
        if filler.size_hint is not None and filler.size_hint < LEAN_FILL_BYTES:
            return await _small(filler, filler.size_hint, max_block_bytes, budget)
        return await _buffered(filler, max_block_bytes, budget)
    except BaseException:
        await filler.aclose()
        raise


async def _small(filler: Filler, size_hint: int, max_block_bytes: int, budget: ByteBudget) -> Segments:
    reserved = size_hint + 1  # one byte more than expected shows whether the end was reached
    await budget.acquire(reserved, budget.for_puts)
    try:
        memory = memoryview(bytearray(reserved))
        count = await filler.fill(memory)
        if count < reserved:
            return _InPlace(memory[:count], filler, budget, reserved)
    except BaseException:
        budget.release(reserved)
        raise
    budget.release(reserved)  # the file grew: its beginning goes on as the head of a larger buffer
    return await _buffered(_Continued(filler, bytes(memory)), max_block_bytes, budget)


async def _buffered(filler: Filler, max_block_bytes: int, budget: ByteBudget) -> Segments:
    large, lean = max_block_bytes + FILL_BYTES, max_block_bytes + LEAN_FILL_BYTES
    count = 0
    while count < MAX_BUFFERS and budget.try_acquire(large, budget.for_puts):
        count += 1
    if count:
        return _Buffered(filler, max_block_bytes, FILL_BYTES, count, budget)
    await budget.acquire(lean, budget.for_puts)
    return _Buffered(filler, max_block_bytes, LEAN_FILL_BYTES, 1, budget)


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
        self, view: memoryview, filler: Filler | None = None, budget: ByteBudget | None = None, reserved: int = 0
    ) -> None:
        self._view = view
        self._end = 0
        self._filler, self._budget, self._reserved = filler, budget, reserved

    async def next(self, tail_bytes: int) -> Segment:
        start = self._end - tail_bytes
        self._end = min(len(self._view), self._end + FILL_BYTES)
        return Segment(self._view[start : self._end], self._end == len(self._view))

    async def aclose(self) -> None:
        filler, self._filler = self._filler, None
        if filler is not None and self._budget is not None:
            self._budget.release(self._reserved)
            await filler.aclose()


class _Buffer:
    """Anonymous memory with room for a tail in front."""

    def __init__(self, size: int) -> None:
        self.memory = mmap.mmap(-1, size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                self.memory.madvise(mmap.MADV_HUGEPAGE)  # 2 MiB pages: 512 times fewer faults
            except OSError:
                pass  # a kernel without huge pages: only slower
        self.view = memoryview(self.memory)
        self.free = asyncio.Event()
        self.free.set()
        self.end = 0


class _Buffered:
    """Segments in rotating buffers, one of which is being filled ahead where there is more than one."""

    def __init__(self, filler: Filler, room: int, fill_bytes: int, count: int, budget: ByteBudget) -> None:
        self._filler, self._room, self._budget = filler, room, budget
        self._buffers = [_Buffer(room + fill_bytes) for _ in range(count)]
        self._reserved = count * (room + fill_bytes)
        self._turn = 0
        self._last: _Buffer | None = None
        self._ahead: asyncio.Task[_Buffer] | None = None

    async def next(self, tail_bytes: int) -> Segment:
        if len(self._buffers) == 1:
            buffer = self._buffers[0]
            await buffer.free.wait()
            self._move_tail(buffer, tail_bytes)
            await self._fill(buffer)
        else:
            self._ahead = self._ahead or asyncio.ensure_future(self._fill_next())
            buffer = await self._ahead
            self._move_tail(buffer, tail_bytes)
        buffer.free.clear()
        self._last = buffer
        final = buffer.end < len(buffer.view)
        self._ahead = None if final or len(self._buffers) == 1 else asyncio.ensure_future(self._fill_next())
        return Segment(buffer.view[self._room - tail_bytes : buffer.end], final, buffer)

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
        reserved, self._reserved = self._reserved, 0
        self._buffers, self._last = [], None
        if reserved:
            self._budget.release(reserved)
            await self._filler.aclose()
