"""The stored rows: key and value encodings of every namespace. docs/formats/metadata.md is the written form.

All integers are big endian, so that key order is number order. Decoders meet only bytes this program wrote; whatever
does not fit raises IntegrityError naming the namespace.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.names import decode_name, encode_name
from graviton.errors import IntegrityError, InvalidInput
from graviton.ports.block_index import BlockRecord, BlockState, Note, OwnerRecord, OwnerState
from graviton.ports.manifests import BlobRecord, StoreTotals

__all__ = [
    "BLOBS",
    "BLOCKS",
    "CANDIDATES",
    "CLAIMS",
    "DATA_NAMESPACES",
    "DROPPED",
    "EVENTS",
    "HOLDERS",
    "NOTES",
    "OWNERS",
    "OWN_NAMESPACES",
    "PAGES",
    "RANGES",
    "RANGE_HEADS",
    "REFS",
    "SCHEMAS",
    "SCHEMA_NAMES",
    "STORE",
    "TOTALS",
]

STORE = "store"
OWNERS = "owners"
CLAIMS = "claims"
REFS = "refs"
BLOCKS = "blocks"
BLOBS = "blobs"
PAGES = "pages"
HOLDERS = "holders"
TOTALS = "totals"
CANDIDATES = "candidates"
DROPPED = "dropped"
NOTES = "notes"
RANGES = "ranges"
RANGE_HEADS = "range_heads"
SCHEMAS = "schemas"
SCHEMA_NAMES = "schema_names"
EVENTS = "events"

DATA_NAMESPACES = (OWNERS, BLOCKS, BLOBS, PAGES, CLAIMS, REFS, HOLDERS, CANDIDATES, DROPPED, NOTES, TOTALS)
"""A metadata store is empty when none of these holds a row; a marker and schemas alone are no data."""

OWN_NAMESPACES = frozenset((EVENTS,))
"""What a metadata store tells of itself, and not of its contents: left out of backups, restores and copies."""

KEY_BYTES = 41
"""Binary blob or block key: algorithm tag (1), digest (32), size (8)."""

FIRST_CLAIM_BYTES = 1 + KEY_BYTES

RUN_BYTES = 16
"""A run of garbage collection."""

_U64 = struct.Struct(">Q")
_OWNER = struct.Struct(">BBBIQQQ")  # row version, state, flags, unconfirmed claims, changed at, expires at, lifetime
_BLOCK = struct.Struct(">BBBQ")  # row version, state, flags, generation
_BLOB = struct.Struct(">BQIQQ32sH")  # row version, owner, pages, blocks, created, pages digest, chunker bytes
_TOTALS = struct.Struct(">Bqqqq")  # row version, blobs, logical bytes, blocks, stored bytes
_NOTE = struct.Struct(">BQQ")  # row version, generation, noted at
_RUN = re.compile(rf"[0-9a-f]{{{2 * RUN_BYTES}}}")
_ROW_VERSION = 1
_WANTED_BACK = 1  # flag of a block row
_LOSING_CLAIMS = 1  # flag of an owner row

# Looking a value up in a dict costs a sixth of calling an Enum, and rows are decoded by the thousand.
_OWNER_STATES = {state.value: state for state in OwnerState}
_BLOCK_STATES = {state.value: state for state in BlockState}


def u64(number: int) -> bytes:
    """Eight bytes, big endian: an owner, an offset or a time inside a key."""
    return _U64.pack(number)


def domain_prefix(domain: str) -> bytes:
    """What keys of a domain begin with: its UTF-8 and a NUL, so no domain's prefix begins another's."""
    return encode_name(domain)


class OwnerRow(NamedTuple):
    """Namespace `owners`, key: owner (8)."""

    state: OwnerState
    unconfirmed: int
    changed_at_ns: int
    expires_at_ns: int
    lifetime_ns: int
    """What every sign of life adds to the time of day to give `expires_at_ns`."""
    domain: bytes
    """The domain's key prefix."""
    first_claims: bytes = b""
    """What the session claimed first, if that is little: kind (1) and block key (41) of each claim. The others are in
    `claims`, and their kinds in `refs`."""
    losing_claims: bool = False
    """Claims of this dropped owner were taken away: it cannot be turned back."""

    def encode(self) -> bytes:
        """The stored value."""
        return (
            _OWNER.pack(
                _ROW_VERSION,
                self.state.value,
                _LOSING_CLAIMS if self.losing_claims else 0,
                self.unconfirmed,
                self.changed_at_ns,
                self.expires_at_ns,
                self.lifetime_ns,
            )
            + self.domain
            + self.first_claims
        )

    @classmethod
    def decode(cls, data: bytes) -> OwnerRow:
        """Inverse of `encode`."""
        try:
            version, state, flags, unconfirmed, changed, expires, lifetime = _OWNER.unpack_from(data)
            check_version(version, OWNERS)
            claims_at = data.index(0, _OWNER.size) + 1  # the domain ends with a NUL
            if (len(data) - claims_at) % FIRST_CLAIM_BYTES:
                raise ValueError("half a claim")
            domain, claims = data[_OWNER.size : claims_at], data[claims_at:]
            lost = bool(flags & _LOSING_CLAIMS)
            return cls(_OWNER_STATES[state], unconfirmed, changed, expires, lifetime, domain, claims, lost)
        except (struct.error, ValueError, KeyError) as error:
            raise damaged_row(OWNERS) from error

    def turned(self, state: OwnerState, now_ns: int) -> OwnerRow:
        """The row in another state since `now_ns`."""
        return OwnerRow(
            state,
            self.unconfirmed,
            now_ns,
            self.expires_at_ns,
            self.lifetime_ns,
            self.domain,
            self.first_claims,
            self.losing_claims,
        )

    def record(self, owner: int) -> OwnerRecord:
        """The row as the port shows it."""
        return OwnerRecord(owner, self.state, self.unconfirmed, self.changed_at_ns, self.expires_at_ns)


