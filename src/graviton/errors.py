"""The one tree of errors; imports nothing of ours.

Classes follow what a caller would do about it, so `except NotFound` is all that is ever needed; nothing below a port
lets a driver's or the operating system's own exception through. Every instance says *what* went wrong (the message),
*where* (`operation`, `subject`), and *what to do next* (`hint`), and carries a `code` that never changes: codes are
only ever added. No field may hold a secret.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar

__all__ = [
    "AlreadyExists",
    "ConfigError",
    "Conflict",
    "DigestMismatch",
    "GravitonError",
    "IntegrityError",
    "InvalidInput",
    "LimitExceeded",
    "NotFound",
    "PermissionDenied",
    "PreconditionFailed",
    "RangeNotSatisfiable",
    "Retired",
    "Retry",
    "StorageFull",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
]


class Retry(Enum):
    """Whether doing the same again can help; retry layers read this and never a message."""

    PERMANENT = "permanent"
    """The same call fails again until somebody changes something."""
    TEMPORARY = "temporary"
    """The same call may succeed; nobody has tried again yet."""
    EXHAUSTED = "exhausted"
    """Was temporary, and the retries ran out."""


class GravitonError(Exception):
    """Root of all errors of this package.

    `operation` is a verb phrase such as `put` or `blocks.get`; `subject` is the key, locator or path concerned;
    `hint` is one sentence that tells a person what to do next. All three may be empty. `retry_after_seconds` is when
    it makes sense to try again, where that is known.
    """

    code: ClassVar[str] = "error"
    default_retry: ClassVar[Retry] = Retry.PERMANENT

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        subject: str = "",
        hint: str = "",
        retry: Retry | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.subject = subject
        self.hint = hint
        self.retry = self.default_retry if retry is None else retry
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__.copy())

    def to_json(self) -> dict[str, str]:
        """The error as the CLI and the HTTP interface print it."""
        out = {"error": self.code, "message": self.message, "subject": self.subject}
        if self.hint:
            out["hint"] = self.hint
        return out


def _rebuild(cls: type[GravitonError], message: str, state: dict[str, Any]) -> GravitonError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class NotFound(GravitonError, LookupError):
    """The thing named does not exist (any more)."""

    code = "not_found"


class AlreadyExists(GravitonError):
    """The thing to be created is already there, and differs or must not be replaced."""

    code = "already_exists"


class Conflict(GravitonError):
    """Somebody else changed the thing meanwhile; starting over may succeed."""

    code = "conflict"
    default_retry = Retry.TEMPORARY


class InvalidInput(GravitonError, ValueError):
    """An argument, text or file given by the caller is malformed; the message names the part."""

    code = "invalid_input"


class RangeNotSatisfiable(GravitonError):
    """The byte range asked for lies outside the blob or object."""

    code = "range_not_satisfiable"


class DigestMismatch(GravitonError):
    """The bytes sent do not have the digest or size that the client claimed for them."""

    code = "digest_mismatch"


class IntegrityError(GravitonError):
    """Our own stored bytes are missing or are not what their key says."""

    code = "integrity"


class LimitExceeded(GravitonError):
    """A configured or built-in limit (size, count, depth) would be passed."""

    code = "limit_exceeded"


class TooManyRequests(GravitonError):
    """The caller is going too fast; trying again later helps."""

    code = "too_many_requests"
    default_retry = Retry.TEMPORARY


class StorageFull(GravitonError):
    """The disk, bucket or quota has no room left."""

    code = "storage_full"


class Unavailable(GravitonError):
    """A backend does not answer, is busy, or failed for a reason that may pass."""

    code = "unavailable"
    default_retry = Retry.TEMPORARY


class Unauthenticated(GravitonError):
    """Credentials are missing or wrong."""

    code = "unauthenticated"


class PermissionDenied(GravitonError):
    """The caller, or this process, may not do that."""

    code = "permission_denied"


class Retired(PermissionDenied):
    """The metadata store was moved to another one and only reads here; the hint says where it is used now."""

    code = "retired"


class PreconditionFailed(GravitonError):
    """The caller's own condition (compare-and-set, If-Match) does not hold."""

    code = "precondition_failed"


class Unsupported(GravitonError):
    """This implementation does not have that ability; its `Capabilities` say so."""

    code = "unsupported"


class ConfigError(GravitonError):
    """Settings, the store marker or the folder given do not fit together; nothing was touched."""

    code = "config"
