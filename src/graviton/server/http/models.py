"""What JSON looks like, in and out. Members are only ever added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from graviton.core.attributes import Stamped
from graviton.core.manifests import ManifestEntry
from graviton.ports.blobs import BlobStat
from graviton.server.http.times import time_text

MAX_IDS = 10_000
"""Ids in one question: they fit in a JSON body of a megabyte."""

__all__ = [
    "Attribute",
    "BlobInfo",
    "BlobPage",
    "BlockInfo",
    "BlockPage",
    "Presence",
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

    ids: Annotated[list[str], msgspec.Meta(max_length=MAX_IDS)]


class Presence(msgspec.Struct):
    """Those of the ids asked for that are there, in the order of the question."""

    present: list[str]


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
