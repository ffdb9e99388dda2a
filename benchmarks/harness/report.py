"""Results for people (Markdown) and for programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness.figures import Verdict
from benchmarks.harness.section import Section, Table

__all__ = ["markdown", "terminal_table", "write"]

VERDICT_HEAD = ["work", "figure (range)", "target", "goal", "outcome", "note"]


def write(folder: Path, machine: Mapping[str, str], sections: Sequence[Section], quick: bool) -> None:
    """Write results.json and results.md into `folder`, which is made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(_as_json(machine, sections, quick), indent=1) + "\n")
    (folder / "results.md").write_text(markdown(machine, sections, quick))


def _as_json(machine: Mapping[str, str], sections: Sequence[Section], quick: bool) -> dict[str, Any]:
    found = []
    for section in sections:
        verdicts = [asdict(one) | {"outcome": one.outcome} for one in section.verdicts]
        found.append(
            {"name": section.name, "title": section.title, "verdicts": verdicts}
            | {"notes": section.notes, "runs": section.raw}
        )
    return {"quick": quick, "machine": dict(machine), "sections": found}


def markdown(machine: Mapping[str, str], sections: Sequence[Section], quick: bool) -> str:
    """The whole report."""
    parts = ["# Speed and memory\n"]
    if quick:
        parts.append("**A quick run: smaller inputs, few repetitions. It settles nothing.**\n")
    parts.append(_markdown_table(VERDICT_HEAD, [_cells(one) for section in sections for one in section.verdicts]))
    parts.append("Ratios are medians of the ratios within each repetition; in brackets the smallest and largest.\n")
    for section in sections:
        parts.append(f"## {section.title}\n")
        parts += [_markdown_table(table.head, table.lines) for table in section.tables]
        parts += ["\n".join(f"- {note}" for note in section.notes) + "\n"] if section.notes else []
    parts.append("## Machine and versions\n")
    parts.append(_markdown_table(["what", "value"], list(machine.items())))
    return "\n".join(parts)


def _cells(verdict: Verdict) -> list[str]:
    return [
        verdict.work,
        verdict.figure_text(),
        verdict.bound_text(verdict.target),
        verdict.bound_text(verdict.goal),
        verdict.outcome,
        verdict.note,
    ]


def _markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


def terminal_table(section: Section) -> str:
    """A section as aligned text."""
    tables = [*section.tables]
    if section.verdicts:
        tables.append(Table(VERDICT_HEAD, [_cells(one) for one in section.verdicts]))
    return "\n\n".join(_aligned([table.head, *table.lines]) for table in tables)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
