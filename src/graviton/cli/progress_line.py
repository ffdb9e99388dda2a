"""How progress looks: the columns of rich, as one line that fits the terminal. Imported by the first bar that is drawn,
because rich takes its time."""

from __future__ import annotations

from collections.abc import Callable

from rich import progress as rich
from rich.console import Console
from rich.table import Column
from rich.text import Text

__all__ = ["progress_line"]

_SPEED_SECONDS = 5.0
"""The speed shown is the mean of so long: what is going on now, and no flicker."""


def progress_line(label: str, unit: str | None, total: int | None) -> Callable[[int, int | None], str]:
    """What makes the line of how much is done and, if that is known by now, of how much. `unit` is a noun; None: bytes.

    Not drawn by rich's `Live`, which hides the cursor (of whoever is stopped or killed it stays hidden) and adds a line
    each time it makes room.
    """
    whole = Column(no_wrap=True)  # where it is narrow, label and bar give way
    columns = [rich.RenderableColumn(Text(label, no_wrap=True, overflow="ellipsis")), rich.BarColumn()]
    columns += [rich.TaskProgressColumn()]
    if unit is None:
        columns += [rich.DownloadColumn(binary_units=True, table_column=whole), rich.TransferSpeedColumn(whole)]
    else:
        columns += [rich.MofNCompleteColumn(table_column=whole), rich.TextColumn(f"{unit}s")]
    if total is None:
        columns += [rich.TimeElapsedColumn(whole)]
    else:
        columns += [rich.TimeRemainingColumn(table_column=whole), rich.TextColumn("left")]
    console = Console(stderr=True)
    progress = rich.Progress(*columns, console=console, speed_estimate_period=_SPEED_SECONDS)
    task = progress.add_task("", total=total)

    def line(done: int, total: int | None) -> str:
        # What grew meanwhile has no more than all.
        progress.update(task, total=total, completed=done if total is None else min(done, total))
        with console.capture() as shown:
            console.print(progress)
        return shown.get().rstrip("\n")

    return line
