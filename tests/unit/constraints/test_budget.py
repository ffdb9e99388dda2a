"""The byte budget keeps its bound, its order and its promise that nobody waits while holding."""

from __future__ import annotations

import asyncio
import threading

import pytest

from graviton.constraints.budget import BudgetShare, ByteBudget
from graviton.errors import InvalidInput, LimitExceeded


async def _soon() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_budget_has_bytes() -> None:
    with pytest.raises(InvalidInput):
        ByteBudget(0)


async def test_what_is_released_can_be_taken_again() -> None:
    budget = ByteBudget(100)
    await budget.acquire(60)
    assert budget.used == 60
    assert not budget.try_acquire(41)
    assert budget.try_acquire(40)
    budget.release(100)
    assert budget.used == 0


async def test_more_than_the_whole_is_refused_at_once() -> None:
    with pytest.raises(LimitExceeded) as caught:
        await ByteBudget(100).acquire(101)
    assert "GRAVITON_MEMORY_BYTES" in caught.value.hint


async def test_waiters_are_served_in_their_order() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await budget.acquire(size)
        order.append(name)

    tasks = [asyncio.create_task(take("large", 8)), asyncio.create_task(take("small", 2))]
    await _soon()
    budget.release(3)
    await _soon()
    assert order == [], "the small one must not pass the large one"
    assert not budget.try_acquire(1), "nor may one that does not wait"
    budget.release(7)
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


async def test_puts_waiting_for_puts_do_not_hold_up_reads() -> None:
    budget = ByteBudget(100)
    assert budget.for_puts == 75
    await budget.acquire(75, budget.for_puts)
    waiting = asyncio.create_task(budget.acquire(10, budget.for_puts))
    await _soon()
    await asyncio.wait_for(budget.acquire(25), 5)
    assert not waiting.done()
    budget.release(75)
    await asyncio.wait_for(waiting, 5)


async def test_who_does_not_wait_passes_whom_he_would_pass_in_line() -> None:
    budget = ByteBudget(100)
    await budget.acquire(75, budget.for_puts)
    waiting = asyncio.create_task(budget.acquire(10, budget.for_puts))
    await _soon()
    assert not budget.try_acquire(1, budget.for_puts)
    assert budget.try_acquire(5)
    read = asyncio.create_task(budget.acquire(50))
    await _soon()
    assert not budget.try_acquire(5), "that one was first"
    budget.release(80)
    await asyncio.gather(waiting, read)


async def test_a_share_is_bounded_by_itself_and_by_the_whole() -> None:
    budget = ByteBudget(100)
    share = BudgetShare(budget, 20)
    first, second = share.try_lease(15), share.try_lease(5)
    assert first is not None
    assert second is not None
    assert budget.used == 20
    assert share.try_lease(1) is None
    first.release()
    first.release()
    assert budget.used == 5
    assert budget.try_acquire(90)
    assert share.try_lease(6) is None, "there is no room in the whole"
    third = share.try_lease(5)
    assert third is not None
    del second, third
    assert budget.used == 90
    assert share.try_lease(11) is None
    assert share.try_lease(10) is not None, "what the whole refused does not count"


async def test_a_waiting_read_is_not_passed_by_puts() -> None:
    budget = ByteBudget(100)
    await budget.acquire(50)
    read = asyncio.create_task(budget.acquire(60))
    await _soon()
    put = asyncio.create_task(budget.acquire(10, budget.for_puts))
    await _soon()
    assert not read.done()
    assert not put.done()
    budget.release(50)
    await asyncio.gather(read, put)
    assert budget.used == 70


async def test_a_cancelled_waiter_leaves_the_line_and_takes_nothing() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    first = asyncio.create_task(budget.acquire(10))
    second = asyncio.create_task(budget.acquire(5))
    await _soon()
    first.cancel()
    await asyncio.wait([first])
    budget.release(10)
    await asyncio.wait_for(second, 5)
    assert budget.used == 5


async def test_a_grant_that_meets_a_cancellation_is_given_back() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    waiter = asyncio.create_task(budget.acquire(10))
    await _soon()
    budget.release(10)  # grants, but the task has not run yet
    waiter.cancel()
    await asyncio.wait([waiter])
    assert budget.used == 0


async def test_release_from_another_thread_wakes() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    waiter = asyncio.create_task(budget.acquire(4))
    await _soon()
    thread = threading.Thread(target=budget.release, args=(10,))
    thread.start()
    await asyncio.wait_for(waiter, 5)
    thread.join()
    assert budget.used == 4


def test_a_waiter_of_a_closed_loop_poisons_nobody() -> None:
    budget = ByteBudget(10)
    assert budget.try_acquire(10)
    other = asyncio.new_event_loop()
    left = other.create_task(budget.acquire(5))
    other.run_until_complete(asyncio.sleep(0))
    other.close()
    budget.release(10)
    assert budget.used == 0
    assert budget.try_acquire(10)
    left._log_destroy_pending = False  # type: ignore[attr-defined]
    left.get_coro().close()  # type: ignore[union-attr]


async def test_a_lease_comes_back_once_and_when_it_is_forgotten() -> None:
    budget = ByteBudget(10)
    lease = await budget.lease(6)
    assert budget.try_lease(5) is None
    waiting = asyncio.create_task(budget.lease(10))
    await _soon()
    lease.release()
    lease.release()
    whole = await asyncio.wait_for(waiting, 5)
    assert (budget.used, whole.size) == (10, 10)
    del waiting, whole
    await _soon()
    assert budget.used == 0


def test_garbage_in_the_middle_of_a_change_does_not_wait_for_itself() -> None:
    """The collector may run wherever memory is taken, also by the thread that has the lock."""
    budget = ByteBudget(10)
    assert budget.try_acquire(10)
    with budget._lock:
        budget.release(4)
    assert budget.try_acquire(0)
    assert budget.used == 6


def test_a_task_that_is_garbage_leaves_the_line() -> None:
    budget = ByteBudget(10)
    assert budget.try_acquire(10)
    loop = asyncio.new_event_loop()
    for granted in (False, True):
        left = loop.create_task(budget.acquire(5))
        loop.run_until_complete(asyncio.sleep(0))
        if granted:
            budget.release(10)
        left._log_destroy_pending = False  # type: ignore[attr-defined]
        left.get_coro().close()  # type: ignore[union-attr]
        assert budget.used == (0 if granted else 10)
    loop.close()
    assert budget.try_acquire(10)
