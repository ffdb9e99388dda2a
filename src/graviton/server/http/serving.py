"""How a blob answers GET and HEAD: conditions, ranges, and headers that say what it is.

The id tells the size and is the entity tag, so everything but the bytes, the attributes and whether the blob is there
at all is decided before the store is asked; then one look gives the reader and all the rest.
"""

from __future__ import annotations

import secrets
from typing import Final

from graviton.core.attribute_text import ATTRIBUTES_FIELD, MAX_TOLD_CHARS, encode_attributes
from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlobKey
from graviton.core.ranges import Span
from graviton.errors import NotFound, PreconditionFailed, RangeNotSatisfiable
from graviton.ports.blobs import BlobReader, BlobStat
from graviton.server.http.asgi import Headers, Receive, Scope, Send, header
from graviton.server.http.conditions import Verdict, etag_of, judge, range_applies
from graviton.server.http.context import Context
from graviton.server.http.download import Delivery
from graviton.server.http.names import DEFAULT_TYPE, content_disposition
from graviton.server.http.ranges import BodyPart, content_range, multipart, spans_wanted

__all__ = ["BlobAnswer", "attributes_field", "stat_of"]

_MAX_AGE: Final = 365 * 24 * 3600
"""A year, the longest that caches take seriously (RFC 2616 section 14.21). What an id names never changes."""


async def stat_of(context: Context, key: BlobKey, domain: str = "") -> BlobStat:
    """What is known about a blob. Raises NotFound."""
    found = await context.services.store.stat(key, domain)
    if found is None:
        raise NotFound(f"there is no blob {key}", operation="get", subject=key.text)
    return found


class BlobAnswer:
    """The ASGI application that answers one GET or HEAD. Raises NotFound, PreconditionFailed, RangeNotSatisfiable,
    TooManyRequests and what reading does before the answer begins."""

    def __init__(self, context: Context, key: BlobKey, domain: str = "") -> None:
        self._context, self._key, self._domain = context, key, domain
        self._etag = etag_of(key.text)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        verdict = judge(self._etag, header(scope, b"if-match"), header(scope, b"if-none-match"))
        if verdict is Verdict.GO_ON and scope["method"] == "GET":
            await self._deliver(scope, receive, send)
            return
        attributes = (await stat_of(self._context, self._key, self._domain)).attributes
        if verdict is Verdict.FAILED:
            raise PreconditionFailed("the blob is there, and If-Match names others", subject=self._key.text)
        if verdict is Verdict.NOT_MODIFIED:
            await _send_head(send, 304, self._validators())
        else:
            length = (b"content-length", b"%d" % self._key.size)
            await _send_head(send, 200, [*self._head(attributes), length])

    async def _deliver(self, scope: Scope, receive: Receive, send: Send) -> None:
        spans = await self._spans(scope)
        async with self._context.downloads:
            first = spans[0] if spans else None
            async with await self._open(first) as reader:
                head = self._head(reader.attributes)
                delivery = self._laid_out(spans, head, reader.attributes)
                await delivery.send(reader, receive, send)

    async def _spans(self, scope: Scope) -> list[Span] | None:
        """Raises RangeNotSatisfiable, and NotFound rather than that."""
        if not range_applies(self._etag, header(scope, b"if-range")):
            return None
        try:
            return spans_wanted(header(scope, b"range"), self._key.size)
        except RangeNotSatisfiable:
            await stat_of(self._context, self._key, self._domain)
            raise

    async def _open(self, span: Span | None) -> BlobReader:
        whole = span is None or span.length == self._key.size
        return await self._context.services.store.get(self._key, None if whole else span, self._domain)

    def _laid_out(self, spans: list[Span] | None, head: Headers, attributes: BinaryAttributes) -> Delivery:
        """What goes out after the first part was opened."""
        size, clock = self._key.size, self._context.services.clock
        if spans is None:
            head.append((b"content-length", b"%d" % size))
            return Delivery(200, head, [BodyPart(b"", Span(0, size))], b"", self._open, clock)
        if len(spans) == 1:
            head.append((b"content-range", content_range(spans[0], size).encode()))
            head.append((b"content-length", b"%d" % spans[0].length))
            return Delivery(206, head, [BodyPart(b"", spans[0])], b"", self._open, clock)
        boundary = secrets.token_hex(16)
        body = multipart(spans, size, _type_of(attributes), boundary)
        head = [pair for pair in head if pair[0] != b"content-type"]
        head.append((b"content-type", f"multipart/byteranges; boundary={boundary}".encode()))
        head.append((b"content-length", b"%d" % body.length))
        return Delivery(206, head, body.parts, body.end, self._open, clock)

    def _validators(self) -> Headers:
        """What 304 says too. Without a token everybody may have the bytes, so shared caches may keep them."""
        who = "public" if self._context.settings.token is None else "private"
        return [
            (b"etag", self._etag.encode()),
            (b"cache-control", f"{who}, max-age={_MAX_AGE}, immutable".encode()),
        ]

    def _head(self, attributes: BinaryAttributes) -> Headers:
        """What a whole blob says about itself. Somebody may have stored a page and sent a link to it: nothing that a
        blob holds may run in the name of this server."""
        content_type = _type_of(attributes)
        head = [
            *self._validators(),
            (b"content-type", content_type.encode("latin-1")),
            (b"accept-ranges", b"bytes"),
            (b"content-security-policy", b"sandbox; default-src 'none'"),
            *attributes_field(attributes),
        ]
        disposition = content_disposition(attributes.file_name, content_type)
        return head if disposition is None else [*head, (b"content-disposition", disposition.encode("latin-1"))]


async def _send_head(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def attributes_field(attributes: BinaryAttributes) -> Headers:
    """All attributes as a header, unless they are so many that clients would refuse it: /stat tells those."""
    text = encode_attributes(attributes)
    return [(ATTRIBUTES_FIELD.lower().encode(), text.encode())] if len(text) <= MAX_TOLD_CHARS else []


def _type_of(attributes: BinaryAttributes) -> str:
    return attributes.mime or DEFAULT_TYPE
