from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.core.limits import MAX_SIZE
from graviton.errors import InvalidInput
from graviton.server.http.times import parse_time, time_text


@given(st.integers(0, MAX_SIZE))
def test_a_time_comes_back(at_ns: int) -> None:
    assert parse_time("at", time_text(at_ns)) == at_ns


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01.5z", 1_500_000_000),
        ("2026-01-31T12:34:56+01:30", 1769857496 * 10**9 - 0),
        ("2026-01-31T11:04:56Z", 1769857496 * 10**9),
        ("2026-01-31 08:04:56-03:00", 1769857496 * 10**9),
    ],
)
def test_times_of_all_places(text: str, at_ns: int) -> None:
    assert parse_time("at", text) == at_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-01-31",
        "2026-01-31T12:34:56",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-01-31T24:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59Z",
        "2026-01-31T12:34:56.1234567890Z",
        "٢٠٢٦-01-31T12:34:56Z",
    ],
)
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_time("created_after", text)
    assert caught.value.subject == "created_after"
    assert caught.value.hint
