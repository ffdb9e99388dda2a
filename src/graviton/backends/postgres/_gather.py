"""Small calls that are made at once share transactions.

A call that finds nobody at work goes at once, alone. Those that come meanwhile wait for its end, and go together then:
one transaction, one fsync and one round of messages for all of them. Nobody waits for calls that *might* come, so a
single caller is never slower for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from graviton.concurrency.calls import own_copy
from graviton.concurrency.finishing import until_done
from graviton.errors import GravitonError, Unavailable

__all__ = ["SMALL_KEYS", "Gatherer"]

SMALL_KEYS = 8
"""Blocks that a small call is about, at most: it then costs the messages, and hardly anything by the block."""

_K = TypeVar("_K", bound=Hashable)
_I = TypeVar("_I")
_O = TypeVar("_O")

_LIMIT = 64
"""Calls of one group: more of them gain little, and each waits for all."""


class _Waiting(Generic[_K, _I, _O]):
    __slots__ = ("item", "key", "outcome")

    def __init__(self, key: _K, item: _I, outcome: asyncio.Future[_O]) -> None:
        self.key, self.item, self.outcome = key, item, outcome


class Gatherer(Generic[_K, _I, _O]):
    """Runs items by `run(key, items)`, which gives an outcome for each, all or none. Only items with an equal key go
    together. If a group fails, each of it is run by itself, so that nobody gets an error because of a stranger; not if
    the database is Unavailable, which concerns all. Usable from several event loops, each of which gathers its own."""

    def __init__(self, run: Callable[[_K, Sequence[_I]], Awaitable[Sequence[_O]]]) -> None:
        self._run = run
        self._queues: dict[asyncio.AbstractEventLoop, deque[_Waiting[_K, _I, _O]]] = {}
        """Who waits, for each loop on which somebody is at work."""
        self._tasks: set[asyncio.Task[None]] = set()
        """Held, because a task that nobody holds may be collected before its end."""

    async def __call__(self, key: _K, item: _I) -> _O:
        """The outcome for `item`. Cancelled, it returns when that has not begun or has ended."""
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is not None:
            return await self._wait(queue, _Waiting(key, item, loop.create_future()))
        self._queues[loop] = queue = deque()
        try:
            return (await self._run(key, [item]))[0]
        finally:
            if queue:
                # Not by this task, whose caller wants to go on. The new one ends with the last who waits.
                task = loop.create_task(self._work_off(loop, queue))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                del self._queues[loop]

    async def _wait(self, queue: deque[_Waiting[_K, _I, _O]], mine: _Waiting[_K, _I, _O]) -> _O:
        queue.append(mine)
        try:
            return await asyncio.shield(mine.outcome)
        except asyncio.CancelledError:
            if mine in queue:
                queue.remove(mine)
            else:
                await until_done(mine.outcome)
            raise

    async def _work_off(self, loop: asyncio.AbstractEventLoop, queue: deque[_Waiting[_K, _I, _O]]) -> None:
        group: list[_Waiting[_K, _I, _O]] = []
        try:
            while queue:
                group = [one for one in queue if one.key == queue[0].key][:_LIMIT]
                for one in group:
                    queue.remove(one)
                await self._run_group(group)
        finally:
            del self._queues[loop]
            for one in (*group, *queue):  # there are any only if the loop ends and cancels what is left
                one.outcome.cancel()

    async def _run_group(self, group: Sequence[_Waiting[_K, _I, _O]]) -> None:
        try:
            outcomes = await self._run(group[0].key, [one.item for one in group])
        except Exception as error:  # noqa: BLE001 - told to who waits
            if len(group) > 1 and isinstance(error, GravitonError) and not isinstance(error, Unavailable):
                for one in group:
                    await self._run_group([one])
                return
            for one in group:
                one.outcome.set_exception(own_copy(error))
        else:
            for one, outcome in zip(group, outcomes, strict=True):
                one.outcome.set_result(outcome)
