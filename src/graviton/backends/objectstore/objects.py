"""`S3ImmutableObjectStore` and `S3MutableObjectStore`: the objects of one bucket.

A locator is `s3://<bucket>/<path>` and its key is `<path>`, the whole of it: no prefix is put before it, so a locator
means what it means to every other tool. The prefix of the blocks is a part of paths like any other. Objects whose key
is no legal path (with blanks, or a slash at its end) are foreign: they are not listed, and cannot be named.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from graviton.backends.objectstore._s3_api import S3Api, changed
from graviton.backends.objectstore._transfers import (
    PIECE_BYTES,
    Written,
    copy_object,
    part_plan,
    put_parts,
    read_pieces,
)
from graviton.backends.objectstore.config import S3Config
from graviton.concurrency.parts import Parts, parts_of
from graviton.core.clock import Clock, SystemClock
from graviton.core.limits import MAX_SIZE
from graviton.core.locators import Locator
from graviton.core.paths import is_plain
from graviton.core.ranges import Span
from graviton.errors import InvalidInput, NotFound, RangeNotSatisfiable
from graviton.ports.capabilities import Capabilities
from graviton.ports.metrics import MetricsRegistry
from graviton.ports.objects import ImmutableObjectStore, MutableObjectStore, ObjectSource, ObjectStat

__all__ = ["S3ImmutableObjectStore", "S3MutableObjectStore"]

MAX_KEY_BYTES: Final = 1024
"""In UTF-8. https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""


class S3ImmutableObjectStore(ImmutableObjectStore):
    """Reads the objects of a bucket. A reader of an object that is replaced meanwhile gets the old one or Conflict; of
    one that is deleted, NotFound: it holds no connection while nobody asks for more."""

    capabilities = Capabilities(persistent=True, durable=True, multi_process=True)

    def __init__(self, config: S3Config, *, metrics: MetricsRegistry | None = None, clock: Clock | None = None) -> None:
        """Nothing is sent yet."""
        self.config = config
        self.api = S3Api.of(config, metrics, clock)
        self._clock = clock or SystemClock()

    async def head(self, locator: Locator) -> ObjectStat | None:
        found = await self.api.head(self._key(locator), locator.text)
        return None if found is None else ObjectStat(locator, found.size, found.modified_ns)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        self.api.requests.check_open()
        if not is_plain(prefix) or prefix.startswith("/") or len(prefix.encode()) > MAX_KEY_BYTES:
            return  # no path begins so
        async for found in self.api.objects(prefix, f"s3://{self.config.bucket}/{prefix}"):
            try:
                locator = Locator("s3", self.config.bucket, found.key)
            except InvalidInput:
                continue  # not ours
            yield ObjectStat(locator, found.size, found.modified_ns)

    async def get(self, locator: Locator, span: Span | None = None) -> AsyncIterator[bytes]:
        key, subject = self._key(locator), locator.text
        asked = Span(0, MAX_SIZE) if span is None else span
        if not asked.length:
            await self._check_empty(locator, asked)
            return _nothing()
        try:
            first = await self.api.get(key, subject, Span(asked.start, min(asked.start + PIECE_BYTES, asked.end)))
        except RangeNotSatisfiable:
            await self._check_empty(locator, asked, is_whole=span is None)
            return _nothing()
        wanted = Span(0, first.size) if span is None else span
        _check_span(locator, wanted, first.size)
        if not first.data:  # some servers give no bytes of an empty object
            return _nothing()
        return read_pieces(self.api, key, subject, wanted, first)

    async def _check_empty(self, locator: Locator, span: Span, *, is_whole: bool = False) -> None:
        """No byte of `span` is there: raise NotFound, RangeNotSatisfiable or Conflict if that is not right."""
        head = await self.api.head(self._key(locator), locator.text)
        if head is None:
            raise _no_such_object(locator)
        if is_whole:
            span = Span(0, head.size)
        _check_span(locator, span, head.size)
        if span.length:
            raise changed(locator.text)

    async def aclose(self) -> None:
        await self.api.aclose()

    def _key(self, locator: Locator) -> str:
        if locator.scheme != "s3" or locator.bucket != self.config.bucket:
            raise InvalidInput(
                f"{locator} is not in s3://{self.config.bucket}/, which is all that this store serves",
                subject=locator.text,
            )
        length = len(locator.path.encode())
        if length > MAX_KEY_BYTES:
            raise InvalidInput(
                f"a path has at most {MAX_KEY_BYTES} bytes in S3, not {length}",
                subject=locator.text,
                hint="Use a shorter path.",
            )
        return locator.path


class S3MutableObjectStore(S3ImmutableObjectStore, MutableObjectStore):
    """Adds puts, copies and deletes. A put holds at most `parallel_parts` parts of `part_bytes`; of a source of unknown
    size beyond 10 GiB two parts of 1/1250 of what was read, or as many as fit into `max_request_bytes`. One that was
    cancelled, or failed without an answer, while its last request was on its way may have made the object."""

    async def put(self, locator: Locator, source: ObjectSource) -> ObjectStat:
        key = self._key(locator)
        self.api.requests.check_open()
        parts = parts_of(source)
        try:
            written = await self._put(key, locator.text, parts)
        finally:
            await parts.aclose()
        return self._stat(locator, written)

    async def _put(self, key: str, subject: str, parts: Parts) -> Written:
        plan = part_plan(self.api, self.config.part_bytes, parts.size)
        first = await parts.next(plan.part_bytes)
        if len(first) == plan.part_bytes:
            return await put_parts(self.api, key, subject, first, parts, plan)
        await parts.aclose()  # a source that fails even in that makes no object
        return Written(len(first), await self.api.put(key, subject, first))

    async def delete(self, locator: Locator) -> bool:
        """In two requests, for a delete does not tell; of two at the same moment both may say that there was one."""
        key = self._key(locator)
        if await self.api.head(key, locator.text) is None:
            return False
        await self.api.delete(key, locator.text)
        return True

    async def copy(self, source: Locator, target: Locator) -> ObjectStat:
        """Inside the server, metadata included; above `copy_part_bytes` by parts. Raises Conflict if the source is
        replaced meanwhile, or a large one deleted. A server that does not know conditions of copies copies a small one
        as it is by then, and the size that is told is that of before."""
        key, to = self._key(source), self._key(target)
        head = await self.api.head(key, source.text)
        if head is None:
            raise _no_such_object(source)
        if source == target:
            return ObjectStat(target, head.size, head.modified_ns)
        return self._stat(target, await copy_object(self.api, key, head, to, source.text))

    def _stat(self, locator: Locator, written: Written) -> ObjectStat:
        """Of what was just written. Its time is that of the answer; a look may tell that of a second or two before, and
        of an object in parts, at AWS, when they were begun. But a look could fail, after all was done."""
        return ObjectStat(locator, written.size, written.modified_ns or self._clock.now_ns())


def _check_span(locator: Locator, span: Span, size: int) -> None:
    if span.end > size:
        raise RangeNotSatisfiable(
            f"{span} is not within the {size} bytes of {locator}", operation="objects.get", subject=str(span)
        )


def _no_such_object(locator: Locator) -> NotFound:
    return NotFound(f"there is no object {locator}", operation="objects.get", subject=locator.text)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""  # makes it an iterator
