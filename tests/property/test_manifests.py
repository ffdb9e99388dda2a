"""Manifest pages: what is written is read, and nothing else is."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.limits import MAX_BLOCK_BYTES, MAX_PAGE_ENTRIES, MAX_SIZE
from graviton.core.manifests import BlockManifest, ManifestEntry, ManifestPage, PageChain, paginate, sealed_page
from graviton.errors import IntegrityError, InvalidInput

pytestmark = pytest.mark.python_kernel

algos = st.sampled_from(HashAlgo)
digests = st.binary(min_size=32, max_size=32)


def block_lists(algo: HashAlgo, max_size: int = 8) -> st.SearchStrategy[list[BlockKey]]:
    key = st.builds(
        lambda raw, size: BlockKey(Digest(algo, raw), size),
        digests,
        st.integers(min_value=1, max_value=MAX_BLOCK_BYTES),
    )
    return st.lists(key, min_size=1, max_size=max_size)


pages = st.builds(
    ManifestPage,
    st.integers(min_value=0, max_value=2**32 - 1),
    st.integers(min_value=0, max_value=2**40),
    algos.flatmap(block_lists),
)
blobs = st.builds(
    lambda algo, raw, size: BlobKey(Digest(algo, raw), size), algos, digests, st.integers(2**41, MAX_SIZE)
)


@given(pages, blobs)
def test_a_page_is_read_as_it_was_written(page: ManifestPage, blob: BlobKey) -> None:
    assert ManifestPage.from_bytes(page.to_bytes()) == page
    assert ManifestPage.open(page.seal(blob), blob) == page
    for data in (page.to_bytes(), page.seal(blob)):
        assert sealed_page(data, blob) == (page, page.seal(blob))


@given(pages, blobs, st.data())
def test_any_changed_byte_is_noticed(page: ManifestPage, blob: BlobKey, data: st.DataObject) -> None:
    sealed = bytearray(page.seal(blob))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(IntegrityError):
        ManifestPage.open(bytes(sealed), blob)


def test_every_byte_of_a_page_is_covered() -> None:
    blocks = [BlockKey(HashAlgo.BLAKE3.digest(bytes([n])), n + 1) for n in range(3)]
    blob = BlobKey(HashAlgo.BLAKE3.digest(b"blob"), 6)
    (page,) = paginate(blocks)
    sealed = page.seal(blob)
    for place in range(len(sealed)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(sealed)
            damaged[place] ^= flip
            with pytest.raises(IntegrityError):
                ManifestPage.open(bytes(damaged), blob)
    for length in range(len(sealed)):
        with pytest.raises(IntegrityError):
            ManifestPage.open(sealed[:length], blob)
    with pytest.raises(IntegrityError):
        ManifestPage.open(sealed + b"\x00", blob)


@given(pages, blobs, blobs)
def test_a_page_of_another_blob_is_refused(page: ManifestPage, blob: BlobKey, other: BlobKey) -> None:
    if blob != other:
        with pytest.raises(IntegrityError):
            ManifestPage.open(page.seal(blob), other)


@given(pages)
def test_a_page_that_ends_beyond_its_blob_is_refused(page: ManifestPage) -> None:
    small = BlobKey(Digest(HashAlgo.BLAKE3, bytes(32)), page.end - 1)
    with pytest.raises(IntegrityError):
        ManifestPage.open(page.seal(small), small)


@given(st.binary(max_size=200), blobs)
def test_hostile_bytes_raise_one_error(data: bytes, blob: BlobKey) -> None:
    for decode in (
        ManifestPage.from_bytes,
        lambda some: ManifestPage.open(some, blob),
        lambda some: sealed_page(some, blob),
    ):
        with pytest.raises(IntegrityError):
            decode(data)


@given(pages, st.integers(0, 15), st.integers(0, 255))
def test_hostile_headers_raise_one_error_or_say_another_page(page: ManifestPage, place: int, value: int) -> None:
    data = bytearray(page.to_bytes())
    data[place] = value
    try:
        found = ManifestPage.from_bytes(bytes(data))
    except IntegrityError:
        return
    assert found.to_bytes() == bytes(data)


def test_pages_swapped_within_a_blob_are_noticed_by_the_chain() -> None:
    blob = BlobKey(HashAlgo.BLAKE3.digest(b"blob"), 2**30)
    sealed = [ManifestPage(n, n * 10, [BlockKey(HashAlgo.BLAKE3.digest(bytes([n])), 10)]).seal(blob) for n in range(3)]
    digests = set()
    for order in ((0, 1, 2), (1, 0, 2), (0, 2, 1), (0, 1), (0, 1, 1, 2)):
        chain = PageChain(blob.algo)
        for place in order:
            chain.add(sealed[place])
        digests.add(chain.digest())
    assert len(digests) == 5


@pytest.mark.parametrize("count", [0, 1, MAX_PAGE_ENTRIES, MAX_PAGE_ENTRIES + 1, 2 * MAX_PAGE_ENTRIES + 5])
def test_pages_cover_the_blob_without_gaps(count: int) -> None:
    digest = HashAlgo.BLAKE3.digest(b"x")
    blocks = [BlockKey(digest, 1 + n % 7) for n in range(count)]
    found = paginate(blocks)
    assert [key for page in found for key in page.keys] == blocks
    assert [page.number for page in found] == list(range(-(-count // MAX_PAGE_ENTRIES)))
    assert all(one.end == two.offset for one, two in pairwise(found))
    assert all(len(page.keys) == MAX_PAGE_ENTRIES for page in found[:-1])


@given(algos.flatmap(block_lists))
def test_a_manifest_refuses_gaps_overlaps_and_wrong_totals(blocks: list[BlockKey]) -> None:
    manifest = BlockManifest.of(blocks)
    entries = list(manifest)
    assert manifest.size == sum(key.size for key in blocks)
    for shift in (-1, 1):
        for place, entry in enumerate(entries):
            moved = [*entries[:place], ManifestEntry(entry.offset + shift, entry.key), *entries[place + 1 :]]
            with pytest.raises(InvalidInput):
                BlockManifest(moved, manifest.size)
        with pytest.raises(InvalidInput):
            BlockManifest(entries, manifest.size + shift)


def test_a_page_of_two_algorithms_cannot_be_written() -> None:
    mixed = [BlockKey(algo.digest(b"x"), 1) for algo in HashAlgo]
    with pytest.raises(InvalidInput):
        ManifestPage(0, 0, mixed).to_bytes()


def test_a_page_has_bounds() -> None:
    key = BlockKey(HashAlgo.BLAKE3.digest(b"x"), 1)
    for number, offset, count in ((0, 0, 0), (0, 0, MAX_PAGE_ENTRIES + 1), (2**32, 0, 1), (-1, 0, 1), (0, -1, 1)):
        with pytest.raises(InvalidInput):
            ManifestPage(number, offset, [key] * count)
    with pytest.raises(InvalidInput):
        ManifestPage(0, MAX_SIZE, [key])
