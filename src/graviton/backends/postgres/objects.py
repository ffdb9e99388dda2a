"""`PgImmutableObjectStore` and `PgMutableObjectStore`: objects as rows, their bytes in parts of bounded size.

A name points to a content, and changes that in one step; contents are written before and removed after, in short
transactions (`_object_contents.py`, `_object_names.py`). No transaction waits for a source or a reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from graviton.backends.postgres import _object_contents as contents
from graviton.backends.postgres import _object_names as names
from graviton.backends.postgres._object_contents import Content
from graviton.backends.postgres._object_names import Place, Switched
from graviton.backends.postgres._object_reading import Opened, read_parts
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.concurrency.finishing import finish_anyway
from graviton.concurrency.parts import PartPlan, parts_of, write_parts
from graviton.core.limits import MAX_SIZE
from graviton.core.locators import Locator
from graviton.core.paths import is_plain
from graviton.core.ranges import Span
from graviton.errors import ConfigError, GravitonError, InvalidInput, NotFound, RangeNotSatisfiable
from graviton.ports.capabilities import Capabilities
from graviton.ports.kv import Durability
from graviton.ports.objects import ImmutableObjectStore, MutableObjectStore, ObjectSource, ObjectStat

__all__ = ["PgImmutableObjectStore", "PgMutableObjectStore", "PgObjectConfig"]

_T = TypeVar("_T")

MAX_PART_BYTES = 16 * 1024 * 1024
MAX_PLACE_BYTES = 2600
"""Of bucket and path together: an entry of a btree has at most 2,704 bytes, its header and padding included."""

_LIST_ROWS = 1000
"""Objects per statement of a listing: some 5 ms, and at most 3 MB of paths."""

_COPY_ATTEMPTS = 3
"""How often a copy begins again because its source was replaced meanwhile."""

_REMOVE_SECONDS = 10.0
"""How long a put or delete tries to remove some parts, which takes milliseconds, while the database may be down."""


@dataclass(frozen=True, slots=True)
class PgObjectConfig:
    """Settings of one bucket of objects; a value out of bounds raises ConfigError."""

    bucket: str = "default"
    """Name in its locators, `pg://<bucket>/<path>`; buckets share nothing."""
    part_bytes: int = 1024 * 1024
    """Bytes per row of objects that are put from now on, at most 16 MiB. A put and a get hold two parts in memory each,
    and as much again in the driver. Smaller parts are slower, larger ones not faster (benchmarks/postgres_objects)."""
    lease_seconds: float = 3600.0
    """How long a source may be silent, at least, before others may remove what was written of its put: 1 second to 30
    days. What a killed process left stays up to twice as long."""

    def __post_init__(self) -> None:
        try:
            Locator("pg", self.bucket, "x")
        except InvalidInput as error:
            raise ConfigError(str(error), operation="configure", subject=self.bucket) from error
        if not 1 <= self.part_bytes <= MAX_PART_BYTES:
            raise ConfigError(
                f"part_bytes is 1 to {MAX_PART_BYTES}, not {self.part_bytes}",
                operation="configure",
                subject="part_bytes",
            )
        if not 1 <= self.lease_seconds <= 30 * 86_400:
            raise ConfigError(
                f"lease_seconds is 1 to 2592000, not {self.lease_seconds}",
                operation="configure",
                subject="lease_seconds",
            )


class PgImmutableObjectStore(ImmutableObjectStore):
    """Reads what a mutable store on the same database and bucket wrote. A reader of an object that is replaced or
    deleted meanwhile gets what it had, or Conflict: then it may begin again. Closing it closes the database."""

    capabilities = Capabilities(persistent=True, durable=True, multi_process=True)

    def __init__(self, database: PgDatabase, config: PgObjectConfig | None = None) -> None:
        self.config = config or PgObjectConfig()
        self._database = database
        self._clock = database.clock

    async def head(self, locator: Locator) -> ObjectStat | None:
        rows = await self._database.fetch("objects.head", names.FIND, self._place(locator)._asdict())
        return ObjectStat(locator, rows[0][1], rows[0][3]) if rows else None

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        if not is_plain(prefix):
            return  # no path has that
        high = _after_prefix(prefix)
        sql = names.LIST if high is None else names.LIST_BELOW
        values: dict[str, Any] = {"bucket": self.config.bucket, "low": prefix, "after": "", "limit": _LIST_ROWS}
        values |= {} if high is None else {"high": high}
        while True:
            rows = await self._database.fetch("objects.list", sql, values)
            for path, size, modified_ns in rows:
                yield ObjectStat(Locator("pg", self.config.bucket, path), size, modified_ns)
            if len(rows) < _LIST_ROWS:
                return
            values["after"] = rows[-1][0]

    async def get(self, locator: Locator, span: Span | None = None) -> AsyncIterator[bytes]:
        place = self._place(locator)
        asked = Span(0, MAX_SIZE) if span is None else span
        values = place._asdict() | {"start": asked.start, "length": asked.length}
        rows = await self._database.fetch("objects.get", names.OPEN, values)
        if not rows:
            raise _no_such_object(locator)
        content_id, size, part_bytes, first = rows[0]
        wanted = Span(0, size) if span is None else span
        if wanted.end > size:
            raise RangeNotSatisfiable(
                f"{wanted} is not within the {size} bytes of {locator}", operation="objects.get", subject=str(wanted)
            )
        return read_parts(self._database, Opened(content_id, part_bytes, locator.text), wanted, first)

    async def aclose(self) -> None:
        await self._database.aclose()

    def _place(self, locator: Locator) -> Place:
        if locator.scheme != "pg" or locator.bucket != self.config.bucket:
            raise InvalidInput(
                f"{locator} is not in pg://{self.config.bucket}/, which is all that this store serves",
                subject=locator.text,
            )
        length = len(locator.bucket.encode()) + len(locator.path.encode())
        if length > MAX_PLACE_BYTES:
            raise InvalidInput(
                f"bucket and path have at most {MAX_PLACE_BYTES} bytes in PostgreSQL, not {length}",
                subject=locator.text,
                hint="Use a shorter path.",
            )
        return Place(locator.bucket, locator.path)


class PgMutableObjectStore(PgImmutableObjectStore, MutableObjectStore):
    """Adds puts, which others see once they are durable and whole. A put raises Conflict, which may pass, when the
    server crashed and lost parts of it, or its source was silent for longer than the lease. An object of one part whose
    reply was lost is put again, which may replace one that somebody put at that very moment."""

    async def put(self, locator: Locator, source: ObjectSource) -> ObjectStat:
        """A plain iterable runs on a thread of its own, an async one in a task of its own."""
        place = self._place(locator)
        content = self._drawn(locator)
        try:
            size, whole = await self._take(content, source)
            if whole is None:
                switched = await self._switch(place, content, size)
            else:
                put = partial(names.put_whole, place, content, whole, self._clock.now_ns())
                switched = await self._database.run("objects.put", put)
        except BaseException:
            await self._give_up(content)
            raise
        await self._tidy(switched.old)
        return ObjectStat(locator, size, switched.modified_ns)

    async def _take(self, content: Content, source: ObjectSource) -> tuple[int, memoryview | None]:
        """Read a source to its end, and close it; its bytes, which are written unless it fits into one part: this part
        then, to be written together with the name."""
        parts = parts_of(source)
        try:
            first = await parts.next(content.part_bytes)
            if len(first) < content.part_bytes:
                return len(first), first
            return await write_parts(first, parts, PartPlan(content.part_bytes), partial(self._write, content)), None
        finally:
            await parts.aclose()

    async def _write(self, content: Content, number: int, part: memoryview) -> None:
        now_ns = self._clock.now_ns()
        add = partial(contents.add_part, content, number, part, now_ns)
        await self._database.run("objects.put_part", add, Durability.RELAXED)

    async def _switch(self, place: Place, content: Content, size: int) -> Switched:
        return await self._database.run(
            "objects.put", partial(names.switch, place, content, size, self._clock.now_ns())
        )

    async def delete(self, locator: Locator) -> bool:
        place = self._place(locator)
        found = await self._database.fetch("objects.delete", names.FIND, place._asdict())
        if not found:
            return False
        content_id = found[0][0]
        script = partial(names.delete, place, content_id, self._clock.now_ns())
        try:
            there = await self._database.run("objects.delete", script, repeats_lost=False)
        except LostReply:
            await self._database.run("objects.delete", script)
            there = True  # removed by us, or by somebody who wanted the same
        await self._tidy(content_id)
        return there

    async def copy(self, source: Locator, target: Locator) -> ObjectStat:
        """Inside the server; the bytes do not come here."""
        origin, place = self._place(source), self._place(target)
        for _ in range(_COPY_ATTEMPTS):
            rows = await self._database.fetch("objects.copy", names.FIND, origin._asdict())
            if not rows:
                raise _no_such_object(source)
            content_id, size, part_bytes, modified_ns = rows[0]
            if origin == place:
                return ObjectStat(target, size, modified_ns)
            content = self._drawn(target)._replace(part_bytes=part_bytes)
            try:
                switched = await self._copy(content_id, size, content, place)
            except contents.SourceReplacedError:
                continue
            await self._tidy(switched.old)
            return ObjectStat(target, size, switched.modified_ns)
        raise names.replaced(source.text, "copied")

    async def _copy(self, source: UUID, size: int, content: Content, place: Place) -> Switched:
        try:
            done = 0
            while done < size:
                some = partial(contents.copy_parts, content, source, done, size, self._clock.now_ns())
                done = await self._database.run("objects.copy_parts", some, Durability.RELAXED)
            if size:
                return await self._switch(place, content, size)
            empty = partial(names.put_whole, place, content, b"", self._clock.now_ns())
            return await self._database.run("objects.put", empty)
        except BaseException:
            await self._give_up(content)
            raise

    async def sweep(self) -> int:
        """Remove what killed processes left and what was replaced, as far as it has expired; how many parts. Puts and
        deletes do a little of that each; this does all of it, in all buckets. Several may run at once."""
        parts = 0
        while (removed := await self._sweep_some()) is not None:
            parts += removed.parts
        return parts

    async def _sweep_some(self) -> contents.Removed | None:
        some = partial(contents.sweep_some, self._clock.now_ns())
        return await self._database.run("objects.sweep", some, Durability.RELAXED)

    async def _tidy(self, old: UUID | None) -> None:
        """Remove what an object had before, and a little of what others left. Cancelled, it ends after some parts."""
        while old is not None:
            some = partial(contents.remove_some, old)
            removed = await _best_effort(self._database.run("objects.remove", some, Durability.RELAXED))
            if removed is None:
                return
            old = old if removed.left else None
        await _best_effort(self._sweep_some())

    async def _give_up(self, content: Content) -> None:
        """Remove what a failed or cancelled put wrote, and should it have been in time after all, what it replaced."""
        some = partial(contents.give_up, content, self._clock.now_ns())
        await _best_effort(self._database.run("objects.give_up", some, Durability.RELAXED))
        await _best_effort(self._sweep_some())

    def _drawn(self, locator: Locator) -> Content:
        lease_ns = int(self.config.lease_seconds * 1_000_000_000)
        return Content.drawn(self._clock.now_ns(), self.config.part_bytes, lease_ns, locator.text)


async def _best_effort(work: Awaitable[_T]) -> _T | None:
    """The result of some removing, which is done even if the task is cancelled; None if it failed or took too long. The
    change that it follows has happened, or has an error of its own to tell, and what stays is swept later."""

    async def bounded() -> _T | None:
        try:
            async with asyncio.timeout(_REMOVE_SECONDS):
                return await work
        except (GravitonError, TimeoutError):
            return None

    return await finish_anyway(bounded())


def _no_such_object(locator: Locator) -> NotFound:
    return NotFound(f"there is no object {locator}", operation="objects.get", subject=locator.text)


def _after_prefix(prefix: str) -> str | None:
    """The first text that comes after all those that begin with `prefix`; None if there is none."""
    for place in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[place]) + 1
        if code <= 0x10FFFF:
            # UTF-8 sorts as the numbers of characters do; half pairs of UTF-16 are none.
            return prefix[:place] + chr(0xE000 if code == 0xD800 else code)
    return None
