"""What can go wrong with one request to an S3 server: a table, for `S3Proxy.plan`.

Each fault says what a caller may expect of it: that it passes when it happens once, and the class of error when it goes
on for ever. Which requests it makes sense for is part of it. Statuses that differ from these by their number alone are
in tests/unit/objectstore/test_errors.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graviton.errors import ConfigError, GravitonError, PermissionDenied, Unavailable
from tests.s3_proxy import Exchange, Fault, Headers, Kind, Reply

__all__ = ["FAULTS", "FaultRow", "faults_of", "hold"]

WITH_BODY = frozenset({Kind.PUT, Kind.PART, Kind.BULK_DELETE, Kind.COMPLETE})
"""Requests that have a body."""
ANSWERED = frozenset(Kind) - {Kind.PUT, Kind.PART, Kind.HEAD, Kind.HEAD_BUCKET, Kind.DELETE, Kind.ABORT}
"""Requests whose reply has a body."""
IN_XML = frozenset({Kind.COPY, Kind.PART_COPY, Kind.COMPLETE, Kind.BULK_DELETE, Kind.LIST, Kind.CREATE_UPLOAD})
"""Requests whose reply is XML, so that a failure may hide in one with status 200: S3 says 200 to the first three before
it knows."""
WITH_CODE = frozenset(Kind) - {Kind.HEAD, Kind.HEAD_BUCKET}
"""Requests whose reply can carry S3's own code."""


@dataclass(frozen=True)
class FaultRow:
    """A fault and what it means for who asks."""

    name: str
    do: Fault
    kind: type[GravitonError] | None = Unavailable
    """Of the error when it happens every time; None: it does no harm."""
    passes: bool = True
    """Whether trying again is right."""
    says: str = ""
    """What the error must tell, if anything special."""
    kinds: frozenset[Kind] = frozenset(Kind)
    hangs: bool = False
    """Whether one waits for a time-out, which should be short then."""

    has_effect: bool = False
    """Whether the server did what it was asked, and only its reply is lost."""
    is_plain: bool = False
    """Whether it leaves no doubt: a refusal, or a connection that breaks before anything was done. One place sees to it
    for all requests of a kind, before any operation is told."""

    def __str__(self) -> str:
        return self.name


def _answers(status: int, code: str = "", **headers: str) -> Fault:
    async def fault(exchange: Exchange) -> None:
        await exchange.answer(status, code, headers=headers)

    return fault


async def _time_out_before(exchange: Exchange) -> None:
    await exchange.hang()


async def _time_out_after(exchange: Exchange) -> None:
    await exchange.forward()
    await exchange.hang()


async def hold(exchange: Exchange) -> None:
    """A time-out before the effect, which `S3Proxy.deliver` makes happen later."""
    exchange.hold(await exchange.body())
    await exchange.hang()


async def _reset_in_request(exchange: Exchange) -> None:
    await exchange.forward_cut(await exchange.half_of_body())
    exchange.reset()


