"""A target that is full, slow or closed loses lines, never the process; what was lost is counted and told."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from graviton.server import log_target
from graviton.server.log_target import LogTarget


class Pipe:
    """A pipe whose other end is read when a test wants it."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.lost: Counter[str] = Counter()

    def target(self, max_waiting_bytes: int = 100_000) -> LogTarget:
        return LogTarget(self.writing, self._count, lambda count: b"lost %d\n" % count, max_waiting_bytes)

    def _count(self, reason: str, count: int) -> None:
        self.lost[reason] += count

    def read_all(self) -> bytes:
        """Until the writing end is closed."""
        self.end()
        return self.read()

    def end(self) -> None:
        """Close the writing end."""
        os.close(self.writing)
        self.writing = -1

    def read(self) -> bytes:
        """Until somebody closes the writing end."""
        with open(self.reading, "rb", closefd=False) as file:
            return file.read()

    def close(self) -> None:
        for descriptor in (self.reading, self.writing):
            if descriptor >= 0:
                os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_lines_come_in_order(pipe: Pipe) -> None:
    target = pipe.target()
    for number in range(2_000):
        target.put(b"%d\n" % number)
    target.close()
    target.close()
    assert pipe.read_all() == b"".join(b"%d\n" % number for number in range(2_000))
    assert not pipe.lost


def test_lines_of_many_threads_are_whole(pipe: Pipe) -> None:
    target = pipe.target(10_000_000)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read()))
    reader.start()
    threads = [
        threading.Thread(target=lambda name=name: [target.put(b"%d" % name * 500 + b"\n") for _ in range(500)])
        for name in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    target.close(60)
    pipe.end()
    reader.join()
    lines = found[0].split(b"\n")
    assert len(lines) == 2_001
    assert Counter(line[:1] for line in lines if line) == {b"%d" % name: 500 for name in range(4)}
    assert all(len(set(line)) == 1 and len(line) == 500 for line in lines if line)


def test_a_full_target_is_not_waited_for_and_told_afterwards(pipe: Pipe) -> None:
    target = pipe.target()
    line = b"x" * 999 + b"\n"
    for _ in range(1_000):
        target.put(line)  # 64 KiB in the pipe, 64 KiB with the thread, 100 kB waiting
    kept = 1_000 - pipe.lost["full"]
    assert 100 <= kept <= 300, pipe.lost
    began = time.monotonic()
    target.close(0.05)
    assert time.monotonic() - began < 30
    data = b""
    while data.count(b"x\n") < kept:
        data += os.read(pipe.reading, 65_536)
    assert sum(map(int, re.findall(rb"lost (\d+)\n", data))) == 1_000 - kept
    target.put(line)
    assert pipe.lost["full"] == 1_001 - kept, "after its end nothing is taken"


def test_a_disk_that_is_full_loses_lines_and_counts_them() -> None:
    lost: Counter[str] = Counter()
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        target = LogTarget(full, lambda reason, count: lost.update({reason: count}), lambda count: b"lost\n")
        for _ in range(100):
            target.put(b"line\n")
        target.close()
    finally:
        os.close(full)
    assert lost == {"failed": 100}


@pytest.mark.parametrize("is_closed", [False, True], ids=["reader gone", "closed"])
def test_a_target_that_is_gone_loses_lines_and_counts_them(pipe: Pipe, is_closed: bool) -> None:
    target = pipe.target()
    if is_closed:
        os.close(pipe.writing)
        pipe.writing = -1
    else:
        os.close(pipe.reading)
        pipe.reading = -1
    for _ in range(10):
        target.put(b"line\n")
    target.close()
    assert pipe.lost == {"failed": 10}


def test_half_a_line_is_ended_before_the_next(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    real = os.write
    sizes = [3, -1]

    def write(descriptor: int, data: memoryview) -> int:
        if descriptor == pipe.writing and sizes:
            size = sizes.pop(0)
            if size < 0:
                raise OSError(28, "No space left on device")
            return real(descriptor, data[:size])
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    target = pipe.target()
    target.put(b"first\n")
    while not pipe.lost:
        time.sleep(0.001)
    target.put(b"second\n")
    target.close()
    assert pipe.lost == {"failed": 1}
    assert pipe.read_all() == b"fir\nlost 1\nsecond\n"


def test_a_target_that_does_not_block_is_waited_for(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    monkeypatch.setattr(log_target, "_PATIENCE_MS", 120_000)
    os.set_blocking(pipe.writing, False)
    target = pipe.target()
    line = b"x" * 999 + b"\n"
    for _ in range(150):
        target.put(line)
    data = b""
    while data.count(b"\n") < 150 - pipe.lost["full"]:
        data += os.read(pipe.reading, 65_536)
    target.close()
    assert not pipe.lost["failed"]


def test_one_that_stays_full_is_given_up(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    monkeypatch.setattr(log_target, "_PATIENCE_MS", 1)
    os.set_blocking(pipe.writing, False)
    target = pipe.target()
    for _ in range(90):
        target.put(b"x" * 999 + b"\n")  # more than a pipe holds
    target.close(60)
    assert pipe.lost["failed"] >= 90 - 66
