"""Attributes: the codec is one to one and strict, merge and readers follow the two stages."""

from __future__ import annotations

import pickle

from hypothesis import example, given
from hypothesis import strategies as st

from graviton.core.attribute_codec import MAX_ENCODED_BYTES
from graviton.core.attributes import BinaryAttributes, FieldDiff
from graviton.errors import InvalidInput
from graviton.testing import strategies as own


@given(own.attributes())
def test_decoding_gives_back_what_was_encoded(value: BinaryAttributes) -> None:
    encoded = value.to_bytes()
    assert len(encoded) <= MAX_ENCODED_BYTES
    decoded = BinaryAttributes.from_bytes(encoded)
    assert decoded == value
    assert hash(decoded) == hash(value)
    assert decoded.to_bytes() == encoded
    assert pickle.loads(pickle.dumps(value)) == value


@given(own.attributes())
def test_the_order_in_which_values_were_set_does_not_show(value: BinaryAttributes) -> None:
    turned = BinaryAttributes(dict(reversed(value.advertised.items())), dict(reversed(value.confirmed.items())))
    assert turned.to_bytes() == value.to_bytes()


@given(st.binary(max_size=200).map(b"\x01".__add__) | own.mutated(own.attributes().map(BinaryAttributes.to_bytes)))
@example(b"")
@example(b"\x01")
@example(b"\x01\xff")
@example(b"\x01" + b"\xff" * MAX_ENCODED_BYTES)
def test_only_canonical_bytes_decode_and_all_others_are_invalid_input(data: bytes) -> None:
    try:
        value = BinaryAttributes.from_bytes(data)
    except InvalidInput:
        return
    assert value.to_bytes() == data
    assert BinaryAttributes(value.advertised, value.confirmed) == value, "what decodes is legal"


@given(own.attributes(), st.data())
def test_no_proper_prefix_decodes_to_the_same_value(value: BinaryAttributes, data: st.DataObject) -> None:
    encoded = value.to_bytes()
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    try:
        assert BinaryAttributes.from_bytes(cut) != value
    except InvalidInput:
        pass


@given(own.attributes(), own.attributes())
def test_merge_takes_the_newer_value_within_a_stage(old: BinaryAttributes, new: BinaryAttributes) -> None:
    merged = old.merge(new)
    for stage in ("advertised", "confirmed"):
        before, after, result = getattr(old, stage), getattr(new, stage), getattr(merged, stage)
        assert set(result) == set(before) | set(after)
        assert all(result[name] == (after[name] if name in after else before[name]) for name in result)


@given(own.attributes(), own.attributes())
def test_a_confirmed_value_beats_any_advertised_one(old: BinaryAttributes, new: BinaryAttributes) -> None:
    merged = old.merge(new)
    for name, stamped in merged.items():
        assert stamped == (merged.confirmed[name] if name in merged.confirmed else merged.advertised[name])


@given(own.attributes(), own.attributes(), own.attributes())
def test_merge_is_associative_and_empty_is_neutral(
    a: BinaryAttributes, b: BinaryAttributes, c: BinaryAttributes
) -> None:
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(BinaryAttributes.EMPTY) == BinaryAttributes.EMPTY.merge(a) == a.merge(a) == a


@given(own.attributes())
def test_diff_names_every_attribute_and_compares_values(value: BinaryAttributes) -> None:
    diff = value.diff()
    assert list(diff) == sorted(set(value.advertised) | set(value.confirmed))
    for name, found in diff.items():
        assert (name in value.confirmed) == (found is not FieldDiff.ONLY_ADVERTISED)
        assert (name in value.advertised) == (found is not FieldDiff.ONLY_CONFIRMED)
        if found in (FieldDiff.SAME, FieldDiff.DIFFERENT):
            same = value.advertised[name].value == value.confirmed[name].value
            assert same == (found is FieldDiff.SAME)
