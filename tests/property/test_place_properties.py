"""Locators, strategies and names: text and value are one to one, and nothing leaves its prefix."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.limits import MAX_DOMAIN_BYTES
from graviton.core.locators import (
    CasLocatorStrategy,
    Locator,
    MirrorLocatorStrategy,
    Sector,
    ShardedLocatorStrategy,
    parse_block_name,
)
from graviton.core.names import check_name, decode_name, encode_name
from graviton.errors import InvalidInput
from graviton.testing import strategies as own

STRATEGIES = st.sampled_from([CasLocatorStrategy, ShardedLocatorStrategy])


@given(own.locators())
def test_the_text_of_a_locator_parses_back(locator: Locator) -> None:
    assert Locator.parse(locator.text) == locator


@given(st.text() | st.text("ab/.:\x00 \u3000").map("s3://b/".__add__))
@example("s3://b/a/../c")
@example("s3://../a")
@example("s3://b/a//c")
def test_any_text_is_a_locator_or_invalid_input(text: str) -> None:
    try:
        locator = Locator.parse(text)
    except InvalidInput:
        return
    assert locator.text == text
    assert not {"", ".", ".."} & {locator.bucket, *locator.path.split("/")}
    assert not any(char.isspace() or char == "\x00" for char in text)


@given(STRATEGIES, own.block_keys(), st.just("") | own.paths())
def test_the_path_of_a_block_parses_back_to_its_key(
    strategy: type[CasLocatorStrategy], key: BlockKey, prefix: str
) -> None:
    made = strategy("s3", "bucket", prefix)
    path = made.block_path(key)
    assert made.parse_path(path) == key
    assert path.startswith(prefix)
    assert made.locate(key) == Locator("s3", "bucket", path)


@given(STRATEGIES, own.mutated(own.block_keys().map(lambda key: CasLocatorStrategy().block_path(key).encode())))
def test_any_other_path_is_invalid_input(strategy: type[CasLocatorStrategy], raw: bytes) -> None:
    path = raw.decode("latin-1")
    try:
        key = strategy().parse_path(path)
    except InvalidInput:
        return
    assert strategy().block_path(key) == path


@given(st.text(max_size=80) | own.block_keys().map(lambda key: f"{key.hex}-{key.size}"))
def test_a_file_name_is_a_block_only_in_its_exact_form(name: str) -> None:
    try:
        key = parse_block_name(HashAlgo.BLAKE3, name)
    except InvalidInput:
        return
    assert f"{key.hex}-{key.size}" == name


@given(own.sectors(min_size=2), own.block_keys(), st.data())
def test_mirrors_choose_distinct_sectors_in_an_order_of_their_own(
    sectors: list[Sector], key: BlockKey, data: st.DataObject
) -> None:
    copies = data.draw(st.integers(1, len(sectors)))
    chosen = MirrorLocatorStrategy(sectors, copies).choose(key)
    assert len(set(chosen)) == copies
    shuffled = data.draw(st.permutations(sectors))
    assert MirrorLocatorStrategy(shuffled, copies).choose(key) == chosen
    everything = MirrorLocatorStrategy(sectors, len(sectors)).choose(key)
    assert everything[:copies] == chosen


@given(own.sectors(min_size=2), own.block_keys(), st.data())
def test_a_lost_sector_changes_nothing_for_keys_it_did_not_hold(
    sectors: list[Sector], key: BlockKey, data: st.DataObject
) -> None:
    lost = data.draw(st.sampled_from(sectors))
    copies = data.draw(st.integers(1, len(sectors) - 1))
    before = MirrorLocatorStrategy(sectors, copies).choose(key)
    after = MirrorLocatorStrategy([item for item in sectors if item != lost], copies).choose(key)
    if lost not in before:
        assert after == before
    else:
        assert [item for item in before if item != lost] == list(after[:-1])


@given(own.names(), st.binary(max_size=20))
def test_an_encoded_name_decodes_from_the_front_of_any_key(name: str, rest: bytes) -> None:
    assert check_name(name) == name
    encoded = encode_name(name)
    assert decode_name(b"??" + encoded + rest, 2) == (name, 2 + len(encoded))


@given(own.names(), own.names())
def test_encoded_names_sort_as_names_and_none_begins_another(a: str, b: str) -> None:
    assert (encode_name(a) < encode_name(b)) == (a < b)
    assume(a != b)
    assert not encode_name(a).startswith(encode_name(b))


@given(st.text(max_size=MAX_DOMAIN_BYTES + 2))
def test_a_name_is_legal_or_invalid_input(name: str) -> None:
    try:
        encoded = encode_name(name)
    except InvalidInput:
        with pytest.raises(InvalidInput):
            check_name(name)
        return
    assert encoded.count(b"\x00") == 1
    assert len(encoded) <= MAX_DOMAIN_BYTES + 1


@given(st.binary(max_size=MAX_DOMAIN_BYTES * 2))
def test_decoding_a_name_from_any_bytes_is_strict(data: bytes) -> None:
    try:
        name, end = decode_name(data)
    except InvalidInput:
        return
    assert encode_name(name) == data[:end]
