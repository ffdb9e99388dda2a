"""A source on its way out in parts of bounded size: some are being written while the next one is filled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, NamedTuple, TypeAlias, cast

from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import finish_anyway, until_done
from graviton.concurrency.pieces import AsyncPieceFiller, Filler, PieceFiller
from graviton.core.buffers import Buffer, as_bytes, memory_of
from graviton.errors import InvalidInput

__all__ = ["PartPlan", "Parts", "parts_of", "write_parts"]

_Writing: TypeAlias = set["asyncio.Future[None]"]


class PartPlan(NamedTuple):
    """How a source is cut, and how much of it is in memory."""

    part_bytes: int
    """Bytes of the first part, and of all others unless they grow."""
    held: int = 2
    """Parts in memory at once, the one that is being filled included."""
    writers: int = 1
    """Parts that are being written at once; with 1 they are written in order."""
    growth: int = 0
    """A part has at least 1/growth of all bytes before it, so that a limited number of parts takes any source; 0: all
    have the same size."""
    held_bytes: int = 0
    """Of parts that have grown only as many are held as fit here, and two in any case; 0: no bound."""
    grows_after: int = 0
    """Bytes that are expected, for which the first size is enough: only then parts grow."""

    def next_bytes(self, done: int) -> int:
        """Bytes of the part that follows the first `done` bytes."""
        grows = self.growth and done > self.grows_after
        return max(self.part_bytes, -(-done // self.growth)) if grows else self.part_bytes

    def may_hold(self, size: int) -> int:
        """How many parts may be in memory when the next one has `size` bytes."""
        if not self.held_bytes or size == self.part_bytes:
            return self.held
        return max(min(self.held, 2), min(self.held, self.held_bytes // size))


class Parts:
    """A source in parts. Memory is used where it is; pieces are gathered in buffers, which are used again when they are
    given back."""

    def __init__(self, source: memoryview | Filler) -> None:
        """`source` is bytes one after the other, or a filler, which `aclose` closes."""
        self._memory = source if isinstance(source, memoryview) else memoryview(b"")
        self._filler = None if isinstance(source, memoryview) else source
        self.size = len(source) if isinstance(source, memoryview) else None
        """Bytes in all, where that is certain."""
        self._free: list[bytearray] = []
        self._late: asyncio.Future[memoryview] | None = None
        self._is_closed = False

    async def next(self, size: int) -> memoryview:
        """The next `size` bytes; fewer only at the end of the source."""
        if self._filler is None:
            part, self._memory = self._memory[:size], self._memory[size:]
            return part
        buffer = memoryview(self._buffer(size))
        return buffer[: await self._filler.fill(buffer)]

    def _buffer(self, size: int) -> bytearray:
        while self._free:
            buffer = self._free.pop()
            if len(buffer) == size:
                return buffer
        return bytearray(size)

    def release(self, part: memoryview) -> None:
        """Give back the memory of a part, which nobody reads any more."""
        if self._filler is not None:
            self._free.append(cast(bytearray, part.obj))

    def leave(self, taking: asyncio.Future[memoryview]) -> None:
        """Nobody wants the part that is being taken. It ends when the source gives way, which `aclose` waits for: who
        has something to tidy up does that before."""
        taking.cancel()
        self._late = taking

    async def aclose(self) -> None:
        """Close the source, if it can be, and end its thread; cancelling does not cut it short. Idempotent. Parts that
        were given out stay what they are."""
        if self._filler is not None and not self._is_closed:
            self._is_closed = True
            await finish_anyway(self._close(self._filler))

    async def _close(self, filler: Filler) -> None:
        if self._late is not None:
            await until_done(self._late)
        await filler.aclose()


def parts_of(source: Buffer | Iterable[Buffer] | AsyncIterable[Buffer]) -> Parts:
    """The parts of bytes or of pieces of them. Raises InvalidInput."""
    view = memory_of(source)
    if view is not None:
        return Parts(as_bytes(view))
    if isinstance(source, AsyncIterable):
        return Parts(AsyncPieceFiller(source))
    if isinstance(source, Iterable) and not isinstance(source, str):
        return Parts(PieceFiller(iter(cast(Iterable[Buffer], source)), WorkerPool(1, "source")))
    raise InvalidInput(
        f"cannot put a {type(source).__name__}",
        operation="objects.put",
        hint="Give bytes, or an iterable or async iterable of them.",
    )


async def write_parts(
    first: memoryview, parts: Parts, plan: PartPlan, write: Callable[[int, memoryview], Awaitable[None]]
) -> int:
    """`write(number, part)` every part, `first` and those after it; the bytes written. The next one is taken from the
    source meanwhile, however long that takes: nothing is held but memory. The first error of either ends all, and at
    once, even if the source stands still in its thread: `parts.aclose` is where one waits for that."""
    turn = asyncio.Semaphore(plan.writers)

    async def write_one(number: int, part: memoryview) -> None:
        async with turn:  # first come first served
            await write(number, part)
        parts.release(part)

    writing: _Writing = set()
    size, number, part, asked = 0, 0, first, plan.next_bytes(0)
    try:
        while part:
            writing.add(asyncio.ensure_future(write_one(number, part)))
            size, number = size + len(part), number + 1
            if len(part) < asked:
                break
            asked = plan.next_bytes(size)
            await _settle(writing, plan.may_hold(asked) - 1)
            part = await _beside(writing, parts, asked)
        await _settle(writing, 0)
    finally:
        for job in writing:
            job.cancel()
        for job in writing:
            await until_done(job)
    return size


async def _settle(writing: _Writing, allowed: int) -> None:
    """Wait until at most `allowed` parts are being written. Raises what writing one raised."""
    while len(writing) > allowed:
        await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        _drop_written(writing)


async def _beside(writing: _Writing, parts: Parts, size: int) -> memoryview:
    """The next part, unless writing one of those before fails first."""
    job = asyncio.ensure_future(parts.next(size))
    try:
        while not job.done():
            jobs: list[asyncio.Future[Any]] = [job, *writing]
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            _drop_written(writing)
        return job.result()
    finally:
        if not job.done():
            parts.leave(job)


def _drop_written(writing: _Writing) -> None:
    for job in [job for job in writing if job.done()]:
        writing.discard(job)
        job.result()
