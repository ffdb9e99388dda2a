"""What a failed request is answered with: one table from the class of an error to a status, and RFC 9457 documents.

What a client did is told as it is. What happened in here is not: the message of an error of ours may hold paths and
addresses, so the answer has a fixed sentence, and a trace id that leads to the line of the log with all of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from graviton.errors import (
    AlreadyExists,
    ConfigError,
    Conflict,
    DigestMismatch,
    GravitonError,
    IntegrityError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RangeNotSatisfiable,
    Retired,
    StorageFull,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

__all__ = [
    "KINDS",
    "Answer",
    "ChecksumMismatch",
    "ClientGone",
    "Gone",
    "Kind",
    "MethodNotAllowed",
    "OtherOffset",
    "Problem",
    "Refused",
    "TooSlow",
    "UnsatisfiableRange",
    "UnsupportedMediaType",
    "answer",
    "kind_of",
    "told",
]


class MethodNotAllowed(GravitonError):
    """The address is there, and the method is not for it."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, subject: str = "", allow: str = "") -> None:
        """`allow` is the list of those that are."""
        super().__init__(message, subject=subject)
        self.allow = allow


class TooSlow(GravitonError):
    """The client sends, or takes, so little that it keeps others from working."""

    code = "too_slow"


class Gone(GravitonError):
    """What is asked for was there once, and is not kept any more."""

    code = "gone"


class UnsupportedMediaType(GravitonError):
    """The body is of another kind than the route takes."""

    code = "unsupported_media_type"


class ChecksumMismatch(DigestMismatch):
    """The bytes of a request do not have the `Upload-Checksum` that came with them; tus has a status for it."""


class Refused(PermissionDenied):
    """What is asked for is done for nobody: it looks like a web page's request in the name of its visitor, or is for an
    upload that takes no bytes."""


class OtherOffset(Conflict):
    """The bytes of a request do not begin where the upload goes on, at `offset`."""

    def __init__(self, message: str, *, subject: str = "", hint: str = "", offset: int = 0) -> None:
        super().__init__(message, operation="upload", subject=subject, hint=hint)
        self.offset = offset


class UnsatisfiableRange(RangeNotSatisfiable):
    """No range asked for holds a byte of what has `size` of them."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"no range asked for holds a byte of these {size}",
            operation="get",
            subject="range",
            hint="Content-Range tells how many there are.",
        )
        self.size = size


class ClientGone(GravitonError):
    """The connection ended before the request, or its answer, did. Nobody is there to be answered."""

    code = "client_gone"


class Kind(NamedTuple):
    """How errors of one class are answered."""

    status: int
    title: str
    sentence: str = ""
    """Told in place of the error's own message, which is about our side."""


_TOLD_NO_MORE = "The trace id leads to what the server's log says about it."

KINDS: dict[type[GravitonError], Kind] = {
    InvalidInput: Kind(400, "Malformed request"),
    Unauthenticated: Kind(401, "A token is needed"),
    PermissionDenied: Kind(403, "Not permitted", f"The server may not do that in its own store. {_TOLD_NO_MORE}"),
    Refused: Kind(403, "Not permitted"),
    Retired: Kind(403, "The store only reads", "The metadata of this store was moved elsewhere; it takes no changes."),
    NotFound: Kind(404, "Not found"),
    MethodNotAllowed: Kind(405, "Method not allowed"),
    TooSlow: Kind(408, "Too slow"),
    AlreadyExists: Kind(409, "Already there"),
    Conflict: Kind(409, "Conflict"),
    Gone: Kind(410, "No longer kept"),
    PreconditionFailed: Kind(412, "Precondition failed"),
    LimitExceeded: Kind(413, "Too large"),
    UnsupportedMediaType: Kind(415, "Unsupported media type"),
    RangeNotSatisfiable: Kind(416, "Range not satisfiable"),
    DigestMismatch: Kind(422, "Digest mismatch"),
    TooManyRequests: Kind(429, "Too many requests"),
    ChecksumMismatch: Kind(460, "Checksum mismatch"),
    ClientGone: Kind(499, "Client gone"),
    IntegrityError: Kind(500, "Stored bytes are damaged", f"What is stored is damaged or missing. {_TOLD_NO_MORE}"),
    ConfigError: Kind(500, "Server error", f"The server's settings do not fit its store. {_TOLD_NO_MORE}"),
    GravitonError: Kind(500, "Server error", f"Something went wrong in the server. {_TOLD_NO_MORE}"),
    Unsupported: Kind(501, "Not supported", "This store does not offer that."),
    Unavailable: Kind(503, "Unavailable", f"A part of the store does not answer. Try again. {_TOLD_NO_MORE}"),
    StorageFull: Kind(507, "No room left", f"The store has no room left. {_TOLD_NO_MORE}"),
}
"""Every class of errors that a route may raise; 499 is never sent and stands in the log. docs/guides/http-api.md shows
it, and a test compares the two."""

_RETRY_AFTER_SECONDS = 1.0
"""For errors that do not know better."""


def kind_of(error: GravitonError) -> Kind:
    """How `error` is answered: as the nearest of its classes is."""
    return next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)


def told(error: GravitonError) -> dict[str, str]:
    """What a client is told of `error`, as JSON that is no answer of its own: nothing of our own side."""
    sentence = kind_of(error).sentence
    return {"error": error.code, "message": sentence} if sentence else error.to_json()


class Problem(msgspec.Struct, omit_defaults=True):
    """What failed: RFC 9457, and what `GravitonError.to_json` has. Programs go by `error`, which never changes."""

    type: str
    title: str
    status: int
    detail: str
    error: str
    message: str
    subject: str
    trace_id: str
    hint: str = ""


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def answer(error: GravitonError, trace_id: str) -> Answer:
    """The problem document for `error`, and the headers that belong to its status."""
    kind = kind_of(error)
    told = kind.sentence or error.message
    hidden = bool(kind.sentence)
    problem = Problem(
        "about:blank",
        kind.title,
        kind.status,
        told,
        error.code,
        told,
        "" if hidden else error.subject,
        trace_id,
        "" if hidden else error.hint,
    )
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if kind.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="graviton"'))
    if kind.status in (429, 503):
        seconds = error.retry_after_seconds or _RETRY_AFTER_SECONDS
        headers.append((b"retry-after", str(max(1, math.ceil(seconds))).encode()))
    if isinstance(error, UnsatisfiableRange):
        headers.append((b"content-range", b"bytes */%d" % error.size))
    if isinstance(error, OtherOffset):
        headers.append((b"upload-offset", b"%d" % error.offset))
    if isinstance(error, MethodNotAllowed) and error.allow:
        headers.append((b"allow", error.allow.encode("latin-1")))
    return Answer(kind.status, headers, msgspec.json.encode(problem))
