from __future__ import annotations

import asyncio
import random
import threading

import pytest

from graviton.concurrency.executors import in_own_thread
from graviton.concurrency.turns import InTurns


class Work:
    """Does jobs slowly, and remembers which came together."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate: asyncio.Event | None = None
        self.at_once = 0
        self.turns: InTurns[int] = InTurns(self.do)

    async def do(self, jobs: list[int]) -> None:
        self.at_once += 1
        assert self.at_once == 1
        self.groups.append(jobs)
        if self.gate is not None:
            await self.gate.wait()
        else:
            await asyncio.sleep(0)
        self.at_once -= 1

    @property
    def done(self) -> list[int]:
        return [job for group in self.groups for job in group]


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_what_waits_is_done_together_and_in_order() -> None:
    work = Work()
    work.gate = asyncio.Event()
    tasks = [asyncio.ensure_future(work.turns.run(0))]
    await turns()
    tasks += [asyncio.ensure_future(work.turns.run(number)) for number in range(1, 5)]
    await turns()
    assert work.groups == [[0]]
    work.gate.set()
    await asyncio.gather(*tasks)
    assert work.groups == [[0], [1, 2, 3, 4]]
    await work.turns.run(9)
    assert work.groups[-1] == [9]


@pytest.mark.parametrize("which", range(4))
async def test_whoever_is_cancelled_holds_nobody_up(which: int) -> None:
    work = Work()
    work.gate = asyncio.Event()
    tasks = [asyncio.ensure_future(work.turns.run(0))]
    await turns()
    tasks += [asyncio.ensure_future(work.turns.run(number)) for number in range(1, 4)]
    await turns()
    tasks[which].cancel()
    await turns()
    assert tasks[which].done() is (which != 0), "who does it for the others does it to its end"
    work.gate.set()
    await asyncio.wait(tasks)
    assert tasks[which].cancelled()
    assert work.done == [number for number in range(4) if number != which or which == 0]


async def test_cancelled_in_the_moment_in_which_it_was_to_lead() -> None:
    work = Work()
    work.gate = asyncio.Event()
    first = asyncio.ensure_future(work.turns.run(0))
    await turns()
    second, third = (asyncio.ensure_future(work.turns.run(number)) for number in (1, 2))
    await turns()
    work.gate.set()
    while not work.turns._line[0].leads:
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([first, second, third])
    assert second.cancelled()
    assert work.done == [0, 2]
    assert not work.turns._is_busy


def test_event_loops_of_several_threads_share_the_turns() -> None:
    work = Work()

    async def several(number: int) -> None:
        chance = random.Random(number)
        for step in range(40):
            task = asyncio.ensure_future(work.turns.run(100 * number + step))
            if chance.random() < 0.2:
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])

    threads = [threading.Thread(target=lambda n=n: asyncio.run(several(n))) for n in range(6)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(work.done)) == len(work.done) >= 150
    assert not work.turns._is_busy
    assert work.turns._line == []


async def test_a_loop_that_has_gone_is_passed_over() -> None:
    work = Work()
    work.gate = asyncio.Event()
    first = asyncio.ensure_future(work.turns.run(1))
    await turns()

    def wait_and_go() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(work.turns.run(2))
        loop.run_until_complete(asyncio.sleep(0.01))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        gone.append(task)
        loop.close()

    gone: list[object] = []
    await in_own_thread(wait_and_go)
    third = asyncio.ensure_future(work.turns.run(3))
    await turns()
    work.gate.set()
    await asyncio.gather(first, third)
    assert work.done == [1, 3]
