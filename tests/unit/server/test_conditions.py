from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.server.http.conditions import Verdict, etag_of, judge, range_applies

ETAG = etag_of("blake3:00:5")
OTHER = '"another"'
HEADER_TEXT = st.text(st.characters(max_codepoint=255), max_size=60)


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (ETAG, True),
        ("*", True),
        (" * ", True),
        (f"{OTHER}, {ETAG}", True),
        (f"{OTHER},{ETAG},", True),
        (f",, {ETAG}", True),
        (f'W/"x", {ETAG}', True),
        (OTHER, False),
        ("", False),
        (ETAG.strip('"'), False),
        (ETAG + "x", False),
        (f"{ETAG} {OTHER}", False),
        (f"{ETAG}, broken", False),
        ("*, *", False),
    ],
)
def test_lists_of_entity_tags(header: str, matches: bool) -> None:
    assert judge(ETAG, None, header) is (Verdict.NOT_MODIFIED if matches else Verdict.GO_ON)
    assert judge(ETAG, header, None) is (Verdict.GO_ON if matches else Verdict.FAILED)


def test_weak_tags_match_weakly_only() -> None:
    assert judge(ETAG, None, f"W/{ETAG}") is Verdict.NOT_MODIFIED
    assert judge(ETAG, f"W/{ETAG}", None) is Verdict.FAILED
    assert not range_applies(ETAG, f"W/{ETAG}")


def test_if_match_is_looked_at_first() -> None:
    assert judge(ETAG, OTHER, ETAG) is Verdict.FAILED
    assert judge(ETAG, ETAG, ETAG) is Verdict.NOT_MODIFIED
    assert judge(ETAG, None, None) is Verdict.GO_ON


def test_a_range_applies_to_what_the_client_has_seen() -> None:
    assert range_applies(ETAG, None)
    assert range_applies(ETAG, f" {ETAG}")
    assert not range_applies(ETAG, OTHER)
    assert not range_applies(ETAG, "Sun, 06 Nov 1994 08:49:37 GMT")


@given(HEADER_TEXT | st.lists(st.sampled_from([ETAG, OTHER, "W/", ",", " ", '"', "*"])).map("".join))
def test_whatever_comes_is_answered(text: str) -> None:
    assert judge(ETAG, text, None) in Verdict
    assert judge(ETAG, None, text) in Verdict
    range_applies(ETAG, text)
    if ETAG not in text and "*" not in text:
        assert judge(ETAG, text, text) is Verdict.FAILED


def test_a_long_list_takes_no_longer_than_it_is() -> None:
    assert judge(ETAG, None, ", ".join([OTHER] * 5000)) is Verdict.GO_ON
    assert judge(ETAG, None, " \t" * 30_000 + '"') is Verdict.GO_ON
    assert judge(ETAG, None, "," * 60_000) is Verdict.GO_ON
