"""Progress of what takes long: one line on a terminal, drawn over again, gone in the end. Elsewhere nothing at all.

Nothing is drawn on the way of the data: who works only counts (a `Tally`), or can be looked at (a file's position), and
a timer looks ten times a second. What is done at once shows nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from graviton.cli.output import Output, path_text
from graviton.cli.progress_line import BYTE, Amount, progress_line

__all__ = ["Bar", "Tally", "bar", "progress"]

_BEGIN_SECONDS = 0.4
"""What is done before that needs no bar, and nobody could read it."""

_TICK_SECONDS = 0.1

_SPEED_SECONDS = 5.0
"""The speed shown is the mean of so long: what is going on now, and no flicker."""

_ERASE = "\r\x1b[2K"
"""To the beginning of the line, which is made empty. One line, because more could not be found again after a resize."""

Look: TypeAlias = Callable[[], Amount]


class Tally:
    """How much is done, told by who does it, on any thread."""

    def __init__(self, total: int | None = None) -> None:
        self._amount = Amount(0, total)

    def add(self, count: int) -> None:
        """So much more is done."""
        done, total = self._amount
        self._amount = Amount(done + count, total)

    def at(self, done: int, total: int | None = None) -> None:
        """So much is done altogether, of `total` if that is known by now."""
        self._amount = Amount(done, total)

    def look(self) -> Amount:
        """How much is done by now."""
        return self._amount


class Bar:
    """The line. Best effort: where it cannot be drawn, the work goes on without it."""

    def __init__(self, label: str, look: Look, unit: str = BYTE) -> None:
        self._label, self._look, self._unit = label, look, unit
        self._begun = time.monotonic()
        self._next = self._begun + _BEGIN_SECONDS
        self._samples = deque([(self._begun, look().done)])
        self._shown = False

    def tick(self) -> None:
        """Draw what is done by now, if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _TICK_SECONDS
        try:
            self._draw(now)
        except OSError:
            self._next = float("inf")

    def _draw(self, now: float) -> None:
        amount = self._look()
        self._samples.append((now, amount.done))
        while now - self._samples[1][0] > _SPEED_SECONDS:
            self._samples.popleft()
        then, before = self._samples[0]
        speed = max(0, amount.done - before) / (now - then)
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0 where nobody set it
        line = progress_line(self._label, amount, self._unit, speed, now - self._begun, columns)
        self._shown = True
        _write(_ERASE + line)

    def hide(self) -> None:
        """Leave the line to somebody else, until the next tick."""
        if self._shown:
            self._shown = False
            try:
                _write(_ERASE)
            except OSError:
                self._next = float("inf")


def _write(text: str) -> None:
    """Past the buffer, in which a text that cannot be written would stay and fail whatever comes after it."""
    os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding))


def _shown(label: str) -> str:
    """A word as it is, a path by its last part; as standard error will show it, so that its width is known."""
    label, encoding = path_text(os.path.basename(os.path.normpath(label))), sys.stderr.encoding
    return label.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def bar(out: Output, label: str, look: Look, unit: str = BYTE) -> Iterator[Callable[[], None]]:
    """Show how far something is while the block runs, which calls what it gets often. `label` is a word or a path."""
    if not out.shows_progress:
        yield lambda: None
        return
    shown = Bar(_shown(label), look, unit)
    out.makes_room = shown.hide
    try:
        yield shown.tick
    finally:
        out.makes_room = None
        shown.hide()


@contextmanager
def progress(out: Output, label: str, look: Look, unit: str = BYTE) -> Iterator[None]:
    """Show how far something is while the block runs on an event loop. `label` is a word or a path."""
    if not out.shows_progress:
        yield
        return
    import asyncio

    with bar(out, label, look, unit) as tick:

        async def watch() -> None:
            while True:
                await asyncio.sleep(_TICK_SECONDS)
                tick()

        watching = asyncio.ensure_future(watch())
        try:
            yield
        finally:
            watching.cancel()
