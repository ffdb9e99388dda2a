"""Hypothesis strategies for the values of `graviton.core`. The only module that imports Hypothesis.

Every strategy gives legal values only, small ones first, with a taste for the edges of each rule.
"""

from __future__ import annotations

import string

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from graviton.core.attributes import CHUNK_COUNT, MIME, SIZE, AttributeValue, BinaryAttributes, Stamped, digest_name
from graviton.core.byte_range import Bounded, ByteRange, From, Suffix
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.limits import MAX_BLOCK_BYTES, MAX_DOMAIN_BYTES, MAX_SIZE
from graviton.core.listing import EntryType, ListingEntry
from graviton.core.locators import Locator, Sector
from graviton.core.ranges import RangeSet, Span

__all__ = [
    "attributes",
    "blob_keys",
    "block_keys",
    "byte_ranges",
    "custom_names",
    "digests",
    "hash_algos",
    "listing_entries",
    "listings",
    "locators",
    "mutated",
    "names",
    "paths",
    "range_sets",
    "raw_paths",
    "sectors",
    "sizes",
    "spans",
]

_WORD_START = string.ascii_letters + string.digits
_PRINTABLE = st.characters(exclude_categories=("Cs", "Cc", "Z"))
_TEXT = st.characters(codec="utf-8", exclude_characters="\x00")


def hash_algos() -> SearchStrategy[HashAlgo]:
    """Either algorithm."""
    return st.sampled_from(HashAlgo)


def digests(algo: HashAlgo | None = None) -> SearchStrategy[Digest]:
    """Any digest of `algo`, or of any algorithm."""
    algos = hash_algos() if algo is None else st.just(algo)
    return st.builds(Digest, algos, st.binary(min_size=32, max_size=32))


def sizes(max_value: int = MAX_SIZE) -> SearchStrategy[int]:
    """0 to `max_value` bytes, with the edges of varints and words among them."""
    edges = [n for n in (0, 1, 127, 128, 16383, 16384, 2**31 - 1, 2**32, 2**56, MAX_SIZE) if n <= max_value]
    return st.one_of(st.integers(0, max_value), st.sampled_from([*edges, max_value]))


def blob_keys() -> SearchStrategy[BlobKey]:
    """Any blob key."""
    return st.builds(BlobKey, digests(), sizes())


def block_keys() -> SearchStrategy[BlockKey]:
    """Any block key."""
    return st.builds(BlockKey, digests(), st.one_of(st.integers(1, MAX_BLOCK_BYTES), st.just(MAX_BLOCK_BYTES)))


@st.composite
def spans(draw: DrawFn, max_end: int = MAX_SIZE, min_length: int = 0) -> Span:
    """Spans of at least `min_length` bytes that end at or before `max_end`."""
    length = draw(st.integers(min_length, max_end))
    start = draw(st.integers(0, max_end - length))
    return Span(start, start + length)


def range_sets(max_end: int = MAX_SIZE, max_spans: int = 12) -> SearchStrategy[RangeSet]:
    """Sets of at most `max_spans` spans below `max_end`, as often of many spans as of few."""
    # Drawn as edges: spans drawn one by one mostly melt into one.
    edges = st.sets(st.integers(0, max_end), max_size=2 * max_spans).map(sorted)
    return edges.map(lambda at: RangeSet(map(Span, at[::2], at[1::2])))


def byte_ranges(max_value: int = MAX_SIZE) -> SearchStrategy[ByteRange]:
    """Range requests of all three kinds with numbers up to `max_value`."""
    number = st.integers(0, max_value)
    bounded = st.tuples(number, number).map(lambda pair: Bounded(min(pair), max(pair)))
    return st.one_of(bounded, st.builds(From, number), st.builds(Suffix, number))


