"""Notes of what may be on its way to a blob: a request that nobody answered may arrive later, and hit what was put
meanwhile. Why they are as they are: docs/decisions/0030-whole-blobs-in-a-bucket.md; the objects are a stored format,
described in docs/formats/object-layout.md.

The rule: before anything of a blob is taken away or replaced there is a note of it, and who is done removes it only if
every try was answered. No note is ever harmful, however late it is written: it only makes others wait.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Final, NamedTuple

from graviton.backends.objectstore._blob_records import BlobPlace
from graviton.backends.objectstore._s3_api import Piece, S3Api
from graviton.backends.objectstore.requests import Tried
from graviton.concurrency.finishing import finish_anyway
from graviton.core.clock import Clock
from graviton.core.keys import BlobKey
from graviton.core.ranges import Span
from graviton.errors import GravitonError, NotFound, RangeNotSatisfiable, StorageFull, Unavailable

__all__ = ["LATE_SECONDS", "BlobNotes"]

_FORMAT_VERSION: Final = 1
_MAX_BYTES: Final = 4096
"""Of a note; all of ours are shorter."""

LATE_SECONDS: Final = 35 * 60.0
"""How late a request may arrive. Servers refuse a signature whose time is more than 15 minutes from their clock
(https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html, "Time Stamp Requirement"; MinIO's
`globalMaxSkewTime`), in both directions: that of a machine whose clock is 15 minutes ahead is good for 30. The rest is
for the time between the first and the last try of one request."""


class _Late(NamedTuple):
    """What this process knows of a request that nobody answered and no note tells of."""

    since: float
    """Monotonic."""
    creates: bool
    """All it can do is to make the record that is there by now."""


class _Memory:
    """For all stores of one place in this process."""

    _places: ClassVar[dict[tuple[str, ...], _Memory]] = {}
    _making: ClassVar = threading.Lock()

    @classmethod
    def of(cls, place: tuple[str, ...]) -> _Memory:
        with cls._making:
            return cls._places.setdefault(place, cls())

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._late: dict[str, _Late] = {}

    def add(self, name: str, late: _Late, seconds: float) -> None:
        """Forgets what is older than `seconds`."""
        with self._lock:
            self._late = {one: it for one, it in self._late.items() if late.since - it.since <= seconds}
            self._late[name] = late

    def get(self, name: str) -> _Late | None:
        with self._lock:
            return self._late.get(name)


class _Note(NamedTuple):
    """What a note says; when, the server tells."""

    is_under_way: bool
    """Requests are being sent. Else all were sent before the note was written."""
    removes: bool
    """The blob. Else they replace its record."""

    def to_bytes(self, key: BlobKey) -> bytes:
        """The stored form."""
        fields = {
            "format_version": _FORMAT_VERSION,
            "key": key.text,
            "removes": self.removes,
            "under_way": self.is_under_way,
        }
        return json.dumps(fields, indent=2, sort_keys=True).encode() + b"\n"

    @classmethod
    def of(cls, data: bytes, key: BlobKey) -> _Note:
        """What is not one of ours may mean anything: the one that everybody waits for."""
        known = (cls(is_under_way, removes) for is_under_way in (True, False) for removes in (True, False))
        return next((note for note in known if note.to_bytes(key) == data), cls(True, False))


class BlobNotes:
    """The notes in a bucket, and what this process remembers where there is none. Who changes a blob has its turn."""

    def __init__(self, api: S3Api, place: tuple[str, ...], clock: Clock, late_seconds: float) -> None:
        """`place`: what stores have in common that work on the same blobs."""
        self._api, self._clock, self._late_seconds = api, clock, late_seconds
        self._memory = _Memory.of(place)

    async def check(self, place: BlobPlace, key: BlobKey, *, to_remove: bool = False) -> bool:
        """Raise Unavailable, which is temporary, while something may arrive that takes away what is there, or what is
        acknowledged now. By the clock of the server, which is also the one that refuses old signatures. Who wants to
        remove the blob need not wait for what removes it: he is told that it may arrive, and says so in his note."""
        late = self._memory.get(place.record)
        if late is not None and not late.creates:
            self._check_age(self._clock.monotonic() - late.since, key)
        found = await self._find(place, key)
        if found is None:
            return False
        note = _Note.of(found.data, key)
        age = 0.0 if note.is_under_way else found.age_seconds
        if to_remove and note.removes:
            return age < self._late_seconds
        if note.is_under_way:  # who wrote it has died, for the turn is ours, or could not end it: all was sent by now
            await self._put(self._api, place, key, note._replace(is_under_way=False))
        self._check_age(age, key)
        return False

    def check_creates(self, place: BlobPlace, key: BlobKey) -> None:
        """Raise the same while a record may arrive that this process sent: it would replace another one. For whoever
        writes; after `check`."""
        late = self._memory.get(place.record)
        if late is not None:
            self._check_age(self._clock.monotonic() - late.since, key)

    def add_create(self, place: BlobPlace) -> None:
        """The record was sent, and not every try was answered."""
        self._remember(place, creates=True)

    def _remember(self, place: BlobPlace, *, creates: bool) -> None:
        known = self._memory.get(place.record)
        late = _Late(self._clock.monotonic(), creates and (known is None or known.creates))
        self._memory.add(place.record, late, self._late_seconds)

    def _check_age(self, seconds: float, key: BlobKey) -> None:
        left = self._late_seconds - seconds
        if left > 0:
            raise Unavailable(
                f"a request about blob {key.text} was never answered and may still arrive",
                operation="blobs",
                subject=key.text,
                hint=f"Try again in {-(-left // 60):.0f} minutes: servers refuse it by then (decisions/0030).",
            )

    @asynccontextmanager
    async def noted(self, api: S3Api, place: BlobPlace, key: BlobKey, *, removes: bool) -> AsyncIterator[Tried]:
        """Whatever replaces or removes something of a blob happens in this block, with the `Tried` that it gives. Not
        to be cancelled. Raises before the block if no note can be written; but a bucket that is full takes none, and
        must not keep what would make room: there this process remembers."""
        note = _Note(True, removes)
        has_note = await self._is_begun(api, place, key, note)
        tried = Tried()
        try:
            yield tried
        finally:
            if has_note:
                await finish_anyway(self._end(place, key, note, tried))
            elif tried.is_open:
                self._remember(place, creates=False)

    async def _is_begun(self, api: S3Api, place: BlobPlace, key: BlobKey, note: _Note) -> bool:
        try:
            await self._put(api, place, key, note)
        except StorageFull:
            return False
        return True

    async def _end(self, place: BlobPlace, key: BlobKey, note: _Note, tried: Tried) -> None:
        """Remove the note, or let it say that all was sent. It is removed with one try: what comes after one that was
        not answered could tell no more whether it is on its way."""
        try:
            async with self._api.cleaning() as api:
                if tried.is_open or not await self._is_removed(api, place, key):
                    await self._put(api, place, key, note._replace(is_under_way=False))
        except GravitonError:
            pass  # the note is there, and says that requests are under way: the next one who changes the blob ends it

    @staticmethod
    async def _is_removed(api: S3Api, place: BlobPlace, key: BlobKey) -> bool:
        tried = Tried()
        try:
            await api.once().delete(place.note, key.text, tried)
        except GravitonError:
            if not tried.is_open:
                raise
            return False
        return True

    async def _find(self, place: BlobPlace, key: BlobKey) -> Piece | None:
        try:
            return await self._api.get(place.note, key.text, Span(0, _MAX_BYTES))
        except NotFound:
            return None
        except RangeNotSatisfiable:
            return Piece(b"", 0, "")  # not one of ours

    @staticmethod
    async def _put(api: S3Api, place: BlobPlace, key: BlobKey, note: _Note) -> None:
        await api.put(place.note, key.text, memoryview(note.to_bytes(key)))
