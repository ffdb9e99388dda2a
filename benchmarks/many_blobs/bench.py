"""stat, ls, put and start of a process: a store of a million blobs beside one of ten thousand, in turns."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.figures import Verdict, median, ratios, seconds_text
from benchmarks.harness.process import run
from benchmarks.harness.section import Bench, Section, Table, graviton_command, graviton_env
from benchmarks.harness.space import GIB

__all__ = ["measure"]

BUILD = Path(__file__).with_name("build.py")
WORKER = Path(__file__).with_name("worker.py")
SMALL, LARGE = 10_000, 1_000_000
NOTES = [
    "metadata: what as many single puts leave, written by the program's own claim and commit, 2,000 blobs at a time",
    "blocks: the folder has a name for every one, but hard links to a handful of files stand in for a million files",
    "commands are whole processes; calls are medians within one process, where no start of Python covers anything up",
]
Runs = dict[str, dict[int, list[float]]]
"""Work, blobs in the store, seconds of each repetition."""


def measure(bench: Bench) -> Section:
    """Row 8 of the table."""
    counts = [SMALL, bench.pick(LARGE, 100_000)]
    section = Section("many_blobs", f"{counts[1]:,} blobs in the store beside {counts[0]:,}", notes=list(NOTES))
    bench.space.need(4 * GIB)
    stores = {count: _build(bench, count) for count in counts}
    runs: Runs = {}
    for repetition in range(bench.pick(11, 3)):
        for count in counts if repetition % 2 else counts[::-1]:
            _commands(stores[count], count, repetition, runs)
        bench.say(f"commands {repetition + 1}")
    for repetition in range(bench.pick(5, 2)):
        for count in counts if repetition % 2 else counts[::-1]:
            store = stores[count]
            words = [sys.executable, WORKER, store.root, str(bench.pick(400, 100)), str(repetition)]
            for call, seconds in json.loads(run([*words, *store.ids[:50]]).output).items():
                _note(runs, f"call: {call}", count, seconds)
        bench.say(f"calls {repetition + 1}")
    for store in stores.values():
        bench.space.drop(store.root.parent)
    section.raw = {"seconds": runs}
    section.tables = [_table(runs, counts)]
    for work, by_count in runs.items():
        found = ratios(by_count[counts[1]], by_count[counts[0]])
        label = f"{work}: {counts[1]:,} blobs / {counts[0]:,}"
        section.verdicts.append(Verdict.of(label, found, "x", 1.3))
    return section


class _Store(NamedTuple):
    """A store and the ids of some of its blobs."""

    root: Path
    ids: list[str]


def _build(bench: Bench, count: int) -> _Store:
    root = bench.space.fresh(f"blobs-{count}") / "store"
    done = run([sys.executable, BUILD, root, str(count)])
    bench.say(f"a store of {count:,} blobs, made in {seconds_text(done.wall_seconds)}")
    return _Store(root, done.output.split())


def _commands(store: _Store, count: int, repetition: int, runs: Runs) -> None:
    small = store.root.parent / "small.bin"
    small.write_bytes(f"blob of repetition {repetition}".encode())
    commands: dict[str, Sequence[str]] = {
        "graviton --version": ["--version"],
        "graviton stat ID": ["stat", store.ids[repetition * 7 % len(store.ids)]],
        "graviton ls --limit 100": ["ls", "--limit", "100"],
        "graviton put (small blob)": ["put", str(small)],
    }
    for work, words in commands.items():
        done = run([graviton_command(), *words], env=graviton_env(store.root))
        _note(runs, work, count, done.wall_seconds)


def _note(runs: Runs, work: str, count: int, seconds: float) -> None:
    runs.setdefault(work, {}).setdefault(count, []).append(seconds)


def _table(runs: Runs, counts: Sequence[int]) -> Table:
    table = Table(["work", *(f"{count:,} blobs, median" for count in counts)])
    for work, by_count in runs.items():
        table.add(work, *(_milliseconds(by_count[count]) for count in counts))
    return table


def _milliseconds(values: Sequence[float]) -> str:
    return f"{median(values) * 1000:.2f} ms ({min(values) * 1000:.2f} .. {max(values) * 1000:.2f})"