class BlockRow(NamedTuple):
    """Namespace `blocks`, key: domain prefix + block key (41)."""

    state: BlockState
    generation: int
    wanted_back: bool = False

    def encode(self) -> bytes:
        """The stored value."""
        return _BLOCK.pack(_ROW_VERSION, self.state.value, _WANTED_BACK if self.wanted_back else 0, self.generation)

    @classmethod
    def decode(cls, data: bytes) -> BlockRow:
        """Inverse of `encode`. Bytes beyond the known ones are room for replicas and stored forms."""
        try:
            version, state, flags, generation = _BLOCK.unpack_from(data)
            check_version(version, BLOCKS)
            return cls(_BLOCK_STATES[state], generation, bool(flags & _WANTED_BACK))
        except (struct.error, KeyError) as error:
            raise damaged_row(BLOCKS) from error

    def record(self, key: BlockKey) -> BlockRecord:
        """The row as the port shows it."""
        return BlockRecord(key, self.state, self.generation, self.wanted_back)


RELIES = 1
"""Kind of a claim: the block was stored when it was claimed."""
WRITES = 2
"""The session has to write the block and has not confirmed it."""
CONFIRMED = 3
"""The session wrote it, durably."""

REF_ROWS = {kind: bytes((_ROW_VERSION, kind)) for kind in (RELIES, WRITES, CONFIRMED)}
"""Namespace `refs`, key: domain prefix + block key (41) + owner (8); the value by the kind of the claim. The kind only
matters while the owner is open, and for a claim that is not among the `first_claims` of its owner."""

_REF_KINDS = {row: kind for kind, row in REF_ROWS.items()}


def decode_ref(data: bytes) -> int:
    """The kind of a claim from its row."""
    kind = _REF_KINDS.get(data)
    if kind is None:
        if data:
            check_version(data[0], REFS)
        raise damaged_row(REFS)
    return kind


