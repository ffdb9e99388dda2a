"""`python -m benchmarks [NAME ...] [--quick] [--output DIR]`: measure, print, write the results.

Ends with 0 when everything that was asked for was measured, whether targets were met or not; 1 when something failed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.harness.figures import Verdict
from benchmarks.harness.process import CommandError
from benchmarks.harness.report import terminal_table, write
from benchmarks.harness.section import Bench, Section
from benchmarks.harness.space import NoSpaceError, Space

HERE = Path(__file__).parent
WORK = HERE / "work"

NAMES = {
    "startup": "start of a process",
    "chunker_speed": "the chunker alone beside pyfastcdc",
    "cache": "the block cache: hits, and hit ratios of policies",
    "small_blobs": "4 KiB blobs beside disk-objectstore",
    "large_file": "1 GiB beside borg, restic, casync and cp",
    "memory": "peak memory with 10 GiB",
    "many_blobs": "a store of a million blobs",
    "server": "the HTTP server, beside `graviton put` and the framework alone",
    "rocksdb": "metadata on RocksDB beside its driver, SQLite and PostgreSQL",
    "s3": "blocks in S3 beside obstore alone",
    "postgres": "metadata on PostgreSQL, with ten million blocks",
}
"""Folders that hold a `bench.py` with `measure`, shortest first, and what each measures."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parse(argv)
    names = options.names or list(NAMES)
    begin = time.monotonic()
    sections, failed = [], []
    with Space(WORK) as space:
        bench = Bench(space, options.quick)
        facts = machine.describe(space.root)
        for name in names:
            print(f"== {NAMES[name]}", flush=True)
            section = _measure(name, bench)
            sections.append(section)
            if section.raw:
                print(terminal_table(section), end="\n\n", flush=True)
            else:
                failed.append(name)
    folder = options.output or _default_output(options.quick)
    facts["took"] = f"{(time.monotonic() - begin) / 60:.1f} minutes"
    write(folder, facts, sections, options.quick)
    print(f"results: {folder}/results.md and results.json")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    listing = "\n".join(f"  {name:<14} {what}" for name, what in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Speed and memory, side by side with other tools.\n\nmeasurements:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*NAMES, []], help="what to measure (everything)")
    parser.add_argument("--quick", action="store_true", help="small and rough, below 4 minutes: settles nothing")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the results go")
    return parser.parse_args(argv)


def _default_output(quick: bool) -> Path:
    """Beside the results that are kept; a quick run's are not."""
    if quick:
        return WORK / "quick"
    return HERE / "results" / f"{datetime.now(UTC):%Y-%m-%d}-{machine.commit()}"


def _measure(name: str, bench: Bench) -> Section:
    """One section. A failure is told and noted, and does not keep the others from being measured."""
    try:
        return importlib.import_module(f"benchmarks.{name}.bench").measure(bench)  # type: ignore[no-any-return]
    except (CommandError, NoSpaceError, ImportError, OSError) as error:
        print(f"not measured: {error}", file=sys.stderr, flush=True)
        return Section(name, NAMES[name], [Verdict(NAMES[name], None, "x", None, note=str(error)[:200])])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