async def _reset_in_reply(exchange: Exchange) -> None:
    data = (await exchange.forward()).encode()
    await exchange.send(data[: len(data) // 2])
    exchange.reset()


async def _reset_in_reply_body(exchange: Exchange) -> None:
    reply = await exchange.forward()
    await exchange.send(reply.encode()[: -(len(reply.body) + 1) // 2])
    exchange.reset()


async def _truncated_reply(exchange: Exchange) -> None:
    reply = await exchange.forward()
    await exchange.send(reply.encode()[: -(len(reply.body) + 1) // 2])
    exchange.close()


async def _reply_lost(exchange: Exchange) -> None:
    await exchange.forward()
    exchange.close()


async def _wrong_etag(exchange: Exchange) -> None:
    reply = await exchange.forward()
    headers = Headers([*reply.headers.without("etag"), ("ETag", f'"{"0" * 32}"')])
    await exchange.send(reply._replace(headers=headers).encode())


async def _garbage(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.send(b"\x15\x03\x03\x00\x02\x02\x46 this is no HTTP\r\n\r\n")
    exchange.close()


async def _page_for_people(exchange: Exchange) -> None:
    """Of a network that wants somebody to sign in."""
    body = b"<!doctype html><html><head><title>Welcome</title></head><body><p>Sign in</p></body></html>"
    await _says(exchange, body, "text/html")


async def _page_in_xml(exchange: Exchange) -> None:
    """The same, in a form that every parser of XML takes."""
    body = b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>Sign in</p></body></html>'
    await _says(exchange, body, "application/xhtml+xml")


async def _nothing(exchange: Exchange) -> None:
    """All is well, and not a word more."""
    await _says(exchange, b"", "text/plain")


async def _says(exchange: Exchange, body: bytes, content_type: str) -> None:
    await exchange.body()
    headers = Headers([("Content-Type", content_type), ("Content-Length", str(len(body)))])
    await exchange.send(Reply(200, headers, b"" if exchange.request.method == "HEAD" else body).encode())


async def _some_not_deleted(exchange: Exchange) -> None:
    """The whole answers 200, one of the parts failed."""
    body = await exchange.body()
    key = body.partition(b"<Key>")[2].partition(b"</Key>")[0].decode()
    text = f"<DeleteResult><Error><Key>{key}</Key><Code>InternalError</Code><Message>x</Message></Error></DeleteResult>"
    await exchange.send(
        f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
    )


def _refusal(
    name: str, status: int, code: str, kind: type[GravitonError], says: str, kinds: frozenset[Kind] = frozenset(Kind)
) -> FaultRow:
    """That no other try would change."""
    return FaultRow(name, _answers(status, code), kind, False, says, kinds, is_plain=True)


_CLOCK, _KEYS, _RIGHTS = "clock", "keys", "rights"

FAULTS = (
    FaultRow("500", _answers(500, "InternalError"), is_plain=True),
    FaultRow("503 SlowDown", _answers(503, "SlowDown"), is_plain=True),
    FaultRow("409", _answers(409, "OperationAborted"), is_plain=True),
    FaultRow("400 RequestTimeout", _answers(400, "RequestTimeout"), kinds=WITH_CODE, is_plain=True),
    FaultRow("time-out before the effect", _time_out_before, hangs=True, is_plain=True),
    FaultRow("time-out after the effect", _time_out_after, hangs=True, has_effect=True),
    FaultRow("reset in the request", _reset_in_request, kinds=WITH_BODY, is_plain=True),
    FaultRow("reset in the head of the reply", _reset_in_reply, has_effect=True),
    FaultRow("reset in the body of the reply", _reset_in_reply_body, kinds=ANSWERED, has_effect=True),
    FaultRow("truncated reply", _truncated_reply, kinds=ANSWERED, has_effect=True),
    FaultRow("reply lost", _reply_lost, has_effect=True),
    FaultRow("no HTTP", _garbage, is_plain=True),
    FaultRow("error with status 200", _answers(200, "InternalError"), kinds=IN_XML),
    FaultRow("another error with status 200", _answers(200, "ServiceUnavailable"), kinds=IN_XML),
    FaultRow("200 of something else", _page_for_people),
    FaultRow("200 of something else in XML", _page_in_xml, kinds=IN_XML),
    FaultRow("200 of nothing", _nothing, kinds=IN_XML | {Kind.PART, Kind.HEAD, Kind.GET}),
    FaultRow("part of a batch failed", _some_not_deleted, kinds=frozenset({Kind.BULK_DELETE})),
    FaultRow("wrong ETag", _wrong_etag, kind=None),
    _refusal("403 clock", 403, "RequestTimeTooSkewed", PermissionDenied, _CLOCK, WITH_CODE),
    _refusal("403 unknown key", 403, "InvalidAccessKeyId", PermissionDenied, _KEYS, WITH_CODE),
    _refusal("403 wrong secret", 403, "SignatureDoesNotMatch", PermissionDenied, _KEYS, WITH_CODE),
    _refusal("403 no right", 403, "AccessDenied", PermissionDenied, _RIGHTS),
    _refusal("404 no bucket", 404, "NoSuchBucket", ConfigError, "graviton store init", WITH_CODE),
    FaultRow("404 of something else", _answers(404), kinds=WITH_CODE),  # a gateway that has lost its server
    _refusal("301", 301, "PermanentRedirect", ConfigError, "GRAVITON_S3_REGION"),
)


def faults_of(kind: Kind, *, where: Callable[[FaultRow], bool] = lambda row: True) -> list[FaultRow]:
    """The faults that can happen to a request of `kind`."""
    return [row for row in FAULTS if kind in row.kinds and where(row)]
