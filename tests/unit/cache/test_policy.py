"""W-TinyLFU: what goes, what stays, what comes back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.stores.layers.cache.policy import MAX_UNLEARNT_HITS, PROTECTED_SHARE, Entry, Segment, WTinyLfu

WINDOW, PROBATION, PROTECTED = Segment.WINDOW, Segment.PROBATION, Segment.PROTECTED


def keys(policy: WTinyLfu, segment: Segment) -> list[bytes]:
    """From the one that goes first."""
    policy.learn()
    return [entry.key for entry in policy if entry.segment is segment]


def name(number: int) -> bytes:
    return b"%d" % number


def request(policy: WTinyLfu, key: bytes, charge: int = 1) -> bool:
    if key in policy:
        policy.hit(key)
        return True
    while policy.used + charge > policy.limit:
        assert policy.evict()
    policy.add(key, charge)
    return False


def full(limit: int) -> WTinyLfu:
    """Everything asked for once; the window has the last hundredth."""
    policy = WTinyLfu(limit, window_share=0.01)
    for number in range(limit):
        policy.add(name(number), 1)
    return policy


def test_new_entries_pass_through_the_window_into_probation_while_there_is_room() -> None:
    policy = full(200)
    assert keys(policy, WINDOW) == [name(198), name(199)]
    assert keys(policy, PROBATION) == [name(number) for number in range(198)]


def test_a_used_entry_is_protected_until_others_were_used_more_recently() -> None:
    policy = full(100)
    for number in range(80):
        policy.hit(name(number))
    room = int(99 * PROTECTED_SHARE)
    assert keys(policy, PROTECTED) == [name(number) for number in range(80 - room, 80)]
    assert keys(policy, PROBATION)[-1] == name(0), "the first one is on probation again, as the youngest"


def test_a_used_entry_of_the_window_stays_there_longer() -> None:
    policy = full(200)
    policy.hit(name(198))
    assert keys(policy, WINDOW) == [name(199), name(198)]


def test_who_leaves_the_window_stays_only_if_it_was_asked_for_more_often_than_who_would_go_for_it() -> None:
    policy = full(100)
    first = policy.evict()
    assert first is not None
    assert (first.entry.key, first.segment) == (name(99), WINDOW), "of two that were asked for once the newcomer goes"
    policy.add(b"again", 1)
    policy.hit(b"again")
    second = policy.evict()
    assert second is not None
    assert (second.entry.key, second.segment) == (name(0), PROBATION)
    assert b"again" in policy


def test_who_comes_back_often_is_taken_in_the_end() -> None:
    policy = full(100)
    for number in range(99):
        policy.hit(name(number))
    for turn in range(3):
        assert not request(policy, b"back")
        request(policy, b"other %d" % turn)
    assert b"back" in policy


def test_what_was_popular_once_gives_way() -> None:
    policy = full(100)
    for number in range(99):
        for _ in range(100):
            policy.hit(name(number))
    for _ in range(20):
        for number in range(1_000, 1_080):
            request(policy, name(number))
    assert sum(name(number) in policy for number in range(1_000, 1_080)) >= 75


def test_one_pass_over_everything_throws_out_nothing_that_is_protected() -> None:
    policy = WTinyLfu(1_000)
    for _ in range(3):
        for number in range(900):
            request(policy, name(number))
    for number in range(10_000, 20_000):
        request(policy, name(number))
    assert sum(name(number) in policy for number in range(900)) >= int(980 * PROTECTED_SHARE)


def test_a_loop_larger_than_the_cache_keeps_a_part() -> None:
    policy, hits = WTinyLfu(1_000), 0
    for _ in range(10):
        hits = sum(request(policy, name(number)) for number in range(1_500))
    assert hits >= 800


def test_a_window_smaller_than_an_entry_still_takes_every_newcomer() -> None:
    policy = WTinyLfu(40)
    for number in range(50):
        request(policy, name(number), 7)
        assert name(number) in policy
    assert len(policy) == 5


def test_hits_are_learnt_before_anything_goes_and_not_all_are_kept_for_ever() -> None:
    policy = full(100)
    policy.hit(name(0))
    for _ in range(MAX_UNLEARNT_HITS):
        policy.hit(name(1))
    policy.evict()
    assert keys(policy, PROTECTED) == [name(1)], "the oldest hit was forgotten"


def test_a_lowered_limit_takes_from_the_main_part_what_is_too_much_there() -> None:
    policy = WTinyLfu(10)
    for number in range(20):
        policy.restore(Entry(name(number), 1, PROTECTED if number < 5 else PROBATION, number + 1))
    policy.restore(Entry(b"new", 1, WINDOW, 21))
    gone = [eviction.entry.key for eviction in iter(policy.evict, None)]
    assert gone[:10] == [name(number) for number in range(5, 15)]
    assert gone[10] == b"new", "then who was asked for less goes, as always"


def test_an_eviction_that_failed_is_taken_back() -> None:
    policy = full(200)
    eviction = policy.evict()
    assert eviction is not None
    policy.take_back(eviction)
    assert keys(policy, WINDOW) == [name(199), name(198)], "tried again after the others"
    assert policy.used == 200


def test_what_is_removed_is_gone_and_may_come_again() -> None:
    policy = WTinyLfu(3)
    policy.add(b"a", 1)
    policy.add(b"b", 1)
    policy.remove(b"a")
    policy.remove(b"a")
    assert b"a" not in policy
    policy.hit(b"a")
    policy.add(b"a", 1)
    assert {entry.key for entry in policy} == {b"a", b"b"}
    for _ in iter(policy.evict, None):
        pass
    assert (policy.used, len(policy)) == (0, 0)


def test_other_segments_are_told_and_other_places_in_them_are_not() -> None:
    told: list[tuple[bytes, Segment]] = []
    policy = WTinyLfu(200, lambda entry: told.append((entry.key, entry.segment)), window_share=0.01)
    policy.add(b"a", 1)
    policy.add(b"b", 2)
    policy.hit(b"a")
    policy.learn()
    assert told == [(b"a", WINDOW), (b"b", WINDOW), (b"a", PROBATION), (b"a", PROTECTED)]
    del told[:]
    policy.hit(b"a")
    policy.hit(b"b")
    policy.learn()
    assert told == []
    policy.remove(b"b")
    assert told == [(b"b", Segment.GONE)]


def test_numbers_are_the_order() -> None:
    policy = full(100)
    for number in (3, 1, 2, 1):
        policy.hit(name(number))
    policy.learn()
    again = WTinyLfu(100, window_share=0.01)
    for entry in sorted(policy, key=lambda entry: entry.number):
        again.restore(Entry(entry.key, entry.charge, entry.segment, entry.number))
    assert [(entry.key, entry.segment) for entry in again] == [(entry.key, entry.segment) for entry in policy]
    assert keys(again, PROTECTED) == [name(3), name(2), name(1)]


@pytest.mark.parametrize("window", [0.01, 0.3])
@given(seed=st.integers(0, 2**32), limit=st.integers(1, 60), steps=st.lists(st.integers(0, 4), max_size=300))
def test_sums_hold_and_who_goes_is_the_right_one(window: float, seed: int, limit: int, steps: list[int]) -> None:
    rng, charges = random.Random(seed), {name(key): key % 7 + 1 for key in range(50)}
    policy = WTinyLfu(limit, window_share=window)
    inside: set[bytes] = set()
    for step in steps:
        key = name(rng.randrange(50))
        if step <= 1:
            if charges[key] <= limit and key not in inside:
                while policy.used + charges[key] > limit:
                    inside.remove(checked_eviction(policy))
                policy.add(key, charges[key])
                inside.add(key)
        elif step == 2:
            policy.hit(key)
        elif step == 3:
            policy.remove(key)
            inside.discard(key)
        elif inside:
            before = policy.used
            eviction = policy.evict()
            assert eviction is not None
            assert policy.used == before - eviction.entry.charge
            if rng.random() < 0.5:
                policy.take_back(eviction)
            else:
                inside.remove(eviction.entry.key)
        entries = list(policy)
        assert sorted(entry.key for entry in entries) == sorted(inside), "none is lost, none is there twice"
        assert len(policy) == len(inside)
        assert policy.used == sum(entry.charge for entry in entries) <= limit
        for segment in (WINDOW, PROBATION, PROTECTED):
            numbers = [entry.number for entry in entries if entry.segment is segment]
            assert numbers == sorted(numbers)
    for _ in iter(policy.evict, None):
        pass
    assert (policy.used, len(policy)) == (0, 0)


def checked_eviction(policy: WTinyLfu) -> bytes:
    """Evict; the key of what went, the oldest of its segment, and asked for no more often than what stayed for it."""
    window, main = keys(policy, WINDOW), keys(policy, PROBATION) or keys(policy, PROTECTED)
    count = policy.frequencies.count
    eviction = policy.evict()
    assert eviction is not None
    gone = eviction.entry.key
    assert gone in (window + main[:1] if not main else window[:1] + main[:1])
    if window and main and gone == window[0]:
        assert count(gone) <= count(main[0])
    elif window and main:
        assert count(gone) < count(window[0])
    return gone
