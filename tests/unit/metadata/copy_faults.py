"""Metadata stores and a marker that fail, or from which the process vanishes, at the n-th change of any of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from graviton.backends.memory.marker import InMemoryMarkerStore
from graviton.errors import GravitonError
from graviton.metadata.copy import MetadataCopy
from graviton.metadata.copy_plan import Place
from graviton.metadata.marker import StoreMarker
from graviton.metadata.pairing import adopt, look, take_back
from graviton.metadata.read_only import GuardedKeyValueStore
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction

_T = TypeVar("_T")


class Gone(BaseException):
    """The process is no more: nothing that it would do on its way out happens."""


class Fate:
    """What becomes of the changes of one run."""

    def __init__(self, at: int = -1, *, after: bool = False, error: GravitonError | None = None) -> None:
        """At the change number `at`, before it happens or `after` it: `error`, or the end of the process."""
        self.changes = 0
        self.before: Callable[[int], Awaitable[None]] | None = None
        """What others do before the change with this number."""
        self.then: Callable[[int], Awaitable[None]] | None = None
        """And after it."""
        self.reads = 0
        """Of the blocks' marker."""
        self.before_read: Callable[[int], Awaitable[None]] | None = None
        """What others do before the read with this number; or what it raises."""
        self.marker_changes: list[int] = []
        """The numbers of the changes that write the marker."""
        self.may_not_write: GravitonError | None = None
        """What asking whether the marker may be written raises."""
        self._at, self._after, self._error = at, after, error
        self._is_gone = False

    @property
    def was_met(self) -> bool:
        return self.changes > self._at

    async def change(self, work: Callable[[], Awaitable[_T]]) -> _T:
        if self._is_gone:
            raise Gone
        number = self.changes
        if self.before is not None:
            await self.before(number)
        self.changes += 1
        if number == self._at and not self._after:
            self._end()
        result = await work()
        if number == self._at:
            self._end()
        if self.then is not None:
            await self.then(number)
        return result

    async def read_marker(self, work: Callable[[], Awaitable[_T]]) -> _T:
        self.look()
        number, self.reads = self.reads, self.reads + 1
        if self.before_read is not None:
            await self.before_read(number)
        return await work()

    def look(self) -> None:
        if self._is_gone:
            raise Gone

    def _end(self) -> None:
        if self._error is not None:
            raise self._error
        self._is_gone = True
        raise Gone


class _Fated(KeyValueStore):
    def __init__(self, inner: KeyValueStore, fate: Fate) -> None:
        self._inner, self._fate = inner, fate

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        return await self._fate.change(lambda: self._inner.transact(fn, durability))

    async def read(self, fn: Callable[[ReadTransaction], _T]) -> _T:
        self._fate.look()
        return await self._inner.read(fn)

    async def namespaces(self) -> list[str]:
        self._fate.look()
        return await self._inner.namespaces()


class Markers(InMemoryMarkerStore):
    """One that can be gone for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.is_unmounted = False
        self._beneath: bytes | None = None

    def unmount(self) -> None:
        """What is written from now on is written into the empty mount point."""
        self._data, self._beneath, self.is_unmounted = None, self._data, True

    def mount(self) -> None:
        """What is in the mount point is hidden; nothing if it is mounted."""
        if self.is_unmounted:
            self._data, self.is_unmounted = self._beneath, False


class _FatedMarkers(InMemoryMarkerStore):
    def __init__(self, inner: InMemoryMarkerStore, fate: Fate) -> None:
        super().__init__()
        self._inner, self._fate = inner, fate

    async def read(self) -> bytes | None:
        return await self._fate.read_marker(self._inner.read)

    async def check_replace(self) -> None:
        if self._fate.may_not_write is not None:
            raise self._fate.may_not_write

    async def write_new(self, data: bytes) -> None:
        await self._fate.change(lambda: self._inner.write_new(data))

    async def replace(self, data: bytes) -> None:
        self._fate.marker_changes.append(self._fate.changes)
        await self._fate.change(lambda: self._inner.replace(data))


class World:
    """A source, a target and the blocks' marker, which outlive every process."""

    def __init__(self, source: KeyValueStore, target: KeyValueStore, marker: StoreMarker) -> None:
        self.source, self.target, self.markers = source, target, Markers()
        self.marker = marker

    async def copy(self, fate: Fate | None = None, **options: bool) -> MetadataCopy:
        """A new process."""
        if await self.markers.read() is None and not self.markers.is_unmounted:
            await self.markers.write_new(self.marker.encode())
        fate = fate or Fate()
        source, target = (GuardedKeyValueStore(_Fated(kv, fate)) for kv in (self.source, self.target))
        return MetadataCopy(
            Place(source, "the source", "A=source"),
            Place(target, "the target", "A=target"),
            _FatedMarkers(self.markers, fate),
            **options,
        )

    async def take_back(self, fate: Fate | None = None) -> None:
        """`graviton store adopt --retired` with the source."""
        fate = fate or Fate()
        source, markers = GuardedKeyValueStore(_Fated(self.source, fate)), _FatedMarkers(self.markers, fate)
        await take_back(source, "the source", markers)
        await adopt(source, "the source", markers, self.marker.hash, self.marker.chunker)

    async def written_to(self) -> list[str]:
        """Which of the two somebody can write to: the source also who has it open since before the copy."""
        source = ["source"] if await self._is_open(self.source) else []
        return source + (["target"] if await self._is_writable(self.target) else [])

    async def writable(self) -> list[str]:
        """Which of the two a process that starts now can write to."""
        return [name for name, kv in (("source", self.source), ("target", self.target)) if await self._is_writable(kv)]

    async def _is_writable(self, kv: KeyValueStore) -> bool:
        async def no() -> bool:
            return False

        try:
            await look(kv, "a place", self.markers, no)
        except GravitonError:
            return False
        return await self._is_open(kv)

    async def _is_open(self, kv: KeyValueStore) -> bool:
        try:
            await GuardedKeyValueStore(kv).transact(lambda tx: None)
        except GravitonError:
            return False
        return True
