"""Around every request, so that no route can forget it: an id, the gate, metrics, the answer to an error, a log line.

One ASGI application around all others. It also knows what is going on, so that a server that is told to stop can wait
for it, and end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from graviton.core.clock import Clock
from graviton.errors import GravitonError, InvalidInput, Unavailable
from graviton.server.http import tus
from graviton.server.http.asgi import Headers, Message, Receive, Scope, Send, header, respond
from graviton.server.http.errors import ClientGone, answer, kind_of
from graviton.server.http.gate import Gate
from graviton.server.log_lines import about
from graviton.server.tracing import RequestTrace, Tracing

__all__ = ["TRACE_ID", "AccessLog", "Edge", "Ended", "Peer"]

TRACE_ID = "graviton.trace_id"
"""Key of the request's id in its scope."""

AccessLog: TypeAlias = Callable[[Mapping[str, Any], BaseException | None], None]
"""Takes what there is to say about a request that ended, and what it failed of unexpectedly. Never raises."""

Peer: TypeAlias = tuple[str, str]
"""Address and port of a client."""

_App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Ended(NamedTuple):
    """A request that was answered, or given up."""

    method: str
    route: str
    """The path as its route declares it: what is asked for would be endless in metrics."""
    status: int
    seconds: float
    received: int
    sent: int


class Edge:
    """See the module."""

    def __init__(
        self,
        app: _App,
        gate: Gate,
        clock: Clock,
        log: AccessLog,
        ended: Callable[[Ended], None],
        tracing: Tracing,
    ) -> None:
        self._app, self._gate, self._clock, self._log = app, gate, clock, log
        self._ended, self._tracing = ended, tracing
        self._running: dict[asyncio.Task[Any], Peer] = {}
        self._is_cut = False

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return len(self._running)

    def peers(self) -> frozenset[Peer]:
        """Addresses and ports of clients whose requests are being answered."""
        return frozenset(self._running.values())

    async def cut(self, seconds: float) -> None:
        """End what is going on, and refuse what comes. Each cleans up after itself, for which it has `seconds`."""
        self._is_cut = True
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running), timeout=seconds)

    async def until_idle(self) -> None:
        """Wait until nothing is being answered."""
        while self._running:
            await asyncio.wait(list(self._running))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            with (
                self._tracing.request(scope["method"], header(scope, b"traceparent")) as trace,
                about(trace_id=trace.trace_id, span_id=trace.span_id),
            ):
                await self._guarded(scope, receive, send, trace)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, trace: RequestTrace) -> None:
        began = self._clock.monotonic()
        trace_id = scope[TRACE_ID] = trace.trace_id
        traffic = _Traffic(receive, send, [(b"x-trace-id", trace_id.encode()), *_extra_headers(scope["path"])])
        task = asyncio.current_task()
        assert task is not None, "requests are answered by tasks"
        self._running[task] = scope.get("client") or ("", "")
        failure: BaseException | None = None
        try:
            if self._is_cut:
                raise Unavailable("the server is being stopped")
            self._gate.check(scope)
            await self._app(scope, traffic.receive, traffic.send)
        except asyncio.CancelledError:
            failure = Unavailable("the server was stopped meanwhile")
            if not self._is_cut or traffic.status:
                raise
            task.uncancel()
            await _tell(traffic, failure, trace_id)
        except Exception as error:
            failure = error.__cause__ if _is_wrapped(error) else error
            if traffic.status:
                raise  # the server below ends the connection without the end of the body
            if isinstance(failure, ClientGone):
                await _tell_perhaps_nobody(traffic, trace_id)
            else:
                await _tell(traffic, failure, trace_id)
        finally:
            del self._running[task]
            self._report(scope, traffic, trace, failure, self._clock.monotonic() - began)

    def _report(
        self, scope: Scope, traffic: _Traffic, trace: RequestTrace, failure: BaseException | None, seconds: float
    ) -> None:
        status = traffic.status or (kind_of(failure).status if isinstance(failure, GravitonError) else 500)
        route = scope.get("path_template") or "unknown"
        ended = Ended(scope["method"], route, status, seconds, traffic.received, traffic.sent)
        self._ended(ended)
        trace.ended(route, traffic.status, failure)
        client = (scope.get("client") or ("",))[0]
        line: dict[str, Any] = {"trace_id": trace.trace_id, "client": client, "path": scope["path"], **ended._asdict()}
        if isinstance(failure, GravitonError):
            line |= failure.to_json()
        elif failure is not None:
            line |= {"error": "internal", "message": f"unexpected {type(failure).__name__}: {failure}"}
        self._log(line, None if isinstance(failure, GravitonError) else failure)


def _is_wrapped(error: BaseException) -> bool:
    """The framework wraps what is raised after the headers in an exception of its own."""
    return error.__cause__ is not None and not isinstance(error, GravitonError) and "after response" in str(error)


async def _tell(traffic: _Traffic, failure: BaseException | None, trace_id: str) -> None:
    known = failure if isinstance(failure, GravitonError) else GravitonError("unexpected error")
    told = answer(known, trace_id)
    await respond(traffic.send, told.status, told.headers, told.body)


async def _tell_perhaps_nobody(traffic: _Traffic, trace_id: str) -> None:
    """A body that was malformed, or whose sender closed his half only, looks like a client that is gone. Whoever is
    still there is answered; the log says what it is anyway."""
    await _tell(traffic, InvalidInput("the body broke off before its end", subject="body"), trace_id)
    traffic.status = 0


def _extra_headers(path: str) -> Headers:
    """What goes with every answer, errors too."""
    headers = [(b"x-content-type-options", b"nosniff")]
    if path.startswith(tus.UPLOADS):
        headers += [(b"tus-resumable", tus.VERSION.encode()), (b"tus-version", tus.VERSION.encode())]
    return headers


class _Traffic:
    """What goes through one request."""

    def __init__(self, receive: Receive, send: Send, extra: Headers) -> None:
        self._receive, self._send = receive, send
        self._extra = extra
        self.status = 0
        self.received = self.sent = 0

    async def receive(self) -> Message:
        """As the server below."""
        message: Message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """As the server below."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._extra]
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)
