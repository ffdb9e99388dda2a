"""A proxy in front of an S3 server that breaks chosen requests, as servers and networks do, and writes down what got
through.

It takes whole requests, one at a time per connection, and keeps whole replies in memory. `Host` goes on as it came: the
signature covers it. Only path style is understood. Everything runs on the event loop of the test.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback_server import LoopbackServer
from tests.s3_server import S3Server

__all__ = ["Exchange", "Fault", "Kind", "Reply", "S3Proxy", "Seen"]

_MAX_HEAD = 1 << 20
_NO_LINGER = struct.pack("ii", 1, 0)
"""Closing a socket with this sends a reset: https://man7.org/linux/man-pages/man7/socket.7.html"""


class Kind(Enum):
    """What a request asks for."""

    PUT = "put"
    GET = "get"
    HEAD = "head"
    DELETE = "delete"
    COPY = "copy"
    LIST = "list"
    BULK_DELETE = "bulk delete"
    CREATE_UPLOAD = "create upload"
    PART = "part"
    PART_COPY = "part copy"
    COMPLETE = "complete"
    ABORT = "abort"
    LIST_PARTS = "list parts"
    LIST_UPLOADS = "list uploads"
    CREATE_BUCKET = "create bucket"
    HEAD_BUCKET = "head bucket"
    DELETE_BUCKET = "delete bucket"
    OTHER = "other"


class Headers(list[tuple[str, str]]):
    """Header fields in their order, as they came."""

    def of(self, name: str) -> str:
        """The value of a field; empty if it is not there."""
        return next((value for field_name, value in self if field_name.lower() == name), "")

    def without(self, *names: str) -> Headers:
        """All fields but these."""
        return Headers(one for one in self if one[0].lower() not in names)


