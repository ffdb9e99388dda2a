"""From a Range header and the size of a blob to what is sent, and the words around it (RFC 9110 section 14)."""

from __future__ import annotations

from typing import NamedTuple

from graviton.core.byte_range import ByteRange, parse_http_range
from graviton.core.ranges import RangeSet, Span
from graviton.errors import RangeNotSatisfiable
from graviton.server.http.errors import UnsatisfiableRange

__all__ = ["BodyPart", "content_range", "multipart", "spans_wanted"]


def spans_wanted(header: str | None, size: int) -> list[Span] | None:
    """What of a blob of `size` bytes is to be sent; None for all of it: no header, or one to be ignored.

    Ranges that no byte lies in are left out, and ranges that overlap or touch become one, so that no header asks for
    more bytes than the blob has; then they are in order, otherwise as they were asked for. Raises UnsatisfiableRange
    if none is left.
    """
    wanted = None if header is None else parse_http_range(header)
    if wanted is None:
        return None
    spans = [span for one in wanted if (span := _resolved(one, size)) is not None]
    if not spans:
        raise UnsatisfiableRange(size)
    joined = RangeSet(spans)
    return spans if len(joined) == len(spans) else list(joined)


def _resolved(wanted: ByteRange, size: int) -> Span | None:
    try:
        return wanted.resolve(size)
    except RangeNotSatisfiable:
        return None


def content_range(span: Span, size: int) -> str:
    """The value of Content-Range for one part."""
    return f"bytes {span.start}-{span.end - 1}/{size}"


class BodyPart(NamedTuple):
    """Some bytes of our own, and then a stretch of the blob."""

    before: bytes
    span: Span


class Multipart(NamedTuple):
    """A body of several parts."""

    parts: list[BodyPart]
    end: bytes
    length: int
    """Bytes of it all."""


def multipart(spans: list[Span], size: int, content_type: str, boundary: str) -> Multipart:
    """The body `multipart/byteranges`. `boundary` must be unguessable: the bytes of a blob may be anything."""
    parts = []
    for number, span in enumerate(spans):
        lines = [
            ("" if number == 0 else "\r\n") + f"--{boundary}",
            f"Content-Type: {content_type}",
            f"Content-Range: {content_range(span, size)}",
        ]
        parts.append(BodyPart(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), span))
    end = f"\r\n--{boundary}--\r\n".encode("latin-1")
    return Multipart(parts, end, sum(len(part.before) + part.span.length for part in parts) + len(end))
