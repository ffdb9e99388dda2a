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
from graviton.core.ranges import Span
from graviton.errors import Conflict, GravitonError, LimitExceeded, NotFound

__all__ = ["MAX_PARTS", "TOKEN", "MultipartUpload", "multipart"]

MAX_PARTS: Final = 10_000
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

TOKEN: Final = "graviton-put"
"""Metadata of an object made of parts: 32 random hex digits, by which a put knows its own object. A stored format."""

_ABORTS: Final = 3
"""How often an upload is removed that is still there: parts that were on their way may arrive afterwards.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html"""

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
        """Uploads of the same name that may be ours, from a try whose reply was lost."""
        self._is_left = False

    async def begin(self, metadata: Mapping[str, str], content_type: str) -> None:
        """Open it. Cancelled in the middle, it may be open."""
        tried = Tried()
        await self._api.create_upload(
            self._key,
            self._subject,
            {**metadata, TOKEN: self._token},
            self._opened,
            content_type=content_type,
            tried=tried,
        )
        if tried.is_open:
            self._suspects = await self._others()

    async def _others(self) -> list[Upload]:
        """Open uploads of the same name. None if that cannot be told: it is no reason not to put."""
        try:
            found = await self._api.uploads(self._key, self._subject)
        except GravitonError:
            return []
        return [one for one in found if one.key == self._key and one not in self._opened]

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
            await self._api.complete_upload(self._opened[-1], self._parts, self._subject, tried)
        except GravitonError as failure:
            # Once it is removed it cannot be completed any more, however late a request arrives.
            if tried.is_open and await self.remove() and await self._is_ours():
                return
            if isinstance(failure, NotFound):
                raise self._gone() from failure
            raise
        try:
            await self._remove_suspects()
        except GravitonError:
            pass  # the object is there; what may be left is left to the lifecycle rule

    async def _is_ours(self) -> bool:
        found = await self._api.head(self._key, self._subject)
        return found is not None and found.metadata.get(TOKEN) == self._token

    async def remove(self) -> bool:
        """Remove it with its parts; nothing if it was completed. Safe at any time. False if the server refuses, or does
        not answer for as long as requests are tried again: it is not asked twice then."""
        if not self._is_left:
            try:
                await self._abort()
            except GravitonError:
                self._is_left = True
        return not self._is_left

    async def _abort(self) -> None:
        for upload in self._opened:
            for _ in range(_ABORTS):
                await self._api.abort_upload(upload, self._subject)
                if await self._api.has_parts(upload, self._subject) is None:
                    break
        await self._remove_suspects()

    async def _remove_suspects(self) -> None:
        """Remove what a lost reply left open. Somebody else's upload of the same name has its first part by now: who
        begins one has it in memory."""
        while self._suspects:
            suspect = self._suspects.pop()
            if await self._api.has_parts(suspect, self._subject) is False:
                await self._api.abort_upload(suspect, self._subject)

    def _gone(self) -> Conflict:
        return Conflict(
            f"the upload of {self._subject} is not there any more",
            operation="put",
            subject=self._subject,
            hint="Somebody removed it, or completed and replaced at once: look at the object, then put it again.",
        )


@asynccontextmanager
async def multipart(
    api: S3Api, key: str, subject: str, metadata: Mapping[str, str] | None = None, content_type: str = ""
) -> AsyncIterator[MultipartUpload]:
    """An upload that is completed at the end of the block, and removed if the block fails or is cancelled."""
    upload = MultipartUpload(api, key, subject)
    try:
        await upload.begin(metadata or {}, content_type)
        yield upload
        await upload.complete()
    except BaseException as failure:
        await finish_anyway(_give_up(upload, failure))
        raise


async def _give_up(upload: MultipartUpload, failure: BaseException) -> None:
    """Remove an upload because of `failure`, which is raised in any case; if this fails too, it says what to do."""
    if await upload.remove():
        return
    if isinstance(failure, GravitonError):
        failure.hint = f"{failure.hint} {_LEFT_OPEN}".strip()
    else:
        failure.add_note(_LEFT_OPEN)
