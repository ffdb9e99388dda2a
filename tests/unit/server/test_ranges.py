from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.core.ranges import RangeSet, Span
from graviton.server.http.errors import UnsatisfiableRange, answer
from graviton.server.http.ranges import content_range, multipart, spans_wanted


def test_no_header_and_a_bad_one_mean_everything() -> None:
    for header in (None, "", "bytes", "bytes=", "lines=1-2", "bytes=2-1", "bytes=a-b", "bytes=" + "0-0," * 17):
        assert spans_wanted(header, 10) is None


def test_ranges_that_hold_nothing_are_left_out() -> None:
    assert spans_wanted("bytes=0-1, 50-60, -0", 10) == [Span(0, 2)]
    with pytest.raises(UnsatisfiableRange) as caught:
        spans_wanted("bytes=10-, -0", 10)
    told = answer(caught.value, "0" * 32)
    assert told.status == 416
    assert (b"content-range", b"bytes */10") in told.headers


def test_ranges_that_overlap_are_sent_once_and_others_as_asked() -> None:
    assert spans_wanted("bytes=5-9, 0-1", 10) == [Span(5, 10), Span(0, 2)]
    assert spans_wanted("bytes=5-9, 0-6", 10) == [Span(0, 10)]
    assert spans_wanted("bytes=0-4, 5-9, 20-21", 30) == [Span(0, 10), Span(20, 22)]
    assert spans_wanted("bytes=" + ", ".join(["0-"] * 16), 1000) == [Span(0, 1000)]


_NUMBER = st.integers(0, 40).map(str)
_SPEC = st.builds("{}-{}".format, _NUMBER | st.just(""), _NUMBER | st.just(""))
HEADERS = st.lists(_SPEC, min_size=1, max_size=6).map(lambda specs: "bytes=" + ",".join(specs))


@given(HEADERS, st.integers(0, 30))
def test_never_more_than_there_is(header: str, size: int) -> None:
    try:
        spans = spans_wanted(header, size)
    except UnsatisfiableRange:
        return
    for span in spans or ():
        assert 0 <= span.start < span.end <= size
    assert RangeSet(spans or ()).covered_length == sum(span.length for span in spans or ())


@given(st.text(st.characters(max_codepoint=255)), st.integers(0, 2**63 - 1))
def test_whatever_comes_is_answered(header: str, size: int) -> None:
    for text in (header, "bytes=" + header):
        try:
            spans_wanted(text, size)
        except UnsatisfiableRange:
            pass


def test_the_length_of_many_parts_is_known_before() -> None:
    data = bytes(range(100))
    body = multipart([Span(1, 3), Span(50, 60)], 100, "text/plain", "limit")
    sent = b"".join(part.before + data[part.span.start : part.span.end] for part in body.parts) + body.end
    assert len(sent) == body.length
    head, _, rest = sent.partition(b"\r\n\r\n")
    assert head == b"--limit\r\nContent-Type: text/plain\r\nContent-Range: bytes 1-2/100"
    assert rest.startswith(b"\x01\x02\r\n--limit\r\n")
    assert sent.endswith(b"\r\n--limit--\r\n")
    assert content_range(Span(50, 60), 100) == "bytes 50-59/100"
