"""Spans and range sets against plain sets of integers, near 0 and near the largest offset."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.core.byte_range import MAX_HTTP_RANGES, Bounded, ByteRange, From, parse_http_range, parse_range
from graviton.core.limits import MAX_SIZE
from graviton.core.ranges import RangeSet, Span
from graviton.errors import InvalidInput, RangeNotSatisfiable
from graviton.testing import strategies as own

TOP = 40
SMALL = own.spans(TOP)
SETS = own.range_sets(TOP)
OFFSETS = st.integers(0, TOP)


def ints(item: Span | RangeSet | None) -> set[int]:
    """The model: the offsets in `item`."""
    if item is None:
        return set()
    pieces = [item] if isinstance(item, Span) else list(item)
    return {offset for piece in pieces for offset in range(piece.start, piece.end)}


def assert_normal(ranges: RangeSet) -> None:
    """Spans of a set are non-empty, sorted, and never touch."""
    pieces = list(ranges)
    assert len(pieces) == len(ranges)
    assert all(piece.start < piece.end for piece in pieces)
    assert all(a.end < b.start for a, b in pairwise(pieces))


@given(SMALL, SMALL)
def test_operations_of_two_spans_are_those_of_sets(a: Span, b: Span) -> None:
    assert ints(a.intersection(b)) == ints(a) & ints(b)
    assert a.overlaps(b) == bool(ints(a) & ints(b))
    assert a.contains(b) == (ints(b) <= ints(a))
    rest = a.subtract(b)
    assert set().union(*map(ints, rest)) == ints(a) - ints(b)
    assert all(piece.length > 0 for piece in rest)
    assert list(rest) == sorted(rest)
    assert a.length == len(ints(a))


@given(own.spans(TOP, min_length=1), own.spans(TOP, min_length=1))
def test_spans_touch_when_their_union_is_one_span(a: Span, b: Span) -> None:
    assert a.touches(b) == (len(RangeSet([a, b])) == 1)


@given(SMALL, OFFSETS)
def test_a_span_contains_an_offset_as_a_set_does(a: Span, offset: int) -> None:
    assert a.contains(offset) == (offset in ints(a))


@given(st.lists(SMALL, max_size=12))
def test_a_range_set_of_spans_is_their_union(pieces: list[Span]) -> None:
    made = RangeSet.from_spans(pieces)
    assert_normal(made)
    assert ints(made) == set().union(*map(ints, pieces))
    assert made.covered_length == len(ints(made))
    assert made.bounds == (Span(min(ints(made)), max(ints(made)) + 1) if ints(made) else None)


@given(SETS, SETS)
def test_operations_of_two_range_sets_are_those_of_sets(a: RangeSet, b: RangeSet) -> None:
    for result, model in (
        (a.union(b), ints(a) | ints(b)),
        (a.intersection(b), ints(a) & ints(b)),
        (a.difference(b), ints(a) - ints(b)),
        (a | b, ints(a) | ints(b)),
        (a & b, ints(a) & ints(b)),
        (a - b, ints(a) - ints(b)),
    ):
        assert_normal(result)
        assert ints(result) == model


@given(st.lists(st.tuples(st.booleans(), SMALL), max_size=20))
def test_adding_and_removing_one_by_one_follows_a_set(steps: list[tuple[bool, Span]]) -> None:
    ranges, model = RangeSet(), set[int]()
    for adds, span in steps:
        before = list(ranges)
        changed = ranges.add(span) if adds else ranges.remove(span)
        model = model | ints(span) if adds else model - ints(span)
        assert list(ranges) == before, "a range set is immutable"
        ranges = changed
        assert_normal(ranges)
        assert ints(ranges) == model


@given(SETS, SMALL, OFFSETS)
def test_lookups_answer_as_a_set_does(ranges: RangeSet, span: Span, offset: int) -> None:
    assert ranges.contains(span) == (ints(span) <= ints(ranges))
    assert ranges.contains(offset) == (offset in ranges) == (offset in ints(ranges))


@given(SETS, SMALL)
def test_gaps_and_complement_are_the_rest_of_the_window(ranges: RangeSet, window: Span) -> None:
    complement = ranges.complement(window)
    assert_normal(complement)
    assert ints(complement) == ints(window) - ints(ranges)
    assert list(ranges.gaps(window)) == list(complement)


@given(SETS, SMALL)
def test_the_next_gap_is_the_first_gap_of_the_window(ranges: RangeSet, window: Span) -> None:
    assert ranges.next_gap(window.start, window.end) == next(iter(ranges.complement(window)), None)


@given(SETS, SETS)
def test_range_sets_are_equal_when_their_offsets_are(a: RangeSet, b: RangeSet) -> None:
    assert (a == b) == (ints(a) == ints(b))
    if a == b:
        assert hash(a) == hash(b)
    assert pickle.loads(pickle.dumps(a)) == a


@given(SETS, SETS, SMALL)
def test_the_algebra_holds_at_the_end_of_the_largest_blob(a: RangeSet, b: RangeSet, window: Span) -> None:
    def up(item: Span) -> Span:
        return Span(item.start + MAX_SIZE - TOP, item.end + MAX_SIZE - TOP)

    high_a, high_b = RangeSet(map(up, a)), RangeSet(map(up, b))
    assert list(high_a.union(high_b)) == list(map(up, a.union(b)))
    assert list(high_a.difference(high_b)) == list(map(up, a.difference(b)))
    assert list(high_a.gaps(up(window))) == list(map(up, a.gaps(window)))
    assert list(high_a.add(up(window))) == list(map(up, a.add(window)))


@given(own.byte_ranges(TOP), OFFSETS)
def test_a_range_request_resolves_to_the_bytes_it_names(request: ByteRange, size: int) -> None:
    everything = range(size)
    if isinstance(request, Bounded):
        model = set(everything[request.first : request.last + 1])
    elif isinstance(request, From):
        model = set(everything[request.first :])
    else:
        model = set(everything[max(0, size - request.length) :])
    if model:
        assert ints(request.resolve(size)) == model
    else:
        with pytest.raises(RangeNotSatisfiable):
            request.resolve(size)


@given(own.byte_ranges())
def test_the_text_of_a_range_request_parses_back(request: ByteRange) -> None:
    assert parse_range(str(request)) == request


@given(st.lists(own.byte_ranges(), min_size=1, max_size=MAX_HTTP_RANGES))
def test_a_range_header_of_up_to_the_limit_parses_back(requests: list[ByteRange]) -> None:
    assert parse_http_range("bytes=" + ",".join(map(str, requests))) == requests
    assert parse_http_range(" BYTES=, " + " ,\t ".join(map(str, requests)) + ",") == requests


@given(st.text() | st.text("0123456789-, ="))
def test_any_typed_text_is_a_range_or_invalid_input(text: str) -> None:
    try:
        parsed = parse_range(text)
    except InvalidInput:
        return
    assert parse_range(str(parsed)) == parsed


@given(st.text() | st.text("0123456789-, =").map("bytes=".__add__))
def test_a_range_header_never_raises(text: str) -> None:
    parsed = parse_http_range(text)
    assert parsed is None or 1 <= len(parsed) <= MAX_HTTP_RANGES
