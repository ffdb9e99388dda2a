"""Listings: the codec is one to one however the bytes are cut, and hostile text is refused."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from graviton.core.listing import HEADER, EntryType, ListingEntry, decode_listing, encode_listing
from graviton.core.listing_text import escape, unescape
from graviton.errors import InvalidInput
from graviton.testing import strategies as own

FEW_PATHS = st.lists(st.sampled_from([b"a", b"b", b"a-", b"a0"]), min_size=1, max_size=3).map(b"/".join)
"""So few names that parents, and names that only look like parents, meet often."""


def encoded(entries: list[ListingEntry]) -> bytes:
    """The whole listing."""
    return b"".join(encode_listing(entries))


@given(own.listings(), st.lists(st.integers(1, 50), min_size=1))
def test_a_listing_decodes_to_its_entries_however_it_is_cut(entries: list[ListingEntry], cuts: list[int]) -> None:
    data = encoded(entries)
    pieces, at = [], 0
    while at < len(data):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(data[at : at + size])
        at += size
    assert list(decode_listing(pieces)) == entries


@given(own.listings())
def test_each_entry_is_one_line_of_text_without_control_characters(entries: list[ListingEntry]) -> None:
    lines = encoded(entries).decode().splitlines()
    assert len(lines) == len(entries) + 1
    assert not any(char < " " and char != "\t" for line in lines for char in line)


@given(own.mutated(own.listings().map(encoded)) | st.binary(max_size=200).map(HEADER.__add__) | st.binary(max_size=30))
@example(HEADER + b"d\t0755\t0\t-\t-\ta\nf\t0755\t0\t-\t-\ta/b\n")
@example(HEADER + b"d\t0755\t0\t-\t-\t\\")
def test_only_canonical_listings_decode_and_all_others_are_invalid_input(data: bytes) -> None:
    try:
        entries = list(decode_listing([data]))
    except InvalidInput:
        return
    assert encoded(entries) == data


@given(own.listings().filter(lambda entries: len(entries) > 1), st.randoms())
def test_a_decoder_refuses_any_other_order(entries: list[ListingEntry], random: Random) -> None:
    lines = encoded(entries).splitlines(keepends=True)
    shuffled = lines[1:]
    random.shuffle(shuffled)
    assume(shuffled != lines[1:])
    with pytest.raises(InvalidInput, match=r"^line \d+ of the listing: "):
        list(decode_listing([lines[0], *shuffled]))


@given(st.sets(FEW_PATHS, min_size=1, max_size=8), st.data())
def test_a_tree_is_accepted_exactly_when_every_parent_is_a_listed_directory(
    paths: set[bytes], data: st.DataObject
) -> None:
    folders = {path[:at] for path in paths for at, byte in enumerate(path) if byte == 0x2F}
    kept = sorted(path for path in paths | folders if path in paths or data.draw(st.booleans()))
    entries = [data.draw(own.listing_entries(path)) for path in kept]
    directories = {entry.path for entry in entries if entry.type is EntryType.DIRECTORY}
    legal = all(b"/" not in path or path.rpartition(b"/")[0] in directories for path in kept)
    try:
        encoded(entries)
    except InvalidInput:
        assert not legal
    else:
        assert legal


@given(own.raw_paths() | st.binary(max_size=40))
def test_any_name_escapes_to_text_and_back(raw: bytes) -> None:
    text = escape(raw)
    assert unescape(text) == raw
    assert len(text) <= 4 * len(raw)
    assert len(text.splitlines()) <= 1


@given(st.text() | st.text("\\xntr0189abfF"))
def test_only_the_one_escaped_form_of_a_name_is_read(text: str) -> None:
    try:
        raw = unescape(text)
    except InvalidInput:
        return
    assert escape(raw) == text
