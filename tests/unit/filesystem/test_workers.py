"""The thread pool: how calls end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from graviton.backends.filesystem._workers import CancelFlag, WorkerPool
from graviton.errors import Unavailable


@pytest.mark.parametrize(
    ("planned", "kind"),
    [(KeyError("mine"), KeyError), (StopIteration(), RuntimeError), (SystemExit(3), Unavailable)],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
async def test_whatever_a_call_raises_ends_the_call(planned: BaseException, kind: type[Exception]) -> None:
    """A future takes no StopIteration: who waited for one waited for ever."""
    pool = WorkerPool(1, "test")

    def fn(flag: CancelFlag) -> None:
        raise planned

    with pytest.raises(kind) as caught:
        await asyncio.wait_for(pool.run(fn), 10.0)
    assert planned in (caught.value, caught.value.__cause__)
    assert await pool.run(lambda flag: "next") == "next"
    await pool.close()


async def test_without_a_thread_calls_fail_and_later_ones_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call raised RuntimeError, every later one waited for a thread that had never begun."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = WorkerPool(2, "test")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(Unavailable, match="thread") as caught:
                await pool.run(lambda flag: None)
            assert caught.value.hint
    begun, go_on = threading.Event(), threading.Event()

    def hold(flag: CancelFlag) -> None:
        begun.set()
        assert go_on.wait(10.0)

    held = asyncio.ensure_future(pool.run(hold))
    await asyncio.to_thread(begun.wait, 10.0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        waiting = asyncio.ensure_future(pool.run(lambda flag: "done"))  # no second thread: it waits for the first
        await asyncio.sleep(0.01)
        go_on.set()
        assert await asyncio.wait_for(waiting, 10.0) == "done"
    await held
    await pool.close()
