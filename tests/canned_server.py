"""A server that says what a test wants it to say: lies, rubbish, nothing at all."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from tests.loopback_server import LoopbackServer

__all__ = ["Asked", "CannedServer", "Exchange", "answer", "problem"]


class Asked(NamedTuple):
    """A request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Exchange(NamedTuple):
    """A request in the hands of whoever answers it."""

    asked: Asked
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


Raw: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer: TypeAlias = "bytes | Callable[[Exchange], Awaitable[None]]"


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer, with its length unless `headers` say otherwise."""
    fields = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def problem(status: int, code: str, **headers: str) -> bytes:
    """A problem document of ours."""
    body = {"type": "about:blank", "status": status, "error": code, "message": "planned", "subject": "s", "hint": "h"}
    return answer(status, json.dumps(body).encode(), Content_Type="application/problem+json", **headers)


class CannedServer(LoopbackServer):
    """Answers by `method` and the beginning of the path; the last answer of a list stays."""

    def __init__(self, raw: Raw | None = None, tls: ssl.SSLContext | None = None, limit: int = 65536) -> None:
        """`raw` has every connection to itself; `limit` is how much of it may be read at once."""
        super().__init__(tls, limit)
        self._raw = raw
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Answer]] = {}

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """What to say, one after the other."""
        self._answers[method, path] = list(answers)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._raw is not None:
            await self._raw(reader, writer)
            return
        while not writer.is_closing():
            asked = await _request(reader, writer)
            self.asked.append(asked)
            said = self._next(asked)
            if callable(said):
                await said(Exchange(asked, reader, writer))
            else:
                writer.write(said)
                await writer.drain()

    def _next(self, asked: Asked) -> Answer:
        found = [(path, answers) for (method, path), answers in self._answers.items() if method == asked.method]
        for path, answers in sorted(found, reverse=True):
            if asked.target.startswith(path):
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return problem(404, "not_found")


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if "100-continue" in headers.get("expect", ""):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding") == "chunked":
        pieces = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return Asked(method, target, headers, b"".join(pieces))
    return Asked(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))
