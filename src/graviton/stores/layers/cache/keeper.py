"""`Keeper`: the one who writes and removes entries, within the bound, and remembers their order.

Everything but `policy.hit` and `wants` happens on one thread, job after job, so nothing here needs a lock. No job
raises: a cache that does not work is counted and done without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from graviton.core.clock import Clock
from graviton.core.keys import BlockKey
from graviton.errors import GravitonError, IntegrityError
from graviton.ports.kv import KeyValueStore
from graviton.stores.layers.cache.folder import CacheFolder
from graviton.stores.layers.cache.index import CacheIndex, Place
from graviton.stores.layers.cache.metrics import CacheMetrics
from graviton.stores.layers.cache.policy import Entry, Segment, WTinyLfu
from graviton.stores.layers.cache.sketch import FrequencySketch

__all__ = ["Keeper", "OpenIndex", "charge_of"]

OpenIndex: TypeAlias = Callable[[bool], KeyValueStore]
"""Opens the key-value store of the index; with True after removing the one that is there, which is damaged."""

_DISK_BLOCK = 4096
"""What a file takes is a multiple of this on the file systems there are."""

FLUSH_CHANGES = 256
"""Changes of the order that are written together. A batch takes about a millisecond of the keeper's thread, beside half
a second for as many writes of 1 MiB; so many are lost in a crash."""

RETRY_SECONDS = 5.0
"""How soon a folder that another process owns, or that could not be used, is tried again."""


def charge_of(size: int) -> int:
    """Bytes that an entry of `size` bytes takes on the disk."""
    return -(-size // _DISK_BLOCK) * _DISK_BLOCK


class Keeper:
    """Of one folder, if no other process keeps it; else it does nothing and asks again now and then."""

    def __init__(
        self, folder: CacheFolder, open_index: OpenIndex, limit: int, metrics: CacheMetrics, clock: Clock
    ) -> None:
        self.policy = WTinyLfu(limit, self._changed)
        """By the binary form of the block's key."""
        self.is_kept = False
        self.is_closing = False
        """Set by others: loading is given up."""
        self._folder, self._open_index = folder, open_index
        self._metrics, self._clock = metrics, clock
        self._index: CacheIndex | None = None
        self._changes: dict[bytes, Place | None] = {}
        self._next_try = clock.monotonic()

    @property
    def wants(self) -> bool:
        """Whether a block would be kept, as far as is known without asking; yes while that is being asked. Any
        thread."""
        return self.is_kept or self._clock.monotonic() >= self._next_try

    def keeps(self) -> bool:
        """Whether this process keeps the folder, after trying to."""
        if not self.is_kept and self.wants:
            with self._counting("open"):
                self.is_kept = self._take_over()
            if not self.is_kept:
                self._next_try = self._clock.monotonic() + RETRY_SECONDS
            self._metrics.kept(self.is_kept)
        return self.is_kept

    def store(self, key: BlockKey, data: bytes) -> None:
        """Make an entry, and room for it."""
        name, charge = key.to_bytes(), charge_of(key.size)
        if not self.keeps():
            return
        if charge > self.policy.limit:
            self._metrics.filled("large")
            return
        outcome = "failed"
        with self._counting("write"):
            if name in self.policy:
                if self._folder.holds(key):
                    return  # another loop or store was faster
                self.policy.remove(name)  # somebody removed the file
            if key.algo.digest(data) != key.digest:
                raise IntegrityError("the bytes of a block changed before they were cached", operation="cache.put")
            self._make_room(charge)
            self._folder.write(key, data)
            self.policy.add(name, charge)
            outcome = "stored"
        self._metrics.filled(outcome)
        self._tell()
        if len(self._changes) >= FLUSH_CHANGES:
            self._flush()

    def drop(self, key: BlockKey) -> None:
        """Take away an entry that is damaged."""
        if self.is_kept:
            with self._counting("remove"):
                self._folder.remove(key)
                self.policy.remove(key.to_bytes())
            self._tell()

    def close(self) -> None:
        """Write down the order and the frequencies, and let others keep the folder."""
        if self.is_kept:
            self._flush_all()
            self._close_index()
            self.is_kept = False
        self._folder.disown()

    def _make_room(self, charge: int) -> None:
        while self.policy.used + charge > self.policy.limit:
            eviction = self.policy.evict()
            assert eviction is not None, "an empty cache has room for what is not larger than itself"
            try:
                self._folder.remove(BlockKey.from_bytes(eviction.entry.key))
            except BaseException:
                self.policy.take_back(eviction)
                raise
            self._metrics.evicted(eviction.segment, eviction.entry.charge)

    def _take_over(self) -> bool:
        """Own the folder and learn what is in it; whether that was done to its end."""
        if not self._folder.own():
            return False
        is_done = False
        try:
            is_done = self._load()
        finally:
            if not is_done:
                self._close_index()
                self._folder.disown()
        return is_done

    def _load(self) -> bool:
        policy = self.policy = WTinyLfu(self.policy.limit, self._changed)
        self._changes.clear()
        places, policy.frequencies = self._read_index()
        ordered: list[tuple[Place, bytes, int]] = []
        new: list[tuple[bytes, int]] = []
        for key in self._folder.scan(lambda error: self._metrics.failed("remove", error.code)):
            if self.is_closing:
                return False
            name, charge = key.to_bytes(), charge_of(key.size)
            place = places.pop(name, None)
            if place is None:
                new.append((name, charge))
            else:
                ordered.append((place, name, charge))
        ordered.sort()
        for place, name, charge in ordered:
            policy.restore(Entry(name, charge, place.segment, place.number))
        self._changes.update(dict.fromkeys(places))  # records without a file
        for name, charge in new:
            policy.add(name, charge)
        with self._counting("remove"):  # what cannot be removed now is in the way of new entries, of nothing else
            self._make_room(0)
        self._tell()
        return True

    def _read_index(self) -> tuple[dict[bytes, Place], FrequencySketch]:
        """What the index says; nothing if it is missing, and if it is damaged, after it was made anew."""
        for anew in (False, True):
            with self._counting("index"):
                self._index = CacheIndex(self._open_index(anew))
                try:
                    return asyncio.run(_remembered(self._index))
                except IntegrityError as error:
                    self._metrics.failed("index", error.code)
                    self._close_index()
                    continue
            break
        self._close_index()
        return {}, FrequencySketch()

    def _changed(self, entry: Entry) -> None:
        entry.recorded = entry.number
        is_gone = entry.segment is Segment.GONE
        self._changes[entry.key] = None if is_gone else Place(entry.number, entry.segment)

    def _flush(self) -> None:
        changes, self._changes = self._changes, {}
        if self._index is not None and changes:
            with self._counting("index"):
                asyncio.run(self._index.write(changes))

    def _flush_all(self) -> None:
        """Also what the hits changed within their segments, and the frequencies."""
        self.policy.learn()
        for entry in self.policy:
            if entry.number != entry.recorded:
                self._changed(entry)
        self._flush()
        if self._index is not None and self.policy.frequencies.is_changed:
            with self._counting("index"):
                asyncio.run(self._index.write_frequencies(self.policy.frequencies.to_bytes()))

    def _close_index(self) -> None:
        index, self._index = self._index, None
        if index is not None:
            with self._counting("index"):
                asyncio.run(index.aclose())

    def _tell(self) -> None:
        self._metrics.size(self.policy.used, self.policy.limit, len(self.policy))

    @contextmanager
    def _counting(self, operation: str) -> Iterator[None]:
        """What the folder or the index refuse is counted, and was all."""
        try:
            yield
        except GravitonError as error:
            self._metrics.failed(operation, error.code)


async def _remembered(index: CacheIndex) -> tuple[dict[bytes, Place], FrequencySketch]:
    """What the index says. Raises as `CacheIndex.places`."""
    data = await index.frequencies()
    return await index.places(), FrequencySketch.from_bytes(data) if data else FrequencySketch()
