"""One look for all who want the same: who shares what, who fails, who may leave."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from graviton.errors import GravitonError, IntegrityError, NotFound, Unavailable
from graviton.stores.layers.cache.flights import Flights
from graviton.testing.conformance.block_values import block

KEY = block(b"the block").key


class Work:
    """Looks that end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[asyncio.Future[str]] = []
        self.ended = 0

    async def __call__(self) -> str:
        self.begun.append(asyncio.get_running_loop().create_future())
        try:
            return await self.begun[-1]
        finally:
            self.ended += 1


def joined(flights: Flights[str], work: Callable[[], Coroutine[Any, Any, str]]) -> asyncio.Task[Any]:
    return asyncio.ensure_future(flights.join(KEY, work))


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_ask_at_once_share_one_look() -> None:
    flights, work = Flights[str](), Work()
    tasks = [joined(flights, work) for _ in range(1000)]
    await turns()
    [look] = work.begun
    look.set_result("bytes")
    landed = await asyncio.gather(*tasks)
    assert {one.value for one in landed} == {"bytes"}
    assert sum(one.is_own for one in landed) == 1
    again = joined(flights, work)
    await turns()
    assert len(work.begun) == 2, "nothing is remembered"
    work.begun[1].set_result("again")
    assert (await again).value == "again"


@pytest.mark.parametrize("kind", [NotFound, Unavailable])
async def test_failure_reaches_all_each_with_an_error_of_his_own_and_is_not_remembered(
    kind: type[GravitonError],
) -> None:
    flights, work = Flights[str](), Work()
    tasks = [joined(flights, work) for _ in range(1000)]
    await turns()
    work.begun[0].set_exception(kind("planned", subject="it"))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert {(type(error), str(error)) for error in errors} == {(kind, str(kind("planned", subject="it")))}
    assert len({id(error) for error in errors}) == 1000
    assert len(work.begun) == 1
    later = joined(flights, work)
    await turns()
    work.begun[1].set_result("there now")
    assert (await later).value == "there now"


@pytest.mark.parametrize("kind", [NotFound, IntegrityError])
async def test_absence_and_damage_seen_before_the_call_are_looked_at_again(kind: type[GravitonError]) -> None:
    flights, work = Flights[str](), Work()
    first = joined(flights, work)
    await turns()
    late = [joined(flights, work) for _ in range(50)]
    await turns()
    work.begun[0].set_exception(kind("planned"))
    await turns()
    with pytest.raises(kind):
        await first
    assert len(work.begun) == 2, "all the late ones share one more look"
    work.begun[1].set_result("put meanwhile")
    assert {one.value for one in await asyncio.gather(*late)} == {"put meanwhile"}


async def test_absence_seen_after_the_call_is_believed() -> None:
    flights, work = Flights[str](), Work()
    first = joined(flights, work)
    await turns()
    late = joined(flights, work)
    await turns()
    work.begun[0].set_exception(NotFound("before"))
    await turns()
    work.begun[1].set_exception(NotFound("after"))
    with pytest.raises(NotFound, match="before"):
        await first
    with pytest.raises(NotFound, match="after"):
        await late
    assert len(work.begun) == 2


async def test_whoever_is_cancelled_leaves_and_the_others_go_on() -> None:
    flights, work = Flights[str](), Work()
    tasks = [joined(flights, work) for _ in range(3)]
    await turns()
    tasks[0].cancel()
    tasks[2].cancel()
    await turns()
    assert (tasks[0].cancelled(), tasks[2].cancelled(), work.ended) == (True, True, 0)
    work.begun[0].set_result("bytes")
    assert (await tasks[1]).value == "bytes"


async def test_the_last_to_leave_ends_the_look_and_waits_for_its_end() -> None:
    flights, cleaned = Flights[str](), asyncio.Event()
    begun = asyncio.Event()

    async def slow() -> str:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()
        return ""

    tasks = [joined(flights, slow) for _ in range(3)]
    await begun.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert cleaned.is_set()


async def test_who_comes_after_the_last_one_left_looks_anew() -> None:
    flights, work = Flights[str](), Work()
    first = joined(flights, work)
    await turns()
    first.cancel()
    second = joined(flights, work)
    await turns()
    assert first.cancelled()
    work.begun[-1].set_result("bytes")
    assert (await second).value == "bytes"


async def test_cancelled_in_the_moment_of_a_failure_leaves_nothing_unretrieved() -> None:
    flights, work = Flights[str](), Work()
    first = joined(flights, work)
    await turns()
    work.begun[0].set_exception(Unavailable("planned"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises((asyncio.CancelledError, Unavailable)):
        await first


async def test_what_a_failed_look_held_is_let_go_at_once() -> None:
    class Payload:
        """Stands for the bytes of a block."""

    flights, held = Flights[str](), []

    async def fail() -> str:
        payload = Payload()
        held.append(weakref.ref(payload))
        await asyncio.sleep(0)
        raise Unavailable(f"planned {payload}")

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            outcomes = await asyncio.gather(joined(flights, fail), joined(flights, fail), return_exceptions=True)
            assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
            del outcomes
        await turns()
        assert [one() for one in held] == [None] * 3
    finally:
        gc.enable()


async def test_loops_do_not_share() -> None:
    flights, work = Flights[str](), Work()
    here = joined(flights, work)
    await turns()

    async def other() -> str:
        async def at_once() -> str:
            return "there"

        return (await flights.join(KEY, at_once)).value

    assert await asyncio.get_running_loop().run_in_executor(None, lambda: asyncio.run(other())) == "there"
    work.begun[0].set_result("here")
    assert (await here).value == "here"
