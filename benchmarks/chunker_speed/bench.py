"""Chunker alone: default preset, one core, data in memory, beside PyPI `pyfastcdc` with the same sizes."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.harness.figures import Verdict, median, ratios
from benchmarks.harness.process import run
from benchmarks.harness.section import Bench, Section, Table

__all__ = ["measure", "points_behind"]

QUALITY = Path(__file__).parents[1] / "chunkers" / "results" / "quality.json"


def measure(bench: Bench) -> Section:
    """Row 5 of the table."""
    mib, rounds = bench.pick(512, 128), bench.pick(9, 3)
    section = Section("chunker", "Chunker alone, default preset, one core")
    words = [sys.executable, "-m", "benchmarks.chunker_speed.worker", str(mib), str(rounds)]
    done = run(words, cwd=Path(__file__).parents[2])
    pairs = [line.split() for line in done.output.splitlines()]
    ours = [float(pair[0]) for pair in pairs]
    theirs = [float(pair[1]) for pair in pairs]
    table = Table(["chunker", "GB/s, median", "range"])
    for name, found in (("graviton, native kernel", ours), ("pyfastcdc, level 2, same sizes", theirs)):
        table.add(name, f"{median(found) / 1e9:.2f}", f"{min(found) / 1e9:.2f} .. {max(found) / 1e9:.2f}")
    section.tables = [table]
    section.raw = {"mib": mib, "graviton_bytes_per_second": ours, "pyfastcdc_bytes_per_second": theirs}
    label = "chunker, default preset, GB/s: graviton / pyfastcdc"
    section.verdicts = [Verdict.of(label, ratios(ours, theirs), "x", 2.5, goal=4.0, at_least=True), *_quality()]
    section.notes = [
        f"{mib} MiB of random bytes in huge pages, both in one process bound to one core, in turns",
        "quality is read from benchmarks/chunkers/results: its data sets take downloads and several minutes",
        "a point is a percentage point of the bytes that deduplication saves; sets that differ in a seed are averaged",
    ]
    return section


def _quality() -> list[Verdict]:
    if not QUALITY.exists():
        return []
    behind = points_behind(json.loads(QUALITY.read_text()), "balanced")
    worst = max(behind, key=lambda name: behind[name])
    note = f"worst of {len(behind)} sets: {worst}"
    return [Verdict("dedup, default preset: points behind FastCDC", behind[worst], "points", 1, note=note)]


def points_behind(sets: dict[str, dict[str, Any]], preset: str) -> dict[str, float]:
    """By data set, how many percentage points more FastCDC saves than w16; negative where it saves less."""
    found = defaultdict(list)
    for name, figures in sets.items():
        stored = {}
        for what, one in figures.items():
            size, _, spec = what.partition(" ")
            if size == preset:
                stored[spec.partition("-")[0]] = 100 / one["dedup_ratio"]
        if stored.keys() >= {"w16", "fastcdc"}:
            head, _, last = name.rpartition("-")
            found[head if last.isdigit() and head == "random-insertions" else name].append(
                stored["w16"] - stored["fastcdc"]
            )
    return {name: fmean(values) for name, values in found.items()}
