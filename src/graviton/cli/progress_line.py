"""How progress looks: one line of text that fits the terminal.

big.iso  [############------------------]   40%  294 MiB of 734 MiB  120 MB/s  0:04 left
standard input  1.21 GiB  95.3 MB/s  0:13
"""

from __future__ import annotations

import unicodedata
from typing import Final, NamedTuple

from graviton.cli.units import counted, human_bytes, human_rate

__all__ = ["BYTE", "Amount", "progress_line"]

BYTE: Final = "byte"
"""The unit that is shown as KiB, MiB and so on; every other one is a noun that is counted."""

_GAP = "  "
_LABEL_CELLS = 40
"""Of a longer label its end is shown."""

_MIN_LABEL_CELLS = 10
"""So much of it is shown anyway."""

_BAR_CELLS = range(10, 31)
"""A narrower bar says nothing, a wider one nothing more."""


class Amount(NamedTuple):
    """How much is done."""

    done: int
    total: int | None
    """None if nobody knows, or nobody knows yet."""


def progress_line(label: str, amount: Amount, unit: str, speed: float, elapsed: float, columns: int) -> str:
    """The line for a terminal of so many `columns`, shorter than those. `speed` is in units per second; where the
    total is unknown the seconds `elapsed` are shown, else those that are left."""
    done, total = amount
    rate = human_rate(speed, 1) if unit == BYTE else f"{speed:,.0f}/s"
    if total is None:
        figures = [_quantity(done, unit), rate, _clock(elapsed)]
        return _joined(label, figures, columns)
    done = min(done, total)  # what grew meanwhile has no more than all
    share = done / total if total else 1.0
    count = f"{human_bytes(done)} of {human_bytes(total)}" if unit == BYTE else f"{done:,} of {counted(total, unit)}"
    left = _clock((total - done) / speed) if speed > 0 else "-:--"
    return _joined(label, [f"{int(share * 100):3}%", count, rate, f"{left} left"], columns, share)


def _joined(label: str, figures: list[str], columns: int, share: float | None = None) -> str:
    """Where it is narrow the bar gives way first, then the label, then the last figures."""
    text = _GAP.join(figures)
    room = columns - 1 - _cells(text) - len(_GAP)
    label = _last(label, max(_MIN_LABEL_CELLS, min(_LABEL_CELLS, room)))
    width = min(room - _cells(label) - len(_GAP + "[]"), _BAR_CELLS[-1])
    if share is not None and width >= _BAR_CELLS[0]:
        text = f"[{'#' * int(share * width):-<{width}}]{_GAP}{text}"
    return _first(label + _GAP + text, columns - 1)


def _quantity(count: int, unit: str) -> str:
    return human_bytes(count) if unit == BYTE else counted(count, unit)


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _cells(text: str) -> int:
    """Columns that a terminal needs for `text`, at most."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def _cell(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _first(text: str, cells: int) -> str:
    """`text`, or as much of its beginning as fits."""
    if _cells(text) <= cells:
        return text
    for end, char in enumerate(text):
        cells -= _cell(char)
        if cells < 0:
            return text[:end]
    return text


def _last(text: str, cells: int) -> str:
    """`text`, or as much of its end as fits."""
    return text if _cells(text) <= cells else "..." + _first(text[::-1], cells - len("..."))[::-1]
