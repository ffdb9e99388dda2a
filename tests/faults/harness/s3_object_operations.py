"""Operations on objects and whole blobs for the fault matrix. Parts are small: the servers of these rows take any."""

from __future__ import annotations

import asyncio
import functools
from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import ClassVar
from weakref import WeakKeyDictionary

from graviton.backends.objectstore._s3_api import S3Api
from graviton.backends.objectstore._transfers import PIECE_BYTES, read_object
from graviton.backends.objectstore.blobs import S3BlobStore
from graviton.backends.objectstore.config import S3Config
from graviton.backends.objectstore.objects import S3MutableObjectStore
from graviton.core.hashing import DEFAULT_HASH
from graviton.core.keys import BlobKey
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.errors import Conflict, Unavailable
from tests.faults.harness.s3_operations import Operation
from tests.s3_faults import FaultRow
from tests.s3_proxy import Kind
from tests.s3_server import moto_server, rclone_server
from tests.support import some_bytes

__all__ = ["BLOB_OPERATIONS", "OBJECT_OPERATIONS"]

_PART = 64 * 1024
OLD, NEW, OTHER = some_bytes(3_000, 1), some_bytes(_PART + 2_000, 2), some_bytes(500, 3)
_LARGE = some_bytes(PIECE_BYTES + 5_000, 4)


def _in_small_parts(config: S3Config, *names: str) -> S3Config:
    """One part at a time, each smaller than settings may say."""
    made = replace(config, parallel_parts=1)
    for name in names:
        object.__setattr__(made, name, _PART)
    return made


@functools.cache
def _api(bucket: S3Config) -> S3Api:
    """Of a bucket, past the proxy; making one takes a while."""
    return S3Api.of(bucket)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def _turn() -> asyncio.Lock:
    """For making what all cases read: while one replaces it, rclone's server has none for another."""
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


class _InBucket(Operation):
    """What is there is looked at past the proxy, by `look`; `other` is there and stays."""

    left_out = frozenset({"409", "400 RequestTimeout", "403 wrong secret"})
    """They differ by their number: tests/unit/objectstore/test_errors.py has them for this driver."""
    look: S3Api
    prefix: str

    async def prepare(self, straight: S3Config) -> None:
        self.look = _api(replace(straight, prefix="any"))
        self.prefix = straight.prefix
        await self.write("other", OTHER)
        await self.begin(straight)

    async def begin(self, straight: S3Config) -> None:
        """What else is there."""

    async def check(self, straight: S3Config, succeeded: bool) -> None:
        assert await self.bytes_of("other") == OTHER, "something else was touched"
        await self.check_uploads()
        await self.end(succeeded)

    @abstractmethod
    async def end(self, succeeded: bool) -> None: ...

    async def check_uploads(self) -> None:
        """None is left open; but where no reply to a beginning ever came, nobody knows which is ours."""
        left = [upload.key for upload in await self.look.uploads(self.prefix, "look")]
        begun = [one for one in self.seen if one.kind is Kind.CREATE_UPLOAD]
        answered = {one.key for one in begun if not one.fault and one.status == 200}
        assert answered.isdisjoint(left), "an upload is left open"
        assert len(left) <= sum(one.was_forwarded for one in begun)

    async def write(self, name: str, data: bytes) -> None:
        await self.look.put(f"{self.prefix}/{name}", name, memoryview(data))

    async def bytes_of(self, name: str) -> bytes | None:
        return await read_object(self.look, f"{self.prefix}/{name}", name)

    async def names(self) -> set[str]:
        """Of all objects, without the other one."""
        start = len(self.prefix) + 1
        return {one.key[start:] async for one in self.look.objects(f"{self.prefix}/", "look")} - {"other"}


class _OnObjects(_InBucket):
    """`OLD` lies under `ours`."""

    async def begin(self, straight: S3Config) -> None:
        await self.write("ours", OLD)

    async def call(self, broken: S3Config) -> None:
        self.bucket = broken.bucket
        store = S3MutableObjectStore(_in_small_parts(broken, "part_bytes", "copy_part_bytes"), metrics=self.metrics)
        try:
            await self.act(store)
        finally:
            await store.aclose()

    @abstractmethod
    async def act(self, store: S3MutableObjectStore) -> None: ...

    def at(self, name: str) -> Locator:
        return Locator("s3", self.bucket, f"{self.prefix}/{name}")

    async def end(self, succeeded: bool) -> None:
        """By default: what was there is there."""
        assert await self.bytes_of("ours") == OLD
        assert await self.names() == {"ours"}


