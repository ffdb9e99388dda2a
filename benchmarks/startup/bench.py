"""Wall time of commands that do next to nothing, beside a Python that does nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.figures import Verdict, bytes_text, median, seconds_text, spread_text
from benchmarks.harness.process import Finished, run
from benchmarks.harness.section import Bench, Section, Table, graviton_command, graviton_env
from benchmarks.harness.space import write_random

__all__ = ["measure"]


def measure(bench: Bench) -> Section:
    """Row 7 of the table."""
    section = Section("startup", "Start of a process")
    home = bench.space.fresh("home")
    env = graviton_env(home / "store")
    small = home / "small.bin"
    write_random(small, 4096)
    blob_id = run([graviton_command(), "put", small], env=env).output.split()[0]
    commands: dict[str, Sequence[str | Path]] = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "graviton --version": [graviton_command(), "--version"],
        "graviton stat ID": [graviton_command(), "stat", blob_id],
        "graviton put (4 KiB, there already)": [graviton_command(), "put", small],
        "graviton get ID (4 KiB)": [graviton_command(), "cat", blob_id],
    }
    runs: dict[str, list[Finished]] = {name: [] for name in commands}
    bench.space.settle()
    repetitions = bench.pick(31, 7)
    for repetition in range(repetitions + 1):
        for name, command in commands.items():
            done = run(command, env=env)
            if repetition:  # the first one compiles what was never run before
                runs[name].append(done)
    bench.space.drop(home)
    table = Table(["command", "wall, median", "range", "CPU", "peak memory"])
    for name, done in runs.items():
        wall = [one.wall_seconds for one in done]
        cpu = seconds_text(median(one.cpu_seconds for one in done))
        memory = bytes_text(median(one.peak_rss_bytes for one in done))
        table.add(name, seconds_text(median(wall)), spread_text(wall), cpu, memory)
    section.tables = [table]
    section.raw = {name: [one._replace(output="")._asdict() for one in done] for name, done in runs.items()}
    for name, target in (("python -c pass", None), ("graviton --version", 80), ("graviton stat ID", 200)):
        walls = [one.wall_seconds * 1000 for one in runs[name]]
        section.verdicts.append(Verdict.of(f"`{name}`", walls, "ms", target))
    section.notes = [
        f"{repetitions} runs each, in turns; everything in the page cache",
        "standard output goes to a file, as it would in a script",
    ]
    return section
