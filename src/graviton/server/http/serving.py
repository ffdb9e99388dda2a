"""How a blob answers GET and HEAD: conditions, ranges, and headers that say what it is."""

from __future__ import annotations

import secrets
from typing import Final

from graviton.core.attribute_text import ATTRIBUTES_FIELD, MAX_TOLD_CHARS, encode_attributes
from graviton.core.attributes import BinaryAttributes
from graviton.core.ranges import Span
from graviton.errors import PreconditionFailed
from graviton.ports.blobs import BlobReader, BlobStat
from graviton.server.http.asgi import Headers, Receive, Scope, Send, header
from graviton.server.http.conditions import Verdict, etag_of, judge, range_applies
from graviton.server.http.context import Context
from graviton.server.http.download import Download
from graviton.server.http.names import DEFAULT_TYPE, content_disposition
from graviton.server.http.ranges import BodyPart, content_range, multipart, spans_wanted

__all__ = ["answer_to", "attributes_field", "headers_of"]

_MAX_AGE: Final = 365 * 24 * 3600
"""A year, the longest that caches take seriously (RFC 2616 section 14.21). What an id names never changes."""


class Bodiless:
    """An answer that is a head alone."""

    def __init__(self, status: int, headers: Headers) -> None:
        self._status, self._headers = status, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": b""})


def headers_of(scope: Scope, context: Context, stat: BlobStat) -> Bodiless:
    """The answer to HEAD. Raises PreconditionFailed."""
    if _verdict(scope, stat) is Verdict.NOT_MODIFIED:
        return Bodiless(304, _validators(context, stat))
    return Bodiless(200, [*_head(context, stat), (b"content-length", b"%d" % stat.size)])


def answer_to(scope: Scope, context: Context, stat: BlobStat, domain: str = "") -> Download | Bodiless:
    """The answer to GET of a blob in `domain`. Raises PreconditionFailed, RangeNotSatisfiable."""
    if _verdict(scope, stat) is Verdict.NOT_MODIFIED:
        return Bodiless(304, _validators(context, stat))
    head = _head(context, stat)
    spans = None
    if range_applies(etag_of(stat.key.text), header(scope, b"if-range")):
        spans = spans_wanted(header(scope, b"range"), stat.size)
    status, end = 206, b""
    if spans is None:
        status, parts, length = 200, [BodyPart(b"", Span(0, stat.size))], stat.size
    elif len(spans) == 1:
        parts, length = [BodyPart(b"", spans[0])], spans[0].length
        head.append((b"content-range", content_range(spans[0], stat.size).encode()))
    else:
        boundary = secrets.token_hex(16)
        body = multipart(spans, stat.size, _type_of(stat), boundary)
        parts, end, length = body.parts, body.end, body.length
        head = [pair for pair in head if pair[0] != b"content-type"]
        head.append((b"content-type", f"multipart/byteranges; boundary={boundary}".encode()))
    head.append((b"content-length", b"%d" % length))

    async def open_reader(span: Span) -> BlobReader:
        is_whole = span.length == stat.size
        return await context.services.store.get(stat.key, None if is_whole else span, domain)

    return Download(status, head, parts, end, open_reader, context)


def _verdict(scope: Scope, stat: BlobStat) -> Verdict:
    verdict = judge(etag_of(stat.key.text), header(scope, b"if-match"), header(scope, b"if-none-match"))
    if verdict is Verdict.FAILED:
        raise PreconditionFailed("the blob is there, and If-Match names others", subject=stat.key.text)
    return verdict


def _validators(context: Context, stat: BlobStat) -> Headers:
    """What 304 says too. Without a token everybody may have the bytes, so shared caches may keep them."""
    who = "public" if context.settings.token is None else "private"
    return [
        (b"etag", etag_of(stat.key.text).encode()),
        (b"cache-control", f"{who}, max-age={_MAX_AGE}, immutable".encode()),
    ]


def _head(context: Context, stat: BlobStat) -> Headers:
    """What a whole blob says about itself. Somebody may have stored a page and sent a link to it: nothing that a blob
    holds may run in the name of this server."""
    content_type = _type_of(stat)
    head = [
        *_validators(context, stat),
        (b"content-type", content_type.encode("latin-1")),
        (b"accept-ranges", b"bytes"),
        (b"content-security-policy", b"sandbox; default-src 'none'"),
        *attributes_field(stat.attributes),
    ]
    disposition = content_disposition(stat.attributes.file_name, content_type)
    return head if disposition is None else [*head, (b"content-disposition", disposition.encode("latin-1"))]


def attributes_field(attributes: BinaryAttributes) -> Headers:
    """All attributes as a header, unless they are so many that clients would refuse it: /stat tells those."""
    text = encode_attributes(attributes)
    return [(ATTRIBUTES_FIELD.lower().encode(), text.encode())] if len(text) <= MAX_TOLD_CHARS else []


def _type_of(stat: BlobStat) -> str:
    return stat.attributes.mime or DEFAULT_TYPE
