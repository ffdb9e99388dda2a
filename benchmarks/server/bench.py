"""The server: large bodies beside `graviton put` and the framework alone; small requests; memory; both at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.harness.figures import Verdict, ratios
from benchmarks.harness.process import run
from benchmarks.harness.section import Bench, Section, Table, graviton_command, graviton_env
from benchmarks.harness.space import GIB, MIB
from benchmarks.server import load
from benchmarks.server.servers import framework, ours, peak_bytes

__all__ = ["measure"]

_SMALL_BYTES = 4096
_CONNECTIONS = 16
_LUA = Path(__file__).parent / "post.lua"

Raw = dict[str, list[Any]]


def measure(bench: Bench) -> Section:
    """All of it. What needs wrk is left out where there is none."""
    size = bench.pick(GIB, 64 * MIB)
    section = Section("server", f"the HTTP server: {size >> 20} MiB in and out, 4 KiB blobs, many at once")
    raw: Raw = {}
    section.raw = raw
    _large(bench, section, raw, size)
    if load.wrk() is None:
        for work in ("GET of 4 KiB", "POST of 4 KiB", "p99 of small GETs while four uploads run"):
            section.verdicts.append(
                Verdict(work, None, "/s", None, note="wrk is not here (Debian: apt-get install wrk)")
            )
    else:
        _small(bench, section, raw)
        _both(bench, section, raw)
    _memory(bench, section, raw)
    section.notes = [
        "client and server share the machine; curl for large bodies, wrk with one thread for small ones",
        "each repetition: a new store, a new server; `graviton put` puts the same file into another new store",
        "framework: Granian and Litestar alone (framework.py)",
        "framework, 1 GiB of memory: as many bytes, each another one; one slice: 256 KiB, out of the processor's cache",
        "framework, files, hashed: the store's blocks, by the least code that verifies them",
        f"wrk is a closed loop: its {_CONNECTIONS} connections wait for their answers; a stall counts once for each",
        "memory: the server's largest resident size (VmHWM); uploads are AES-CTR key streams of unknown length",
    ]
    return section


def _large(bench: Bench, section: Section, raw: Raw, size: int) -> None:
    file = bench.space.random_file(size)
    alone = {
        "memory": "framework, 1 GiB of memory",
        "slice": "framework, one slice",
        "files": "framework, files, hashed",
    }
    runs: dict[str, list[float]] = {name: [] for name in ("put", "POST", "GET", *alone.values())}
    for repetition in range(bench.pick(7, 2)):
        folder = bench.space.fresh(f"server-{repetition}")
        bench.space.settle(file)
        put = [graviton_command(), "--quiet", "put", file]
        runs["put"].append(run(put, env=graviton_env(folder / "put")).wall_seconds)
        with ours(folder / "store") as server:
            bench.space.settle(file)
            seconds, blob = load.upload(server.url, file)
            runs["POST"].append(seconds)
            with framework(size, folder / "store" / "cas") as other:
                urls = {name: f"{other.url}/{route}" for route, name in alone.items()}
                urls["GET"] = f"{server.url}/api/blobs/{blob}"
                for url in urls.values():
                    load.download(url)  # warm then
                for name, url in urls.items():
                    runs[name].append(load.download(url))
        bench.space.drop(folder)
        bench.say(f"large bodies, repetition {repetition + 1}")
    raw["large, seconds"] = [runs]
    table = Table(["work", "seconds"])
    for name, found in runs.items():
        table.add(name, f"{sorted(found)[len(found) // 2]:.2f}")
    section.tables.append(table)
    section.verdicts += [
        Verdict.of("upload by curl: rate / graviton put", ratios(runs["put"], runs["POST"]), "x", 0.6, at_least=True),
        *(
            Verdict.of(f"download by curl: rate / {name}", ratios(runs[name], runs["GET"]), "x", target, at_least=True)
            for name, target in zip(alone.values(), (0.6, 0.6, None), strict=True)
        ),
    ]


def _small(bench: Bench, section: Section, raw: Raw) -> None:
    gets, posts = [], []
    seconds = bench.pick(5, 1)
    small = bench.space.random_file(_SMALL_BYTES)
    for repetition in range(bench.pick(5, 1)):
        folder = bench.space.fresh(f"small-{repetition}")
        with ours(folder) as server:
            _, blob = load.upload(server.url, small)
            gets.append(load.small_requests(f"{server.url}/api/blobs/{blob}", _CONNECTIONS, seconds))
            posts.append(load.small_requests(f"{server.url}/api/blobs", _CONNECTIONS, seconds, _LUA))
        bench.space.drop(folder)
        bench.say(f"small requests, repetition {repetition + 1}")
    raw["small, GET"], raw["small, POST"] = [one._asdict() for one in gets], [one._asdict() for one in posts]
    for name, found, target in (("GET", gets, 3000), ("durable POST", posts, 1000)):
        rates = [one.per_second for one in found]
        work = f"{name} of 4 KiB, {_CONNECTIONS} connections"
        section.verdicts.append(Verdict.of(work, rates, "/s", target, at_least=True))


def _both(bench: Bench, section: Section, raw: Raw) -> None:
    """Small GETs while four large uploads run, one connection after another's answer."""
    size = bench.pick(2 * GIB, 64 * MIB)
    late = []
    for repetition in range(bench.pick(5, 1)):
        folder = bench.space.fresh(f"both-{repetition}")
        small = bench.space.random_file(_SMALL_BYTES)
        with ours(folder) as server:
            _, blob = load.upload(server.url, small)
            with load.background([_upload_of(server.url, size, number) for number in range(4)]) as uploads:
                late.append(load.small_requests(f"{server.url}/api/blobs/{blob}", 4, bench.pick(5, 1)))
                uploads.check_running()
        bench.space.drop(folder)
        bench.say(f"small beside large, repetition {repetition + 1}")
    raw["small beside large, GET"] = [one._asdict() for one in late]
    section.verdicts.append(
        Verdict.of("p99 of small GETs while four uploads run", [one.p99_seconds * 1000 for one in late], "ms", 50)
    )


def _memory(bench: Bench, section: Section, raw: Raw) -> None:
    count, size = bench.pick(64, 8), bench.pick(128 * MIB, 8 * MIB)
    bench.space.need(3 * count * size)
    peaks = []
    for repetition in range(bench.pick(3, 1)):
        folder = bench.space.fresh(f"many-{repetition}")
        source = bench.space.random_file(size)
        with ours(folder) as server:
            _, blob = load.upload(server.url, source)
            get = f"curl -sSf -o /dev/null {server.url}/api/blobs/{blob}"
            uploads = [_upload_of(server.url, size, number) for number in range(count)]
            load.many([*uploads, *[get] * count])
            peaks.append(peak_bytes(server.pid) / MIB)
        bench.space.drop(folder)
        bench.say(f"{count} uploads and {count} downloads at once, repetition {repetition + 1}")
    raw["memory, MiB"] = peaks
    work = f"memory, {count} uploads and {count} downloads of {size >> 20} MiB at once"
    section.verdicts.append(Verdict.of(work, peaks, "MiB", 640))


def _upload_of(url: str, size: int, number: int) -> str:
    """A shell command that uploads bytes that nobody else has, without a file."""
    stream = f"head -c {size} /dev/zero | openssl enc -aes-128-ctr -K {number:032x} -iv {0:032x}"
    return f"{stream} | curl -sSf -o /dev/null -X POST -T - {url}/api/blobs"
