"""The bytes of one put on their way: a source cut into parts, one of them on its way to the server while the next is
filled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import cast

from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import finish_anyway, until_done
from graviton.concurrency.pieces import AsyncPieceFiller, Filler, PieceFiller
from graviton.core.buffers import Buffer, as_bytes, memory_of
from graviton.errors import InvalidInput
from graviton.ports.objects import ObjectSource

__all__ = ["Parts", "write_parts"]


class Parts:
    """A source in parts of `part_bytes`; only the last one is shorter, or empty. Bytes are used where they are; pieces
    are gathered in two buffers that take turns, so a part is good until the next but one is asked for."""

    def __init__(self, source: ObjectSource, part_bytes: int) -> None:
        """Raises InvalidInput."""
        view = memory_of(source)
        self._memory = memoryview(b"") if view is None else as_bytes(view)
        self._filler = None if view is not None else _filler(source)
        self._part_bytes = part_bytes
        self._free: list[memoryview] = []
        self._lent: list[memoryview] = []

    async def next(self) -> memoryview:
        """The next part."""
        if self._filler is None:
            part, self._memory = self._memory[: self._part_bytes], self._memory[self._part_bytes :]
            return part
        if len(self._lent) == 2:
            self._free.append(self._lent.pop(0))
        buffer = self._free.pop() if self._free else memoryview(bytearray(self._part_bytes))
        self._lent.append(buffer)
        return buffer[: await self._filler.fill(buffer)]

    async def aclose(self) -> None:
        """Close the source, if it can be, and end its thread; cancelling does not cut it short."""
        if self._filler is not None:
            await finish_anyway(self._filler.aclose())


def _filler(source: ObjectSource) -> Filler:
    if isinstance(source, AsyncIterable):
        return AsyncPieceFiller(source)
    if isinstance(source, Iterable) and not isinstance(source, str):
        return PieceFiller(iter(cast(Iterable[Buffer], source)), WorkerPool(1, "source"))
    raise InvalidInput(
        f"cannot put a {type(source).__name__}",
        operation="objects.put",
        hint="Give bytes, or an iterable or async iterable of them.",
    )


async def write_parts(
    first: memoryview, parts: Parts, part_bytes: int, write: Callable[[int, memoryview], Awaitable[None]]
) -> int:
    """`write(number, part)` every part, `first` and those after it, in order; the bytes written. The next one is taken
    from the source meanwhile, however long that takes: nothing is held but its memory. The first error of either ends
    both."""
    size, number, part = 0, 0, first
    while part:
        writing = asyncio.ensure_future(write(number, part))
        taking = asyncio.ensure_future(parts.next() if len(part) == part_bytes else _no_part())
        try:
            await asyncio.wait((writing, taking), return_when=asyncio.FIRST_EXCEPTION)
            for job in (writing, taking):
                if job.done():
                    job.result()
        finally:
            for job in (writing, taking):
                job.cancel()
                await until_done(job)
        size, number, part = size + len(part), number + 1, taking.result()
    return size


async def _no_part() -> memoryview:
    return memoryview(b"")
