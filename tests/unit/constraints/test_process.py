"""What is freed is kept: measured in page faults of a process of its own, because it holds for all of one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]

PROGRAM = """
import resource, sys, threading
from graviton.constraints.process import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory(128 << 20)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def read(count):
    for _ in range(count):
        blocks = [b"x" * (700_000 + number % 7 * 100_000) for number in range(24)]
        del blocks

def on_two_threads(count):
    threads = [threading.Thread(target=read, args=(count,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

on_two_threads(5)
before = faults()
on_two_threads(20)
print(faults() - before)
"""


def _faults(how: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        env={**environment, "PYTHONPATH": f"{REPOSITORY}/src"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept() -> None:
    assert _faults("keep") * 10 < _faults("leave")


def test_what_there_is_is_out_of_the_sight_of_the_collector() -> None:
    code = (
        "import gc; from graviton.constraints.process import spare_the_collector; spare_the_collector();"
        " print(gc.get_freeze_count() > 1000, len(gc.get_objects()) < 100)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["True", "True"]
