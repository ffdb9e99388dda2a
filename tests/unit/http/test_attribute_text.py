"""Attributes as a header field: everything in it, and nothing else taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.core.attribute_text import decode_attributes, encode_attributes
from graviton.core.attributes import BinaryAttributes
from graviton.errors import InvalidInput


@given(
    st.dictionaries(
        st.sampled_from(["user.a", "user.b", "user.Name"]),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
    )
)
def test_attributes_come_back_as_they_were(values: dict[str, str]) -> None:
    attributes = BinaryAttributes.EMPTY.advertise(values, at_ns=5, source="cli").confirm({"graviton.size": 7}, at_ns=9)
    text = encode_attributes(attributes)
    assert text.isascii()
    assert decode_attributes(text) == attributes


@pytest.mark.parametrize("text", ["", "AQ", "A===", "AQA= ", "AQA=\n", "!", "AQAA", "é", "A" * 2_000_000])
def test_what_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        decode_attributes(text)
