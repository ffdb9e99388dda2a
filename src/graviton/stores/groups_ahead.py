"""Groups of small blobs on their way in: one waits for the disk, the next is cut, hashed and written meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from graviton.errors import GravitonError
from graviton.ports.blobs import BlobWriteResult

__all__ = ["Room", "in_order"]

_GROUPS_AT_ONCE = 2
"""Groups in work: one waits for the disk, the other for the processor."""


class Room(Protocol):
    """What was asked for a group before its turn."""

    async def aclose(self) -> None:
        """Give back what it did not use. Idempotent."""


_G = TypeVar("_G")
_R = TypeVar("_R", bound=Room)


class _Going(NamedTuple, Generic[_R]):
    task: asyncio.Task[list[BlobWriteResult]]
    room: _R | None


async def in_order(
    groups: Iterable[_G | Exception],
    room_for: Callable[[_G], Awaitable[_R | None]],
    put: Callable[[_G, asyncio.Future[Any] | None, _R | None], Coroutine[Any, Any, list[BlobWriteResult]]],
) -> AsyncGenerator[BlobWriteResult, None]:
    """The results of all groups. `put` is given the one before, after which it commits. An exception among the groups,
    or where there is no room for one, is raised after everything before it was put."""
    going_on: deque[_Going[_R]] = deque()
    failure: Exception | None = None
    try:
        for group in groups:
            if isinstance(group, Exception):
                failure = group
                break
            try:
                room = await room_for(group)
            except GravitonError as error:
                failure = error
                break
            before = going_on[-1].task if going_on else None
            going_on.append(_Going(asyncio.create_task(put(group, before, room)), room))
            if len(going_on) == _GROUPS_AT_ONCE:
                for result in await going_on.popleft().task:
                    yield result
        while going_on:
            for result in await going_on.popleft().task:
                yield result
        if failure is not None:
            raise failure
    finally:
        for one in going_on:
            one.task.cancel()
        await asyncio.gather(*(one.task for one in going_on), return_exceptions=True)
        for one in going_on:
            if one.room is not None:  # of a task that never began
                await one.room.aclose()
