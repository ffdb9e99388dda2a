"""Functions that want a view of data, on their way to a thread that has one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from graviton.concurrency.blocking import may_block
from graviton.concurrency.calls import Call
from graviton.concurrency.group_thread import GroupThread
from graviton.concurrency.lifetime import Lifetime

__all__ = ["ViewCall", "done_by"]

_T = TypeVar("_T")


class ViewCall(Call[_T]):
    """A function that wants a view of the data."""

    __slots__ = ("fn", "full")

    def __init__(self, fn: Callable[[Any], _T], full: bool) -> None:
        """`full`: whether the disk is waited for before the call ends."""
        super().__init__()
        self.fn: Callable[[Any], _T] = fn
        self.full = full


async def done_by(thread: GroupThread[Any], call: ViewCall[_T], lock: threading.Lock, lifetime: Lifetime) -> _T:
    """The result of a call that a store's thread does, or this one in its turn, if it may block. `lock` is what the
    store holds when it begins threads or closes. Raises what the call raises, and Unavailable of a closed store."""
    lifetime.check()  # first: in a child made by fork the lock may be held for ever
    if may_block():
        with lock:
            lifetime.check()
            thread.start()
        thread.run(call)
        return call.ended()
    with lock:
        lifetime.check()
        thread.submit(call)
    return await call.outcome()
