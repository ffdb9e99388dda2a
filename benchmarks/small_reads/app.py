"""A server that does nothing but read, put, and stream from memory: the frameworks of the real one, without its edge.

`python app.py PORT ROOT [settled]`: `settled` is what a serving program settles for its process, where the tree that is
measured has it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from typing import Any

from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, Request, get, post

import graviton
from graviton import BlobKey

MIB = 1024 * 1024
BUDGET_BYTES = 128 * MIB

store: graviton.Store
held: list[bytes] = []
"""1 GiB of memory, made when it is first asked for."""


class Streamed:
    """An ASGI answer of pieces."""

    def __init__(self, size: int, pieces: AsyncIterator[Any]) -> None:
        self._size, self._pieces = size, pieces

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % self._size), (b"content-type", b"application/octet-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": bytes(piece), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _all_of(reader: graviton.BlobReader) -> AsyncIterator[memoryview | bytes]:
    async with reader:
        async for piece in reader:
            yield piece


@get("/same/{mebibytes:int}")
async def same(mebibytes: int) -> Streamed:
    """The same mebibyte again and again: it stays in the processor's cache, as nothing that is stored does."""
    return Streamed(mebibytes * MIB, _each([os.urandom(MIB)] * mebibytes))


@get("/memory")
async def memory() -> Streamed:
    """1 GiB that is in memory."""
    return Streamed(len(held_bytes()) * MIB, _each(held_bytes()))


def held_bytes() -> list[bytes]:
    """1,024 different mebibytes."""
    if not held:
        held.extend(os.urandom(MIB) for _ in range(1024))
    return held


@get("/blob/{key:str}")
async def blob(key: str) -> Streamed:
    """A blob, verified."""
    reader = await store.get(BlobKey.parse(key))
    return Streamed(reader.size, _all_of(reader))


@get("/small/{key:str}")
async def small(key: str) -> Streamed:
    """A small blob, in one piece."""
    async with await store.get(BlobKey.parse(key)) as reader:
        data = await reader.read()
    return Streamed(len(data), _each([data]))


@get("/nothing/{key:str}")
async def nothing(key: str) -> Streamed:
    """The same without the store: what framework and client cost."""
    return Streamed(4096, _each([bytes(4096)]))


@post("/put", status_code=201)
async def put(request: Request[Any, Any, Any]) -> str:
    """A blob of the body."""

    async def body() -> AsyncIterator[bytes]:
        async for piece in request.stream():
            if piece:
                yield piece

    return (await store.put(body())).id


def _settled() -> Any:
    try:
        from graviton.constraints.process import keep_freed_memory, spare_the_collector
    except ImportError:  # a tree from before
        return lambda: None
    keep_freed_memory(BUDGET_BYTES)
    return spare_the_collector


async def main() -> None:
    """Serve until SIGTERM."""
    global store
    started = _settled() if "settled" in sys.argv else lambda: None
    app = Litestar([same, memory, blob, small, nothing, put], openapi_config=None, request_max_body_size=None)
    async with graviton.open(sys.argv[2], memory_bytes=BUDGET_BYTES) as store:
        server = Server(app, address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.ASGI, log_enabled=False)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
        asyncio.get_running_loop().call_later(0.5, started)
        await server.serve()


if __name__ == "__main__":
    asyncio.run(main())
