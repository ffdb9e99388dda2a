"""Log records as lines: one JSON object, or text for a terminal. Which fields there are: docs/operations/logs.md.

A line is made of named fields only (`FIELDS`); whatever else a record carries is left out. Texts are cut to a bounded
length, and nothing in them can begin another line: JSON is ASCII, and in text every character that is not printable
is escaped.
"""

from __future__ import annotations

import json
import logging
import math
import traceback
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from graviton.core.clock import Clock
from graviton.server.log_redaction import Redactor

__all__ = ["FIELDS", "JsonLines", "Lines", "TextLines", "about", "told"]

FIELDS: Final = (
    "request_id",
    "trace_id",
    "span_id",
    "client",
    "method",
    "route",
    "path",
    "status",
    "seconds",
    "bytes_in",
    "bytes_out",
    "error",
    "reason",
    "subject",
    "hint",
)
"""Fields beside time, level, logger, message and exception, in their order in a line."""

_OURS: Final = frozenset(("trace_id", "span_id", "client", "method", "route"))
"""Fields in which no text of others stands: there is nothing to look for."""

_MAX_CHARS: Final = 4096
"""Of one field. No path or message of ours is longer."""
_MAX_TRACE_CHARS: Final = 32 * 1024
"""Of a traceback with its causes; the end says more than the beginning."""

_EXTRA: Final = "graviton_fields"

_about: ContextVar[Mapping[str, object] | None] = ContextVar("graviton_log_about", default=None)


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Lines that are logged within, also by tasks begun within, have these fields too."""
    outer = _about.get()
    token = _about.set({**outer, **fields} if outer else fields)
    try:
        yield
    finally:
        _about.reset(token)


def told(**fields: object) -> dict[str, object]:
    """`extra=` for a call of `logging`, so that its line has these: `log.info("done", extra=told(seconds=2))`."""
    return {_EXTRA: fields}


class Lines(logging.Formatter):
    """What both kinds share. Its `format` raises nothing but what is no record."""

    def __init__(self, clock: Clock, redact: Redactor) -> None:
        super().__init__()
        self._clock, self._redact = clock, redact
        self._second, self._second_text = -1, ""

    def format(self, record: logging.LogRecord) -> str:
        """One line (of text: several with a traceback, the others indented), without its end."""
        head = {
            "time": self._rfc3339(self._clock.now_ns()),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._text(_message(record)),
        }
        return self._line(head, self._fields(record), self._exception(record))

    @abstractmethod
    def _line(self, head: dict[str, str], fields: dict[str, object], exception: str) -> str: ...

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        found = {**(_about.get() or {}), **getattr(record, _EXTRA, {})}
        if "path" in found:
            found["path"] = str(found["path"]).partition("?")[0]
        return {name: self._value(name, found[name]) for name in FIELDS if found.get(name) not in (None, "")}

    def _value(self, name: str, value: object) -> object:
        if isinstance(value, float):
            return round(value, 6) if math.isfinite(value) else str(value)
        if isinstance(value, int):
            return value
        return str(value)[:_MAX_CHARS] if name in _OURS else self._text(str(value))

    def _rfc3339(self, at_ns: int) -> str:
        second, rest = divmod(at_ns, 1_000_000_000)
        if second != self._second:  # the handler's lock is held
            self._second_text = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
            self._second = second
        return f"{self._second_text}.{rest // 1000:06d}Z"

    def _text(self, text: str) -> str:
        text = self._redact(text[: 2 * _MAX_CHARS])  # before it is cut: half a secret is not recognised
        return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}..."

    def _exception(self, record: logging.LogRecord) -> str:
        if record.exc_info and record.exc_info[1] is not None:
            text = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
        else:
            text = record.exc_text or record.stack_info or ""
        text = self._redact(text[-2 * _MAX_TRACE_CHARS :])
        return text if len(text) <= _MAX_TRACE_CHARS else f"...{text[-_MAX_TRACE_CHARS:]}"


_encode = json.JSONEncoder(separators=(",", ":")).encode


class JsonLines(Lines):
    """One JSON object per line."""

    def _line(self, head: dict[str, str], fields: dict[str, object], exception: str) -> str:
        found: dict[str, object] = {**head, **fields}
        if exception:
            found["exception"] = exception
        return _encode(found)


class TextLines(Lines):
    """`2026-01-31T12:34:56.123456Z INFO graviton.server: message name=value …`, a traceback below it behind bars."""

    def _line(self, head: dict[str, str], fields: dict[str, object], exception: str) -> str:
        line = f"{head['time']} {head['level'].upper()} {_visible(head['logger'])}: {_visible(head['message'])}"
        line += "".join(f" {name}={_word(value)}" for name, value in fields.items())
        return "\n".join((line, *(f"  | {_visible(below)}" for below in exception.split("\n") if below)))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - of a call whose arguments do not fit, or cannot be shown
        return f"{record.msg!s} (its arguments do not fit: {type(error).__name__})"


def _word(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(" \"'=\\") else json.dumps(text)


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() if char != "\t" else " " for char in text
    )
