"""`multipart`: an object made of parts, which is there as a whole in the end, or not at all and nothing is left open.

Whatever leaves the block but its end removes the upload and waits for the answer. What the server did when a reply was
lost is found out by looking: docs/object-storage.md, failures 3 and 5.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from graviton.backends.objectstore._s3_api import Part, S3Api, Upload
from graviton.backends.objectstore.requests import Tried
from graviton.concurrency.finishing import finish_anyway
from graviton.core.clock import SystemClock
from graviton.core.ranges import Span
from graviton.errors import Conflict, GravitonError, LimitExceeded, NotFound, PermissionDenied

__all__ = ["MAX_PARTS", "TOKEN", "MultipartUpload", "multipart"]

MAX_PARTS: Final = 10_000
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

TOKEN: Final = "graviton-put"
"""Metadata of an object made of parts: 32 random hex digits, by which a put knows its own object. A stored format."""

_ABORTS: Final = 3
"""How often an upload is removed that is still there: parts that were on their way may arrive afterwards.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html"""

_WHOLE_SECONDS: Final = 1.0
"""Listings tell the time an upload was begun without fractions."""

_CLOCK: Final = SystemClock()
"""For durations only."""

_LEFT_OPEN = (
    "The server may keep parts of it: a lifecycle rule for incomplete uploads removes them (docs/guides/s3.md)."
)


class MultipartUpload:
    """One upload. Parts may be added in any order and several at once."""

    def __init__(self, api: S3Api, key: str, subject: str) -> None:
        self._api, self._key, self._subject = api, key, subject
        self._token = secrets.token_hex(16)
        self._opened: list[Upload] = []
        self._parts: list[Part] = []
        self._suspects: list[Upload] = []
        """Uploads of the same name that may be ours, from tries whose reply was lost."""
        self._lost = 0
        """How many such tries there were."""
        self._is_left = False
        self.completed_ns = 0
        """When it was completed, by the server's clock; 0 if that is not known."""

    async def begin(self, metadata: Mapping[str, str], content_type: str, of_copies: bool) -> None:
        """Open it. Cancelled in the middle, it may be open."""
        tried = Tried()
        began = _CLOCK.monotonic()
        await self._api.create_upload(
            self._key,
            self._subject,
            {**metadata, TOKEN: self._token},
            self._opened,
            content_type=content_type,
            of_copies=of_copies,
            tried=tried,
        )
        if tried.lost:
            self._lost = tried.lost
            self._suspects = await self._begun_since(_CLOCK.monotonic() - began)

    async def _begun_since(self, seconds: float) -> list[Upload]:
        """Open uploads of the same name that were begun, by the server's clock, at most so long before ours, and not
        after it. None if that cannot be told: it is no reason not to put."""
        try:
            found = await self._api.uploads(self._key, self._subject)
        except GravitonError:
            return []
        ours = next((one.begun_ns for one in found if one.id == self._opened[-1].id), 0)
        since = ours - int((seconds + _WHOLE_SECONDS) * 1e9)
        return [
            one for one in found if one.key == self._key and since <= one.begun_ns <= ours and not self._is_own(one)
        ]

    def _is_own(self, upload: Upload) -> bool:
        return any(one.id == upload.id for one in self._opened)

    async def put_part(self, number: int, data: memoryview) -> None:
        """Add a part; numbers begin with 0. Raises LimitExceeded after the last one that can be, Conflict if somebody
        removed the upload."""
        self._check_number(number)
        try:
            part = await self._api.put_part(self._opened[-1], number + 1, data, self._subject)
        except NotFound as error:
            raise self._gone() from error
        self._parts.append(part)

    async def copy_part(self, number: int, source: str, span: Span, etag: str) -> None:
        """Add a part from an object of the bucket. Raises as `put_part`, and Conflict if that has another ETag."""
        self._check_number(number)
        try:
            part = await self._api.copy_part(self._opened[-1], number + 1, source, span, etag, self._subject)
        except NotFound as error:
            raise self._gone() from error
        self._parts.append(part)

    def _check_number(self, number: int) -> None:
        if number >= MAX_PARTS:
            raise LimitExceeded(
                f"{self._subject} has more than {MAX_PARTS} parts",
                operation="put_part",
                subject=self._subject,
                hint="Larger parts make larger objects possible.",
            )

    async def complete(self) -> None:
        """Make the object of its parts. Returns as well if an earlier try did that, and its reply was lost."""
        tried = Tried()
        try:
            self.completed_ns = await self._api.complete_upload(self._opened[-1], self._parts, self._subject, tried)
        except GravitonError as failure:
            # Once it is removed it cannot be completed any more, however late a request arrives.
            if tried.is_open and await self.remove() and await self._is_ours():
                return
            if isinstance(failure, NotFound):
                raise self._gone() from failure
            raise

    async def _is_ours(self) -> bool:
        async with self._api.cleaning() as api:
            found = await api.head(self._key, self._subject)
        if found is None or found.metadata.get(TOKEN) != self._token:
            return False
        self.completed_ns = found.modified_ns
        return True

    async def remove(self) -> bool:
        """Remove it with its parts; nothing if it was completed. Safe at any time. False if the server refuses, keeps
        it, or does not answer: it is not asked twice then."""
        if not self._is_left:
            try:
                async with self._api.cleaning() as api:
                    are_gone = [await self._is_removed(api, upload) for upload in self._opened]
                self._is_left = not all(are_gone)
            except GravitonError:
                self._is_left = True
        return not self._is_left

    async def _is_removed(self, api: S3Api, upload: Upload) -> bool:
        for _ in range(_ABORTS):
            await api.abort_upload(upload, self._subject)
            try:
                if await api.has_parts(upload, self._subject) is None:
                    return True
            except PermissionDenied:
                return True  # the abort was answered, and whether parts came after it may not be looked up
        return False

    async def remove_suspects(self) -> None:
        """Remove what lost replies left open: uploads without a part, no more of them than replies were lost. Where
        there are more, some are somebody else's, whose first part is on its way; all are left to the lifecycle rule."""
        suspects, self._suspects = self._suspects, []
        if self._is_left or not suspects:
            return
        try:
            async with self._api.cleaning() as api:
                empty = [one for one in suspects if await api.has_parts(one, self._subject) is False]
                if len(empty) <= self._lost:
                    for one in empty:
                        await api.abort_upload(one, self._subject)
        except GravitonError:
            pass  # what becomes of the put does not depend on it; the lifecycle rule removes what is left

    def _gone(self) -> Conflict:
        return Conflict(
            f"the upload of {self._subject} is not there any more",
            operation="put",
            subject=self._subject,
            hint="Somebody removed it, or completed and replaced at once: look at the object, then put it again.",
        )


@asynccontextmanager
async def multipart(
    api: S3Api,
    key: str,
    subject: str,
    metadata: Mapping[str, str] | None = None,
    content_type: str = "",
    *,
    of_copies: bool = False,
) -> AsyncIterator[MultipartUpload]:
    """An upload that is completed at the end of the block, and removed if the block fails or is cancelled. Its parts
    are either all copied or all sent."""
    upload = MultipartUpload(api, key, subject)
    try:
        await upload.begin(metadata or {}, content_type, of_copies)
        yield upload
        await upload.complete()
    except BaseException as failure:
        await finish_anyway(_give_up(upload, failure))
        raise
    finally:
        await finish_anyway(upload.remove_suspects())


async def _give_up(upload: MultipartUpload, failure: BaseException) -> None:
    """Remove an upload because of `failure`, which is raised in any case; if this fails too, it says what to do."""
    if await upload.remove():
        return
    if isinstance(failure, GravitonError):
        failure.hint = f"{failure.hint} {_LEFT_OPEN}".strip()
    else:
        failure.add_note(_LEFT_OPEN)
