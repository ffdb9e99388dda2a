"""S3-FIFO: what goes, what stays, what comes back."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from graviton.stores.layers.cache.policy import Entry, Queue, S3Fifo


def filled(limit: int, *keys: str) -> S3Fifo[str]:
    policy: S3Fifo[str] = S3Fifo(limit)
    for key in keys:
        policy.add(key, 1)
    return policy


def keys(policy: S3Fifo[str], queue: Queue) -> list[str]:
    return [entry.key for entry in policy if entry.queue is queue]


def request(policy: S3Fifo[int], key: int, charge: int = 1) -> bool:
    if policy.hit(key):
        return True
    while policy.used + charge > policy.limit:
        policy.evict()
    policy.add(key, charge)
    return False


def test_what_was_never_used_goes_first_in_its_order() -> None:
    policy = filled(3, "a", "b", "c")
    assert policy.hit("b")
    assert policy.hit("b")
    gone = [policy.evict() for _ in range(2)]
    assert [(one.entry.key, one.queue) for one in gone if one] == [("a", Queue.SMALL), ("c", Queue.SMALL)]
    assert keys(policy, Queue.MAIN) == ["b"]
    assert (policy.used, len(policy)) == (1, 1)


def test_who_comes_back_soon_goes_to_the_main_queue() -> None:
    policy = filled(2, "a", "b")
    policy.evict()
    policy.add("a", 1)
    assert keys(policy, Queue.MAIN) == ["a"]
    assert keys(policy, Queue.SMALL) == ["b"]


def test_ghosts_are_forgotten_when_as_much_as_the_cache_holds_went_after_them() -> None:
    policy: S3Fifo[str] = S3Fifo(10)
    for number in range(20):
        policy.add(str(number), 1)
        policy.evict()
    policy.add("9", 1)
    policy.add("10", 1)
    assert keys(policy, Queue.SMALL) == ["9"]
    assert keys(policy, Queue.MAIN) == ["10"]


def test_in_the_main_queue_every_use_is_worth_a_round_but_no_more_than_three() -> None:
    policy: S3Fifo[str] = S3Fifo(10)
    for key in ("often", "once", "never"):
        policy.restore(Entry(key, 1, Queue.MAIN))
    policy.hit("once")
    for _ in range(100):
        policy.hit("often")
    gone = [eviction.entry.key for eviction in iter(policy.evict, None)]
    assert gone == ["never", "once", "often"]
    assert policy.evict() is None


def test_one_pass_over_everything_throws_out_a_tenth() -> None:
    policy: S3Fifo[int] = S3Fifo(1_000)
    for _ in range(3):
        for key in range(900):
            request(policy, key)
    for key in range(10_000, 20_000):
        request(policy, key)
    assert sum(request(policy, key) for key in range(900)) >= 890


def test_an_eviction_that_failed_is_taken_back() -> None:
    policy = filled(2, "a", "b")
    eviction = policy.evict()
    assert eviction is not None
    policy.take_back(eviction)
    assert keys(policy, Queue.SMALL) == ["b", "a"]
    assert policy.used == 2


def test_what_is_removed_is_gone_and_may_come_again() -> None:
    policy = filled(3, "a", "b")
    assert policy.remove("a") is not None
    assert policy.remove("a") is None
    policy.add("a", 1)
    gone = [eviction.entry.key for eviction in iter(policy.evict, None)]
    assert gone == ["b", "a"]


def test_changes_are_told() -> None:
    told: list[tuple[str, Queue]] = []
    policy: S3Fifo[str] = S3Fifo(2, lambda entry: told.append((entry.key, entry.queue)))
    policy.add("a", 1)
    policy.add("b", 1)
    policy.hit("a")
    policy.hit("a")
    policy.evict()
    expected = [("a", Queue.SMALL), ("b", Queue.SMALL), ("a", Queue.MAIN), ("b", Queue.GONE)]
    assert told == expected


@given(st.integers(0, 2**32), st.integers(1, 60), st.lists(st.integers(0, 4), max_size=300))
def test_sums_hold_whatever_happens(seed: int, limit: int, steps: list[int]) -> None:
    rng, charges = random.Random(seed), {key: key % 7 + 1 for key in range(50)}
    policy: S3Fifo[int] = S3Fifo(limit)
    for step in steps:
        key = rng.randrange(50)
        if step <= 1:
            if charges[key] <= limit:
                request(policy, key, charges[key])
                assert key in policy
        elif step == 2:
            policy.hit(key)
        elif step == 3:
            policy.remove(key)
        elif (eviction := policy.evict()) and rng.random() < 0.5:
            policy.take_back(eviction)
        entries = list(policy)
        assert policy.used == sum(entry.charge for entry in entries) <= limit
        assert len({entry.key for entry in entries}) == len(entries) == len(policy)
        assert all(entry.key in policy for entry in entries)
    for _ in iter(policy.evict, None):
        pass
    assert (policy.used, len(policy)) == (0, 0)
