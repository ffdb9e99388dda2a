"""Range requests: the examples of RFC 9110 section 14.1.2, and the words of the errors."""

from __future__ import annotations

import pytest

from graviton.core.byte_range import MAX_HTTP_RANGES, Bounded, From, Suffix, parse_http_range, parse_range
from graviton.core.limits import MAX_SIZE
from graviton.core.ranges import Span
from graviton.errors import InvalidInput, RangeNotSatisfiable


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-499", [Span(0, 500)]),
        ("bytes=500-999", [Span(500, 1000)]),
        ("bytes=-500", [Span(9500, 10000)]),
        ("bytes=9500-", [Span(9500, 10000)]),
        ("bytes=0-0,-1", [Span(0, 1), Span(9999, 10000)]),
        ("bytes= 0-999, 4500-5499, -1000", [Span(0, 1000), Span(4500, 5500), Span(9000, 10000)]),
        ("bytes=500-600,601-999", [Span(500, 601), Span(601, 1000)]),
    ],
)
def test_the_examples_of_the_rfc_for_a_representation_of_10000_bytes(header: str, spans: list[Span]) -> None:
    parsed = parse_http_range(header)
    assert parsed is not None
    assert [request.resolve(10000) for request in parsed] == spans


@pytest.mark.parametrize(
    "header",
    [
        "", "bytes", "bytes=", "bytes=-", "bytes=,", "items=0-1", "bytes =0-1", "bytes=a-b", "bytes=5-4", "bytes=0 - 1",
        "bytes=--1", "bytes=0-1-2", "bytes=+0-1", "bytes=٣-٤", "bytes=1_0-20", "bytes=0-1;2-3", "bytes=0-1,x",
        "bytes=18446744073709551617-18446744073709551616",
    ],
)  # fmt: skip
def test_another_unit_or_a_malformed_header_is_ignored(header: str) -> None:
    assert parse_http_range(header) is None


def test_more_ranges_than_the_limit_and_endless_headers_are_ignored() -> None:
    assert parse_http_range("bytes=" + ",".join(["0-0"] * MAX_HTTP_RANGES)) == [Bounded(0, 0)] * MAX_HTTP_RANGES
    assert parse_http_range("bytes=" + ",".join(["0-0"] * (MAX_HTTP_RANGES + 1))) is None
    assert parse_http_range("bytes=0-" + "9" * 100_000) is None


def test_a_number_past_the_largest_size_is_clipped() -> None:
    large = str(2**64)
    assert parse_http_range(f"bytes=0-{large},{large}-,-{large}") == [
        Bounded(0, MAX_SIZE),
        From(MAX_SIZE),
        Suffix(MAX_SIZE),
    ]
    assert [parse_range(text) for text in (f"0-{large}", f"{large}-", f"-{large}")] == [
        Bounded(0, MAX_SIZE),
        From(MAX_SIZE),
        Suffix(MAX_SIZE),
    ]
    assert parse_range("0-" + "9" * 100_000) == Bounded(0, MAX_SIZE), "and no arithmetic with so many digits"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "form A-B"), ("-", "form A-B"), ("5", "form A-B"), ("x-5", "first byte"), ("5-x", "last byte"),
        ("-x", "length"), ("0-4-5", "last byte"), ("5-4", "before its first byte"), (" 0-4", "first byte"),
        ("٣-", "first byte"),
    ],
)  # fmt: skip
def test_a_malformed_typed_range_names_the_part(text: str, part: str) -> None:
    with pytest.raises(InvalidInput, match=part):
        parse_range(text)


@pytest.mark.parametrize("request_", [Bounded(5, 9), From(5), Suffix(0)])
def test_a_range_without_a_byte_says_how_long_the_blob_is(request_: Bounded | From | Suffix) -> None:
    with pytest.raises(RangeNotSatisfiable, match="blob of 5 bytes") as caught:
        request_.resolve(5)
    assert caught.value.subject == str(request_)
    assert "last one is 4" in caught.value.hint


@pytest.mark.parametrize("request_", [Bounded(0, 0), From(0), Suffix(1)])
def test_nothing_of_an_empty_blob_can_be_asked_for(request_: Bounded | From | Suffix) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        request_.resolve(0)
    assert caught.value.hint == "The blob is empty."


@pytest.mark.parametrize("make", [lambda: Bounded(2, 1), lambda: Bounded(-1, 1), lambda: From(-1), lambda: Suffix(-1)])
def test_a_request_out_of_bounds_is_invalid_input(make: object) -> None:
    with pytest.raises(InvalidInput):
        make()  # type: ignore[operator]
