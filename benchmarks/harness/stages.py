"""Where the time of a piece of work goes: functions of the program, timed in place on whatever thread they run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from benchmarks.harness.section import Table

__all__ = ["Stages"]


class Stages:
    """Calls, wall time and CPU time by stage.

    Wall times of stages that run side by side add up to more than the whole; CPU time is that of the calling thread.
    A stage must not call another one.
    """

    def __init__(self) -> None:
        self._calls: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def patch(self, owner: Any, name: str, stage: str) -> None:
        """Time every call of the function or method `owner.name` from now on. For programs that end soon."""
        setattr(owner, name, self.timed(getattr(owner, name), stage))

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """`function`, timed."""

        @wraps(function)
        def measured(*args: Any, **values: Any) -> Any:
            with self.stage(stage):
                return function(*args, **values)

        return measured

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Time a block of code."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self._calls[stage].append((time.perf_counter() - wall, time.thread_time() - cpu))

    def take(self) -> dict[str, tuple[int, float, float]]:
        """Stage to (calls, wall, CPU) since the last time."""
        found = {
            stage: (len(calls), sum(wall for wall, _ in calls), sum(cpu for _, cpu in calls))
            for stage, calls in self._calls.items()
        }
        self._calls.clear()
        return found

    def table(self, title: str, wall: float, cpu: float, per: int = 1, unit: str = "ms") -> Table:
        """The stages since the last time beside the whole: `wall` and `cpu` seconds, everything divided by `per`."""
        scale = (1000 if unit == "ms" else 1_000_000) / per
        table = Table([title, "calls", f"wall {unit}", f"CPU {unit}", "CPU share"])
        found = sorted(self.take().items(), key=lambda item: -item[1][1])
        for stage, (calls, stage_wall, stage_cpu) in found:
            share = f"{stage_cpu / cpu:.0%}" if cpu else "-"
            table.add(stage, f"{calls:,}", f"{stage_wall * scale:.0f}", f"{stage_cpu * scale:.0f}", share)
        rest = cpu - sum(stage_cpu for _, (_, _, stage_cpu) in found)
        table.add("everything else (Python, event loop, hops)", "", "", f"{rest * scale:.0f}", f"{rest / cpu:.0%}")
        table.add("whole", "", f"{wall * scale:.0f}", f"{cpu * scale:.0f}", "100%")
        return table
