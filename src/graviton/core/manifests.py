"""Manifests: which blocks, in which order, make up a blob; in memory and in their stored, paged form.

A blob's manifest is a run of *pages* of at most 4,096 entries. A page names the offset it starts at and is sealed with
a digest over its own bytes and the blob's key, so a damaged page, a page of another blob or a page in the wrong place
is noticed when it is read, and a range read needs only the pages it touches. The digest over all page digests lies with
the blob's record. Stored bytes: docs/formats/manifest-page.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.limits import MAX_BLOCK_BYTES, MAX_PAGE_ENTRIES, MAX_SIZE
from graviton.errors import IntegrityError, InvalidInput

__all__ = ["BlockManifest", "ManifestEntry", "ManifestPage", "PageChain", "paginate"]

PAGE_VERSION = 1
_HEADER = struct.Struct(">BBHIQ")  # version, algorithm tag, entries, page number, offset of the first byte
_DIGEST_BYTES = 32
_ENTRY = struct.Struct(f">{_DIGEST_BYTES}sI")
_SEAL_CONTEXT = b"graviton manifest page 1\x00"
"""Begins every sealed text, so that no page digest can also be the digest of a user's block."""

MAX_PAGE_BYTES = _HEADER.size + MAX_PAGE_ENTRIES * _ENTRY.size + _DIGEST_BYTES


class ManifestEntry(NamedTuple):
    """One block of a blob: `key.size` bytes that begin at `offset`."""

    offset: int
    key: BlockKey

    @property
    def end(self) -> int:
        """Offset of the first byte after this block."""
        return self.offset + self.key.size


class BlockManifest:
    """A whole manifest in memory, for batches and small blobs; immutable.

    Contiguous from 0 to `size`: gaps, overlaps, a first offset that is not 0 and totals that do not add up are refused
    with InvalidInput. No entries means an empty blob.
    """

    __slots__ = ("entries", "size")

    def __init__(self, entries: Sequence[ManifestEntry], size: int) -> None:
        expected = 0
        for index, entry in enumerate(entries):
            if entry.offset != expected:
                kind = "overlaps the one before" if entry.offset < expected else "leaves a gap"
                raise InvalidInput(
                    f"manifest entry {index} begins at {entry.offset}, not at {expected}: it {kind}", subject=str(index)
                )
            expected = entry.end
        if expected != size:
            raise InvalidInput(f"the manifest's blocks add up to {expected} bytes, not to the stated {size}")
        if size > MAX_SIZE:
            raise InvalidInput(f"a blob has at most {MAX_SIZE} bytes, not {size}")
        self.entries: tuple[ManifestEntry, ...] = tuple(entries)
        self.size = size

    @classmethod
    def of(cls, keys: Sequence[BlockKey]) -> BlockManifest:
        """The manifest of the blocks `keys` laid end to end."""
        entries, offset = [], 0
        for key in keys:
            entries.append(ManifestEntry(offset, key))
            offset += key.size
        return cls(entries, offset)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[ManifestEntry]:
        return iter(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockManifest) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.entries)

    def __repr__(self) -> str:
        return f"BlockManifest({len(self.entries)} blocks, {self.size} bytes)"


