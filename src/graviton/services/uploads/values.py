"""What goes into uploads and comes out of them: plain values."""

from __future__ import annotations

import secrets
from enum import Enum
from typing import Any, NamedTuple, NewType

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.limits import MAX_SIZE
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import RangeSet, Span
from graviton.errors import GravitonError, InvalidInput
from graviton.metadata.upload_rows import UploadState
from graviton.ports.blobs import IngestStats

__all__ = [
    "DEFAULT_LIFETIME_SECONDS",
    "MAX_CONCATENATED",
    "MAX_LIFETIME_SECONDS",
    "MAX_METADATA_BYTES",
    "Checksum",
    "ChecksumAlgo",
    "Interrupted",
    "ListedUploads",
    "Swept",
    "UploadId",
    "UploadState",
    "UploadStatus",
    "UploadWishes",
    "new_upload_id",
    "parse_upload_id",
]

UploadId = NewType("UploadId", str)
"""32 lowercase hexadecimal digits, random: who knows it may write to the upload."""

_ID_BYTES = 16

DEFAULT_LIFETIME_SECONDS = 86_400.0
"""A day without any sign of life, as for every session of the block index."""

MAX_LIFETIME_SECONDS = 365 * 86_400.0
"""What is not finished within a year never will be."""

MAX_METADATA_BYTES = 16 * 1024
"""UTF-8 of the text that a client leaves with its upload; a quarter of what a request's head may have."""

MAX_CONCATENATED = 1000
"""Partial uploads that one upload may be made of: as many addresses as fit into a request's head of 64 KiB."""


def new_upload_id() -> UploadId:
    """An id that nobody has and nobody guesses."""
    return UploadId(secrets.token_hex(_ID_BYTES))


def parse_upload_id(text: str) -> UploadId:
    """`text`, if it has the form of an id. Raises InvalidInput."""
    if len(text) != 2 * _ID_BYTES or not _LOWER_HEX.issuperset(text):
        raise InvalidInput(
            f"an upload id is {2 * _ID_BYTES} lowercase hex digits, not {text[:80]!r}", subject=text[:80]
        )
    return UploadId(text)


_LOWER_HEX = frozenset("0123456789abcdef")


class ChecksumAlgo(Enum):
    """What the bytes of one request, or of a whole upload, may be checked with. SHA-1 and MD5 find damage on the way,
    not what somebody made on purpose; tus and RFC 9530 know them."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    MD5 = "md5"
    BLAKE3 = "blake3"

    @property
    def digest_bytes(self) -> int:
        """Length of a digest."""
        return _DIGEST_BYTES[self]


_DIGEST_BYTES = {ChecksumAlgo.SHA1: 20, ChecksumAlgo.SHA256: 32, ChecksumAlgo.MD5: 16, ChecksumAlgo.BLAKE3: 32}


class Checksum(NamedTuple):
    """The digest that some bytes are said to have."""

    algo: ChecksumAlgo
    raw: bytes

    def check(self) -> None:
        """Raise InvalidInput unless it has the length of its algorithm."""
        if len(self.raw) != self.algo.digest_bytes:
            raise InvalidInput(
                f"a {self.algo.value} digest has {self.algo.digest_bytes} bytes, not {len(self.raw)}",
                operation="upload",
            )


class Interrupted(Exception):  # noqa: N818 - not an error: a fact about the client
    """What a source raises when its client has gone. What came is kept, and the call returns as if the source had
    ended; any other exception of a source is raised again once what came is kept."""


class UploadWishes(NamedTuple):
    """What an upload is for."""

    length: int | None = None
    """Bytes in all; None to declare it later."""
    plan: BlobWritePlan = BlobWritePlan()
    """As of a put: chunker, hash, domain, holder, what is advertised (a size must be the length)."""
    expected: BlobKey | None = None
    """The key that the blob must get, else the upload fails with DigestMismatch."""
    digests: tuple[Checksum, ...] = ()
    """Digests that the whole must have, likewise; by any algorithm."""
    metadata: str = ""
    """A text that is handed back as it is: tus's `Upload-Metadata`."""
    is_partial: bool = False
    """A piece for `concatenate`, which never becomes a blob by itself."""
    lifetime_seconds: float | None = None
    """How long it lives without any sign of its client; None for what `Uploads` was made with."""


class UploadStatus(NamedTuple):
    """An upload as it is now."""

    id: UploadId
    state: UploadState
    offset: int
    """Bytes that are there without a gap from the beginning, durably: where to go on."""
    length: int | None
    received: int
    """Bytes that are there, in whatever places."""
    created_at_ns: int
    expires_at_ns: int
    """UTC nanoseconds; moves on with every sign of life."""
    metadata: str = ""
    is_partial: bool = False
    made_of: tuple[UploadId, ...] = ()
    """The partial uploads that it puts together."""
    key: BlobKey | None = None
    """Of the blob, when it is done."""
    created: bool = False
    """Done, and the blob was not there before."""
    error: GravitonError | None = None
    """Why it failed."""
    domain: str = ""
    """Where the blob is, or will be."""
    stats: IngestStats | None = None
    """What making the blob did, when it is done."""

    @property
    def is_complete(self) -> bool:
        """Whether every byte is there."""
        return self.length is not None and self.offset == self.length


class ListedUploads(NamedTuple):
    """Some uploads in the order of their ids, and what cannot be told."""

    uploads: list[UploadStatus]
    unreadable: list[UploadId]
    """Those among them whose rows are damaged."""
    next: UploadId | None
    """After which the others come; None at the end."""


class Swept(NamedTuple):
    """What one sweep did."""

    expired: int = 0
    """Uploads that went with everything they had."""
    orphans: int = 0
    """Objects without an upload that were removed."""
    resumed: int = 0
    """Complete uploads whose finishing nobody went on with, and which this server took up."""
    failed: int = 0
    """Uploads that could not be swept this time, or whose rows are damaged; the next sweep tries again."""


def gaps(ranges: RangeSet, length: int | None) -> RangeSet:
    """What is missing of `length` bytes; of an unknown length everything up to the largest size there is."""
    return ranges.complement(Span(0, MAX_SIZE if length is None else length))


def hasher(algo: ChecksumAlgo) -> Any:
    """A new hash object of `algo`, with `update` and `digest`."""
    if algo is ChecksumAlgo.BLAKE3:
        return _Blake3()
    import hashlib

    return hashlib.new(algo.value, usedforsecurity=False)


class _Blake3:
    def __init__(self) -> None:
        self._hasher = HashAlgo.BLAKE3.hasher()
        self.update = self._hasher.update

    def digest(self) -> bytes:
        return self._hasher.digest().raw
