"""Where does the time of a large put go? Of the second put, and of the get?

`python -m benchmarks.profile_put [--mib 1024]` runs all three in this process, with clocks in the program's own stages,
and whole processes beside them, whose difference is starting and ending Python. The clocks cost a few percent.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.__main__ import WORK
from benchmarks.harness.figures import seconds_text
from benchmarks.harness.probes import probe
from benchmarks.harness.process import run
from benchmarks.harness.report import terminal_table
from benchmarks.harness.section import Section, Table, graviton_command, graviton_env
from benchmarks.harness.space import MIB, Space
from benchmarks.harness.stages import Stages


async def inside(stages: Stages, root: Path, source: Path, target: Path) -> list[Table]:
    """Put, put again and get through the library, stage by stage."""
    import graviton

    tables = []

    async def timed(title: str, work: Callable[[], Awaitable[object]]) -> object:
        stages.take()
        begin, cpu = time.perf_counter(), time.process_time()
        result = await work()
        tables.append(stages.table(title, time.perf_counter() - begin, time.process_time() - cpu))
        return result

    async with graviton.open(root) as store:
        await store.init()
        result = await timed("put", lambda: store.put(source))
        os.sync()
        await timed("put again", lambda: store.put(source))
        assert isinstance(result, graviton.BlobWriteResult)

        async def get() -> None:
            async with await store.get(result.key) as reader:
                with target.open("wb", buffering=0) as file:
                    await reader.write_to(file.fileno())

        await timed("get", get)
    return tables


def outside(space: Space, source: Path) -> Table:
    """The same as whole processes."""
    home = space.fresh("outside")
    env = graviton_env(home / "store")
    table = Table(["whole process", "wall", "CPU"])
    blob_id = ""
    for work in ("--version", "put", "put again", "get"):
        words = {"--version": ["--version"], "get": ["get", blob_id, "-o", str(home / "back")]}
        space.settle(source)
        done = run([graviton_command(), *words.get(work, ["put", str(source)])], env=env)
        blob_id = done.output.split()[0] if "put" in work else blob_id
        table.add(work, seconds_text(done.wall_seconds), seconds_text(done.cpu_seconds))
    return table


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file (1024)")
    options = parser.parse_args()
    stages = Stages()
    with Space(WORK) as space:
        source = space.random_file(options.mib * MIB)
        whole = outside(space, source)
        probe(stages)
        home = space.fresh("inside")
        space.settle(source)
        tables = asyncio.run(inside(stages, home / "store", source, home / "back"))
    print(terminal_table(Section("profile", "profile", tables=[*tables, whole])))


if __name__ == "__main__":
    main()
