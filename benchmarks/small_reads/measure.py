"""`python -m benchmarks.small_reads.measure [--before SRC] [--rounds 5]`: what the README asks, a line of JSON per run.

Needs `wrk` and `curl`. Servers of all trees run at once and are asked in turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.__main__ import WORK
from benchmarks.harness import machine
from benchmarks.harness.space import GIB, MIB, Space, write_random

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"

SMALL_BYTES = 4096
SMALL_BLOBS = 1000
CONNECTIONS = 16
WRK_SECONDS = 4
UPLOADS = 4
UPLOAD_BYTES = 700 * MIB
"""Each: enough that all of them still run when the small GETs have ended."""


class Served(NamedTuple):
    """One server."""

    name: str
    port: int
    pid: int

    def address(self, path: str) -> str:
        """Of a route."""
        return f"http://127.0.0.1:{self.port}/{path}"

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Tree(NamedTuple):
    """What is measured."""

    source: Path
    options: tuple[str, ...] = ()


@contextmanager
def served(name: str, tree: Tree, root: Path) -> Iterator[Served]:
    """A server of one tree over the store `root`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(tree.source), "GRAVITON_KERNEL": "native"}
    command = [sys.executable, str(HERE / "app.py"), str(port), str(root), *tree.options]
    process = subprocess.Popen(command, env=environment)
    one = Served(name, port, process.pid)
    try:
        for _ in range(100):
            if curl(one.address("nothing/x"), check=False) is not None:
                break
            time.sleep(0.1)
        time.sleep(1)
        yield one
    finally:
        process.terminate()
        process.wait(30)


