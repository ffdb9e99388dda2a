"""`CacheIndex`: what a restart should remember of the order of entries, in a key-value store. Layout: docs/caching.md.

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
from graviton.stores.layers.cache.policy import MAX_USES, Queue

__all__ = ["NAMESPACE", "CacheIndex", "Place"]

NAMESPACE = "cache_entries"

MAX_CHANGES = 4096
"""Changes per transaction: after a folder was found without an index there is one for each entry."""

_VALUE = struct.Struct(">BBQ")
_QUEUES = {Queue.SMALL.value: Queue.SMALL, Queue.MAIN.value: Queue.MAIN}


class Place(NamedTuple):
    """Where an entry stood."""

    number: int
    """Its place in the order of all changes, the oldest first."""
    queue: Queue
    uses: int


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

    async def write_uses(self, uses: Mapping[bytes, int]) -> None:
        """Remember the uses of entries whose places are remembered; of others nothing. Raises as `places`."""
        rest = iter(uses.items())
        while some := list(islice(rest, MAX_CHANGES)):
            await self._kv.transact(partial(_apply_uses, some), Durability.RELAXED)

    async def aclose(self) -> None:
        """Close the key-value store."""
        await self._kv.aclose()


def _apply(changes: Sequence[tuple[bytes, Place | None]], tx: Transaction) -> None:
    tx.put_many(NAMESPACE, [(key, _form(place)) for key, place in changes if place is not None])
    tx.delete_many(NAMESPACE, [key for key, place in changes if place is None])


def _apply_uses(uses: Sequence[tuple[bytes, int]], tx: Transaction) -> None:
    values = tx.get_many(NAMESPACE, [key for key, _ in uses])
    tx.put_many(
        NAMESPACE,
        [
            (key, _form(_parse(value)._replace(uses=count)))
            for (key, count), value in zip(uses, values, strict=True)
            if value is not None
        ],
    )


def _form(place: Place) -> bytes:
    return _VALUE.pack(place.queue, place.uses, place.number)


def _parse(value: bytes) -> Place:
    if len(value) != _VALUE.size:
        raise IntegrityError(f"a record of the cache's index has {len(value)} bytes", operation="cache.index")
    queue, uses, number = _VALUE.unpack(value)
    if queue not in _QUEUES or uses > MAX_USES:
        raise IntegrityError("a record of the cache's index is damaged", operation="cache.index")
    return Place(number, _QUEUES[queue], uses)
