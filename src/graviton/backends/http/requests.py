"""`Requests`: every request to the server goes through here, which bounds it, guards the token, and translates errors.

Nothing is tried again here: whether that is safe is known to the operation (retrying.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from graviton.backends.http.config import HttpConfig
from graviton.backends.http.connections import Connections
from graviton.backends.http.errors import Problem, error_of, of_connection, problem_of, strange
from graviton.backends.http.outgoing import Answer, Outgoing
from graviton.concurrency.finishing import until_done
from graviton.core.keys import BlobKey
from graviton.errors import ConfigError, Retry, Unavailable

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Requests", "TooLargeError", "blob_path"]

MAX_JSON_BYTES: Final = 8 * 1024 * 1024
"""Of an answer that is not a blob's bytes: a page of a listing whose blobs have all the attributes that can be has some
5 MB. More is no answer of ours."""

_MAX_PROBLEM_BYTES: Final = 64 * 1024

_ANSWER_SECONDS: Final = 120.0
"""How long the body of such an answer may take: a server that sends it byte by byte is not waited for."""

_SETTLE_SECONDS: Final = 10.0
"""How long one who gives up waits to learn what became of a request that the server has all of: till then nobody can
tell whether it happened."""

_EXPECTATION_FAILED: Final = 417


class TooLargeError(Unavailable):
    """An answer with more bytes than it may have."""


class Requests:
    """The requests of one store, on the event loop that it is first used on."""

    def __init__(self, config: HttpConfig) -> None:
        self.config = config
        self._base = config.base
        self._connections = Connections(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_refused = self._is_closed = False
        self._may_ask = True
        """As far as we know, a body may wait until the server wants it."""
        self.was_reached = False
        """The server has answered before."""

    def check_open(self) -> None:
        """Raise Unavailable after `refuse`, and on another event loop than before."""
        if self._is_refused:
            raise _closed()
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise Unavailable(
                "this store belongs to another event loop",
                operation="http",
                hint="Open one for each event loop.",
                retry=Retry.PERMANENT,
            )
        self._loop = loop

    async def call(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        subject: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Outgoing | None = None,
        max_bytes: int = MAX_JSON_BYTES,
    ) -> Answer:
        """The answer to a request. Raises what the server says went wrong, Unavailable, and what the source of `body`
        raises. A request that changes something and that the server may have all of is waited for even if the caller
        is cancelled, for some seconds: so nothing happens after it was given up."""

        out = Outgoing() if body is None else body

        async def exchange() -> Answer:
            response = await self.begin(
                method, path, operation=operation, subject=subject, query=query, headers=headers, body=out
            )
            try:
                with self.translated(operation, subject, out):
                    found = await _read(response, max_bytes, operation)
            finally:
                response.close()  # one that was read to its end has given its connection back
            out.answer = Answer(response.status, response.headers, found)
            return out.answer

        if method in ("GET", "HEAD", "OPTIONS"):
            return await exchange()
        return await _settled(exchange(), out)

    async def begin(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        subject: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Outgoing | None = None,
    ) -> aiohttp.ClientResponse:
        """The answer to a request, a success, whose body is still to be read: within `translated`, and closed then.
        Raises as `call`."""
        if self._is_closed:
            raise _closed()
        target = f"{self._root()}{path}"
        if query:
            target += f"?{urlencode(query)}"
        fields = dict(headers or {})
        if self.config.token is not None:
            fields["Authorization"] = f"Bearer {self.config.token.reveal()}"
        out = Outgoing() if body is None else body
        if out.size is not None:
            fields["Content-Length"] = str(out.size)
        with self.translated(operation, subject, out):
            response = await self._asked(method, target, fields, out) if out.asks_first and self._may_ask else None
            if response is None:
                response = await self._sent(method, target, fields, out)
        self.was_reached = True
        if 200 <= response.status < 300:
            return response
        try:
            raise error_of(await self._problem(response), operation, subject)
        finally:
            response.close()

    async def _asked(
        self, method: str, target: str, fields: Mapping[str, str], out: Outgoing
    ) -> aiohttp.ClientResponse | None:
        """The answer to a request whose body waits until the server wants it; None if nobody here understands that, and
        nothing of the body was taken."""
        out.is_asking = True
        try:
            response = await self._sent(method, target, fields, out)
        except TimeoutError:
            if out.has_begun or out.idle is None or not out.idle.expired():
                raise
        else:
            if response.status != _EXPECTATION_FAILED:
                return response
            response.close()
        finally:
            out.is_asking = False
        self._may_ask = False
        return None

    async def _sent(self, method: str, target: str, fields: Mapping[str, str], out: Outgoing) -> aiohttp.ClientResponse:
        import yarl

        session = self._connections.single() if method == "DELETE" else self._connections.kept()
        async with asyncio.timeout(None) as out.idle:
            return await session.request(
                method,
                yarl.URL(target, encoded=True),
                headers=fields,
                data=out if out.has_bytes else None,
                expect100=out.is_asking,
                allow_redirects=False,
                trace_request_ctx=out,
            )

    async def _problem(self, response: aiohttp.ClientResponse) -> Problem:
        try:
            with self.translated("answer", ""):
                body = await _read(response, _MAX_PROBLEM_BYTES, "answer")
        except Unavailable:
            body = b""  # the status says enough
        return problem_of(response.status, response.headers, body)

    @contextmanager
    def translated(self, operation: str, subject: str, body: Outgoing | None = None) -> Iterator[None]:
        """What goes wrong on the way becomes Unavailable; what the source of `body` raised, itself."""
        import aiohttp

        try:
            yield
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            failure = None if body is None else body.failure
            if failure is not None:
                raise failure from None
            # Some of aiohttp's errors hold the request, and the token with it.
            cause = None if isinstance(error, aiohttp.ClientResponseError) else error
            raise of_connection(error, operation, subject, self.config.host) from cause

    def _root(self) -> str:
        """The address with its host as DNS wants it. Raises ConfigError."""
        import yarl

        try:
            return str(yarl.URL(self._base)).rstrip("/")
        except ValueError as error:
            raise ConfigError(
                "the address of the server names no host", operation="configure", subject="url", hint="Check the URL."
            ) from error

    def refuse(self) -> None:
        """Begin no more operations; those that go on may still tidy up."""
        self._is_refused = True

    async def aclose(self) -> None:
        """End the connections. Idempotent."""
        self._is_closed = True
        await self._connections.aclose()


def _closed() -> Unavailable:
    return Unavailable("this store is closed", operation="http", retry=Retry.PERMANENT)


async def _read(response: aiohttp.ClientResponse, max_bytes: int, operation: str) -> bytes:
    """The body of an answer. Raises Unavailable if it is too large, aiohttp's errors, TimeoutError."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise strange("it is compressed, which nobody asked for", operation)
    pieces: list[bytes] = []
    left = max_bytes
    async with asyncio.timeout(_ANSWER_SECONDS):
        while not response.content.at_eof():
            piece = await response.content.readany()
            left -= len(piece)
            if left < 0:
                text = f"the server's answer has more than {max_bytes} bytes"
                raise TooLargeError(text, operation=operation, retry=Retry.PERMANENT)
            pieces.append(piece)
    return b"".join(pieces)


async def _settled(work: Coroutine[Any, Any, Answer], body: Outgoing) -> Answer:
    """The result of `work`. Cancelled, it is ended at once unless the server may act on what it has: then its answer is
    waited for, for some time."""
    job = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        try:
            if body.may_be_whole:
                await asyncio.wait([job], timeout=_SETTLE_SECONDS)
        finally:
            job.cancel()
            await until_done(job)
        raise


def blob_path(key: BlobKey, more: str = "") -> str:
    """The path of a blob, or of something about it."""
    return f"/api/blobs/{key.text}{more}"
