"""The one translation of OSError: nothing of the operating system's own crosses the port."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import Final

from graviton.errors import GravitonError, IntegrityError, NotFound, PermissionDenied, StorageFull, Unavailable

__all__ = ["mapped", "translate"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_HANDLES: Final = frozenset({errno.EMFILE, errno.ENFILE})
_FOREIGN: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO})
"""A link, folder, file or device where something else belongs: not absence, and not something that passes."""


class mapped:  # noqa: N801 - used like a function
    """`with mapped("blocks.get", key.text): …` turns OSError into our errors, chained.

    ENOSPC, EDQUOT: StorageFull. EACCES, EPERM, EROFS: PermissionDenied. ENOENT: NotFound if `missing` says what is not
    there, else Unavailable (something vanished that was there a moment ago). A link or folder in the way:
    IntegrityError. Everything else, EIO and EMFILE among it: Unavailable. A class, because this lies on the way of
    every block and contextlib's generators cost 1 us more; the subject becomes text only when there is an error.
    """

    __slots__ = ("_missing", "_operation", "_subject")

    def __init__(self, operation: str, subject: object, missing: str = "") -> None:
        self._operation = operation
        self._subject = subject
        self._missing = missing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(value, OSError):
            raise translate(value, self._operation, str(self._subject), self._missing) from value


def translate(error: OSError, operation: str, subject: str, missing: str = "") -> GravitonError:
    """The error of ours that says what `error` says; see `mapped`."""
    number = error.errno
    where = f" ({error.filename!s})" if error.filename is not None else ""
    reason = f"{error.strerror or error}{where}"
    if number in _FULL:
        return StorageFull(
            f"no room on the disk for {subject}: {reason}",
            operation=operation,
            subject=subject,
            hint="Free space (or raise the quota) on the file system of the store, then try again.",
        )
    if number in _DENIED:
        return PermissionDenied(
            f"{operation} {subject} is not allowed: {reason}",
            operation=operation,
            subject=subject,
            hint="Check the owner and mode of the store's folders, and whether the file system is mounted read-only.",
        )
    if number == errno.ENOENT and missing:
        return NotFound(missing, operation=operation, subject=subject)
    if number in _FOREIGN:
        return IntegrityError(
            f"{operation} {subject}: a link, folder or special file lies where a file of the store belongs: {reason}",
            operation=operation,
            subject=subject,
            hint="Look at what lies there and move it away; the store never makes such entries.",
        )
    hint = "Look at the system log and the health of the disk; then try again."
    if number in _HANDLES:
        hint = "Too many open files: raise `ulimit -n`, then try again."
    return Unavailable(f"{operation} {subject} failed: {reason}", operation=operation, subject=subject, hint=hint)
