"""Blobs of 4 KiB through the library, durable, beside disk-objectstore: one process per contender, in turns."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.harness.figures import Verdict, bytes_text, median, rate_text, ratios, seconds_text
from benchmarks.harness.order import in_turn
from benchmarks.harness.process import Finished, run
from benchmarks.harness.section import Bench, Section, Table

__all__ = ["measure"]

WORKER = Path(__file__).with_name("worker.py")
SINGLE = ("graviton async", "graviton sync", "disk-objectstore loose", "bare files, fsync")
GROUPED = ("graviton put_many", "disk-objectstore packed", "bare files, grouped")
NOTES = [
    "disk-objectstore: defaults (SHA-256, no compression)",
    "disk-objectstore loose: `add_object`, which fsyncs the file and the folder it is written in",
    "disk-objectstore packed: `add_objects_to_pack`, all blobs appended to one file, one fsync, one SQLite commit",
    "graviton: defaults; a put returns when its file, the file's folder and the SQLite metadata are fsynced",
    "graviton put_many: groups that share fsyncs, each blob still a file of its own",
    "bare files, fsync: the floor of one file per put: create, write, fsync, rename, fsync of the folder; no metadata",
    "bare files, grouped: the floor of one file per blob in groups: 1,000 files, one syncfs, renames",
    "all: blobs are in memory; the clock starts after imports, opening and 64 puts; a new store for every run",
]


def measure(bench: Bench) -> Section:
    """Row 4 of the table."""
    counts = dict.fromkeys(SINGLE, bench.pick(4000, 1000)) | dict.fromkeys(GROUPED, bench.pick(30_000, 8000))
    section = Section("small_blobs", "Blobs of 4 KiB through the library, durable", notes=list(NOTES))
    names = [name for name in counts if not name.startswith("disk-") or find_spec("disk_objectstore")]
    rates: dict[str, list[float]] = {name: [] for name in names}
    processes: dict[str, list[Finished]] = {name: [] for name in names}
    repetitions = bench.pick(7, 3)
    for repetition in range(repetitions):
        for name in in_turn(names, repetition):
            home = bench.space.fresh("small")
            bench.space.settle()
            done = run([sys.executable, WORKER, name, home / "store", str(counts[name])])
            processes[name].append(done)
            rates[name].append(counts[name] / float(done.output))
            bench.space.drop(home)
        bench.say(
            f"{repetition + 1}/{repetitions} " + ", ".join(f"{name} {rate_text(rates[name][-1])}" for name in names)
        )
    section.raw = {"counts": counts, "puts_per_second": rates}
    section.tables = [_table(counts, rates, processes)]
    section.verdicts = _verdicts(rates)
    return section


def _table(counts: dict[str, int], rates: dict[str, list[float]], processes: dict[str, list[Finished]]) -> Table:
    table = Table(["contender", "blobs", "puts/s, median", "range", "CPU of the process", "peak memory"])
    for name, found in rates.items():
        done = processes[name]
        table.add(
            name,
            f"{counts[name]:,}",
            rate_text(median(found)),
            f"{min(found):,.0f} .. {max(found):,.0f}",
            seconds_text(median(one.cpu_seconds for one in done)),
            bytes_text(median(one.peak_rss_bytes for one in done)),
        )
    return table


def _verdicts(rates: dict[str, list[float]]) -> list[Verdict]:
    pairs = [
        ("graviton async", "disk-objectstore loose", 1.0),
        ("graviton sync", "disk-objectstore loose", 1.0),
        ("graviton put_many", "disk-objectstore packed", 0.7),
    ]
    verdicts = []
    for ours, theirs, target in pairs:
        label = f"4 KiB puts/s: {ours} / {theirs}"
        if theirs not in rates:
            note = "not installed: pip install disk-objectstore"
            verdicts.append(Verdict(label, None, "x", target, at_least=True, note=note))
            continue
        verdicts.append(Verdict.of(label, ratios(rates[ours], rates[theirs]), "x", target, at_least=True))
    return verdicts
