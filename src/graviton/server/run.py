"""One server in this process: Granian on the loop that is running, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server

from graviton.assembly.server_settings import ServerSettings
from graviton.assembly.services import Services
from graviton.constraints.process import spare_the_collector
from graviton.errors import Unavailable
from graviton.server.http.app import application
from graviton.server.http.context import Context
from graviton.server.http.edge import Edge
from graviton.server.idle import connections_at_once, keep_closing
from graviton.server.signals import StopSignals
from graviton.server.tracing import Tracing

__all__ = ["serve", "until_served"]

HEADER_SECONDS: Final = 10
"""How long the head of a request may take, and how long a connection may be idle."""

HEAD_BYTES: Final = 64 * 1024
"""Of the head of a request, by HTTP/2."""

BUFFER_BYTES: Final = 256 * 1024
"""Of each HTTP/1.1 connection: what its head may have at most, and the bytes of a body that come at once. With 64 KiB a
gigabyte costs a second more to receive; with more, nothing less."""

STREAMS: Final = 100
"""Requests at once over one HTTP/2 connection; RFC 9113 section 6.5.2 asks for no fewer."""

BACKLOG: Final = 1024
"""Connections that wait to be accepted while there are as many as may be."""

_CUT_SECONDS: Final = 10.0
"""How long what was cut short may clean up: a put gives its session back, which is one transaction."""

_FLUSH_SECONDS: Final = 1.0
"""How long the last bytes may take on their way out: a client that takes none must not keep us."""


async def serve(
    services: Services,
    settings: ServerSettings,
    port: int,
    announce: Callable[[], None],
    *,
    tracing: Tracing | None = None,
    orphaned: Awaitable[object] | None = None,
) -> int:
    """Answer requests on `port` until SIGTERM, SIGINT or SIGHUP, or until `orphaned` is done; the exit code.

    The first signal lets what runs go on for the grace; a second one ends it at once. `announce` is called when
    requests are answered. Raises Unavailable if that does not come about.
    """
    context = Context(services, settings)
    edge = application(context, tracing)
    server = _granian(edge, settings, port)
    signals = StopSignals()
    serving = asyncio.create_task(server.serve())
    idle = asyncio.create_task(keep_closing(port, edge.peers))
    told: list[asyncio.Future[Any]] = [serving, asyncio.ensure_future(signals.first.wait())]
    if orphaned is not None:
        told.append(asyncio.ensure_future(orphaned))
    try:
        await _until_listening(serving, settings.host, port)
        spare_the_collector()
        announce()
        await asyncio.wait(told, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            raise _ended(serving)
    finally:
        idle.cancel()
        context.stopping.set()
        server.stop()  # type: ignore[no-untyped-call]  # Granian has no types here
        await until_served(serving, edge, signals, settings.grace_seconds)
    return signals.exit_code


def _granian(edge: Edge, settings: ServerSettings, port: int) -> Server:
    return Server(
        edge,
        address=settings.host,
        port=port,
        interface=Interfaces.ASGI,
        websockets=False,
        backlog=BACKLOG,
        backpressure=connections_at_once(),
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_SECONDS * 1000, max_buffer_size=BUFFER_BYTES),
        http2_settings=HTTP2Settings(max_concurrent_streams=STREAMS, max_headers_size=HEAD_BYTES),
        ssl_cert=settings.tls_cert,
        ssl_key=settings.tls_key,
        ssl_protocol_min=SSLProtocols.tls12,
        log_enabled=False,
    )


async def _until_listening(serving: asyncio.Task[None], host: str, port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            if serving.done():
                raise _ended(serving) from None
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return


def _ended(serving: asyncio.Task[None]) -> Unavailable:
    why = "" if serving.cancelled() or serving.exception() is None else f": {serving.exception()}"
    return Unavailable(f"the server ended by itself{why}", operation="serve")


async def until_served(serving: asyncio.Task[None], edge: Edge, signals: StopSignals, grace_seconds: float) -> None:
    """Let what runs go on until it ends, the grace is over, or somebody is in a hurry."""
    hurry = asyncio.create_task(signals.second.wait())
    ended = asyncio.create_task(_ended_with(serving, edge))
    await asyncio.wait([ended, hurry], timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not ended.done():
        await edge.cut(_CUT_SECONDS)
        await asyncio.wait([ended], timeout=_FLUSH_SECONDS)
        ended.cancel()


async def _ended_with(serving: asyncio.Task[None], edge: Edge) -> None:
    """Wait for the server below, and for requests whose clients have left: it does not, and they clean up still."""
    await asyncio.wait([serving])
    await edge.until_idle()
