"""Times as people and programs read them."""

from __future__ import annotations

import re
import time
from typing import Final

from graviton.errors import InvalidInput

__all__ = ["age_seconds", "utc_text"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)


def age_seconds(text: str) -> int:
    """Seconds of a length of time such as `90s`, `12h`, `30d`. Raises InvalidInput."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise InvalidInput(
            f"{text[:40]!r} is no length of time", hint="Write a whole number and s, m, h, d or w: 12h, 30d."
        )
    return int(found[1]) * _UNITS[found[2]]


def utc_text(at_ns: int) -> str:
    """Nanoseconds since 1970 UTC as `2026-01-31T12:34:56.123456Z`."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1000:06d}Z"
