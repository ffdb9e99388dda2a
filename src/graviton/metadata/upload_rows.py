"""The rows of resumable uploads: docs/formats/uploads.md is the written form, docs/uploads.md the protocol.

They are metadata that passes: backups and copies leave them out, with the ranges of uploads, because the parts that
they name lie elsewhere.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from enum import Enum
from typing import Any, NamedTuple

from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlobKey
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, InvalidInput
from graviton.metadata.rows import u64

__all__ = [
    "UPLOADS",
    "UPLOAD_COUNTS",
    "UPLOAD_NAMESPACES",
    "UPLOAD_PAGES",
    "UPLOAD_PARTS",
    "UPLOAD_PLACE",
    "PartRow",
    "UploadRow",
    "UploadState",
    "WishesRow",
    "part_key",
]

UPLOADS = "uploads"
UPLOAD_PARTS = "upload_parts"
UPLOAD_PAGES = "upload_pages"
UPLOAD_COUNTS = "upload_counts"
UPLOAD_NAMESPACES = frozenset((UPLOADS, UPLOAD_PARTS, UPLOAD_PAGES, UPLOAD_COUNTS))

UPLOAD_PLACE = ("upload", "default")
"""Scheme and bucket of the locators under which the ranges of uploads are tracked; the path is the id."""

ID_BYTES = 16
"""An upload, an object of it, and a writer's token: random bytes each."""

_VERSION = 1


class UploadState(Enum):
    """State of an upload; the values are stored and shown."""

    RECEIVING = "receiving"
    """Takes bytes."""
    FINISHING = "finishing"
    """Every byte is there, and the blob is being put together."""
    DONE = "done"
    """The blob is visible."""
    FAILED = "failed"
    """It can never become the blob that was wished for; `error` says why."""
    GONE = "gone"
    """It was terminated or has expired, and is being removed. Nobody is shown it."""

    @property
    def is_open(self) -> bool:
        """Whether the upload may still become something, and holds bytes and a session for that."""
        return self in (UploadState.RECEIVING, UploadState.FINISHING)