class ManifestPage:
    """Entries `number * 4096 …` of a manifest, beginning at byte `offset` of the blob; immutable.

    Every page but the last is full. All blocks of a page use one hash algorithm.
    """

    __slots__ = ("end", "keys", "number", "offset")

    def __init__(self, number: int, offset: int, keys: Sequence[BlockKey]) -> None:
        if not 1 <= len(keys) <= MAX_PAGE_ENTRIES:
            raise InvalidInput(f"a manifest page has 1 to {MAX_PAGE_ENTRIES} entries, not {len(keys)}")
        if not 0 <= number < 2**32 or not 0 <= offset <= MAX_SIZE:
            raise InvalidInput(f"manifest page {number} at offset {offset} is out of bounds")
        self.number = number
        self.offset = offset
        self.keys = tuple(keys)
        self.end = offset + sum(key.size for key in keys)
        if self.end > MAX_SIZE:
            raise InvalidInput(f"a blob has at most {MAX_SIZE} bytes; page {number} ends at {self.end}")

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[ManifestEntry]:
        offset = self.offset
        for key in self.keys:
            yield ManifestEntry(offset, key)
            offset += key.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ManifestPage) and (self.number, self.offset, self.keys) == (
            other.number,
            other.offset,
            other.keys,
        )

    def __hash__(self) -> int:
        return hash((self.number, self.offset, self.keys))

    def to_bytes(self) -> bytes:
        """The unsealed form, written while the blob's key is not known yet."""
        algo = self.keys[0].algo
        if any(key.algo is not algo for key in self.keys):
            raise InvalidInput("the blocks of one manifest page use one hash algorithm")
        head = _HEADER.pack(PAGE_VERSION, algo.tag, len(self.keys), self.number, self.offset)
        return head + b"".join(key.digest.raw + key.size.to_bytes(4, "big") for key in self.keys)

    def seal(self, blob: BlobKey) -> bytes:
        """The stored form: the unsealed bytes and their digest."""
        return seal_page(self.to_bytes(), blob)

    @classmethod
    def from_bytes(cls, data: bytes) -> ManifestPage:
        """Parse the unsealed form. Raises IntegrityError: whatever is wrong, these were our own bytes."""
        if len(data) < _HEADER.size:
            raise IntegrityError("a manifest page is cut short")
        version, tag, count, number, offset = _HEADER.unpack_from(data)
        if version != PAGE_VERSION:
            raise IntegrityError(f"a manifest page has format version {version}; this program reads {PAGE_VERSION}")
        if not 1 <= count <= MAX_PAGE_ENTRIES or len(data) != _HEADER.size + count * _ENTRY.size:
            raise IntegrityError(f"a manifest page of {count} entries cannot have {len(data)} bytes")
        try:
            algo = HashAlgo.from_tag(tag)
            keys = [BlockKey(Digest(algo, raw), size) for raw, size in _ENTRY.iter_unpack(data[_HEADER.size :])]
            return cls(number, offset, keys)
        except InvalidInput as error:
            raise IntegrityError(f"a manifest page is damaged: {error}") from error

    @classmethod
    def open(cls, data: bytes, blob: BlobKey) -> ManifestPage:
        """Check the seal of a stored page against `blob` and parse it. Raises IntegrityError."""
        body, seal = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if len(data) > MAX_PAGE_BYTES or _seal_of(body, blob) != seal:
            raise IntegrityError("a manifest page does not match its digest", subject=blob.text)
        page = cls.from_bytes(body)
        if page.end > blob.size:
            raise IntegrityError(f"manifest page {page.number} ends beyond the blob", subject=blob.text)
        return page


def _seal_of(body: bytes, blob: BlobKey) -> bytes:
    """The page number is part of `body`, so the digest covers bytes, blob and place."""
    return blob.algo.digest(_SEAL_CONTEXT + blob.to_bytes() + body).raw


def seal_page(body: bytes, blob: BlobKey) -> bytes:
    """Seal the unsealed page bytes `body` for `blob`."""
    return body + _seal_of(body, blob)


def is_sealed(data: bytes, blob: BlobKey) -> bool:
    """Whether `data` are the unchanged bytes of a page of `blob`; cheaper than to open it."""
    return _seal_of(data[:-_DIGEST_BYTES], blob) == data[-_DIGEST_BYTES:]


def sealed_page(data: bytes, blob: BlobKey) -> tuple[ManifestPage, bytes]:
    """The page whose unsealed or sealed bytes are `data`, and its stored form for `blob`. Raises IntegrityError."""
    if len(data) >= _HEADER.size:
        body_bytes = _HEADER.size + _HEADER.unpack_from(data)[2] * _ENTRY.size
        if len(data) == body_bytes + _DIGEST_BYTES:
            return ManifestPage.open(data, blob), data
    return ManifestPage.from_bytes(data), seal_page(data, blob)


def page_end_bytes(end: int) -> bytes:
    """`end` as it stands in page keys: pages are found by the offset they end at, so that the first page after
    position x in key order is the one that holds byte x."""
    return end.to_bytes(8, "big")


class PageChain:
    """The running digest over all page digests of a blob; `digest()` lies in the blob's record."""

    __slots__ = ("_hasher", "pages")

    def __init__(self, algo: HashAlgo) -> None:
        self._hasher = algo.hasher()
        self.pages = 0

    def add(self, sealed: bytes) -> None:
        """Append the page whose stored form is `sealed`; pages come in order."""
        self._hasher.update(sealed[-_DIGEST_BYTES:])
        self.pages += 1

    def digest(self) -> bytes:
        """32 bytes; of a blob without pages the digest of nothing."""
        return self._hasher.digest().raw


def paginate(keys: Sequence[BlockKey]) -> list[ManifestPage]:
    """The pages of a whole, small manifest."""
    pages, offset = [], 0
    for number, start in enumerate(range(0, len(keys), MAX_PAGE_ENTRIES)):
        page = ManifestPage(number, offset, keys[start : start + MAX_PAGE_ENTRIES])
        pages.append(page)
        offset = page.end
    return pages


assert MAX_BLOCK_BYTES < 2**32, "entry sizes are u32"
