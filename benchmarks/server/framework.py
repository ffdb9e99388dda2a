"""Granian and Litestar with nothing of ours behind them: what the framework takes by itself.

`python -m benchmarks.server.framework SIZE FOLDER` serves

- `/slice`: SIZE bytes, the same slice again and again. It stays in the processor's cache, which no blob does;
- `/memory`: SIZE bytes of memory, each another one;
- `/files`: every file below FOLDER, read, hashed and sent by the least code that does it: no application of this
  framework that verifies what it sends can be much faster.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import blake3
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, get
from litestar.types import ASGIApp, Send

from graviton.constraints.process import keep_freed_memory

_SLICE_BYTES: Final = 256 * 1024
"""The fastest there is out of the cache: slices of 128 or 512 KiB take 10 to 15 % more processor time."""

_FILES_AHEAD: Final = 4
"""Files in work; with 1, 2 or 4, by one thread or by as many, it takes the same time."""


def _answer(size: int, send_pieces: Callable[[Send], Awaitable[None]]) -> ASGIApp:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send_pieces(send)
        await send({"type": "http.response.body", "body": b""})

    return application


async def _send_held(held: Sequence[bytes], send: Any) -> None:
    for piece in held:
        await send({"type": "http.response.body", "body": piece, "more_body": True})


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    blake3.blake3(data).digest()
    return data


async def _send_files(paths: Iterable[Path], threads: ThreadPoolExecutor, send: Any) -> None:
    loop = asyncio.get_running_loop()
    ahead: deque[asyncio.Future[bytes]] = deque()
    for path in paths:
        ahead.append(loop.run_in_executor(threads, _read, path))
        if len(ahead) == _FILES_AHEAD:
            await _send_held([await ahead.popleft()], send)
    while ahead:
        await _send_held([await ahead.popleft()], send)


def _routes(size: int, folder: Path) -> list[Any]:
    slices = size // _SLICE_BYTES
    threads = ThreadPoolExecutor(_FILES_AHEAD)
    held = [os.urandom(_SLICE_BYTES) for _ in range(slices)]
    paths = [path for path in folder.rglob("*") if path.is_file()]
    stored = sum(path.stat().st_size for path in paths)

    @get("/slice")
    async def same() -> ASGIApp:
        return _answer(slices * _SLICE_BYTES, partial(_send_held, [held[0]] * slices))

    @get("/memory")
    async def memory() -> ASGIApp:
        return _answer(slices * _SLICE_BYTES, partial(_send_held, held))

    @get("/files")
    async def files() -> ASGIApp:
        return _answer(stored, partial(_send_files, paths, threads))

    return [same, memory, files]


async def main(size: int, folder: Path) -> None:
    """Serve until SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = Litestar(_routes(size, folder), openapi_config=None)
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
    keep_freed_memory(256 * 1024 * 1024)
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
