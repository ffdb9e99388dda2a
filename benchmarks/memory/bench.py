"""Peak memory of `graviton put` and `graviton get` of a file far larger than memory budgets, whole process."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness.figures import Verdict, bytes_text, seconds_text
from benchmarks.harness.process import CommandError, Finished, run
from benchmarks.harness.section import Bench, Section, Table, graviton_command, graviton_env
from benchmarks.harness.space import GIB, MIB, same_bytes

__all__ = ["measure"]

NOTES = [
    "the largest resident size that the kernel noted for the process (ru_maxrss); page cache does not count",
    "input: incompressible bytes without repetition, so that every block is new and every manifest page is written",
    "default settings: a budget of 128 MiB for buffers (GRAVITON_MEMORY_BYTES); the interpreter comes on top",
    "the output is compared with the input afterwards",
]


def measure(bench: Bench) -> Section:
    """Row 6 of the table."""
    size = bench.pick(10, 1) * GIB
    section = Section("memory", f"Peak memory, put and get of {bytes_text(size)}", notes=list(NOTES))
    # Input, store and output side by side.
    bench.space.need(3 * size)
    source = bench.space.random_file(size)
    home, out = bench.space.fresh("home"), bench.space.fresh("out")
    env = graviton_env(home / "store")
    put = run([graviton_command(), "put", source], env=env)
    bench.say(f"put: {bytes_text(put.peak_rss_bytes)} in {seconds_text(put.wall_seconds)}")
    blob_id = put.output.split()[0]
    get = run([graviton_command(), "get", blob_id, "-o", out / "back"], env=env)
    bench.say(f"get: {bytes_text(get.peak_rss_bytes)} in {seconds_text(get.wall_seconds)}")
    if not same_bytes(source, out / "back"):
        raise CommandError("graviton gave back other bytes")
    bench.space.drop(out)
    piped = _from_pipe(bench, home / "store", source)
    if piped.output.split()[0] != blob_id:
        raise CommandError("put of the same bytes from standard input gave another id")
    bench.space.forget(size)
    bench.space.drop(home)
    works = {"put FILE": put, "get ID -o FILE": get, "put - (again)": piped}
    table = Table(["work", "peak memory", "wall", "CPU", "GB/s"])
    for work, done in works.items():
        table.add(
            work,
            bytes_text(done.peak_rss_bytes),
            seconds_text(done.wall_seconds),
            seconds_text(done.cpu_seconds),
            f"{size / done.wall_seconds / 1e9:.2f}",
        )
        label = f"peak memory of `graviton {work}`, {bytes_text(size)}"
        section.verdicts.append(Verdict(label, done.peak_rss_bytes / MIB, "MiB", 200))
    section.tables = [table]
    section.raw = {work: done._replace(output="")._asdict() for work, done in works.items()}
    return section


def _from_pipe(bench: Bench, root: Path, source: Path) -> Finished:
    """The same from standard input, into the store that has the blocks already: nothing tells the size in advance."""
    words = ["sh", "-c", 'cat "$1" | "$2" put -', "sh", source, graviton_command()]
    done = run(words, env=graviton_env(root))
    bench.say(f"put -: {bytes_text(done.peak_rss_bytes)} in {seconds_text(done.wall_seconds)}")
    return done
