"""The store marker: which blocks and which metadata belong together, so that no process ever joins two strangers.

Two sides hold the same record: the block store in the file `graviton-store.json`, the metadata store under the key
`marker` of its namespace `store`. This module has the value, its strict JSON form and the pure comparison of both
sides; `pairing.py` reads and writes them. Stored bytes: docs/formats/store-marker.md.
"""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple, Protocol

from graviton.core.clock import Clock
from graviton.core.hashing import HashAlgo
from graviton.errors import ConfigError, IntegrityError, InvalidInput
from graviton.metadata.read_only import ReadOnly

__all__ = ["MARKER_FILE", "MAX_MARKER_BYTES", "Decision", "MarkerStore", "Side", "StoreMarker", "check_pair", "new_id"]

MARKER_FILE = "graviton-store.json"
"""Name of the marker in the root folder, or below the prefix of a bucket; part of the exact layout."""

FORMAT_VERSION = 1
"""Version of the whole store: layout, metadata rows and marker. A program refuses every version it does not know."""

MAX_MARKER_BYTES = 4096
"""A marker has about 300 bytes; more is not one, and is not parsed."""

MAX_CHUNKER_CHARS = 256
"""The longest spec, `delimiter-v1` with 64 bytes of delimiter, has 160 characters."""

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_CHUNKER = re.compile(rf"[!-~]{{1,{MAX_CHUNKER_CHARS}}}", re.ASCII)
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_SECOND_NS = 1_000_000_000


def new_id() -> str:
    """A random 128-bit id in 32 lowercase hex digits: no two stores of this world ever share one."""
    return secrets.token_hex(16)


