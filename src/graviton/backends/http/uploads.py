"""Resumable uploads by tus 1.0 (https://tus.io/protocols/resumable-upload): one request after the other sends the rest,
until all is there.

An upload that fails, or is given up, is terminated: nothing of it stays on the server. If even that fails it goes when
its time is over.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from graviton.backends.http.answers import attributes_of, report_of
from graviton.backends.http.bodies import Body, Hashes
from graviton.backends.http.errors import strange
from graviton.backends.http.outgoing import Answer, Outgoing
from graviton.backends.http.requests import Requests
from graviton.backends.http.retrying import Retrying
from graviton.backends.http.sources import SentSource
from graviton.backends.http.wishes import Done, Wishes
from graviton.concurrency.finishing import finish_anyway
from graviton.core.clock import Clock
from graviton.errors import Conflict, GravitonError, NotFound, TooManyRequests, Unavailable, Unsupported

__all__ = ["Uploads"]

_VERSION: Final = "1.0.0"
_NEEDED: Final = frozenset({"creation", "termination"})
_PATH: Final = "/api/uploads"

_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}", re.ASCII)
"""The last part of the address of an upload; the rest of it we know. A server behind a proxy may not know how it is
called from outside, and nobody else is to get the token."""

_TERMINATE_SECONDS: Final = 5.0
"""How long one who gives up waits for the server to remove what it has."""

_FORWARD_BYTES: Final = 64 * 1024
"""So much must have arrived since the last break for the next one to be met with patience again."""

_BEGINNINGS: Final = 3
"""How often an upload that the server has forgotten is begun again."""

_MAX_DIGITS: Final = 19
"""Of a number of bytes."""

_ASK_SECONDS: Final = 1.0
"""Between two questions whether a blob of many blocks is finished; the server waits itself before it answers."""


class Uploads:
    """The resumable uploads of one store."""

    def __init__(self, requests: Requests, clock: Clock) -> None:
        self._requests, self._clock = requests, clock
        self._max_bytes: int | None = None
        """What the server takes; 0 if it offers no uploads, None while nobody has asked."""

    async def takes(self, size: int) -> bool:
        """Whether the server offers resumable uploads of so many bytes."""
        if self._max_bytes is None:
            self._max_bytes = await Retrying(self._requests, self._clock).run(self._offered)
        return size <= self._max_bytes

    async def _offered(self) -> int:
        try:
            answer = await self._requests.call("OPTIONS", _PATH, operation="put")
        except (NotFound, Unsupported):
            return 0
        fields = answer.headers
        versions, extensions = _words(fields.get("Tus-Version", "")), _words(fields.get("Tus-Extension", ""))
        if _VERSION not in versions or not extensions >= _NEEDED:
            return 0
        return _number(fields.get("Tus-Max-Size", str(2**63 - 1)), "Tus-Max-Size")

    async def put(self, sent: SentSource, size: int, wishes: Wishes, new_hashes: Callable[[], Hashes]) -> Done:
        """Send the `size` bytes of a source that can be read from any byte. Raises what the server or the source do."""
        for _ in range(_BEGINNINGS):
            upload = _Upload(self._requests, sent, size, new_hashes(), self._clock)
            try:
                answer = await upload.run(wishes)
            except _GoneError:
                continue
            except BaseException:
                await finish_anyway(upload.terminate())
                raise
            return Done(report_of(answer.headers), attributes_of(answer.headers), upload.hashes)
        raise Unavailable("the server forgets uploads before they are finished", operation="put")


class _GoneError(Exception):
    """The server does not know the upload any more: its time was over, or the metadata were moved meanwhile."""


class _Upload:
    """One upload."""

    def __init__(self, requests: Requests, sent: SentSource, size: int, hashes: Hashes, clock: Clock) -> None:
        self._requests, self._sent, self._size, self.hashes = requests, sent, size, hashes
        self._clock, self._retrying = clock, Retrying(requests, clock)
        self._path = ""
        self._offset = 0
        """What the server is known to have."""
        self._broke_at = 0

    async def run(self, wishes: Wishes) -> Answer:
        """The last answer, which says what became of the blob."""
        await self._retrying.run(lambda: self._create(wishes))
        while True:
            try:
                answer = await self._send()
            except _BrokenError as broken:
                await self._look_again(broken.error)
                continue
            self._offset = self._checked(answer)
            if self._offset < self._size:
                await self._look_again(Unavailable("the server took a part of what was sent", operation="put"))
            elif answer.headers.get("X-Graviton-Upload-State") == "finishing":
                await asyncio.sleep(_ASK_SECONDS)  # it puts the blob together; by tus there is no status that says so
            else:
                return answer

    async def _create(self, wishes: Wishes) -> None:
        """Begin an upload. If the answer is lost there is one more, which goes when its time is over."""
        headers = {**wishes.headers, "Tus-Resumable": _VERSION, "Upload-Length": str(self._size)}
        out = Outgoing()
        try:
            await self._requests.call("POST", _PATH, operation="put", query=wishes.query, headers=headers, body=out)
        finally:
            if out.answer is not None:  # also if nobody wanted it any more when it came
                self._path = _path_in(out.answer)

    async def _send(self) -> Answer:
        """Send what is left, or ask for the end if nothing is. Raises _BrokenError for what may pass."""
        run = await self._sent.run(self._offset)
        assert run is not None, "only sources that can be read from any byte are uploaded so"
        body = Body(run, self.hashes, self._requests.config.idle_seconds, self._offset, self._size)
        headers = {
            "Tus-Resumable": _VERSION,
            "Upload-Offset": str(self._offset),
            "Content-Type": "application/offset+octet-stream",
        }
        try:
            return await self._requests.call("PATCH", self._path, operation="put", headers=headers, body=body)
        except GravitonError as error:
            if error is body.failure:
                raise
            if isinstance(error, NotFound):
                raise _GoneError from error
            if isinstance(error, (Unavailable, Conflict, TooManyRequests)):
                raise _BrokenError(error) from error
            raise
        finally:
            await body.aclose()

    async def _look_again(self, error: GravitonError) -> None:
        """After a break: wait, and see what has arrived. Raises `error` if it is no use."""
        if isinstance(error, Conflict):  # the server still stores what came before the break, or was told twice
            error = Unavailable(error.message, operation="put", hint=error.hint)
        # Only the server knows whether the upload came forward, so asking it has patience of its own.
        asking = Retrying(self._requests, self._clock)
        await asking.again(error)
        self._offset = await asking.run(self._where)
        if self._offset - self._broke_at >= _FORWARD_BYTES:
            self._retrying.progressed()
            self._broke_at = self._offset
        else:
            await self._retrying.again(error)

    async def _where(self) -> int:
        try:
            answer = await self._requests.call("HEAD", self._path, operation="put", headers={"Tus-Resumable": _VERSION})
        except NotFound as error:
            raise _GoneError from error
        return self._checked(answer)

    def _checked(self, answer: Answer) -> int:
        """The offset that an answer tells, which is never more than was sent."""
        offset = _number(answer.headers.get("Upload-Offset", ""), "Upload-Offset")
        if offset > min(self._size, self.hashes.size):
            raise strange("it has more than was sent", "put")
        return offset

    async def terminate(self) -> None:
        """Have the server remove it, as far as that can be done."""
        if not self._path:
            return
        try:
            async with asyncio.timeout(_TERMINATE_SECONDS):
                headers = {"Tus-Resumable": _VERSION}
                await self._requests.call("DELETE", self._path, operation="put", headers=headers)
        except (GravitonError, TimeoutError):
            pass  # told already by the error that brought us here; the server removes it when its time is over


class _BrokenError(Exception):
    """A request for what is left failed for a reason that may pass."""

    def __init__(self, error: GravitonError) -> None:
        super().__init__(error.message)
        self.error = error


def _path_in(created: Answer) -> str:
    """The path of an upload that was created. Raises Unavailable."""
    place = urlsplit(created.headers.get("Location", "")).path.rpartition("/")[2]
    if not _ID.fullmatch(place):
        raise strange("it does not say where the upload is", "put")
    return f"{_PATH}/{place}"


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(","))


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise strange(f"its {name} is missing or malformed", "put")
    return int(text)
