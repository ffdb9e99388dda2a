"""Progress of what takes long: one line on a terminal, drawn over again, gone in the end. Elsewhere nothing at all.

Nothing is drawn on the way of the data: who works only counts (a `Tally`), or can be looked at (a file's position), and
a timer looks ten times a second. What is done at once shows nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeAlias

from graviton.cli.output import Output, path_text

__all__ = ["Amount", "Bar", "Tally", "bar", "progress"]

_BEGIN_SECONDS = 0.4
"""What is done before that needs no bar, and nobody could read it."""

_TICK_SECONDS = 0.1

_ERASE = "\r\x1b[2K"
"""To the beginning of the line, which is made empty. One line, because more could not be found again after a resize."""


class Amount(NamedTuple):
    """How much is done."""

    done: int
    total: int | None
    """None if nobody knows, or nobody knows yet."""


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

    def __init__(self, label: str, look: Look, unit: str | None = None) -> None:
        self._label, self._look, self._unit = path_text(os.path.basename(os.path.normpath(label))), look, unit
        self._line: Callable[[int, int | None], str] | None = None
        self._next = time.monotonic() + _BEGIN_SECONDS
        self._shown = False

    def tick(self) -> None:
        """Draw what is done by now, if it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _TICK_SECONDS
        try:
            done, total = self._look()
            if self._line is None:
                from graviton.cli.progress_line import progress_line

                self._line = progress_line(self._label, self._unit, total)
            _write(_ERASE + self._line(done, total))
            self._shown = True
        except Exception:  # noqa: BLE001 - whatever rich or a look raise, nobody's data depend on it
            self._next = float("inf")

    def hide(self) -> None:
        """Leave the line to somebody else, until the next tick."""
        if self._shown:
            self._shown = False
            with suppress(OSError):
                _write(_ERASE)


def _write(text: str) -> None:
    """Past the buffer, in which a text that cannot be written would stay and fail whatever comes after it."""
    os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding, "replace"))


@contextmanager
def bar(out: Output, label: str, look: Look, unit: str | None = None) -> Iterator[Callable[[], None]]:
    """Show how far something is while the block runs, which calls what it gets often. `label` is a word or a path."""
    if not out.shows_progress:
        yield lambda: None
        return
    shown = Bar(label, look, unit)
    out.makes_room = shown.hide
    try:
        yield shown.tick
    finally:
        out.makes_room = None
        shown.hide()


@contextmanager
def progress(out: Output, label: str, look: Look, unit: str | None = None) -> Iterator[None]:
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
