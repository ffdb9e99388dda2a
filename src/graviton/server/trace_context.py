"""W3C Trace Context: the trace and span that a request says it belongs to, in its header `traceparent`.

Version 00 is `00-<trace id>-<span id>-<flags>`, lowercase hex of 16, 8 and 1 bytes, ids not all zeros. Later versions
may have more behind that, after another dash; version ff is none. Whatever does not fit is ignored, as the
specification wants (https://www.w3.org/TR/trace-context/#traceparent-header): the request begins a trace of its own.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["TraceContext", "new_span_id", "new_trace_id", "parse_traceparent"]

_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-[\x20-\x7e]*)?",
    re.ASCII,
)
_SAMPLED = 1
"""The only flag of version 00: the caller may have recorded its span."""

_MAX_CHARS = 512
"""What is longer belongs to no version that anybody uses."""


class TraceContext(NamedTuple):
    """Where a span belongs."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits: of the caller's span."""
    is_sampled: bool = False

    @property
    def traceparent(self) -> str:
        """As a header of version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"


def parse_traceparent(text: str | None) -> TraceContext | None:
    """What the header says, or None if there is none or it is malformed. A header that comes twice is malformed:
    callers give None."""
    if text is None or len(text) > _MAX_CHARS:
        return None
    found = _TRACEPARENT.fullmatch(text)
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"] is not None):
        return None
    return TraceContext(found["trace"], found["span"], bool(int(found["flags"], 16) & _SAMPLED))


def new_trace_id(random_hex: Callable[[int], str] = secrets.token_hex) -> str:
    """A trace id that nobody has."""
    return _not_zero(16, random_hex)


def new_span_id(random_hex: Callable[[int], str] = secrets.token_hex) -> str:
    """A span id that nobody has in its trace."""
    return _not_zero(8, random_hex)


def _not_zero(size: int, random_hex: Callable[[int], str]) -> str:
    while True:
        text = random_hex(size)
        if text.strip("0"):
            return text
