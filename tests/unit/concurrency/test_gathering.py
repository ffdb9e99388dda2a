"""Gathering: what waits together is done together, by one thread, or by several where groups are slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from graviton.concurrency import gathering
from graviton.concurrency.calls import Call, deliver
from graviton.concurrency.executors import in_own_thread
from graviton.concurrency.gathering import Gathering, Group
from graviton.errors import Unavailable


class _One(Call[int]):
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Worker:
    """Gives back the number of each call; waits in each group until it may go on."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.inside = threading.Semaphore(0)
        self.may_go_on = threading.Semaphore(0)

    async def serve(self, calls: Sequence[_One]) -> None:
        self.inside.release()
        assert self.may_go_on.acquire(timeout=30)
        self.groups.append([call.number for call in calls])
        for call in calls:
            call.result = call.number
        deliver(calls)


def _gathering(worker: _Worker, most: Group, threads: int = 1) -> Gathering[_One]:
    return Gathering(worker.serve, lambda call: call.number, most, "try", threads=threads)


def _submitted(gathering_: Gathering[_One], numbers: Sequence[int]) -> list[asyncio.Task[int]]:
    calls = [_One(number) for number in numbers]
    for call in calls:
        gathering_.submit(call)
    return [asyncio.ensure_future(call.outcome()) for call in calls]


def _threads() -> int:
    return sum(thread.name == "graviton-small-trys" for thread in threading.enumerate())


async def test_groups_end_with_the_number_of_calls_or_their_weight() -> None:
    worker = _Worker()
    some = _gathering(worker, Group(calls=4, weight=10))
    tasks = _submitted(some, [0])
    await in_own_thread(worker.inside.acquire)
    tasks += _submitted(some, [1, 1, 1, 1, 1, 8, 1, 20, 3])
    for _ in range(6):
        worker.may_go_on.release()
    assert await asyncio.gather(*tasks) == [0, 1, 1, 1, 1, 1, 8, 1, 20, 3]
    assert worker.groups == [[0], [1, 1, 1, 1], [1, 8, 1], [20], [3]]
    await some.aclose()
    assert _threads() == 0


async def test_more_threads_begin_only_behind_slow_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = _Worker()
    some = _gathering(worker, Group(calls=1, weight=10), threads=3)
    monkeypatch.setattr(gathering, "SLOW_SECONDS", 3600.0)
    tasks = _submitted(some, [1, 2, 3, 4])
    for _ in range(4):
        worker.may_go_on.release()
    await asyncio.gather(*tasks)
    assert _threads() == 1, "quick ones need no other"
    monkeypatch.setattr(gathering, "SLOW_SECONDS", 0.0)
    worker.may_go_on.release()
    await asyncio.gather(*_submitted(some, [5]))
    for _ in range(5):
        await in_own_thread(worker.inside.acquire)
    tasks = _submitted(some, [6])
    await in_own_thread(worker.inside.acquire)
    tasks += _submitted(some, [7, 8, 9, 10, 11])
    for _ in range(2):
        await in_own_thread(worker.inside.acquire)
    assert _threads() == 3, "three groups at once, and no more"
    for _ in range(6):
        worker.may_go_on.release()
    assert await asyncio.gather(*tasks) == [6, 7, 8, 9, 10, 11]
    await some.aclose()
    assert _threads() == 0


async def test_closing_lets_what_was_accepted_finish_on_all_threads() -> None:
    worker = _Worker()
    some = _gathering(worker, Group(calls=1, weight=10), threads=2)
    tasks = _submitted(some, range(5))
    closing = asyncio.ensure_future(some.aclose())
    await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        some.submit(_One(1))
    for _ in range(5):
        worker.may_go_on.release()
    await closing
    assert await asyncio.gather(*tasks) == list(range(5))
    await some.aclose()


async def test_what_is_wrong_with_the_work_is_told_and_the_thread_lives() -> None:
    async def broken(calls: Sequence[_One]) -> None:
        if calls[0].number == 1:
            raise SystemExit
        calls[0].result = 7
        deliver(calls)

    some: Gathering[_One] = Gathering(broken, lambda call: 1, Group(1, 1), "try")
    with pytest.raises(Unavailable, match="SystemExit"):
        await asyncio.gather(*_submitted(some, [1]))
    assert await asyncio.gather(*_submitted(some, [2])) == [7]
    await some.aclose()