class StoreMarker(NamedTuple):
    """What both sides of a store say about it."""

    store_id: str
    """32 lowercase hex digits; the store's name for ever."""
    metadata_id: str
    """32 lowercase hex digits; the one metadata store that may manage these blocks. A restored metadata store gets a
    new one, so that an old copy that is still around is refused after `graviton store adopt`."""
    hash: HashAlgo
    """The algorithm of new blobs unless a put says otherwise."""
    chunker: str
    """Canonical spec text, likewise."""
    created_at_ns: int
    """UTC nanoseconds, whole seconds."""

    @classmethod
    def create(cls, hash: HashAlgo, chunker: str, clock: Clock) -> StoreMarker:
        """The marker of a new store with new ids. Raises InvalidInput for a chunker text that cannot be one."""
        if not _CHUNKER.fullmatch(chunker):
            raise InvalidInput(f"{chunker[:80]!r} is not a canonical chunker spec", subject=chunker[:80])
        return cls(new_id(), new_id(), hash, chunker, clock.now_ns() // _SECOND_NS * _SECOND_NS)

    def encode(self) -> bytes:
        """The stored form: indented JSON with sorted keys and a final newline."""
        fields = {
            "chunker": self.chunker,
            "created_at": datetime.fromtimestamp(self.created_at_ns // _SECOND_NS, UTC).strftime(_TIME_FORMAT),
            "format_version": FORMAT_VERSION,
            "hash": self.hash.value,
            "metadata_id": self.metadata_id,
            "store_id": self.store_id,
        }
        return json.dumps(fields, indent=2, sort_keys=True).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, where: str) -> StoreMarker:
        """The marker found at `where`. Raises ConfigError for a newer format, IntegrityError for anything malformed;
        both name `where`."""
        fields = _parse(data, where)
        version = fields.get("format_version")
        if type(version) is int and version > FORMAT_VERSION:
            raise ConfigError(
                f"the store at {where} has format version {version}; this program knows {FORMAT_VERSION}",
                operation="store.open",
                subject=where,
                hint="Use a newer version of graviton.",
            )
        if type(version) is not int or version != FORMAT_VERSION:
            raise _malformed(where, "format_version is not 1")
        _check_names(fields, where)
        try:
            algo = HashAlgo(fields["hash"])
            created = datetime.strptime(_text(fields, "created_at", where), _TIME_FORMAT).replace(tzinfo=UTC)
        except ValueError as error:
            raise _malformed(where, str(error)) from None
        marker = cls(
            _text(fields, "store_id", where, _ID),
            _text(fields, "metadata_id", where, _ID),
            algo,
            _text(fields, "chunker", where, _CHUNKER),
            int(created.timestamp()) * _SECOND_NS,
        )
        if marker.created_at_ns < 0 or created.strftime(_TIME_FORMAT) != fields["created_at"]:
            raise _malformed(where, "created_at is not a time after 1970 like 2026-01-31T12:00:00Z")
        return marker


_NAMES = frozenset(("chunker", "created_at", "format_version", "hash", "metadata_id", "store_id"))


def _parse(data: bytes, where: str) -> dict[str, Any]:
    if len(data) > MAX_MARKER_BYTES:
        raise _malformed(where, f"it has {len(data)} bytes")
    try:
        fields = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _malformed(where, str(error)) from None
    if not isinstance(fields, dict):
        raise _malformed(where, "it is not a JSON object")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands there twice")
    return fields


def _check_names(fields: dict[str, Any], where: str) -> None:
    for name in sorted(_NAMES.symmetric_difference(fields)):
        raise _malformed(where, f"{name[:40]!r} is {'missing' if name in _NAMES else 'unknown'}")


def _text(fields: dict[str, Any], name: str, where: str, pattern: re.Pattern[str] | None = None) -> str:
    value = fields[name]
    if not isinstance(value, str) or (pattern is not None and not pattern.fullmatch(value)):
        raise _malformed(where, f"{name} has the value {str(value)[:80]!r}")
    return value


def _malformed(where: str, what: str) -> IntegrityError:
    return IntegrityError(
        f"the store marker at {where} is damaged: {what}",
        operation="store.open",
        subject=where,
        hint="It is never rewritten by itself: restore it, or move it away and run `graviton store adopt`.",
    )


class MarkerStore(Protocol):
    """Where the block side keeps its marker. I/O errors come as Unavailable, PermissionDenied, StorageFull."""

    @property
    def where(self) -> str:
        """The place for people, without secrets: a path or URL."""
        ...

    async def read(self) -> bytes | None:
        """The bytes there; None only if there is certainly nothing. Creates nothing."""
        ...

    async def write_new(self, data: bytes) -> None:
        """Store `data` durably and at once where nothing is. Raises AlreadyExists, also for the loser of a race."""
        ...

    async def replace(self, data: bytes) -> None:
        """Store `data` durably and at once over whatever is there."""
        ...

    async def check_replace(self) -> None:
        """Raise what `replace` would for want of rights or room, as far as that can be told without touching the
        marker."""
        ...


class Side(NamedTuple):
    """One side of a store, as found."""

    where: str
    """The place for people, without secrets."""
    marker: StoreMarker | None
    empty: bool
    """It holds no block (or no metadata row), whether it has a marker or not."""
    read_only: ReadOnly | None = None
    """Why the metadata takes no changes, if it takes none: the blocks may then be managed by the other one already."""


class Decision(Enum):
    """What `check_pair` found."""

    READY = "ready"
    """Both sides say the same: go on."""
    ABSENT = "absent"
    """Nothing on either side: there is no store yet. The first put, or `graviton store init`, may make one."""
    UNFINISHED = "unfinished"
    """The metadata has a marker and nothing else, and the block side is empty: an initialisation that did not come to
    its end, or is under way. Whoever may write finishes it with the marker that is there."""


_ADOPT = "or, if the two do belong together, run `graviton store adopt`"


def check_pair(blocks: Side, meta: Side) -> Decision:
    """Whether the two sides belong together. Raises ConfigError that names both sides and the way out."""
    if blocks.marker is not None and meta.marker is not None:
        return _check_same(blocks, blocks.marker, meta, meta.marker)
    if blocks.marker is not None:
        raise _refusal(
            f"the blocks at {blocks.where} belong to store {blocks.marker.store_id},"
            f" but the metadata at {meta.where} knows no store",
            f"Check the metadata path, restore the metadata (`graviton meta restore FILE`), {_ADOPT}.",
        )
    if meta.marker is not None:
        if meta.empty and blocks.empty:
            return Decision.UNFINISHED
        raise _refusal(
            f"the metadata at {meta.where} belongs to store {meta.marker.store_id},"
            f" but there is no store marker at {blocks.where}",
            f"Check the folder or bucket (is it mounted?), {_ADOPT}.",
        )
    if blocks.empty and meta.empty:
        return Decision.ABSENT
    full, other = (meta, blocks) if blocks.empty else (blocks, meta)
    raise _refusal(
        f"there is data at {full.where}, but no store marker, neither there nor at {other.where}",
        f"Choose an empty place for a new store (`graviton store init`), {_ADOPT}.",
    )


def _check_same(blocks: Side, block_marker: StoreMarker, meta: Side, meta_marker: StoreMarker) -> Decision:
    if block_marker.store_id != meta_marker.store_id:
        raise _refusal(
            f"the blocks at {blocks.where} belong to store {block_marker.store_id},"
            f" the metadata at {meta.where} to store {meta_marker.store_id}",
            f"Choose the folder and the metadata of one store, {_ADOPT}.",
        )
    if meta.read_only is not None:
        return Decision.READY  # for reading
    if block_marker.metadata_id != meta_marker.metadata_id:
        raise _refusal(
            f"the blocks at {blocks.where} are managed by metadata {block_marker.metadata_id},"
            f" the metadata at {meta.where} is {meta_marker.metadata_id}: a restored or copied one",
            f"Use the other metadata, {_ADOPT}: then the other one is refused.",
        )
    if block_marker != meta_marker:
        raise _refusal(
            f"the store markers at {blocks.where} and {meta.where} have the same ids and differ otherwise",
            "Somebody edited one: undo that, or run `graviton store adopt` to take what the metadata says.",
        )
    return Decision.READY


def _refusal(message: str, hint: str) -> ConfigError:
    return ConfigError(message, operation="store.open", hint=hint)
