"""Granian and Litestar with nothing behind them: `GET /SIZE` streams as many bytes out of memory.

In slices of the size that ours uses, the fastest there is (docs/server.md).
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from typing import Any

from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, get
from litestar.types import ASGIApp

from graviton.server.http.download import SLICE_BYTES

_SLICE = bytes(SLICE_BYTES)


@get("/{size:int}")
async def zeros(size: int) -> ASGIApp:
    """As many zeros."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = size
        while left:
            piece = _SLICE[:left] if left < SLICE_BYTES else _SLICE
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})

    return application


async def main() -> None:
    """Serve until SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = Litestar([zeros], openapi_config=None)
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    serving = asyncio.ensure_future(server.serve())
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
    print(json.dumps({"listening": f"http://127.0.0.1:{port}"}), flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(main())
