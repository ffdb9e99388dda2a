"""One server in this process: Granian on the loop that is running, until a signal tells it to stop."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from granian.constants import Interfaces
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server

from graviton.assembly.server_settings import ServerSettings
from graviton.assembly.services import Services
from graviton.server.http.app import application
from graviton.server.http.context import Context
from graviton.server.http.edge import Edge

__all__ = ["serve"]

HEADER_SECONDS = 10
"""How long the head of a request may take."""

HEAD_BYTES = 64 * 1024
"""Of the head of a request."""

STREAMS = 100
"""Requests at once over one HTTP/2 connection, as RFC 9113 section 6.5.2 asks for at least."""

REQUESTS = 1024
"""Requests at once in this process, those included that wait for a slot or follow events."""


async def serve(services: Services, settings: ServerSettings, port: int, announce: Callable[[], None]) -> int:
    """Answer requests on `port` until SIGTERM, SIGINT or SIGHUP; the exit code."""
    stopping = asyncio.Event()
    context = Context(services, settings, nullcontext(), nullcontext(), stopping, services.clock.monotonic())
    edge = application(context, log_line)
    server = Server(
        edge,
        address=settings.host,
        port=port,
        interface=Interfaces.ASGI,
        websockets=False,
        backlog=REQUESTS,
        backpressure=REQUESTS,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_SECONDS * 1000, max_buffer_size=HEAD_BYTES),
        http2_settings=HTTP2Settings(max_concurrent_streams=STREAMS, max_headers_size=HEAD_BYTES),
        ssl_cert=settings.tls_cert,
        ssl_key=settings.tls_key,
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def stop(signum: int) -> None:
        if told.is_set():
            edge.cut()
        told.set()

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            loop.add_signal_handler(signum, stop, signum)
    serving = asyncio.create_task(server.serve())
    await _until_listening(settings, port)
    announce()
    await told.wait()
    stopping.set()
    server.stop()
    await _until_served(serving, edge, settings.grace_seconds)
    return 0


async def _until_listening(settings: ServerSettings, port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(settings.host, port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return


async def _until_served(serving: asyncio.Task[None], edge: Edge, grace_seconds: float) -> None:
    await asyncio.wait([serving], timeout=grace_seconds)
    if not serving.done():
        edge.cut()
        await asyncio.wait([serving], timeout=10)


def log_line(line: Mapping[str, Any], error: BaseException | None) -> None:
    """One JSON object on standard error."""
    sys.stderr.write(json.dumps(dict(line)) + "\n")
    sys.stderr.flush()
