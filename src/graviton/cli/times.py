"""Times as people and programs read them."""

from __future__ import annotations

import time

__all__ = ["utc_text"]


def utc_text(at_ns: int) -> str:
    """Nanoseconds since 1970 UTC as `2026-01-31T12:34:56.123456Z`."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1000:06d}Z"
