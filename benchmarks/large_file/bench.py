"""Put, put again and get of one large file: whole processes, in turns, on the same file system."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.figures import Verdict, bytes_text, fastest, median, ratios, seconds_text, spread_text
from benchmarks.harness.order import in_turn
from benchmarks.harness.process import CommandError, Finished
from benchmarks.harness.section import Bench, Section, Table
from benchmarks.harness.space import MIB, same_bytes
from benchmarks.large_file.tools import PEERS, Chunkstore, Copy, DiskObjectstore, Graviton, Tool

__all__ = ["measure"]

PUT, AGAIN, GET = "put", "put again", "get"
Runs = dict[str, dict[str, list[Finished]]]
"""Work, tool, its runs in the order of the repetitions."""


def measure(bench: Bench) -> Section:
    """Rows 1 to 3 of the table."""
    size = bench.pick(1024, 256) * MIB
    section = Section("large_file", f"A file of {bytes_text(size)} random bytes")
    tools: list[Tool] = [Graviton(), *(peer() for peer in PEERS), Copy()]
    extras: list[Tool] = [DiskObjectstore(), Chunkstore()]
    for tool in [*tools, *extras]:
        section.notes.append(
            f"{tool.name}: {tool.settings}" if tool.present() else f"{tool.name}: not installed; {tool.install}"
        )
    here = [tool for tool in tools if tool.present()]
    there = [tool for tool in extras if tool.present()]
    runs = _all_runs(bench, size, here, there)
    if not bench.quick:
        bench.space.forget(size)
    section.raw = {
        work: {tool: [one._replace(output="")._asdict() for one in done] for tool, done in by_tool.items()}
        for work, by_tool in runs.items()
    }
    section.tables = [_table(work, runs[work], size) for work in (PUT, AGAIN, GET)]
    section.verdicts = _verdicts(runs, bytes_text(size))
    return section


def _all_runs(bench: Bench, size: int, tools: Sequence[Tool], extras: Sequence[Tool]) -> Runs:
    source = bench.space.random_file(size)
    bench.space.need(3 * size)
    runs: Runs = defaultdict(lambda: defaultdict(list))
    repetitions = bench.pick(5, 2)
    for repetition in range(repetitions):
        for tool in [*in_turn(tools, repetition), *(extras if repetition == 0 else ())]:
            _one_turn(bench, tool, source, runs)
            last = ", ".join(
                f"{work} {seconds_text(by_tool[tool.name][-1].wall_seconds)}"
                for work, by_tool in runs.items()
                if tool.name in by_tool
            )
            bench.say(f"{repetition + 1}/{repetitions} {tool.name}: {last}")
    return runs


def _one_turn(bench: Bench, tool: Tool, source: Path, runs: Runs) -> None:
    """A fresh repository, a put, for graviton a second one, a get whose output is compared."""
    home = bench.space.fresh("home")
    tool.prepare(home)
    bench.space.settle(source)
    runs[PUT][tool.name].append(tool.put(home, source))
    if isinstance(tool, Graviton):
        bench.space.settle(source)
        runs[AGAIN][tool.name].append(tool.put(home, source))
    out = bench.space.fresh("out")
    bench.space.settle()
    done, found = tool.get(home, out)
    if not same_bytes(source, found):
        raise CommandError(f"{tool.name} gave back other bytes")
    runs[GET][tool.name].append(done)
    bench.space.drop(home)
    bench.space.drop(out)


def _table(work: str, by_tool: dict[str, list[Finished]], size: int) -> Table:
    table = Table([work, "wall, median", "range", "CPU", "peak memory", "GB/s", "runs"])
    for tool, done in sorted(by_tool.items(), key=lambda item: _wall(item[1])):
        wall = [one.wall_seconds for one in done]
        table.add(
            tool,
            seconds_text(median(wall)),
            spread_text(wall),
            seconds_text(median(one.cpu_seconds for one in done)),
            bytes_text(median(one.peak_rss_bytes for one in done)),
            f"{size / median(wall) / 1e9:.2f}",
            str(len(done)),
        )
    return table


def _wall(done: Sequence[Finished]) -> float:
    return median(one.wall_seconds for one in done)


def _verdicts(runs: Runs, size: str) -> list[Verdict]:
    walls = {
        work: {tool: [one.wall_seconds for one in done] for tool, done in by_tool.items()}
        for work, by_tool in runs.items()
    }
    peers = [peer.name for peer in PEERS]
    missing = [name for name in peers if name not in walls[PUT]]
    note = f"without {', '.join(missing)}, which is not installed" if missing else ""
    verdicts = []
    for work, target, goal in ((PUT, 0.3, 0.2), (GET, 0.25, 0.12)):
        best = fastest(walls[work], peers)
        label = f"{work} {size}: graviton / fastest of borg, restic, casync"
        if best is None:
            verdicts.append(Verdict(label, None, "x", target, goal, note="none of the peers is installed"))
            continue
        found = ratios(walls[work]["graviton"], walls[work][best])
        verdicts.append(Verdict.of(f"{label} (here {best})", found, "x", target, goal=goal, note=note))
    disk = ratios(walls[PUT]["graviton"], walls[PUT]["cp + fsync"])
    verdicts.insert(1, Verdict.of(f"put {size}: graviton / (cp + fsync)", disk, "x", 1.75, goal=1.0))
    again = ratios(walls[AGAIN]["graviton"], walls[PUT]["graviton"])
    verdicts.insert(2, Verdict.of("put the same file again / first put", again, "x", 0.65, goal=0.4))
    return verdicts
