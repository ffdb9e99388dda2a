"""Objects in memory: the references for `ImmutableObjectStore` and `MutableObjectStore`."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import NamedTuple

from graviton.core.clock import Clock, SystemClock
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.errors import InvalidInput, NotFound, RangeNotSatisfiable, Retry, Unavailable
from graviton.ports.capabilities import Capabilities
from graviton.ports.objects import ImmutableObjectStore, MutableObjectStore, ObjectSource, ObjectStat

__all__ = ["InMemoryImmutableObjectStore", "InMemoryMutableObjectStore"]

PIECE_BYTES = 1024 * 1024
"""Bytes of the pieces that `get` yields: readers see several of a large object, as they do elsewhere."""


class _Object(NamedTuple):
    data: bytes
    modified_ns: int


class InMemoryImmutableObjectStore(ImmutableObjectStore):
    """The given objects, by path. For the tasks of one event loop."""

    capabilities = Capabilities()

    def __init__(
        self,
        objects: Mapping[str, bytes] | None = None,
        *,
        scheme: str = "memory",
        bucket: str = "default",
        clock: Clock | None = None,
    ) -> None:
        self.scheme = scheme
        self.bucket = bucket
        self._clock = clock or SystemClock()
        self._closed = False
        self._objects: dict[Locator, _Object] = {}
        for path, data in (objects or {}).items():
            self._objects[Locator(scheme, bucket, path)] = _Object(bytes(data), self._clock.now_ns())

    async def head(self, locator: Locator) -> ObjectStat | None:
        self._check(locator)
        found = self._objects.get(locator)
        return None if found is None else ObjectStat(locator, len(found.data), found.modified_ns)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        self._check_open()
        for locator in sorted(self._objects, key=lambda locator: locator.path.encode()):
            found = self._objects.get(locator)  # may have been deleted since the list was begun
            if found is not None and locator.path.startswith(prefix):
                yield ObjectStat(locator, len(found.data), found.modified_ns)

    async def get(self, locator: Locator, span: Span | None = None) -> AsyncIterator[bytes]:
        data = self._get(locator).data
        wanted = Span(0, len(data)) if span is None else span
        if wanted.end > len(data):
            raise RangeNotSatisfiable(
                f"{wanted} is not within the {len(data)} bytes of {locator}",
                operation="objects.get",
                subject=str(wanted),
            )
        return _pieces(data, wanted)

    async def aclose(self) -> None:
        self._closed = True

    def _get(self, locator: Locator) -> _Object:
        self._check(locator)
        found = self._objects.get(locator)
        if found is None:
            raise NotFound(f"there is no object {locator}", operation="objects.get", subject=locator.text)
        return found

    def _check(self, locator: Locator) -> None:
        self._check_open()
        if (locator.scheme, locator.bucket) != (self.scheme, self.bucket):
            raise InvalidInput(
                f"{locator} is not in {self.scheme}://{self.bucket}/, which is all that this store serves",
                subject=locator.text,
            )

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("this object store is closed", operation="objects", retry=Retry.PERMANENT)


class InMemoryMutableObjectStore(InMemoryImmutableObjectStore, MutableObjectStore):
    """Objects that can be put, copied and deleted, gone with this object."""

    async def put(self, locator: Locator, source: ObjectSource) -> ObjectStat:
        self._check(locator)
        data = await _read(source)  # whole, before anything changes
        self._check_open()
        return self._set(locator, data)

    async def delete(self, locator: Locator) -> bool:
        self._check(locator)
        return self._objects.pop(locator, None) is not None

    async def copy(self, source: Locator, target: Locator) -> ObjectStat:
        self._check(target)
        found = self._get(source)
        if source == target:
            return ObjectStat(target, len(found.data), found.modified_ns)
        return self._set(target, found.data)

    def _set(self, locator: Locator, data: bytes) -> ObjectStat:
        self._objects[locator] = _Object(data, self._clock.now_ns())
        return ObjectStat(locator, len(data), self._objects[locator].modified_ns)


async def _read(source: ObjectSource) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, AsyncIterable):
        return b"".join([bytes(piece) async for piece in source])
    return b"".join([bytes(piece) for piece in source])


async def _pieces(data: bytes, span: Span) -> AsyncIterator[bytes]:
    for start in range(span.start, span.end, PIECE_BYTES):
        yield data[start : min(start + PIECE_BYTES, span.end)]
