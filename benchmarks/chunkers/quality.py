"""How well do the chunkers deduplicate? Builds data sets and cuts them with w16 and FastCDC at the same sizes.

Run `python benchmarks/chunkers/quality.py [SET ...]`; it prints a table and merges it into `results/quality.json`. The
sets `releases-*` fetch releases with `pip download`, unpack them and pack them again with fixed times and owners.
 Every other set is made here. Data go to `benchmarks/work/chunkers`, and stay there for the next run.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import graviton_kernel

from graviton.core.chunking import PRESETS, ChunkerSpec

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "quality.json"
WORK = HERE.parent / "work" / "chunkers"
MIB = 1024 * 1024

SIZES = {**{name: spec.text for name, spec in PRESETS.items()}, "tiny": "w16-v1:2048:8192:65536"}
"""The presets, and 8 KiB averages, where most published comparisons are made."""

RELEASES = {
    "releases-django": ("Django", ["4.2", "4.2.4", "4.2.8", "4.2.11", "5.0", "5.0.4", "5.0.8", "5.1"]),
    "releases-sympy": ("sympy", ["1.7.1", "1.8", "1.9", "1.10", "1.10.1", "1.11", "1.11.1", "1.12"]),
}
"""Eight releases each of two large packages in pure Python, whose wheels hold plain sources."""

EDITS = 300
INSERTIONS = 50
RANDOM_BYTES = 128 * MIB
SEEDS = range(10)


def tar_of(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar with fixed times, owners and order: equal files give equal bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in sorted(members):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def release(package: str, version: str) -> bytes:
    """One release, fetched once."""
    cached = WORK / f"{package}-{version}.tar"
    if not cached.exists():
        folder = WORK / f"{package}-{version}"
        # A wheel, because a source release may have to be built before pip gives it away.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", str(folder), f"{package}=={version}"], check=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            cached.write_bytes(tar_of((name, archive.read(name)) for name in archive.namelist()))
    return cached.read_bytes()


def releases(package: str, versions: list[str]) -> Iterator[bytes]:
    """All releases, oldest first."""
    for version in versions:
        yield release(package, version)


def library() -> bytes:
    """Python's own library folder, sources only."""
    root = Path(sysconfig.get_path("stdlib"))
    files = (path for path in root.rglob("*.py") if "site-packages" not in path.parts)
    return tar_of((str(path.relative_to(root)), path.read_bytes()) for path in files)


def edited(data: bytes, seed: int) -> bytes:
    """`data` after random inserts, deletes and overwrites of up to 1,000 bytes, from the end to the start."""
    dice = random.Random(seed)
    changed = bytearray(data)
    for at in sorted((dice.randrange(len(data)) for _ in range(EDITS)), reverse=True):
        size = dice.randint(1, 1000)
        kind = dice.choice(("insert", "delete", "overwrite"))
        changed[at : at if kind == "insert" else at + size] = b"" if kind == "delete" else dice.randbytes(size)
    return bytes(changed)


def with_insertions(seed: int) -> Iterator[bytes]:
    """Random bytes, and the same with insertions of 1 to 100 bytes."""
    dice = random.Random(seed)
    data = dice.randbytes(RANDOM_BYTES)
    yield data
    changed, start = bytearray(), 0
    for at in sorted(dice.randrange(RANDOM_BYTES) for _ in range(INSERTIONS)):
        changed += data[start:at] + dice.randbytes(dice.randint(1, 100))
        start = at
    yield bytes(changed + data[start:])


def log_lines() -> bytes:
    """A synthetic log: much structure, few repeated stretches."""
    dice = random.Random(1)
    verbs, words = ("GET", "PUT", "DELETE", "HEAD"), [f"item{n}" for n in range(500)]
    states = (200, 200, 200, 404, 500)
    lines = (
        f"2024-01-01T{n // 36000 % 24:02}:{n // 600 % 60:02}:{n // 10 % 60:02}.{n % 10} {dice.choice(verbs)} "
        f"/{dice.choice(words)}/{dice.randrange(10_000)} {dice.choice(states)} {dice.randrange(90_000)}\n"
        for n in range(500_000)
    )
    return "".join(lines).encode()


def counters() -> bytes:
    """Successive 64-bit integers, little endian."""
    return b"".join(number.to_bytes(8, "little") for number in range(8 * MIB))


def letters() -> bytes:
    """Random text over four letters."""
    return random.Random(2).randbytes(64 * MIB).translate(bytes(b"ACGT"[byte & 3] for byte in range(256)))


def period(unit: bytes) -> bytes:
    """64 MiB of a short pattern."""
    return (unit * (64 * MIB // len(unit) + 1))[: 64 * MIB]


def library_and_edited() -> Iterator[bytes]:
    """The library folder, then an edited copy."""
    data = library()
    yield data
    yield edited(data, 3)


SETS: dict[str, Callable[[], Iterable[bytes]]] = {
    **{name: (lambda p=package, v=versions: releases(p, v)) for name, (package, versions) in RELEASES.items()},
    "library-edited": library_and_edited,
    **{f"random-insertions-{seed}": (lambda s=seed: with_insertions(s)) for seed in SEEDS},
    "log": lambda: [log_lines()],
    "counters": lambda: [counters()],
    "acgt": lambda: [letters()],
    "zeros": lambda: [bytes(64 * MIB)],
    "period-3": lambda: [period(b"\x01\x30\x8d")],
    "period-5": lambda: [period(b"\xd5\xc3\xa1\xf0\xe2")],
}


def judge(spec: str, streams: list[bytes]) -> dict[str, float | int]:
    """Cut each stream; counts equal blocks over all of them once."""
    most = ChunkerSpec.parse(spec).max_bytes
    unique: dict[bytes, int] = {}
    lengths: list[int] = []
    for stream in streams:
        some, digests = graviton_kernel.Ingest(spec, "blake3").feed(stream, True)
        unique.update(zip(digests, some, strict=True))
        lengths += some
    mean = statistics.fmean(lengths)
    return {
        "dedup_ratio": round(sum(lengths) / sum(unique.values()), 4),
        "blocks": len(lengths),
        "mean_bytes": round(mean),
        "spread": round(statistics.pstdev(lengths) / mean, 3),
        "forced_share": round(sum(length == most for length in lengths) / len(lengths), 4),
    }


def main() -> None:
    """Build the sets asked for (all of them if none is), judge, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", help=f"of: {', '.join(SETS)}")
    names = parser.parse_args().sets or list(SETS)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names:
        streams = list(SETS[name]())
        total = sum(map(len, streams))
        print(f"\n{name}: {total / MIB:.0f} MiB")
        print(f"{'':>24}{'ratio':>8}{'blocks':>9}{'mean':>10}{'spread':>8}{'forced':>8}")
        results[name] = {"bytes": total}
        for size, w16 in SIZES.items():
            for spec in (w16, w16.replace("w16", "fastcdc")):
                found = results[name][f"{size} {spec}"] = judge(spec, streams)
                print(f"{size + ' ' + spec.split(':')[0]:>24}{found['dedup_ratio']:8.3f}{found['blocks']:9}", end="")
                print(f"{found['mean_bytes']:10}{found['spread']:8.2f}{found['forced_share']:8.3f}", flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
