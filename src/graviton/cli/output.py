"""Where results, notes, warnings and errors go.

Results go to standard output: text for people or, with `--json`, one object per line. Notes, warnings and errors are
one line each on standard error; with `--json` errors are objects among the results. A command whose standard output
carries the bytes of a blob calls `data_on_stdout` first; from then on objects go to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from graviton.errors import GravitonError, Unavailable

__all__ = ["Output", "abandon_stdout", "one_line", "path_text", "shortened"]


class Output:
    """What one invocation prints, and how."""

    def __init__(self) -> None:
        self.json = False
        self.quiet = False
        """No notes, no warnings, no progress bars."""
        self.verbose = False
        self.makes_room: Callable[[], None] | None = None
        """Called before each line, so that a progress bar leaves the terminal's last line to it."""
        self._results_to_stderr = False
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a strange name or locale must not stop the work

    def data_on_stdout(self) -> None:
        """Say that standard output carries bytes of blobs from now on. Raises Unavailable if it is closed."""
        self.check_stdout()
        self._results_to_stderr = True

    def check_stdout(self) -> None:
        """Raises Unavailable if standard output is closed: for what must not be done if nobody can be told of it."""
        if sys.stdout is None:
            raise Unavailable(
                "standard output is closed",
                operation="print",
                hint="Let it lead somewhere; to /dev/null if nobody wants it.",
            )

    @property
    def shows_progress(self) -> bool:
        """Whether somebody sits in front of standard error and wants to see a bar."""
        wanted = not self.json and not self.quiet
        return wanted and sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def result(self, text: str | None, /, **values: Any) -> None:
        """Print `text` (None: nothing) or, with --json, `values` as one object."""
        if self.json:
            self._write(json.dumps(_valid(values)))
        elif text is not None:
            self._write(text)

    def flush(self) -> None:
        """Let everything printed so far be seen: after a result that somebody waits for, and at the end."""
        if sys.stdout is not None:
            sys.stdout.flush()

    def note(self, text: str) -> None:
        """Tell a person something worth knowing, unless --quiet."""
        if not self.quiet:
            self._complain(text)

    def detail(self, text: str) -> None:
        """Like `note`, only with --verbose."""
        if self.verbose:
            self.note(text)

    def warn(self, text: str) -> None:
        """Tell of something that may be wrong and does not stop the work, unless --quiet."""
        if not self.quiet:
            self._complain(f"warning: {text}")

    def error(self, error: GravitonError, **values: Any) -> None:
        """Print an error; `values` are further members of its object with --json."""
        if self.json and self._results is not None:
            told = error.to_json() | {"message": _message(error), "subject": _subject(error)}
            self._write(json.dumps(_valid(told | values)))
            self.flush()
        else:
            self._complain(_sentence(error))

    @property
    def _results(self) -> TextIO | None:
        return sys.stderr if self._results_to_stderr else sys.stdout

    def _write(self, line: str) -> None:
        stream = self._results
        self._make_room()
        if stream is not None:
            stream.write(_valid_text(line) + "\n")
        elif not self._results_to_stderr:
            self.check_stdout()

    def _make_room(self) -> None:
        if self.makes_room is not None:
            self.makes_room()

    def _complain(self, text: str) -> None:
        self._make_room()
        self.flush()  # so that a terminal shows both streams in the order of events
        if sys.stderr is not None:
            sys.stderr.write(f"graviton: {one_line(text)}\n")
            sys.stderr.flush()


def _sentence(error: GravitonError) -> str:
    """What, where, and what to do next."""
    text = _message(error).rstrip(".")
    subject = _subject(error)
    if subject and subject not in text:
        text += f" ({subject})"
    end = "" if text.endswith(("?", "!")) else "."
    return f"{text}{end} {error.hint}" if error.hint else text


def _message(error: GravitonError) -> str:
    """The message, with the path that it names as any path is shown."""
    shown = _subject(error)
    return shortened(error.message if shown == error.subject else error.message.replace(error.subject, shown))


def _subject(error: GravitonError) -> str:
    return shortened(path_text(error.subject))


def shortened(text: str, limit: int = 4096) -> str:
    """`text`, or its beginning: what is longer than any path is no help in a line."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def _valid(value: Any) -> Any:
    """`value` with every text in it such that it can be encoded: JSON with half a surrogate pair is no JSON."""
    if isinstance(value, str):
        return _valid_text(value)
    if isinstance(value, dict):
        return {name: _valid(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid(inner) for inner in value]
    return value


def _valid_text(text: str) -> str:
    """Bytes of a file name that are not UTF-8 as `\\xff`."""
    if text.isascii() or text.isprintable():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """`text` without control characters, which could move a terminal's cursor or begin another line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _visible(char) for char in text)


def _visible(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def path_text(path: str | os.PathLike[str]) -> str:
    """A path for printing, exactly as a listing has it: bytes that are not UTF-8, control characters and backslashes
    are escaped, so that every path has its own text."""
    text = os.fspath(path)
    if text.isprintable() and "\\" not in text:
        return text
    from graviton.core.listing_text import escape

    return escape(os.fsencode(text))


def abandon_stdout() -> None:
    """After standard output failed: what is left in its buffer must not be tried again when the process ends."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        sys.stdout = None