class Request(NamedTuple):
    """The head of a request."""

    method: str
    target: str
    headers: Headers

    @property
    def bucket(self) -> str:
        """The first part of the path."""
        return unquote(urlsplit(self.target).path).lstrip("/").partition("/")[0]

    @property
    def key(self) -> str:
        """The rest of the path; empty for a request about the bucket."""
        return unquote(urlsplit(self.target).path).lstrip("/").partition("/")[2]

    @property
    def kind(self) -> Kind:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html"""
        query = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        upload = "uploads" if "uploads" in query else "uploadId" if "uploadId" in query else ""
        if not self.key:
            if self.method == "GET":
                return Kind.LIST_UPLOADS if upload else Kind.OTHER if "location" in query else Kind.LIST
            if self.method == "POST":
                return Kind.BULK_DELETE if "delete" in query else Kind.OTHER
            of_bucket = {"PUT": Kind.CREATE_BUCKET, "HEAD": Kind.HEAD_BUCKET, "DELETE": Kind.DELETE_BUCKET}
            return of_bucket.get(self.method, Kind.OTHER)
        if self.method == "PUT":
            is_copy = bool(self.headers.of("x-amz-copy-source"))
            if upload:
                return Kind.PART_COPY if is_copy else Kind.PART
            return Kind.COPY if is_copy else Kind.PUT
        of_object = {
            ("GET", ""): Kind.GET,
            ("GET", "uploadId"): Kind.LIST_PARTS,
            ("HEAD", ""): Kind.HEAD,
            ("DELETE", ""): Kind.DELETE,
            ("DELETE", "uploadId"): Kind.ABORT,
            ("POST", "uploads"): Kind.CREATE_UPLOAD,
            ("POST", "uploadId"): Kind.COMPLETE,
        }
        return of_object.get((self.method, upload), Kind.OTHER)


class Reply(NamedTuple):
    """A whole reply."""

    status: int
    headers: Headers
    body: bytes

    def encode(self) -> bytes:
        """As it goes out: with a length, whatever it came with."""
        headers = self.headers.without("transfer-encoding", "connection", "keep-alive")
        if not headers.of("content-length") and self.status not in (204, 304):
            headers.append(("Content-Length", str(len(self.body))))
        lines = [f"HTTP/1.1 {self.status} {'OK' if self.status < 300 else 'Error'}"]
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@dataclass
class Seen:
    """A request that came, and what became of it."""

    kind: Kind
    key: str
    was_forwarded: bool = False
    """The server got all of it."""
    status: int = 0
    """What the server said; 0: nothing."""
    fault: str = ""
    """What was done to it."""
    headers: Headers = field(default_factory=Headers)


class Exchange:
    """One request in the hands of a fault. A fault that sends nothing closes the connection."""

    def __init__(self, proxy: S3Proxy, request: Request, client: _Pipe, seen: Seen) -> None:
        self.request = request
        self.seen = seen
        self.is_over = False
        """The connection is no longer of use."""
        self._proxy = proxy
        self._client = client
        self._length = int(request.headers.of("content-length") or 0)
        self._body: bytes | None = None

    async def body(self) -> bytes:
        """The body of the request."""
        if self._body is None:
            if "100-continue" in self.request.headers.of("expect").lower():
                self._client.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self.request.headers.of("transfer-encoding"):
                raise AssertionError("a request in chunks: no driver of ours sends one")
            self._body = await self._client.reader.readexactly(self._length)
        return self._body

    async def half_of_body(self) -> bytes:
        """The first half of the body, and nothing more is read."""
        if "100-continue" in self.request.headers.of("expect").lower():
            self._client.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self._client.reader.readexactly(self._length // 2)

    async def forward(self) -> Reply:
        """What the server answers to the whole request."""
        body = await self.body()
        self.seen.was_forwarded = True
        reply = await self._proxy.ask(self.request, body)
        self.seen.status = reply.status
        return reply

    async def forward_cut(self, body: bytes) -> None:
        """Let the server have the beginning of the request, then a reset."""
        server = await self._proxy.connect()
        server.writer.write(_encode(self.request) + body)
        await server.writer.drain()
        await asyncio.sleep(0.02)  # the server is reading
        server.reset()

    async def send(self, data: bytes) -> None:
        """Bytes to the client."""
        self._client.writer.write(data)
        await self._client.writer.drain()

    async def answer(self, status: int, code: str = "", *, headers: dict[str, str] | None = None) -> None:
        """An answer of S3 in the server's place: of a HEAD, without the code."""
        await self.body()
        text = f"<Error><Code>{code}</Code><Message>planned</Message><RequestId>1</RequestId></Error>" if code else ""
        body = b'<?xml version="1.0" encoding="UTF-8"?>' + text.encode()
        made = Headers([("Content-Type", "application/xml"), *(headers or {}).items()])
        await self.send(Reply(status, made, b"" if self.request.method == "HEAD" else body).encode())

    def reset(self) -> None:
        """Break the connection."""
        self.is_over = True
        self._client.reset()

    def close(self) -> None:
        """End the connection in good order."""
        self.is_over = True
        self._client.writer.close()

    async def hang(self) -> None:
        """Say nothing until the client goes away."""
        self.is_over = True
        await self._client.reader.read()
        self._client.writer.close()

    def hold(self, body: bytes) -> None:
        """Keep the request: `S3Proxy.deliver` sends it to the server."""
        self._proxy.held.append((self.request, body))


Fault = Callable[[Exchange], Awaitable[None]]
"""Does something with an exchange, in place of passing it on."""


@dataclass
class _Plan:
    kind: Kind
    fault: Fault
    numbers: Iterator[bool]
    happened: int = 0