class WishesRow(NamedTuple):
    """What the upload is for; never changes, but for a length that is declared later."""

    hash: str
    """Name of the hash algorithm, and canonical text of the chunker: also of those that were the store's defaults."""
    chunker: str
    domain: str = ""
    holder: str = ""
    attributes: BinaryAttributes = BinaryAttributes.EMPTY
    expected: BlobKey | None = None
    digests: tuple[tuple[str, bytes], ...] = ()
    """Name of an algorithm and what it must give for the whole."""
    metadata: str = ""
    is_partial: bool = False
    made_of: tuple[str, ...] = ()
    """Ids of partial uploads."""

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        return {
            **self._asdict(),
            "attributes": b64encode(self.attributes.to_bytes()).decode(),
            "expected": None if self.expected is None else self.expected.text,
            "digests": [[algo, raw.hex()] for algo, raw in self.digests],
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> WishesRow:
        """Inverse of `to_json`."""
        expected = fields["expected"]
        changed = {
            "attributes": BinaryAttributes.from_bytes(b64decode(fields["attributes"], validate=True)),
            "expected": None if expected is None else BlobKey.parse(expected),
            "digests": tuple((algo, bytes.fromhex(raw)) for algo, raw in fields["digests"]),
            "made_of": tuple(fields["made_of"]),
        }
        return cls(**fields | changed)


class UploadRow(NamedTuple):
    """Namespace `uploads`, key: id (16)."""

    wishes: WishesRow
    created_at_ns: int
    lifetime_ns: int
    """What every sign of life adds to the time of day to give `expires_at_ns`."""
    expires_at_ns: int
    alive_at_ns: int
    """When its writer last said that it is there."""
    state: UploadState = UploadState.RECEIVING
    length: int | None = None
    token: str = ""
    """Of the writer, 32 hex digits; empty when the last one ended in order."""
    reach: int = 0
    """Up to where the writer may bring bytes that are not held yet."""
    session: int = 0
    """That holds the blocks of [0, cut_to); 0 before the first writer."""
    heir: int = 0
    """A session that is to take its place, while its claims are made."""
    old_sessions: tuple[int, ...] = ()
    """Those that may not be ended yet."""
    leased_to_ns: int = 0
    """Until when the session surely lives."""
    cut_to: int = 0
    """Bytes from the beginning that are blocks; the end of one."""
    offset: int = 0
    """Bytes from the beginning without a gap, in blocks or parts."""
    parts: int = 0
    """Rows in `upload_parts`."""
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Blocks cut, written, bytes written, repaired."""
    key: BlobKey | None = None
    """Of the blob; written before the commit."""
    created: bool = False
    error: tuple[str, str, str] | None = None
    """Code, message and hint."""

    @property
    def is_complete(self) -> bool:
        """Whether every byte is held."""
        return self.length is not None and self.offset == self.length

    def encode(self) -> bytes:
        """The stored value: one JSON object."""
        fields = {
            **self._asdict(),
            "version": _VERSION,
            "wishes": self.wishes.to_json(),
            "state": self.state.value,
            "key": None if self.key is None else self.key.text,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> UploadRow:
        """Inverse of `encode`. Raises IntegrityError."""
        try:
            fields = json.loads(data)
            version = fields.pop("version")
            if version == _VERSION:
                key, error = fields["key"], fields["error"]
                changed = {
                    "wishes": WishesRow.from_json(fields["wishes"]),
                    "state": UploadState(fields["state"]),
                    "old_sessions": tuple(fields["old_sessions"]),
                    "counts": tuple(fields["counts"]),
                    "key": None if key is None else BlobKey.parse(key),
                    "error": None if error is None else tuple(error),
                }
                row = cls(**fields | changed)
                numbers = (*(fields[name] for name in _NUMBERS), *row.old_sessions, *row.counts, row.length or 0)
                are_lists = type(fields["old_sessions"]) is list and len(row.counts) == 4
                if are_lists and all(type(number) is int and number >= 0 for number in numbers):
                    return row
                raise _damaged(UPLOADS)
        except (ValueError, TypeError, KeyError, AttributeError, InvalidInput) as wrong:
            raise _damaged(UPLOADS) from wrong
        raise IntegrityError(
            f"a row of {UPLOADS!r} has format {version}; this program reads {_VERSION}",
            subject=UPLOADS,
            hint="Use a newer version of this program.",
        )


_NUMBERS = (
    *("created_at_ns", "lifetime_ns", "expires_at_ns", "alive_at_ns", "leased_to_ns"),
    *("reach", "session", "heir", "cut_to", "offset", "parts"),
)
"""Names of fields that are never negative."""

_PART = struct.Struct(f">BQ{ID_BYTES}sQQ32s")  # row version, start, object, its size, bytes before the span, digest


class PartRow(NamedTuple):
    """Namespace `upload_parts`, key: id (16), end (8). Parts of an upload do not overlap, and each has an object of its
    own; so the first part after (id, x) in key order is the one that holds byte x, if any does."""

    span: Span
    name: bytes
    """Of the object, 16 random bytes."""
    size: int
    """Of the object."""
    digest: bytes
    """BLAKE3 of the whole object: what waits is verified when it is used, as blocks are."""
    skip: int = 0
    """Bytes of the object before those of the span."""

    def encode(self) -> bytes:
        """The stored value."""
        return _PART.pack(_VERSION, self.span.start, self.name, self.size, self.skip, self.digest)

    @classmethod
    def decode(cls, key: bytes, data: bytes) -> PartRow:
        """Inverse of `encode` and `part_key`. Raises IntegrityError."""
        try:
            version, start, name, size, skip, digest = _PART.unpack(data)
            span = Span(start, int.from_bytes(key[ID_BYTES:], "big"))
        except (struct.error, InvalidInput) as wrong:
            raise _damaged(UPLOAD_PARTS) from wrong
        if version != _VERSION or len(key) != ID_BYTES + 8 or skip + span.length > size:
            raise _damaged(UPLOAD_PARTS)
        return cls(span, name, size, digest, skip)


def part_key(upload: bytes, end: int) -> bytes:
    """The key of a part that ends at `end`, and of the page of an upload's manifest that does."""
    return upload + u64(end)


def _damaged(namespace: str) -> IntegrityError:
    return IntegrityError(
        f"a row of {namespace!r} is damaged",
        operation="upload",
        subject=namespace,
        hint="Terminate that upload and start it again; no blob depends on it.",
    )
