"""Two processes on one RocksDB store: the second is told who has it, may wait, and may look."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.harness.bench import Reach
from tests.integration.cli_process import Outcome
from tests.integration.command_runs import graviton

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"}

HOLDER = """
import asyncio, sys
import graviton

async def main():
    async with graviton.open(sys.argv[1], metadata="rocksdb://") as store:
        await store.put(b"of the holder")
        print("open", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


def rocks(root: Path, *args: str | Path, **environment: str) -> Outcome:
    return graviton(root, *args, GRAVITON_METADATA="rocksdb", **environment)


@contextmanager
def held(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the store open until it reads a line."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        yield holder
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait(30)
        holder.stdout.close()


def test_the_second_process_is_told_who_has_the_store_and_what_to_do(tmp_path: Path) -> None:
    root, file = tmp_path / "store", tmp_path / "file"
    file.write_bytes(b"of the second")
    with held(root) as holder:
        for args in (("ls",), ("put", file), ("stats",), ("--lock-wait", "0.2", "ls")):
            run = rocks(root, *args)
            assert run.code != 0
            assert f"in use by process {holder.pid}" in run.err
            assert "--lock-wait" in run.err
            assert "sqlite" in run.err
        looked = rocks(root, "doctor", "--json")
        store = next(one for one in looked.objects if one.get("check") == "store")
        in_use = next(one for one in looked.objects if one.get("check") == "metadata.in_use")
        assert (looked.code, store["blobs"], in_use["holder"]) == (0, 1, f"process {holder.pid}")
    assert rocks(root, "put", file).code == 0
    assert len(rocks(root, "ls", "--json").objects) == 2


def test_the_second_process_waits_for_the_first(tmp_path: Path) -> None:
    root = tmp_path / "store"
    for args, environment in (
        (("--lock-wait", "30", "ls", "--json"), {}),
        (("ls", "--json"), {"GRAVITON_LOCK_WAIT": "30"}),
    ):
        with held(root) as holder:
            waiting = subprocess.Popen(
                [sys.executable, "-m", "graviton.cli.main", "--root", str(root), *args],
                env={**ENVIRONMENT, "GRAVITON_METADATA": "rocksdb", **environment},
                stdout=subprocess.PIPE,
                text=True,
            )
            time.sleep(1)
            assert waiting.poll() is None
            assert holder.stdin is not None
            holder.stdin.close()
            out, _ = waiting.communicate(timeout=30)
            assert waiting.returncode == 0
            assert out.count("blake3:") == 1


def test_a_wrong_time_to_wait_is_wrong_usage(tmp_path: Path) -> None:
    for text in ("soon", "-1", "1e3", "99999"):
        run = rocks(tmp_path / "store", f"--lock-wait={text}", "ls")
        assert run.code == 2
        assert "--lock-wait" in run.err
    run = rocks(tmp_path / "store", "ls", GRAVITON_LOCK_WAIT="soon")
    assert run.code != 0
    assert "GRAVITON_LOCK_WAIT" in run.err


def test_a_killed_holder_gives_the_store_back(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with held(root) as holder:
        holder.kill()
        holder.wait(30)
        assert len(rocks(root, "ls", "--json").objects) == 1


OPENERS = """
import asyncio, sys, time
from pathlib import Path

import pytest
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore

async def main():
    me, wait, seconds = sys.argv[2].encode(), float(sys.argv[3]), float(sys.argv[4])
    n, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        store = RocksKeyValueStore(RocksConfig(Path(sys.argv[1]), lock_wait_seconds=wait))
        try:
            await store.put(sys.argv[2] + str(n % 20), b"%06d" % n, b"")
            await store.put("all", me + b"%06d" % n, b"")
            n += 1
        except Exception as error:
            if wait or "in use" not in str(error):
                print(type(error).__name__, error)
        await store.aclose()
    print(n)

asyncio.run(main())
"""


@pytest.mark.parametrize("wait", ["0", "60"])
def test_processes_that_open_at_once_are_told_to_wait_and_nothing_else(reach: Reach, tmp_path: Path, wait: str) -> None:
    """RocksDB moves files of its folder before it asks for its lock."""
    seconds = str(reach.times(2, 8))
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENERS, str(tmp_path / "kv"), name, wait, seconds],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "c", "d")
    ]
    said = [opener.communicate(timeout=120)[0].split("\n") for opener in openers]
    assert [lines[:-2] for lines in said] == [[], [], [], []]
    assert sum(int(lines[-2]) for lines in said) > 4
