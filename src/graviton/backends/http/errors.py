"""What goes wrong between here and the server, as errors of ours.

A problem document (RFC 9457) says in `error` which of our errors it was, and that one is raised again; where there is
none, or one that this version does not know, the status decides. What a server says is shown to people: it is cut short
and has no control characters in it.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import graviton.errors
from graviton.errors import (
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
    Retry,
    StorageFull,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

__all__ = ["Problem", "error_of", "of_connection", "problem_of", "shown", "strange"]

_MAX_SHOWN_CHARS: Final = 400
"""Of a text that the server gave: the longest of our own, with an id and a hint in it, has some 250."""

_MAX_RETRY_SECONDS: Final = 3600.0
"""A server that asks for more is not waited for anyway."""

_BY_CODE: Final[dict[str, type[GravitonError]]] = {
    kind.code: kind for kind in (getattr(graviton.errors, name) for name in graviton.errors.__all__ if name != "Retry")
}

_BY_STATUS: Final[dict[int, type[GravitonError]]] = {
    400: InvalidInput,
    401: Unauthenticated,
    403: PermissionDenied,
    405: Unsupported,
    408: Unavailable,
    409: Conflict,
    410: NotFound,
    411: InvalidInput,
    412: PreconditionFailed,
    413: LimitExceeded,
    415: InvalidInput,
    416: RangeNotSatisfiable,
    422: DigestMismatch,
    429: TooManyRequests,
    431: LimitExceeded,
    460: DigestMismatch,
    501: Unsupported,
    507: StorageFull,
}
"""Of answers that do not say which error it was. 404 is not among them: that is what any web server says of a path
that it does not know, and no blob is gone because of it."""

_HINTS: Final[dict[type[GravitonError], str]] = {
    NotFound: "`graviton ls` lists the blobs.",
    Unauthenticated: "Set GRAVITON_API_TOKEN to the token of the server.",
    StorageFull: "Ask whoever runs the server to make room.",
    IntegrityError: "Put the same bytes again: that repairs them. The server's log says more.",
}
"""What to do next where the server does not say it."""


class Problem(NamedTuple):
    """What an answer that is no success says."""

    status: int
    code: str = ""
    """The stable code of one of our errors; empty if the answer has none."""
    message: str = ""
    subject: str = ""
    hint: str = ""
    trace_id: str = ""
    retry_after: float | None = None
    """Seconds."""


def problem_of(status: int, fields: Mapping[str, str], body: bytes) -> Problem:
    """The problem in an answer. Raises nothing: whatever was sent, it is no success."""
    seconds = _seconds(fields.get("Retry-After", ""))
    content_type = fields.get("Content-Type", "")
    found: Any = None
    if content_type.partition(";")[0].strip().lower() == "application/problem+json":
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            pass  # it says so and is not: the status has to do
    if not isinstance(found, dict):
        # An answer to HEAD has no document; only a server of uploads has this field.
        is_gone = status in (404, 410) and "Tus-Resumable" in fields
        return Problem(status, NotFound.code if is_gone else "", retry_after=seconds)

    def text(*names: str) -> str:
        return next((shown(value) for name in names if isinstance(value := found.get(name), str) and value), "")

    code = found.get("error")
    return Problem(
        status,
        code if isinstance(code, str) else "",
        text("message", "detail", "title"),
        text("subject"),
        text("hint"),
        text("trace_id"),
        seconds,
    )


def error_of(problem: Problem, operation: str, subject: str) -> GravitonError:
    """The error that a problem is, about `subject` unless the server names another."""
    kind = _BY_CODE.get(problem.code) or _BY_STATUS.get(problem.status)
    retry = None
    if kind is None and problem.status in (404, *range(300, 400)):
        return _not_a_server(problem.status, operation, subject)
    if kind is None:
        kind = Unavailable if problem.status >= 500 else InvalidInput
        retry = Retry.TEMPORARY if problem.status in (500, 502, 503, 504) else Retry.PERMANENT
    message = problem.message or f"the server answers {problem.status}"
    hint = problem.hint or _HINTS.get(kind, "")
    if problem.trace_id and problem.status >= 500:
        hint = f"{hint} Its trace id is {problem.trace_id}.".strip()
    return kind(
        message,
        operation=operation,
        subject=problem.subject or subject,
        hint=hint,
        retry=retry,
        retry_after_seconds=problem.retry_after,
    )


def _not_a_server(status: int, operation: str, subject: str) -> GravitonError:
    what = "answers with another address" if status < 400 else "does not know what it is asked for"
    return Unavailable(
        f"the server {what} ({status})",
        operation=operation,
        subject=subject,
        hint="Check the URL: this does not look like a Graviton server.",
        retry=Retry.PERMANENT,
    )


def strange(what: str, operation: str, subject: str = "") -> Unavailable:
    """The error for an answer that no server of ours gives."""
    return Unavailable(
        f"the server's answer is not understood: {what}",
        operation=operation,
        subject=subject,
        hint="Check the URL, what stands between here and there, and the versions of both.",
        retry=Retry.PERMANENT,
    )


def of_connection(error: BaseException, operation: str, subject: str, host: str) -> Unavailable:
    """A failure on the way, of aiohttp or the system. What may pass is TEMPORARY."""
    import aiohttp

    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        return Unavailable(
            f"the certificate of {host} is not trusted",
            operation=operation,
            subject=subject,
            hint="Check the URL; SSL_CERT_FILE names a file of authorities to trust.",
            retry=Retry.PERMANENT,
        )
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return Unavailable(
            f"{host} does not speak TLS, or not with us",
            operation=operation,
            subject=subject,
            hint="Check whether the URL should begin with http://.",
            retry=Retry.PERMANENT,
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Unavailable(
            "the proxy that the environment names does not answer",
            operation=operation,
            subject=subject,
            hint="Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or have NO_PROXY name the server.",
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unavailable(
            f"{host} cannot be reached: {shown(error.os_error.strerror or str(error.os_error))}",
            operation=operation,
            subject=subject,
            hint="Check the URL, and that the server runs.",
        )
    if isinstance(error, aiohttp.ClientResponseError):  # answers that are no HTTP
        return strange(shown(error.message) or "it is no HTTP", operation, subject)
    if isinstance(error, (TimeoutError, aiohttp.ServerTimeoutError)):
        return Unavailable(f"{host} did not answer in time", operation=operation, subject=subject)
    return Unavailable(f"the connection to {host} broke", operation=operation, subject=subject)


def shown(text: str) -> str:
    """A text of the server's as one line that can be shown to people."""
    text = "".join(char if char.isprintable() else " " for char in text[: _MAX_SHOWN_CHARS + 1])
    return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 1] + "…"


def _seconds(text: str) -> float | None:
    """What Retry-After says in seconds (RFC 9110 section 10.2.3). The other form, a date, depends on two clocks: who
    gives one is asked again when we think it right."""
    text = text.strip()
    return min(float(text[:9]), _MAX_RETRY_SECONDS) if text.isascii() and text.isdigit() else None