def curl(address: str, check: bool = True) -> tuple[float, int] | None:
    """Seconds and bytes of a download; None if it failed and that is no error."""
    said = ["-w", "%{http_code} %{time_total} %{size_download}"]
    command = ["curl", "-s", "-o", os.devnull, *said, address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, seconds, size = [*done.stdout.split(), "0", "0", "0"][:3]
    if done.returncode or code[:1] != "2":
        if check:
            raise RuntimeError(f"{address}: curl ended with {done.returncode}, status {code}")
        return None
    return float(seconds), int(size)


def put(server: Served, path: Path) -> str:
    """Upload a file; its id."""
    command = ["curl", "-s", "-f", "-T", str(path), "-X", "POST", server.address("put")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip('"\n')


def wrk(server: Served, route: str, keys: list[str], folder: Path) -> dict[str, float]:
    """Requests per second and latencies in milliseconds of random small GETs."""
    script = folder / "keys.lua"
    listed = ",".join(f'"/{route}/{key}"' for key in keys)
    script.write_text(f"local paths = {{{listed}}}\nfunction request()\n"
                      "  return wrk.format('GET', paths[math.random(#paths)])\nend\n")  # fmt: skip
    seconds = f"-d{WRK_SECONDS}s"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", seconds, "--latency", "-s", str(script), server.address("")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    found = {"rate": float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])}
    for percent in ("50", "99"):
        number, unit = re.findall(rf"\s{percent}%\s+([\d.]+)(us|ms|s)", said)[0]
        found[f"p{percent}_ms"] = float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    return found


class Run:
    """One run: where it works, and what it has found."""

    def __init__(self, space: Space, output: Path) -> None:
        self.space, self.output = space, output
        self.found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}

    def note(self, work: str, server: str, **figures: Any) -> None:
        """Keep and show figures."""
        self.found.setdefault((work, server), []).append(figures)
        with self.output.open("a") as file:
            print(json.dumps({"work": work, "server": server, **figures}), file=file)

    def small(self, servers: list[Served], keys: Mapping[str, list[str]]) -> None:
        """One round of small GETs."""
        for server in servers:
            for route in ("nothing", "small"):
                begin = server.cpu_seconds()
                figures = wrk(server, route, keys[server.name], self.space.root)
                spent = (server.cpu_seconds() - begin) / (figures["rate"] * WRK_SECONDS)
                self.note(f"GET {route}", server.name, **figures, cpu_us=round(spent * 1e6, 1))

    def large(self, servers: list[Served], key: Mapping[str, str]) -> None:
        """One round of downloads."""
        for server in servers:
            for route in ("same/1024", "memory", f"blob/{key[server.name]}"):
                begin = server.cpu_seconds()
                answered = curl(server.address(route))
                assert answered is not None
                assert answered[1] == GIB
                name = "download " + route.split("/")[0]
                spent = round(server.cpu_seconds() - begin, 2)
                self.note(name, server.name, seconds=answered[0], cpu_seconds=spent)

    def uploads(self, trees: Mapping[str, Tree], files: list[Path]) -> None:
        """One round of small GETs beside uploads, each tree over a new store."""
        for name, tree in trees.items():
            root = self.space.fresh("uploads")
            with served(name, tree, root) as server:
                self._beside_uploads(server, small_blobs(server, self.space.root, 100), files)
            self.space.drop(root)

    def _beside_uploads(self, server: Served, keys: list[str], files: list[Path]) -> None:
        command = ["curl", "-s", "-f", "-o", os.devnull, "-X", "POST", server.address("put"), "-T"]
        going_on = [subprocess.Popen([*command, str(path)]) for path in files]
        time.sleep(0.3)
        figures = wrk(server, "small", keys, self.space.root)
        all_the_time = all(one.poll() is None for one in going_on)
        ended = [one.wait() for one in going_on]
        if any(ended):
            raise RuntimeError("an upload failed")
        self.note("GET small beside uploads", server.name, **figures, all_the_time=all_the_time)

    def summary(self) -> str:
        """Medians, as Markdown."""
        lines = ["| work | server | medians |", "|---|---|---|"]
        for (work, server), runs in self.found.items():
            names = [name for name, value in runs[0].items() if not isinstance(value, bool)]
            medians = [f"{name} {statistics.median(run[name] for run in runs):,.2f}" for name in names]
            lines.append(f"| {work} | {server} | {', '.join(medians)} |")
        servers = dict.fromkeys(server for _, server in self.found)
        lines += [f"| download of a blob, rate by that from memory | {one} | {self._ratios(one)} |" for one in servers]
        return "\n".join(lines)

    def _ratios(self, server: str) -> str:
        blob = [run["seconds"] for run in self.found["download blob", server]]
        said = []
        for other in ("same", "memory"):
            theirs = [run["seconds"] for run in self.found[f"download {other}", server]]
            ratios = [one / ours for one, ours in zip(theirs, blob, strict=True)]
            said.append(f"{other} {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})")
        return ", ".join(said)


def small_blobs(server: Served, folder: Path, count: int) -> list[str]:
    """Ids of small blobs that were put."""
    path = folder / "small.bin"
    keys = []
    for _ in range(count):
        path.write_bytes(os.urandom(SMALL_BYTES))
        keys.append(put(server, path))
    return keys


def main() -> None:
    """Measure all; figures to the file, medians to the terminal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, metavar="SRC", help="`src` of another checkout, to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("reads", "uploads"), help="one half of it")
    parser.add_argument("--output", type=Path, default=HERE / "results.jsonl")
    options = parser.parse_args()
    for program in ("wrk", "curl"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed")
    trees = {"now": Tree(SOURCE), "now, settled": Tree(SOURCE, ("settled",))}
    if options.before:
        trees = {"before": Tree(options.before.resolve()), **trees}
    with Space(WORK) as space:
        run = Run(space, options.output)
        run.output.write_text(json.dumps(machine.describe(space.root)) + "\n")
        with ExitStack() as stack:
            servers = [stack.enter_context(served(name, tree, space.fresh("reads"))) for name, tree in trees.items()]
            _reads(run, servers, options.rounds)
        _uploads(run, trees, options.rounds)
        print(run.summary())


def _reads(run: Run, servers: list[Served], rounds: int) -> None:
    large = run.space.random_file(GIB)
    keys = {server.name: small_blobs(server, run.space.root, SMALL_BLOBS) for server in servers}
    key = {server.name: put(server, large) for server in servers}
    for server in servers:
        curl(server.address("memory"))  # which is made by the first request
    for number in range(rounds):
        order = servers[number % len(servers) :] + servers[: number % len(servers)]
        run.small(order, keys)
        run.large(order, key)
        print(f"reads: round {number + 1} of {rounds}", file=sys.stderr, flush=True)


def _uploads(run: Run, trees: Mapping[str, Tree], rounds: int) -> None:
    run.space.need(2 * UPLOADS * UPLOAD_BYTES)
    files = [run.space.root / f"upload-{number}.bin" for number in range(UPLOADS)]
    for path in files:
        write_random(path, UPLOAD_BYTES, path.name.encode())
    for number in range(rounds):
        run.uploads(trees, files)
        print(f"uploads: round {number + 1} of {rounds}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
