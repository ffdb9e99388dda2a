"""Domain and holder names."""

from __future__ import annotations

import pytest

from graviton.core.limits import MAX_DOMAIN_BYTES
from graviton.core.names import check_name, decode_name, encode_name
from graviton.errors import InvalidInput


def test_the_stored_form_never_changes() -> None:
    assert encode_name("") == b"\x00"
    assert encode_name("team/été") == b"team/\xc3\xa9t\xc3\xa9\x00"


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "\x7f", "\x9b", "\ud800", "é" * 65, "a" * 129])
def test_an_illegal_name_is_invalid_input_that_says_what_it_is(name: str) -> None:
    with pytest.raises(InvalidInput, match="holder"):
        check_name(name, "holder")
    with pytest.raises(InvalidInput, match="domain"):
        encode_name(name)


def test_the_longest_name_is_legal() -> None:
    name = "é" * (MAX_DOMAIN_BYTES // 2)
    assert decode_name(encode_name(name)) == (name, MAX_DOMAIN_BYTES + 1)


@pytest.mark.parametrize("data", [b"", b"abc", b"\xff\x00", b"a\nb\x00", b"a" * 129 + b"\x00", b"\xed\xa0\x80\x00"])
def test_a_key_without_a_legal_name_is_invalid_input(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_name(data)
