"""A server that gives one answer to everything, and both drivers in front of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from graviton.backends.objectstore._s3_api import S3Api
from graviton.backends.objectstore._s3_driver import S3Driver
from graviton.backends.objectstore.clients import data_store
from graviton.backends.objectstore.config import Credentials, S3Config
from graviton.backends.objectstore.requests import Requests
from graviton.core.secret import Secret

__all__ = ["ETAG", "SECRET", "TOKEN", "Flood", "answer", "driver_of", "listening", "serving", "settings"]

ETAG = f'"{"0a" * 16}"'
"""As S3 has them."""

_LEAVING_SECONDS = 0.5
"""For a server to see that the connections of a driver are closed, if they are."""

SECRET, TOKEN = "the-secret-of-the-key", "the-session-token"


def answer(status: int, code: str = "", body: str = "", **headers: str) -> bytes:
    """An answer as S3 gives it; without a code, with an empty body."""
    if code:
        body = f"<Error><Code>{code}</Code><Message>a sentence</Message><RequestId>7</RequestId></Error>"
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@asynccontextmanager
async def listening(
    handle: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]], tls: tuple[Path, Path] | None = None
) -> AsyncIterator[str]:
    """The address of a server that gives each request, whole, to `handle`; with `tls`, a certificate and its key, it
    talks nothing else."""
    context: ssl.SSLContext | None = None
    served: set[asyncio.Task[None] | None] = set()
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"100-continue" in head.lower():
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                await handle(head, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield f"http{'' if tls is None else 's'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if served:
            await asyncio.wait(filter(None, served), timeout=_LEAVING_SECONDS)


@asynccontextmanager
async def serving(*replies: bytes) -> AsyncIterator[str]:
    """The address of a server that gives one reply after the other, and the last one to every later request."""
    left = list(replies)

    async def give(head: bytes, writer: asyncio.StreamWriter) -> None:
        reply = left.pop(0) if len(left) > 1 else left[0]
        without_body = reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        writer.write(without_body if head.lower().startswith(b"head") else reply)
        await writer.drain()
        writer.close()

    async with listening(give) as endpoint:
        yield endpoint


class Flood:
    """Answers, for `listening`, with a head and a body of 256 MiB whose length nobody tells."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.sent = 0
        """Bytes of bodies that went into the sockets."""

    async def __call__(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        chunk = b"100000\r\n" + b"A" * (1 << 20) + b"\r\n"
        writer.write(self._head + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        while self.sent < 256 << 20:
            writer.write(chunk)
            self.sent += len(chunk)
            await writer.drain()


def settings(endpoint: str, **more: object) -> S3Config:
    """Settings for the bucket `a-bucket` there, which never try again."""
    keys = Credentials("a-key", Secret(SECRET), Secret(TOKEN))
    defaults = {"endpoint": endpoint, "credentials": keys, "retry_seconds": 0, "request_seconds": 5.0}
    return S3Config("a-bucket", **(defaults | more))  # type: ignore[arg-type]


def driver_of(config: S3Config) -> S3Driver:
    """The driver for blocks."""
    requests = Requests(config.bucket, max_requests=4, max_bytes=1 << 20, retry_seconds=config.retry_seconds)
    return S3Driver(data_store(config), S3Api(config, requests))
