"""What JSON looks like, in and out. Members are only ever added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from graviton.core.attributes import Stamped
from graviton.core.manifests import ManifestEntry
from graviton.ports.blobs import BlobStat
from graviton.server.http.times import time_text

MAX_LISTED = 1000
"""Blobs on one page: a megabyte of JSON with usual attributes."""

MAX_IDS = 10_000
"""Ids in one question: they fit in a JSON body of a megabyte."""

ID_PATTERN: Final = "^(blake3|sha256|sha-256):[0-9a-f]{64}:(0|[1-9][0-9]{0,18})$"
"""What ids look like, for descriptions; `BlobKey.parse` decides."""

__all__ = [
    "ID_PATTERN",
    "MAX_LISTED",
    "Attribute",
    "Backends",
    "BlobInfo",
    "BlobPage",
    "BlockInfo",
    "BlockPage",
    "Health",
    "Presence",
    "QuotaInfo",
    "Ready",
    "SchemaInfo",
    "SchemaName",
    "SchemaNames",
    "Stats",
    "WantedIds",
    "blob_info",
    "block_info",
]


class Attribute(msgspec.Struct):
    """One attribute of a blob: its value, who said so, and when."""

    value: int | str
    source: str
    at: str


class BlobInfo(msgspec.Struct):
    """A blob without its bytes."""

    id: str
    size: int
    blocks: int
    chunker: str
    hash: str
    created: str
    name: str | None
    mime: str | None
    attributes: dict[str, int | str]
    """The value of each, confirmed or else advertised."""
    advertised: dict[str, Attribute]
    """What clients said."""
    confirmed: dict[str, Attribute]
    """What the store has seen."""


class BlobPage(msgspec.Struct):
    """Some blobs of a listing, in the order of their ids."""

    blobs: list[BlobInfo]
    next: str | None
    """What to give as `after` for those that follow; null at the end. A page may be empty and have one: then this much
    of the store was looked through, and nothing matched."""
    unreadable: list[str]
    """Ids of blobs whose metadata is damaged, among those looked at."""


class BlockInfo(msgspec.Struct):
    """One block of a blob."""

    key: str
    offset: int
    size: int


class BlockPage(msgspec.Struct):
    """Some blocks of a blob, in order."""

    id: str
    blocks: list[BlockInfo]
    next: int | None
    """What to give as `after` for those that follow; null at the end."""


class WantedIds(msgspec.Struct, forbid_unknown_fields=True):
    """Ids to be looked for."""

    ids: Annotated[list[Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]], msgspec.Meta(max_length=MAX_IDS)]


class Presence(msgspec.Struct):
    """Those of the ids asked for that are there, in the order of the question."""

    present: list[str]


class Health(msgspec.Struct):
    """The process answers."""

    status: str
    version: str
    uptime: int
    """Milliseconds since the server began."""


class Ready(msgspec.Struct):
    """Whether requests can be answered."""

    status: str
    """ok, unable or stopping."""
    parts: dict[str, str]
    """metadata, blocks and disk: ok or unable."""


class Backends(msgspec.Struct):
    """What the store is made of."""

    blocks: str
    metadata: str
    cache: bool


class QuotaInfo(msgspec.Struct):
    """How much of the quota is used, in all domains together; null for what has no limit."""

    used_bytes: int
    used_blobs: int
    reserved_bytes: int
    """By puts and uploads that are going on."""
    reserved_blobs: int
    limit_bytes: int | None
    limit_blobs: int | None
    holder_limit_bytes: int | None
    """Of each holder."""
    holder_limit_blobs: int | None


class Stats(msgspec.Struct):
    """Sums that are kept with every change."""

    blobs: int
    logical_bytes: int
    """Sum of the sizes of all blobs."""
    unique_blocks: int
    stored_bytes: int
    """Sum of the sizes of those blocks."""
    dedup_ratio: float | None
    """Logical by stored bytes; null while nothing is stored."""
    kernel: str
    """native or python."""
    simd: str
    """The instruction set that cuts."""
    backends: Backends
    version: str
    hash: str
    """What puts are hashed with unless they say otherwise."""
    chunker: str
    """How they are cut, likewise."""
    quota: QuotaInfo | None
    """Null while nothing is limited."""


class SchemaName(msgspec.Struct):
    """A schema and its versions, ascending."""

    name: str
    versions: list[int]


class SchemaNames(msgspec.Struct):
    """All schemas, in the order of their names."""

    schemas: list[SchemaName]


class SchemaInfo(msgspec.Struct):
    """One version of a schema."""

    name: str
    version: int
    created: str
    text: str | None
    """Null if it is no UTF-8."""
    base64: str | None
    """Its bytes, if it is no UTF-8."""


def blob_info(stat: BlobStat) -> BlobInfo:
    """A blob as JSON shows it."""
    attributes = stat.attributes
    return BlobInfo(
        id=stat.key.text,
        size=stat.size,
        blocks=stat.blocks,
        chunker=stat.chunker,
        hash=stat.key.algo.value,
        created=time_text(stat.created_at_ns),
        name=attributes.file_name,
        mime=attributes.mime,
        attributes={name: _plain(stamped) for name, stamped in attributes.items()},
        advertised=_stage(attributes.advertised),
        confirmed=_stage(attributes.confirmed),
    )


def block_info(entry: ManifestEntry) -> BlockInfo:
    """A block as JSON shows it."""
    return BlockInfo(entry.key.text, entry.offset, entry.key.size)


def _stage(stage: Mapping[str, Stamped]) -> dict[str, Attribute]:
    return {name: Attribute(_plain(one), one.source, time_text(one.at_ns)) for name, one in stage.items()}


def _plain(stamped: Stamped) -> int | str:
    """A value as JSON has it; a digest as its text."""
    return stamped.value if isinstance(stamped.value, (int, str)) else str(stamped.value)
