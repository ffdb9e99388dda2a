"""How fast are the chunkers? Data in memory, one core; medians, beside PyPI `pyfastcdc` at the same sizes.

Run `python benchmarks/chunkers/bench.py [--mib 512] [--rounds 5]`; it prints a table and writes
`results/speed.json`. What the figures mean is in README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import mmap
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import graviton_kernel
import pyfastcdc

from graviton.core.chunking import DEFAULT_SPEC, PRESETS, ChunkerSpec

RESULTS = Path(__file__).parent / "results" / "speed.json"
MIB = 1024 * 1024
PATTERN_BYTES = 64 * MIB

DENSE = bytes.fromhex("01308d")
"""A pattern of period 3 with candidates of w16-v1 at two of three positions, its worst case (all 2^24 were tried)."""


def huge_pages(size: int) -> mmap.mmap:
    """Anonymous memory, in huge pages where possible: page faults would hide the chunker."""
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def random_data(size: int) -> mmap.mmap:
    """Bytes without any structure, the same in every run."""
    memory = huge_pages(size)
    for at in range(0, size, MIB):
        memory[at : at + MIB] = hashlib.shake_128(str(at).encode()).digest(MIB)
    return memory


def repeated(unit: bytes, size: int = PATTERN_BYTES) -> mmap.mmap:
    """`unit` again and again."""
    memory = huge_pages(size)
    memory[:] = (unit * (size // len(unit) + 1))[:size]
    return memory


def native(data: mmap.mmap, spec: str, simd: str | None = None) -> int:
    """Cut all of `data`; gives the number of chunks."""
    chunker = graviton_kernel.Chunker(spec, simd)
    return len(chunker.feed(data)) + len(chunker.finish())


def independent(data: memoryview, spec: ChunkerSpec) -> int:
    """The same with pyfastcdc at level 2."""
    cutter = pyfastcdc.FastCDC(spec.avg_bytes, min_size=spec.min_bytes, max_size=spec.max_bytes, normalized_chunking=2)
    return sum(1 for _ in cutter.cut_buf(data))


def rates(size: int, rounds: int, work: Callable[[], Any]) -> list[float]:
    """GB/s of each of `rounds` runs, after one that does not count."""
    work()
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        found.append(round(size / (time.perf_counter() - begin) / 1e9, 3))
    return found


class Table:
    """Collects and prints one line per measurement."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.rows: list[dict[str, Any]] = []

    def add(self, data: str, what: str, size: int, work: Callable[[], Any]) -> float:
        """Measure; gives the median in GB/s."""
        runs = rates(size, self.rounds, work)
        median = statistics.median(runs)
        self.rows.append({"data": data, "what": what, "gb_per_s": median, "runs": runs})
        print(f"{data:<14} {what:<58} {median:7.2f} GB/s   {min(runs):6.2f} .. {max(runs):6.2f}", flush=True)
        return median


def measure(table: Table, size: int) -> dict[str, float]:
    """All measurements; gives the ratio to pyfastcdc by spec."""
    data = random_data(size)
    view = memoryview(data)
    ratios = {}
    specs = [*PRESETS.values(), ChunkerSpec.parse("w16:2KiB:8KiB:64KiB")]
    for spec in specs:
        sizes = spec.text.split(":", 1)[1]
        theirs = table.add("random", f"pyfastcdc {sizes}", size, lambda s=spec: independent(view, s))
        for simd in graviton_kernel.simd_paths():
            ours = table.add("random", f"{spec} {simd}", size, lambda s=spec, p=simd: native(data, s.text, p))
            ratios.setdefault(spec.text, round(ours / theirs, 2))
        fastcdc = spec.text.replace("w16", "fastcdc")
        table.add("random", fastcdc, size, lambda s=fastcdc: native(data, s))
    lines = "delimiter-v1:0d0a:65536:1048576"
    table.add("random", lines, size, lambda: native(data, lines))
    for algo in ("blake3", "sha256"):
        table.add("random", f"digest {algo}", size, lambda a=algo: graviton_kernel.digest(data, a))
        what = f"ingest {DEFAULT_SPEC} {algo} block and blob"
        table.add("random", what, size, lambda a=algo: graviton_kernel.Ingest(DEFAULT_SPEC.text, a).feed(data, True))
    for name, unit in (("zeros", b"\0"), ("period 3", DENSE)):
        pattern = repeated(unit)
        for simd in graviton_kernel.simd_paths():
            work = lambda d=pattern, p=simd: native(d, DEFAULT_SPEC.text, p)  # noqa: E731
            table.add(name, f"{DEFAULT_SPEC} {simd}", PATTERN_BYTES, work)
    return ratios


def machine() -> dict[str, str]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": str(len(models)),
        "simd": graviton_kernel.simd_path(),
        "python": platform.python_version(),
        "kernel": graviton_kernel.__version__,
        "pyfastcdc": importlib.metadata.version("pyfastcdc"),
    }


def main() -> None:
    """Measure, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512, help="size of the random data (512)")
    parser.add_argument("--rounds", type=int, default=5, help="runs per measurement (5)")
    options = parser.parse_args()
    table = Table(options.rounds)
    ratios = measure(table, options.mib * MIB)
    print("\nw16 on its best path, as a multiple of pyfastcdc:")
    for spec, ratio in ratios.items():
        print(f"  {spec:<40} {ratio:.2f}")
    results = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "mib": options.mib,
        "times_pyfastcdc": ratios,
        "rows": table.rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
