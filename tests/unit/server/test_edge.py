from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from graviton.assembly.server_settings import ServerSettings
from graviton.concurrency.finishing import finish_anyway
from graviton.core.clock import SystemClock
from graviton.core.secret import Secret
from graviton.errors import IntegrityError, NotFound
from graviton.server.http.asgi import Receive, Scope, Send, respond
from graviton.server.http.edge import Edge, Ended
from graviton.server.http.errors import ClientGone
from graviton.server.http.gate import Gate
from graviton.server.run import until_served
from graviton.server.tracing import NoTracing
from tests.unit.server.asgi_fakes import Wire, body_messages, scope

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Around:
    """An edge around one application, and what it logged and counted."""

    def __init__(self, app: Any, token: str = "") -> None:
        self.lines: list[Mapping[str, Any]] = []
        self.causes: list[BaseException | None] = []
        self.ended: list[Ended] = []
        clock = SystemClock()
        settings = ServerSettings(token=Secret(token) if token else None)
        self.edge = Edge(app, Gate(settings, clock), clock, self._log, self.ended.append, NoTracing())

    def _log(self, line: Mapping[str, Any], cause: BaseException | None) -> None:
        self.lines.append(line)
        self.causes.append(cause)

    async def __call__(self, wire: Wire, **headers: str) -> None:
        await self.edge(scope(host="localhost", **headers), wire.receive, wire.send)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    scope["path_template"] = "/there"
    await receive()
    await respond(send, 200, [], b"hello")


def failing(error: BaseException, after: int = 0) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if after:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * after, "more_body": True})
        raise error

    return app


async def test_every_answer_has_its_trace_and_a_line() -> None:
    around, wire = Around(hello), Wire(body_messages(b"abc"))
    await around(wire, traceparent=TRACEPARENT)
    assert wire.headers[b"x-trace-id"] == TRACE.encode()
    assert wire.headers[b"x-content-type-options"] == b"nosniff"
    [line], [ended] = around.lines, around.ended
    assert (line["trace_id"], line["status"], line["received"], line["sent"]) == (TRACE, 200, 3, 5)
    assert (ended.method, ended.route, ended.status) == ("GET", "/there", 200)
    assert around.edge.in_flight == 0


async def test_our_errors_are_answered_as_they_are() -> None:
    around, wire = Around(failing(NotFound("no such thing"))), Wire()
    await around(wire)
    assert (wire.status, json.loads(wire.body)["error"]) == (404, "not_found")
    assert around.lines[0]["message"] == "no such thing"


async def test_an_unexpected_error_is_not_told_but_logged() -> None:
    around, wire = Around(failing(RuntimeError("secret"))), Wire()
    await around(wire)
    assert wire.status == 500
    assert b"secret" not in wire.body
    assert "secret" in around.lines[0]["message"]
    assert isinstance(around.causes[0], RuntimeError)
    assert json.loads(wire.body)["trace_id"] == around.lines[0]["trace_id"]


async def test_an_error_after_the_head_ends_the_connection() -> None:
    around, wire = Around(failing(IntegrityError("damage"), after=3)), Wire()
    with pytest.raises(IntegrityError):
        await around(wire)
    assert not wire.is_complete
    assert (around.lines[0]["status"], around.lines[0]["error"], around.lines[0]["sent"]) == (200, "integrity", 3)


async def test_who_seems_to_have_left_is_told_in_case_he_has_not() -> None:
    """A body that is malformed looks the same; the server below would answer with a 500 of its own."""
    around, wire = Around(failing(ClientGone("left"))), Wire()
    await around(wire)
    assert wire.status == 400
    assert around.lines[0]["status"] == 499


async def test_without_the_token_nothing_is_done() -> None:
    around, wire = Around(hello, token="0123456789abcdef"), Wire()
    await around(wire)
    assert wire.status == 401
    assert wire.headers[b"www-authenticate"].startswith(b"Bearer")
    assert "0123456789abcdef" not in str(around.lines)


async def test_what_runs_is_cut_and_told_so() -> None:
    entered = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await asyncio.Event().wait()

    around, wire = Around(endless), Wire()
    running = asyncio.create_task(around(wire))
    await entered.wait()
    assert around.edge.in_flight == 1
    assert around.edge.peers() == {("127.0.0.1", "5")}
    await around.edge.cut(5)
    assert running.done()
    await running
    assert wire.status == 503
    assert around.edge.in_flight == 0


class NoSignals:
    """Nobody is in a hurry."""

    def __init__(self) -> None:
        self.second = asyncio.Event()


async def served() -> None:
    """A server below that has ended: it does not wait for requests whose clients have left."""


@pytest.mark.parametrize("grace_seconds", [5.0, 0.0], ids=["in the grace", "after it"])
async def test_a_stop_waits_for_requests_whose_clients_have_left(grace_seconds: float) -> None:
    entered, ends = asyncio.Event(), []

    async def cleans_up(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        try:
            await receive()
        finally:
            await finish_anyway(clean())

    async def clean() -> None:
        await asyncio.sleep(0.05)
        ends.append("clean")

    around, wire = Around(cleans_up), Wire()
    running = asyncio.create_task(around(wire))
    await entered.wait()
    wire.gone.set()
    serving = asyncio.create_task(served())
    await serving
    await until_served(serving, around.edge, NoSignals(), grace_seconds)
    assert ends == ["clean"]
    assert running.done()


async def test_a_request_that_comes_after_the_cut_is_refused() -> None:
    around, wire = Around(hello), Wire(body_messages(b""))
    await around.edge.cut(5)
    await around(wire)
    assert wire.status == 503
