"""Calls on their way to a thread and back: who ends them, and what they keep."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from graviton.concurrency.calls import Call, CallCancelled, deliver
from graviton.errors import Unavailable


class Payload:
    """Stands for the bytes of a caller."""


@pytest.fixture
def without_gc() -> Iterator[None]:
    """What is let go is gone at once, or it was held by a cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def _waiting(call: Call[object]) -> asyncio.Task[object]:
    task = asyncio.ensure_future(call.outcome())
    await asyncio.sleep(0)
    return task


async def test_a_call_that_nobody_began_is_taken_back_at_once() -> None:
    call: Call[object] = Call()
    task = await _waiting(call)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not call.take(), "a thread could still begin it"


async def test_a_call_that_was_begun_is_waited_for_however_often_it_is_cancelled() -> None:
    call: Call[object] = Call()
    assert call.take()
    task = await _waiting(call)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    with pytest.raises(CallCancelled):
        call.check()
    deliver((call,))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_outcomes_that_are_ready_together_reach_all_who_wait() -> None:
    calls: list[Call[object]] = [Call() for _ in range(3)]
    tasks = [await _waiting(call) for call in calls]
    calls[0].result, calls[1].error, calls[2].error = 7, StopIteration(), SystemExit(3)
    thread = threading.Thread(target=deliver, args=(calls,))
    thread.start()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    thread.join()
    assert found[0] == 7
    assert [type(error) for error in found[1:]] == [RuntimeError, Unavailable]


@pytest.mark.usefixtures("without_gc")
async def test_a_cancelled_call_keeps_nothing_of_its_error() -> None:
    """The traceback held the call, which held the error: the caller's bytes stayed until the next collection."""

    def work(call: Call[object], payload: Payload) -> None:
        call.check()

    def run(call: Call[object], payload: Payload) -> None:
        try:
            work(call, payload)
        except BaseException as error:  # noqa: BLE001 - delivered
            call.error = error

    payload = Payload()
    gone = weakref.ref(payload)
    call: Call[object] = Call()
    assert call.take()
    task = await _waiting(call)
    task.cancel()
    await asyncio.sleep(0)
    run(call, payload)
    deliver((call,))
    with pytest.raises(asyncio.CancelledError):
        await task
    del call, task, payload
    assert gone() is None


@pytest.mark.usefixtures("without_gc")
def test_a_call_whose_loop_is_gone_keeps_nothing() -> None:
    async def make() -> Call[object]:
        return Call()

    call = asyncio.run(make())
    call.result = payload = Payload()
    gone = weakref.ref(payload)
    del payload
    deliver((call,))
    assert gone() is None