def encode_blob(record: BlobRecord) -> bytes:
    """Namespace `blobs`, key: domain prefix + blob key (41)."""
    chunker = record.chunker.encode("ascii")
    return (
        _BLOB.pack(
            _ROW_VERSION,
            record.owner,
            record.page_count,
            record.block_count,
            record.created_at_ns,
            record.pages_digest,
            len(chunker),
        )
        + chunker
        + record.attributes.to_bytes()
    )


def decode_blob(key: BlobKey, data: bytes) -> BlobRecord:
    """Inverse of `encode_blob`."""
    try:
        version, owner, pages, blocks, created, digest, chunker_bytes = _BLOB.unpack_from(data)
        check_version(version, BLOBS)
        attributes_at = _BLOB.size + chunker_bytes
        chunker = data[_BLOB.size : attributes_at].decode("ascii")
        attributes = BinaryAttributes.from_bytes(data[attributes_at:])
    except (struct.error, UnicodeDecodeError, InvalidInput) as error:
        raise damaged_row(BLOBS) from error
    return BlobRecord(key, owner, pages, blocks, digest, chunker, created, attributes)


def encode_totals(delta: StoreTotals) -> bytes:
    """Namespace `totals`, key: domain prefix + any unique bytes; the sum of a domain's rows is its totals."""
    return _TOTALS.pack(_ROW_VERSION, *delta)


def decode_totals(data: bytes) -> StoreTotals:
    """Inverse of `encode_totals`."""
    try:
        version, *numbers = _TOTALS.unpack(data)
    except struct.error as error:
        raise damaged_row(TOTALS) from error
    check_version(version, TOTALS)
    return StoreTotals(*numbers)


class NoteRow(NamedTuple):
    """Namespace `notes`, key: domain prefix + block key (41) + run (16)."""

    generation: int
    noted_at_ns: int

    def encode(self) -> bytes:
        """The stored value."""
        return _NOTE.pack(_ROW_VERSION, self.generation, self.noted_at_ns)

    @classmethod
    def decode(cls, data: bytes) -> NoteRow:
        """Inverse of `encode`."""
        try:
            version, generation, noted_at_ns = _NOTE.unpack(data)
        except struct.error as error:
            raise damaged_row(NOTES) from error
        check_version(version, NOTES)
        return cls(generation, noted_at_ns)


def note_of(key: bytes, row: NoteRow) -> Note:
    """The note as the port shows it, from the key of its row."""
    try:
        domain, _ = decode_name(key)
    except InvalidInput as error:
        raise damaged_row(NOTES) from error
    block = block_key_of(key[:-RUN_BYTES], NOTES)
    return Note(key[-RUN_BYTES:].hex(), domain, block, row.generation, row.noted_at_ns)


def run_of(text: str) -> bytes:
    """A run of garbage collection as it is stored. Raises InvalidInput."""
    if _RUN.fullmatch(text) is None:
        raise InvalidInput(
            f"a run of garbage collection is {2 * RUN_BYTES} hexadecimal digits, not {text!r}", operation="condemn"
        )
    return bytes.fromhex(text)


def block_key_of(data: bytes, namespace: str) -> BlockKey:
    """The block key that ends `data`."""
    try:
        return BlockKey.from_bytes(data[-KEY_BYTES:])
    except InvalidInput as error:
        raise damaged_row(namespace) from error


def blob_key_of(data: bytes) -> BlobKey:
    """The blob key that ends `data`."""
    try:
        return BlobKey.from_bytes(data[-KEY_BYTES:])
    except InvalidInput as error:
        raise damaged_row(BLOBS) from error


def check_version(version: int, namespace: str) -> None:
    """Raise IntegrityError unless this program reads rows of that version."""
    if version != _ROW_VERSION:
        raise IntegrityError(
            f"a row of {namespace!r} has format {version}; this program reads {_ROW_VERSION}",
            subject=namespace,
            hint="Use a newer version of this program.",
        )


def damaged_row(namespace: str) -> IntegrityError:
    """The error for a row that does not fit."""
    return IntegrityError(
        f"a metadata row of {namespace!r} is damaged",
        subject=namespace,
        hint="Restore the metadata from a backup (graviton meta restore).",
    )
