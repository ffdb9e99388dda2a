"""Work that one call shares with the other workers of its pool."""

from __future__ import annotations

import asyncio
import threading

from graviton.backends.filesystem._spread import spread
from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool, in_own_thread


async def test_a_call_that_was_accepted_spreads_its_work_also_while_the_pool_closes() -> None:
    """A put that was accepted failed: this store is closed."""
    pool = WorkerPool(3, "test")
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def work(flag: CancelFlag) -> None:
        begun.set()
        assert go_on.wait(10.0)
        spread(pool, done.append, range(20), 3)

    call = asyncio.ensure_future(pool.run(work))
    await in_own_thread(begun.wait, 10.0)
    closing = asyncio.ensure_future(pool.close())
    await asyncio.sleep(0.01)
    go_on.set()
    await call
    await closing
    assert done == list(range(20))