class S3Proxy(LoopbackServer):
    """`server` is this proxy as a server; requests pass unless `plan` says otherwise."""

    def __init__(self, behind: S3Server) -> None:
        super().__init__(limit=_MAX_HEAD)
        parts = urlsplit(behind.endpoint)
        assert parts.hostname
        assert parts.port
        self._place = parts.hostname, parts.port
        self._behind = behind
        self._plans: list[_Plan] = []
        self.seen: list[Seen] = []
        self.held: list[tuple[Request, bytes]] = []
        self.page_size: int | None = None
        """Names per page of a listing. For servers that look at no signature, which covers the question."""

    @property
    def server(self) -> S3Server:
        """The server behind, at the address of this proxy."""
        return self._behind._replace(endpoint=f"http://127.0.0.1:{self.port}")

    def plan(self, kind: Kind, fault: Fault, *, first: int = 1, times: int | None = 1) -> Callable[[], int]:
        """Do `fault` to the requests of `kind` from the `first` (counted from 1, from now on), `times` of them (None:
        all that follow). Gives back what tells how often it happened."""
        numbers = itertools.count(1)
        chosen = (number >= first and (times is None or number < first + times) for number in numbers)
        made = _Plan(kind, fault, chosen)
        self._plans.append(made)
        return lambda: made.happened

    def count(self, kind: Kind) -> int:
        """How many requests of `kind` came."""
        return sum(one.kind is kind for one in self.seen)

    async def deliver(self) -> int:
        """Let the server have the oldest request that was held back; what it says."""
        return (await self.ask(*self.held.pop(0))).status

    async def connect(self) -> _Pipe:
        """A connection to the server."""
        return _Pipe(*await asyncio.open_connection(*self._place, limit=_MAX_HEAD))

    async def ask(self, request: Request, body: bytes) -> Reply:
        """The answer of the server, over a connection of its own."""
        server = await self.connect()
        try:
            server.writer.write(_encode(request) + body)
            await server.writer.drain()
            return await _reply(server.reader, request.method)
        finally:
            server.writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await _request(reader)) is not None:
            if not await self._exchange(request, _Pipe(reader, writer)):
                return

    async def _exchange(self, request: Request, client: _Pipe) -> bool:
        """Whether the connection may go on."""
        if self.page_size is not None and request.kind is Kind.LIST:
            target = re.sub(r"&max-keys=\d+", "", request.target)
            request = request._replace(target=f"{target}&max-keys={self.page_size}")
        seen = Seen(request.kind, request.key, headers=request.headers)
        self.seen.append(seen)
        exchange = Exchange(self, request, client, seen)
        fault = self._fault(request.kind)
        if fault is not None:
            seen.fault = getattr(fault, "__name__", "fault")
            await fault(exchange)
        else:
            await exchange.send((await exchange.forward()).encode())
        return not exchange.is_over

    def _fault(self, kind: Kind) -> Fault | None:
        chosen = None
        for plan in self._plans:
            if plan.kind is kind and next(plan.numbers) and chosen is None:
                plan.happened += 1
                chosen = plan.fault
        return chosen


class _Pipe(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        found = self.writer.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.writer.transport.abort()


def _encode(request: Request) -> bytes:
    headers = request.headers.without("connection", "expect", "keep-alive")
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


async def _head(reader: asyncio.StreamReader) -> tuple[str, Headers] | None:
    """First line and fields; None at the end of the connection."""
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = data.decode("latin-1").rstrip("\r\n").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return first, Headers((name, value.strip()) for name, _, value in fields)


async def _request(reader: asyncio.StreamReader) -> Request | None:
    head = await _head(reader)
    if head is None:
        return None
    method, target, _ = head[0].split(" ", 2)
    return Request(method, target, head[1])


async def _reply(reader: asyncio.StreamReader, method: str) -> Reply:
    head = await _head(reader)
    if head is None:
        raise ConnectionResetError("the server said nothing")
    status, headers = int(head[0].split(" ", 2)[1]), head[1]
    if status == 100:
        return await _reply(reader, method)
    body = b""
    if method != "HEAD" and status not in (204, 304):
        if headers.of("transfer-encoding").lower() == "chunked":
            body = await _chunks(reader)
        elif headers.of("content-length"):
            body = await reader.readexactly(int(headers.of("content-length")))
        else:
            body = await reader.read()
    return Reply(status, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(pieces)
