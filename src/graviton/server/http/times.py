"""Times as JSON and query parameters have them: RFC 3339, in UTC, to the nanosecond."""

from __future__ import annotations

import calendar
import re
import time
from typing import Final

from graviton.core.limits import MAX_SIZE
from graviton.errors import InvalidInput

__all__ = ["parse_time", "time_text"]

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_SECOND: Final = 1_000_000_000


def time_text(at_ns: int) -> str:
    """UTC nanoseconds as `2026-01-31T12:34:56.123456789Z`."""
    seconds, rest = divmod(at_ns, _SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def parse_time(name: str, text: str) -> int:
    """UTC nanoseconds of a time of day; `name` is what it is given as. Raises InvalidInput."""
    found = _TIME.fullmatch(text)
    if found is not None:
        year, month, day, hour, minute, second = map(int, found.group(1, 2, 3, 4, 5, 6))
        is_legal = year >= 1970 and 1 <= month <= 12 and hour <= 23 and minute <= 59 and second <= 60
        if is_legal and 1 <= day <= calendar.monthrange(year, month)[1]:
            away = 0 if found[8] is None else (int(found[9]) * 60 + int(found[10])) * (-60 if found[8] == "+" else 60)
            seconds = calendar.timegm((year, month, day, hour, minute, second)) + away
            at_ns = seconds * _SECOND + int((found[7] or "").ljust(9, "0"))
            if 0 <= at_ns <= MAX_SIZE:
                return at_ns
    raise InvalidInput(
        f"{name} is no time: {text[:40]!r}", subject=name, hint="Write 2026-01-31T12:34:56Z; a plus sign is %2B."
    )
