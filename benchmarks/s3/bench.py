"""Blocks in S3, beside the driver alone on the same server; what a put sends; what a large object takes in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness.figures import Verdict, ratios
from benchmarks.harness.process import run
from benchmarks.harness.section import Bench, Section, Table
from benchmarks.s3.relay import Relay
from tests.s3_server import S3Server, rclone_server_on
from tests.s3_sink import sink_server

__all__ = ["measure"]

_WORKS = ("bare-put", "ours-put", "bare-get", "ours-get")

Runs = dict[str, list[dict[str, Any]]]


def measure(bench: Bench) -> Section:
    """1 GiB in and out, what is put twice and what that sends, and 10 GiB as one object."""
    size = bench.pick(1 << 30, 64 << 20)
    section = Section("s3", f"{size >> 20} MiB in S3 beside obstore alone")
    file = bench.space.random_file(size)
    runs: Runs = {work: [] for work in _WORKS}
    sent: list[tuple[int, int, int]] = []
    for repetition in range(bench.pick(7, 2)):
        folder = bench.space.fresh(f"s3-{repetition}")
        with rclone_server_on(folder / "data") as server:
            bucket = server.new_bucket("bench-blocks")
            for work in _WORKS:
                runs[work].append(_run(work, server, bucket, folder, file, runs))
            with Relay(server.endpoint) as relay:
                through = server._replace(endpoint=relay.endpoint)
                _run("ours-put", through, bucket, folder, file, runs)
                sent.append((relay.connections, relay.sent, relay.received))
        bench.say(f"repetition {repetition + 1}")
    gib = size / (1 << 30)
    section.raw = {"runs": runs, "sent by a put of what is there: connections, bytes up, bytes down": sent}
    section.tables = [_table(runs)]
    for way in ("put", "get"):
        ours, bare = _of(runs, f"ours-{way}"), _of(runs, f"bare-{way}")
        section.verdicts.append(
            Verdict.of(f"{way}: throughput / obstore alone", ratios(bare, ours), "x", 0.75, at_least=True)
        )
        more = [(a["cpu"] - b["cpu"]) / gib for a, b in zip(runs[f"ours-{way}"], runs[f"bare-{way}"], strict=True)]
        section.verdicts.append(Verdict.of(f"{way}: CPU beyond obstore's, per GiB", more, "s", 1.0))
    section.verdicts.append(Verdict.of("put of what is there: bytes sent", [up / 1024 for _, up, _ in sent], "KiB", 64))
    memory = _multipart(bench, section)
    section.verdicts.append(memory)
    section.notes = [
        "server: rclone serve s3 on a folder of this machine, a new one per repetition; 16 requests at once each",
        "ours: cut, hashed, claimed, committed in SQLite; read, verified, in order; bare: objects of 1 MiB and no more",
        "one large object: to a server that keeps nothing; the largest resident size of the process (VmHWM)",
    ]
    return section


def _multipart(bench: Bench, section: Section) -> Verdict:
    """Put one object of 10 GiB, in parts; the peak memory of the whole process."""
    size = bench.pick(10 << 30, 256 << 20)
    peaks = []
    for repetition in range(bench.pick(3, 1)):
        with sink_server() as sink:
            plan = {"endpoint": sink.endpoint, "keys": ["a", "b"], "bucket": "bucket", "size": size}
            peaks.append(_worker("large-put", plan)["peak"] / (1 << 20))
            if sink.size != size:
                raise OSError(f"{sink.size} of {size} bytes arrived")
        bench.say(f"one large object, repetition {repetition + 1}")
    section.raw["peak MiB of a put of one large object"] = peaks
    return Verdict.of(f"{size >> 20} MiB as one object: peak memory", peaks, "MiB", 150)


def _of(runs: Runs, work: str) -> list[float]:
    return [float(run["seconds"]) for run in runs[work]]


def _run(work: str, server: S3Server, bucket: str, folder: Path, file: Path, runs: Runs) -> dict[str, Any]:
    plan = {
        "endpoint": server.endpoint,
        "keys": [server.access_key, server.secret_key],
        "bucket": bucket,
        "folder": str(folder / "store"),
        "file": str(file),
        "blob": runs["ours-put"][-1]["blob"] if runs["ours-put"] else "",
    }
    return _worker(work, plan)


def _worker(work: str, plan: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(run([sys.executable, "-m", "benchmarks.s3.worker", work, json.dumps(plan)]).output))


def _table(runs: Runs) -> Table:
    table = Table(["work", "seconds", "CPU seconds"])
    median: Callable[[list[float]], float] = lambda values: sorted(values)[len(values) // 2]  # noqa: E731
    for work, found in runs.items():
        table.add(work, f"{median([r['seconds'] for r in found]):.2f}", f"{median([r['cpu'] for r in found]):.2f}")
    return table
