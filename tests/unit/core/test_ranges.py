"""Spans and range sets: bounds, texts, and what the property tests cannot say."""

from __future__ import annotations

from array import array

import pytest

from graviton.core.limits import MAX_SIZE
from graviton.core.ranges import RangeSet, Span
from graviton.errors import InvalidInput


@pytest.mark.parametrize(("start", "end"), [(-1, 0), (1, 0), (0, MAX_SIZE + 1)])
def test_a_span_out_of_bounds_is_invalid_input(start: int, end: int) -> None:
    with pytest.raises(InvalidInput, match="0 <= start <= end"):
        Span(start, end)


def test_a_span_is_immutable_and_matches_by_position() -> None:
    span = Span(2, 5)
    with pytest.raises(AttributeError, match="immutable"):
        span.end = 9
    with pytest.raises(AttributeError, match="immutable"):
        del span.end
    match span:
        case Span(start, end):
            assert (start, end) == (2, 5)
    assert span.replace(end=7) == Span(2, 7)
    assert span != (2, 5)


def test_an_empty_span_is_true_so_that_it_is_not_taken_for_none() -> None:
    assert Span(3, 3)
    assert Span(3, 3).length == 0


def test_an_empty_span_holds_nothing_and_is_held_by_everything() -> None:
    assert not Span(3, 3).contains(3)
    assert not Span(3, 3).overlaps(Span(0, 9))
    assert Span(0, 1).contains(Span(3, 3))
    assert RangeSet().contains(Span(3, 3))
    assert len(RangeSet([Span(3, 3)])) == 0


def test_a_range_set_is_immutable() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        RangeSet()._starts = array("q")


def test_adding_what_is_there_and_removing_what_is_not_gives_the_same_object() -> None:
    ranges = RangeSet([Span(0, 10), Span(20, 30)])
    assert ranges.add(Span(3, 7)) is ranges
    assert ranges.remove(Span(10, 20)) is ranges


def test_one_span_changes_a_set_of_a_million_without_touching_the_others_one_by_one() -> None:
    """Counted, not timed: the set keeps two arrays, and adding makes no `Span` per piece."""
    starts = array("q", range(0, 4_000_000, 4))
    big = RangeSet._of(starts, array("q", range(2, 4_000_002, 4)))
    added = big.add(Span(2_000_000, 2_000_007))
    assert len(added) == len(big) - 1
    assert added.covered_length == big.covered_length + 3
    assert isinstance(added._starts, array)
    assert added.next_gap(1_999_998, 2_000_020) == Span(1_999_998, 2_000_000)


def test_next_gap_without_an_end_reaches_the_largest_offset() -> None:
    assert RangeSet([Span(0, 5)]).next_gap(0) == Span(5, MAX_SIZE)
    assert RangeSet([Span(0, MAX_SIZE)]).next_gap(0) is None


def test_the_repr_of_a_large_set_is_short() -> None:
    assert len(repr(RangeSet(Span(n, n + 1) for n in range(0, 1000, 2)))) < 200
