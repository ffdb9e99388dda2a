"""A progress bar for long maintenance, on a terminal only; elsewhere nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from graviton.cli.output import Output

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Bar", "bar"]


class Bar:
    """What a running command moves."""

    def __init__(self, shown: Progress | None = None, task: TaskID | None = None) -> None:
        self._shown, self._task = shown, task

    def advance(self, count: int) -> None:
        """So much more is done."""
        if self._shown is not None and self._task is not None:
            self._shown.advance(self._task, count)

    def at(self, done: int, total: int | None = None) -> None:
        """So much is done altogether, of `total` if that is known by now."""
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, completed=done, total=total)


@contextmanager
def bar(out: Output, what: str, total: int | None, in_bytes: bool = True) -> Iterator[Bar]:
    """A bar called `what` on standard error while the block runs, removed afterwards. Lines printed meanwhile appear
    above it."""
    if not out.shows_progress:
        yield Bar()
        return
    from rich import progress
    from rich.console import Console

    counts = (
        (progress.DownloadColumn(binary_units=True), progress.TransferSpeedColumn())
        if in_bytes
        else (progress.MofNCompleteColumn(),)
    )
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), *counts, progress.TimeRemainingColumn())
    console = Console(stderr=True)
    with progress.Progress(*columns, console=console, transient=True, redirect_stdout=False) as shown:
        yield Bar(shown, shown.add_task(what, total=total))
