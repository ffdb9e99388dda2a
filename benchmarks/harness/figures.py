"""The arithmetic: medians of repetitions, ratios within a repetition, and whether a target is met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Verdict", "bytes_text", "fastest", "median", "rate_text", "ratios", "seconds_text", "spread_text"]

median = statistics.median


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, repetition by repetition: both ran within seconds, so what slows the machine slows both."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def fastest(runs: Mapping[str, Sequence[float]], names: Iterable[str]) -> str | None:
    """The name with the smallest median; None if none of `names` was measured."""
    present = [name for name in names if runs.get(name)]
    return min(present, key=lambda name: median(runs[name]), default=None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure against its target and the goal beyond it."""

    work: str
    figure: float | None
    """None: could not be measured; `note` says why."""
    unit: str
    """`x` for a ratio, else a unit."""
    target: float | None
    """None: shown for comparison, nothing is promised."""
    goal: float | None = None
    at_least: bool = False
    runs: tuple[float, ...] = ()
    """The figure of each repetition, of which `figure` is the median."""
    note: str = ""

    @classmethod
    def of(cls, work: str, runs: Sequence[float], unit: str, target: float | None, **more: Any) -> Verdict:
        """The median of `runs` against `target`."""
        return cls(work, median(runs), unit, target, runs=tuple(runs), **more)

    @property
    def outcome(self) -> str:
        """`goal`, `met`, `NOT MET`, or a dash where there is nothing to judge."""
        if self.figure is None:
            return "not measured"
        if self.target is None:
            return "-"
        if self.goal is not None and self._reaches(self.goal):
            return "goal"
        return "met" if self._reaches(self.target) else "NOT MET"

    def _reaches(self, bound: float) -> bool:
        assert self.figure is not None
        return self.figure >= bound if self.at_least else self.figure <= bound

    def figure_text(self) -> str:
        """The figure with its range over the repetitions."""
        if self.figure is None:
            return "-"
        text = self._number(self.figure)
        if len(self.runs) > 1:
            text += f" ({self._number(min(self.runs))} .. {self._number(max(self.runs))})"
        return text

    def bound_text(self, bound: float | None) -> str:
        """A bound with its direction."""
        if bound is None:
            return "-"
        return ("≥ " if self.at_least else "≤ ") + self._number(bound)

    def _number(self, value: float) -> str:
        if self.unit == "x":
            return f"{value:.2f} x"
        return f"{value:.1f} {self.unit}" if abs(value) < 10 else f"{value:.0f} {self.unit}"


def seconds_text(value: float) -> str:
    """Seconds, or milliseconds below one."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def bytes_text(value: float) -> str:
    """MiB or GiB."""
    return f"{value / 2**20:.0f} MiB" if value < 2**30 else f"{value / 2**30:g} GiB"


def rate_text(value: float) -> str:
    """Times per second."""
    return f"{value:,.0f} /s"


def spread_text(values: Sequence[float]) -> str:
    """Smallest and largest of some seconds."""
    return f"{seconds_text(min(values))} .. {seconds_text(max(values))}"