def names(max_bytes: int = MAX_DOMAIN_BYTES) -> SearchStrategy[str]:
    """Domain and holder names, the empty one among them."""
    chars = st.characters(exclude_categories=("Cs", "Cc"))
    return st.text(chars, max_size=max_bytes // 2).filter(lambda name: len(name.encode()) <= max_bytes)


@st.composite
def _words(draw: DrawFn, max_chars: int) -> str:
    first = draw(st.sampled_from(_WORD_START))
    return first + draw(st.text(st.sampled_from(_WORD_START + "._:-"), max_size=max_chars - 1))


def custom_names() -> SearchStrategy[str]:
    """Full names of custom attributes, `user.…`."""
    return st.one_of(st.just("user.name"), _words(59).map("user.".__add__))


def _stamped(values: SearchStrategy[AttributeValue]) -> SearchStrategy[Stamped]:
    sources = st.one_of(st.sampled_from(["client", "runtime", "cli"]), _words(64))
    times = st.one_of(st.sampled_from([0, 1_700_000_000_000_000_000]), sizes())
    return st.builds(Stamped, values, sources, times)


def _mimes() -> SearchStrategy[str]:
    other = st.builds("{}/{}".format, _words(100), _words(100))
    return st.one_of(st.sampled_from(["text/plain", "text/html; charset=utf-8"]), other)


@st.composite
def _stages(draw: DrawFn) -> dict[str, Stamped]:
    fixed: dict[str, SearchStrategy[AttributeValue]] = {SIZE: sizes(), CHUNK_COUNT: sizes(), MIME: _mimes()}
    fixed |= {digest_name(algo): digests(algo) for algo in HashAlgo}
    chosen = draw(st.sets(st.sampled_from(sorted(fixed))))
    stage = {name: draw(_stamped(fixed[name])) for name in sorted(chosen)}
    return stage | draw(st.dictionaries(custom_names(), _stamped(st.text(_TEXT, max_size=1024)), max_size=5))


def attributes() -> SearchStrategy[BinaryAttributes]:
    """Attributes whose values are legal one by one; `validate` may still find that they cannot all be true."""
    return st.builds(BinaryAttributes, _stages(), _stages())


def paths() -> SearchStrategy[str]:
    """Legal paths of locators."""
    segment = st.one_of(
        st.sampled_from(["a", "cas", "blocks", "...", "a..b", "é"]), st.text(_PRINTABLE, min_size=1, max_size=20)
    ).filter(lambda text: "/" not in text and text not in (".", ".."))
    return st.lists(segment, min_size=1, max_size=6).map("/".join)


def _buckets() -> SearchStrategy[str]:
    text = st.text(_PRINTABLE, min_size=1, max_size=30)
    return text.filter(lambda name: "/" not in name and name not in (".", ".."))


def _schemes() -> SearchStrategy[str]:
    tail = st.text(st.sampled_from(string.ascii_lowercase + string.digits + "+.-"), max_size=63)
    return st.builds(str.__add__, st.sampled_from(string.ascii_lowercase), tail)


def locators() -> SearchStrategy[Locator]:
    """Any locator."""
    return st.builds(Locator, _schemes(), _buckets(), paths())


def sectors(min_size: int = 1, max_size: int = 8) -> SearchStrategy[list[Sector]]:
    """Lists of sectors with different names."""
    one = st.builds(Sector, _buckets(), _schemes(), _buckets(), st.one_of(st.just(""), paths()))
    return st.lists(one, min_size=min_size, max_size=max_size, unique_by=lambda sector: sector.name)


def _segments() -> SearchStrategy[bytes]:
    # Bytes on both sides of '/', what is escaped, what is cut UTF-8: where order and escaping could go wrong.
    pieces = [b"a", b"b", b"-", b".", b"0", b"\\", b"\n", b"\t", b"\r", b"\x7f", b"\xff", b"\xc3"]
    pieces += ["é".encode(), "\u2028".encode(), "\x85".encode()]
    tricky = st.lists(st.sampled_from(pieces), min_size=1, max_size=3).map(b"".join)
    anything = st.binary(min_size=1, max_size=12)
    return st.one_of(tricky, anything).filter(
        lambda name: b"/" not in name and b"\x00" not in name and name not in (b".", b"..")
    )


def raw_paths() -> SearchStrategy[bytes]:
    """Relative paths as a file system has them: bytes of any kind."""
    return st.lists(_segments(), min_size=1, max_size=4).map(b"/".join)


@st.composite
def listing_entries(draw: DrawFn, path: bytes | None = None, type: EntryType | None = None) -> ListingEntry:
    """Entries of any kind; `path` and `type` fix these two."""
    kind = draw(st.sampled_from(EntryType)) if type is None else type
    return ListingEntry(
        kind,
        draw(raw_paths()) if path is None else path,
        draw(st.one_of(st.sampled_from([0o644, 0o755, 0o4755]), st.integers(0, 0o7777))),
        draw(st.one_of(st.just(1_700_000_000_000_000_000), st.integers(-MAX_SIZE - 1, MAX_SIZE))),
        draw(blob_keys()) if kind is EntryType.FILE else None,
        draw(st.one_of(raw_paths(), st.just(b"../x"), st.just(b"/etc"))) if kind is EntryType.LINK else None,
    )


@st.composite
def listings(draw: DrawFn, max_paths: int = 8) -> list[ListingEntry]:
    """Entries of a whole tree in the order of a listing."""
    leaves = draw(st.sets(raw_paths(), max_size=max_paths))
    folders = {path[:at] for path in leaves for at, byte in enumerate(path) if byte == 0x2F}
    return [
        draw(listing_entries(path, EntryType.DIRECTORY if path in folders else None))
        for path in sorted(leaves | folders)
    ]


@st.composite
def mutated(draw: DrawFn, originals: SearchStrategy[bytes]) -> bytes:
    """Bytes of `originals` with one to three bytes changed, pieces removed, inserted or doubled: hostile, but near."""
    data = bytearray(draw(originals))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 4)))
        replacement = draw(st.one_of(st.binary(max_size=4), st.just(bytes(data[start:end]) * 2)))
        data[start:end] = replacement
    return bytes(data)
