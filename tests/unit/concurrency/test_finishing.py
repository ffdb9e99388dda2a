"""Work that is done to its end although nobody waits for it any more."""

from __future__ import annotations

import asyncio

import pytest

from graviton.concurrency.finishing import finish_anyway


async def test_cancelled_work_is_finished_before_the_cancellation_goes_on() -> None:
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.02)
        done.append("given back")

    task = asyncio.ensure_future(finish_anyway(work()))
    for _ in range(3):
        await asyncio.sleep(0.001)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["given back"]


async def test_a_failure_reaches_who_waits() -> None:
    async def work() -> None:
        raise KeyError("planned")

    with pytest.raises(KeyError, match="planned"):
        await finish_anyway(work())


async def test_a_failure_after_the_cancellation_is_not_reported_as_lost() -> None:
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: lost.append(context))

    async def work() -> None:
        await asyncio.sleep(0.01)
        raise KeyError("planned")

    task = asyncio.ensure_future(finish_anyway(work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await asyncio.sleep(0)
    assert lost == []
