"""`CacheIndex`: what a restart should remember, in a key-value store: the order of entries, and how often blocks were
asked for. Layout: docs/caching.md.

Only a hint: the folder says what is cached. So changes may be lost, and nothing is checked beyond its form.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from graviton.errors import IntegrityError
from graviton.ports.kv import Durability, KeyValueStore, Transaction
from graviton.stores.layers.cache.policy import Segment

__all__ = ["FREQUENCIES", "NAMESPACE", "CacheIndex", "Place"]

NAMESPACE = "cache_entries"
FREQUENCIES = "cache_frequencies"

MAX_CHANGES = 4096
"""Changes per transaction: after a folder was found without an index there is one for each entry."""

FORMAT = 3
"""First byte of every record; an index with another one is made anew. In the first format it was a queue, 1 or 2."""

PAGE_BYTES = 1 << 16
"""Of the frequencies, under one key: some pages of the database, and far from the largest value there may be."""

_PLACE = struct.Struct(">BBQ")
_SEGMENTS = {segment.value: segment for segment in Segment if segment is not Segment.GONE}
_PAGE = struct.Struct(">I")


class Place(NamedTuple):
    """Where an entry stood."""

    number: int
    """See `Entry.number`."""
    segment: Segment


class CacheIndex:
    """The records of one cache."""

    def __init__(self, kv: KeyValueStore) -> None:
        """`kv` is closed with this."""
        self._kv = kv

    async def places(self) -> dict[bytes, Place]:
        """What is remembered, by the binary form of the block's key. Raises IntegrityError and whatever the
        key-value store does."""
        return {key: _parse(value) async for key, value in self._kv.scan(NAMESPACE)}

    async def write(self, changes: Mapping[bytes, Place | None]) -> None:
        """Remember or forget (None) places, perhaps losing them with the power."""
        rest = iter(changes.items())
        while some := list(islice(rest, MAX_CHANGES)):
            await self._kv.transact(partial(_apply, some), Durability.RELAXED)

    async def frequencies(self) -> bytes:
        """What was last written of them; empty if nothing was. Raises as `places`."""
        pages = [value async for _, value in self._kv.scan(FREQUENCIES)]
        if any(page[:1] != bytes([FORMAT]) for page in pages):
            raise _other_format()
        return b"".join(page[1:] for page in pages)

    async def write_frequencies(self, data: bytes) -> None:
        """Remember these in place of those before. Raises as `places`."""
        await self._kv.transact(partial(_replace, data), Durability.RELAXED)

    async def aclose(self) -> None:
        """Close the key-value store."""
        await self._kv.aclose()


def _apply(changes: Sequence[tuple[bytes, Place | None]], tx: Transaction) -> None:
    tx.put_many(NAMESPACE, [(key, _form(place)) for key, place in changes if place is not None])
    tx.delete_many(NAMESPACE, [key for key, place in changes if place is None])


def _replace(data: bytes, tx: Transaction) -> None:
    tx.delete_range(FREQUENCIES, b"\0")
    tx.put_many(
        FREQUENCIES,
        [
            (_PAGE.pack(start // PAGE_BYTES), bytes([FORMAT]) + data[start : start + PAGE_BYTES])
            for start in range(0, len(data), PAGE_BYTES)
        ],
    )


def _form(place: Place) -> bytes:
    return _PLACE.pack(FORMAT, place.segment, place.number)


def _parse(value: bytes) -> Place:
    if value[:1] != bytes([FORMAT]):
        raise _other_format()
    if len(value) != _PLACE.size or value[1] not in _SEGMENTS:
        raise IntegrityError("a record of the cache's index is damaged", operation="cache.index")
    _, segment, number = _PLACE.unpack(value)
    return Place(number, _SEGMENTS[segment])


def _other_format() -> IntegrityError:
    return IntegrityError(f"the cache's index is not of format {FORMAT}, or damaged", operation="cache.index")
