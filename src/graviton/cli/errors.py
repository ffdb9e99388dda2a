"""Exceptions to exit codes and lines: the only place that decides what a failed command says and returns."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import Any

import click

from graviton.cli.output import Output, abandon_stdout, shortened
from graviton.errors import (
    AlreadyExists,
    GravitonError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    StorageFull,
    Unavailable,
)

__all__ = ["FAILED", "OK", "USAGE", "BadArgument", "InternalError", "Interrupted", "from_os_error", "report"]

OK = 0
FAILED = 1
"""Failed, not found, or damaged."""
USAGE = 2


_MAX_USAGE_CHARS = 400
"""The longest of our own, with the forms of a spec or all ports, has some 250."""
_MAX_TYPED_CHARS = 120
"""An id has at most 91."""


class BadArgument(InvalidInput):
    """An argument or option on the command line is malformed: wrong usage, exit code 2. What was typed is repeated, and
    cut short if somebody pasted a file there."""

    def __init__(self, message: str, *, subject: str = "", **fields: Any) -> None:
        super().__init__(shortened(message, _MAX_USAGE_CHARS), subject=shortened(subject, _MAX_TYPED_CHARS), **fields)


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A signal asked the command to stop, and it has cleaned up."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


class InternalError(GravitonError):
    """An exception that no part of the program expected: a bug."""

    code = "internal"


class _Stopped(GravitonError):  # noqa: N818
    """How an interrupt is printed."""

    code = "interrupted"


def report(error: BaseException, out: Output, debug: bool = False) -> int:
    """Print what went wrong, in one line; the exit code."""
    if debug and not isinstance(error, (click.ClickException, Interrupted)):
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, BrokenPipeError):  # the reader has seen enough: `graviton ls | head`
        abandon_stdout()
        return FAILED
    try:
        return _report(error, out)
    except OSError:  # nobody can be told
        abandon_stdout()
        return FAILED


def _report(error: BaseException, out: Output) -> int:
    if isinstance(error, Interrupted):
        out.error(_Stopped("interrupted; what was not finished was taken back"))
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        out.error(_Stopped("interrupted"))
        return 128 + signal.SIGINT
    if isinstance(error, click.ClickException):
        out.error(_usage_error(error))
        return USAGE
    if isinstance(error, GravitonError):
        out.error(error)
        return USAGE if isinstance(error, BadArgument) else FAILED
    if isinstance(error, OSError):
        out.error(from_os_error(error))
        return FAILED
    out.error(
        InternalError(
            f"unexpected {type(error).__name__}: {error}",
            hint="This is a bug; run it again with --debug and report what that prints.",
        )
    )
    return FAILED


def _usage_error(error: click.ClickException) -> GravitonError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "graviton"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # its message is the whole help page
        return BadArgument("a command is missing", operation=command, hint=f"Try `{command} --help`.")
    return BadArgument(error.format_message().rstrip("."), operation=command, hint=f"Try `{command} --help`.")


def from_os_error(error: OSError, subject: str = "", doing: str = "") -> GravitonError:
    """An operating system's error outside of any port (output files, terminals) as one of ours."""
    where = subject or (os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "")
    reason = os.strerror(error.errno) if error.errno else str(error)
    message = ": ".join(part for part in (doing, where, reason) if part)
    kinds: dict[int | None, type[GravitonError]] = {
        errno.ENOENT: NotFound,
        errno.EEXIST: AlreadyExists,
        errno.EACCES: PermissionDenied,
        errno.EPERM: PermissionDenied,
        errno.EROFS: PermissionDenied,
        errno.ENOSPC: StorageFull,
        errno.EDQUOT: StorageFull,
        errno.EISDIR: InvalidInput,
        errno.ENOTDIR: InvalidInput,
        errno.ENAMETOOLONG: InvalidInput,
        errno.ELOOP: InvalidInput,
    }
    return kinds.get(error.errno, Unavailable)(message, subject=where, hint=_HINTS.get(error.errno or 0, ""))


_PLACE = "Check the owner and mode of the file and of the folders above it, or choose another."

_HINTS = {
    errno.ENOENT: "Check the path; the folders above it must be there.",
    errno.EACCES: _PLACE,
    errno.EPERM: _PLACE,
    errno.EISDIR: "Name a file.",
    errno.ENOTDIR: "Check the path: something on the way to it is no folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "Check the path: its links lead back to themselves.",
    errno.EIO: "Look at the system log and the health of the disk; then try again.",
    errno.ENOSPC: "Make room on that disk and try again.",
    errno.EDQUOT: "Make room in your quota and try again.",
    errno.EROFS: "Choose a place that can be written to.",
    errno.EMFILE: "Allow more open files (ulimit -n).",
}