class _Replaces(_OnObjects):
    new = NEW
    also: ClassVar[frozenset[str]] = frozenset()

    async def end(self, succeeded: bool) -> None:
        found = await self.bytes_of("ours")
        may_have_arrived = any(one.kind in _REPLACING and one.was_forwarded for one in self.seen)
        assert found in (self.new, OLD)
        assert found == self.new or not succeeded, "the new one is there"
        assert found == OLD or may_have_arrived
        assert found == OLD or succeeded or not self.is_answered(), "an error after the effect"
        assert await self.names() == {"ours"} | self.also

    def is_answered(self) -> bool:
        """Whether the reply to what makes the object came through, so that nothing but success is true."""
        return any(one.kind in _REPLACING and one.status == 200 and not one.fault for one in self.seen)


_REPLACING = frozenset({Kind.PUT, Kind.COPY, Kind.COMPLETE})
"""Requests after which the new object is there."""


class ObjectPut(_Replaces):
    """In one request."""

    requests = (Kind.PUT,)
    new = some_bytes(2_000, 5)

    async def act(self, store: S3MutableObjectStore) -> None:
        assert (await store.put(self.at("ours"), self.new)).size == len(self.new)


def _by_parts(kind: Kind, fault: FaultRow) -> FaultRow:
    """A completion that happened is seen to have happened, if its replies are all lost. The ETag of a part counts."""
    if kind is Kind.COMPLETE and fault.has_effect:
        return replace(fault, kind=None)
    if kind is Kind.PART and fault.name == "wrong ETag":
        return replace(fault, kind=Unavailable, passes=False)
    return fault


class ObjectPutByParts(_Replaces):
    """Begin, two parts, complete; on a server that forgets uploads that are completed."""

    requests = (Kind.CREATE_UPLOAD, Kind.PART, Kind.PART, Kind.COMPLETE)
    server = staticmethod(rclone_server)
    means = staticmethod(_by_parts)

    async def act(self, store: S3MutableObjectStore) -> None:
        assert (await store.put(self.at("ours"), NEW)).size == len(NEW)


class _SourceError(Exception):
    pass


