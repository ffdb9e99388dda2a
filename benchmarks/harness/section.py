"""What a measurement is given, and what it gives back."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.figures import Verdict
from benchmarks.harness.process import plain_env
from benchmarks.harness.space import Space

__all__ = ["Bench", "Section", "Table", "graviton_command", "graviton_env"]


@dataclass(frozen=True, slots=True)
class Bench:
    """The circumstances of a run."""

    space: Space
    quick: bool
    """Smaller work and fewer repetitions: shows that everything runs, settles nothing."""

    def pick(self, full: int, quick: int) -> int:
        """The number for this kind of run."""
        return quick if self.quick else full

    def say(self, text: str) -> None:
        """Progress, for whoever watches."""
        print(f"  {text}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class Table:
    """Figures that are shown side by side."""

    head: list[str]
    lines: list[list[str]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Append a line."""
        self.lines.append(list(cells))


@dataclass(slots=True)
class Section:
    """The outcome of one measurement."""

    name: str
    title: str
    verdicts: list[Verdict] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """How it was measured, as far as one must know it to read the figures."""
    raw: dict[str, Any] = field(default_factory=dict)
    """Every single run."""


def graviton_command() -> Path:
    """The `graviton` of the environment that runs the benchmarks."""
    return Path(sys.executable).parent / "graviton"


def graviton_env(root: Path) -> dict[str, str]:
    """An environment whose store is `root` and whose other settings are the defaults."""
    return plain_env() | {"GRAVITON_FS_ROOT": str(root)}
