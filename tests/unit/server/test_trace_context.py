"""`traceparent` is taken as the W3C has it, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.server.trace_context import TraceContext, new_span_id, new_trace_id, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_the_example_of_the_specification() -> None:
    found = parse_traceparent(GOOD)
    assert found == TraceContext(TRACE, SPAN, True)
    assert found.traceparent == GOOD
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-00") == TraceContext(TRACE, SPAN, False)
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-fe") == TraceContext(TRACE, SPAN, False), "only the last bit is known"


def test_later_versions_may_have_more() -> None:
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01") == TraceContext(TRACE, SPAN, True)
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01-what-will-be") == TraceContext(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01-\n",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 1000}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f" {GOOD}",
        f"{GOOD} ",
        f"{GOOD}\n",
        f"{GOOD},{GOOD}",
        GOOD.replace("0", "٠"),
        GOOD.replace("-", "–"),
    ],
)
def test_malformed_headers_are_ignored(text: str | None) -> None:
    assert parse_traceparent(text) is None


def _by_hand(text: str) -> bool:
    """The specification again, another way."""
    parts = text.split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return False
    if any(char not in "0123456789abcdef" for part in parts[:4] for char in part):
        return False
    if parts[0] == "ff" or not parts[1].strip("0") or not parts[2].strip("0"):
        return False
    return (parts[0] != "00" or len(parts) == 4) and all(" " <= char <= "~" for char in text)


HEX = "0123456789abcdefABCDEFg-\n"
NEARLY = st.builds(
    "{}-{}-{}-{}{}".format,
    st.sampled_from(["00", "01", "fe", "ff", "FF", "0"]) | st.text(HEX, max_size=3),
    st.sampled_from([TRACE, "0" * 32]) | st.text(HEX, min_size=31, max_size=33),
    st.sampled_from([SPAN, "0" * 16]) | st.text(HEX, min_size=15, max_size=17),
    st.sampled_from(["00", "01", "ff"]) | st.text(HEX, max_size=3),
    st.sampled_from(["", "-", "-x", "\n", "x"]),
)


@given(NEARLY | st.text(max_size=80))
def test_what_is_taken_is_what_the_specification_allows(text: str) -> None:
    found = parse_traceparent(text)
    assert (found is not None) == _by_hand(text)
    if found is not None:
        again = parse_traceparent(found.traceparent)
        assert again == found


def test_new_ids_are_never_zero() -> None:
    answers = iter(["0" * 32, "a" * 32, "0" * 16, "b" * 16])
    assert new_trace_id(lambda size: next(answers)) == "a" * 32
    assert new_span_id(lambda size: next(answers)) == "b" * 16
    assert parse_traceparent(f"00-{new_trace_id()}-{new_span_id()}-00")