class ObjectPutGivenUp(_OnObjects):
    """A source that fails after a part: what ends it is told, and not what becomes of tidying up, save for a hint."""

    requests = (Kind.ABORT, Kind.LIST_PARTS)
    server = staticmethod(rclone_server)
    is_told_of = False

    @staticmethod
    def means(kind: Kind, fault: FaultRow) -> FaultRow:
        return replace(fault, kind=None)

    async def act(self, store: S3MutableObjectStore) -> None:
        try:
            await store.put(self.at("ours"), self._source())
        except _SourceError as failure:
            self.is_told_of = "lifecycle rule" in "".join(getattr(failure, "__notes__", ()))
        else:
            raise AssertionError("a source that failed made an object")

    async def _source(self) -> AsyncIterator[bytes]:
        yield NEW
        while not any(one.kind is Kind.PART and one.status == 200 for one in self.seen):
            await asyncio.sleep(0.001)
        raise _SourceError

    async def check_uploads(self) -> None:
        left = await self.look.uploads(self.prefix, "look")
        assert not left or self.is_told_of
        begun = sum(one.kind is Kind.CREATE_UPLOAD and one.was_forwarded for one in self.seen)
        is_removed = any(one.kind is Kind.ABORT and one.status // 100 == 2 for one in self.seen)
        assert len(left) <= begun - is_removed


class ObjectCopy(_Replaces):
    """In one request, after a look."""

    requests = (Kind.HEAD, Kind.COPY)
    new = some_bytes(2_000, 5)
    also = frozenset({"source"})

    async def begin(self, straight: S3Config) -> None:
        await super().begin(straight)
        await self.write("source", self.new)

    async def act(self, store: S3MutableObjectStore) -> None:
        assert (await store.copy(self.at("source"), self.at("ours"))).size == len(self.new)

    async def end(self, succeeded: bool) -> None:
        await super().end(succeeded)
        assert await self.bytes_of("source") == self.new


class ObjectCopyByParts(ObjectCopy):
    """Begin, two parts of which one stands for both, complete; the looks are as with every copy."""

    new = NEW
    requests = (Kind.CREATE_UPLOAD, Kind.PART_COPY, Kind.COMPLETE)
    means = staticmethod(_by_parts)
    server = staticmethod(moto_server)


class ObjectGet(_OnObjects):
    """Two ranges of one object, which must have one ETag."""

    requests = (Kind.GET, Kind.GET)
    SPAN = Span(1_000, len(_LARGE) - 10)

    @staticmethod
    def means(kind: Kind, fault: FaultRow) -> FaultRow:
        return replace(fault, kind=Conflict, passes=False) if fault.name == "wrong ETag" else fault

    async def begin(self, straight: S3Config) -> None:
        await super().begin(straight)
        async with _turn():
            await _put_large(self.look)

    async def act(self, store: S3MutableObjectStore) -> None:
        locator = Locator("s3", self.bucket, "shared/large")
        found = b"".join([piece async for piece in await store.get(locator, self.SPAN)])
        assert found == _LARGE[self.SPAN.start : self.SPAN.end]


async def _put_large(look: S3Api) -> None:
    """Once for all cases."""
    if await look.head("shared/large", "look") is None:
        await look.put("shared/large", "look", memoryview(_LARGE))


class ObjectHead(_OnObjects):
    """Of one that is there."""

    requests = (Kind.HEAD,)

    async def act(self, store: S3MutableObjectStore) -> None:
        found = await store.head(self.at("ours"))
        assert found is not None, "an error was taken for absence"
        assert found.size == len(OLD)


class ObjectHeadAbsent(_OnObjects):
    """Of none: the bucket is looked at, whose absence would look the same."""

    requests = (Kind.HEAD, Kind.HEAD_BUCKET)

    @staticmethod
    def means(kind: Kind, fault: FaultRow) -> FaultRow:
        is_of_a_bucket = kind is Kind.HEAD_BUCKET and fault.name.startswith(
            "200 of"
        )  # nothing tells that from an answer
        return replace(fault, kind=None) if is_of_a_bucket else fault

    async def act(self, store: S3MutableObjectStore) -> None:
        assert await store.head(self.at("none")) is None


class ObjectList(_OnObjects):
    """Several pages."""

    requests = (Kind.LIST, Kind.LIST)
    server = staticmethod(moto_server)  # looks at no signature, which covers the size of a page

    async def begin(self, straight: S3Config) -> None:
        await super().begin(straight)
        for name in ("a", "b", "z"):
            await self.write(name, OTHER)

    async def act(self, store: S3MutableObjectStore) -> None:
        found = [stat.locator.path async for stat in store.list(f"{self.prefix}/")]
        assert found == [f"{self.prefix}/{name}" for name in ("a", "b", "other", "ours", "z")]

    async def end(self, succeeded: bool) -> None:
        assert await self.names() == {"a", "b", "ours", "z"}


class ObjectDelete(_OnObjects):
    """A look, which tells whether there was one, then the delete."""

    requests = (Kind.HEAD, Kind.DELETE)

    async def act(self, store: S3MutableObjectStore) -> None:
        assert await store.delete(self.at("ours")), "an error was taken for absence"

    async def end(self, succeeded: bool) -> None:
        assert await self.bytes_of("ours") in ((None,) if succeeded else (None, OLD))


class _OnBlobs(_InBucket):
    data: ClassVar = OLD

    async def call(self, broken: S3Config) -> None:
        settings = _in_small_parts(broken, "part_bytes")
        store = S3BlobStore(settings, prefix=f"{self.prefix}/blobs", metrics=self.metrics)
        try:
            await self.act(store)
        finally:
            await store.aclose()

    @abstractmethod
    async def act(self, store: S3BlobStore) -> None: ...

    def straight(self) -> S3BlobStore:
        """The store past the proxy."""
        made = S3BlobStore(self.look.config, prefix=f"{self.prefix}/blobs")
        made.api = made._records._api = self.look
        return made

    @property
    def key(self) -> BlobKey:
        return BlobKey(DEFAULT_HASH.digest(self.data), len(self.data))

    async def content(self) -> bytes | None:
        """Of the blob; None if there is none. Half a blob raises."""
        store = self.straight()
        if await store.stat(self.key) is None:
            return None
        async with await store.get(self.key) as reader:
            return await reader.read()


class _PutsBlob(_OnBlobs):
    async def act(self, store: S3BlobStore) -> None:
        result = await store.put(self.data)
        assert result.key == self.key
        assert result.created

    async def end(self, succeeded: bool) -> None:
        found = await self.content()
        assert found == self.data or (found is None and not succeeded), "absent or whole"
        left = await self.names()
        if any(one.kind is Kind.DELETE and one.fault for one in self.seen):
            left = {name for name in left if not name.startswith("blobs.tmp/")}
        if any(one.kind in (Kind.PUT, Kind.DELETE) and one.fault for one in self.seen):
            left = {name for name in left if not name.startswith("blobs.notes/")}
        if found is None and self.is_not_noted():
            left = {name for name in left if not name.startswith("blobs/")}
        assert len(left) == (0 if found is None else 2), left

    def is_not_noted(self) -> bool:
        """Whether the note without which nothing is deleted was not answered."""
        return not any(one.kind is Kind.PUT and ".notes/" in one.key and not one.fault for one in self.seen)


class BlobPut(_PutsBlob):
    """Whether there is one, and a note of it; bytes; record."""

    requests = (Kind.GET, Kind.GET, Kind.PUT, Kind.PUT)


class BlobPutByParts(_PutsBlob):
    """Parts under a temporary name, from which the whole is copied: what differs from a small blob and from an object.
    That name goes, but for a fault nobody is told of."""

    data = NEW
    requests = (Kind.COMPLETE, Kind.COPY, Kind.DELETE)
    server = staticmethod(rclone_server)

    @staticmethod
    def means(kind: Kind, fault: FaultRow) -> FaultRow:
        return replace(fault, kind=None) if kind is Kind.DELETE else _by_parts(kind, fault)


class BlobGet(_OnBlobs):
    """Record, digests, a piece."""

    data = _LARGE
    requests = (Kind.GET, Kind.GET, Kind.GET)

    async def begin(self, straight: S3Config) -> None:
        store = S3BlobStore(self.look.config, prefix="shared/blobs")
        store.api = store._records._api = self.look
        async with _turn():
            if await store.stat(self.key) is None:
                await store.put(self.data)

    async def call(self, broken: S3Config) -> None:
        store = S3BlobStore(broken, prefix="shared/blobs", metrics=self.metrics)
        try:
            await self.act(store)
        finally:
            await store.aclose()

    async def act(self, store: S3BlobStore) -> None:
        span = Span(PIECE_BYTES + 100, len(_LARGE) - 100)
        async with await store.get(self.key, span) as reader:
            assert await reader.read() == self.data[span.start : span.end]

    async def end(self, succeeded: bool) -> None:
        assert await self.names() == set()


class BlobDelete(_OnBlobs):
    """A note; the record, which makes it a blob; what it was made of. The end of the note comes after that, and its
    faults, of which nobody is told, are in test_s3_late_blob_requests.py."""

    requests = (Kind.GET, Kind.GET, Kind.PUT, Kind.DELETE, Kind.DELETE)

    async def begin(self, straight: S3Config) -> None:
        await self.straight().put(self.data)

    async def act(self, store: S3BlobStore) -> None:
        assert await store.delete(self.key), "an error was taken for absence"

    async def end(self, succeeded: bool) -> None:
        assert await self.content() in ((None,) if succeeded else (None, self.data))
        left = await self.names()
        if any(one.kind in (Kind.PUT, Kind.DELETE) and one.fault for one in self.seen):
            left = {name for name in left if not name.startswith("blobs.notes/")}
        assert not succeeded or left == set()


OBJECT_OPERATIONS: tuple[type[Operation], ...] = (
    ObjectPut,
    ObjectPutByParts,
    ObjectPutGivenUp,
    ObjectCopy,
    ObjectCopyByParts,
    ObjectGet,
    ObjectHead,
    ObjectHeadAbsent,
    ObjectList,
    ObjectDelete,
)
BLOB_OPERATIONS: tuple[type[Operation], ...] = (BlobPut, BlobPutByParts, BlobGet, BlobDelete)
