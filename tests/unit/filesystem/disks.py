"""Disks that fail, stop short, wait, remember or kill the process at a chosen system call."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from graviton.backends.filesystem._disk import Disk

CALLS = (
    "open_folder", "create", "open", "write", "read", "read_at", "copy", "write_back", "fsync", "close", "rename",
    "unlink", "stat", "fstat", "mkdir", "rmdir", "scandir",
)  # fmt: skip


class SteppedDisk(Disk):
    """Calls `step(name, args)` at every system call; of `close` after it, so that nothing leaks.

    `fsync` only steps: no test can cut the power, and thousands of real ones take minutes."""

    def step(self, name: str, args: tuple[Any, ...]) -> None:
        raise NotImplementedError


def _stepped(name: str) -> Any:
    real = getattr(Disk, name)

    def call(self: SteppedDisk, *args: Any, **kwargs: Any) -> Any:
        if name != "close":
            self.step(name, args)
            return None if name == "fsync" else real(self, *args, **kwargs)
        real(self, *args, **kwargs)
        return self.step(name, args)

    return call


for _name in CALLS:
    setattr(SteppedDisk, _name, _stepped(_name))


class RecordingDisk(SteppedDisk):
    """Remembers the calls in their order, with the name that a descriptor was opened under."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def step(self, name: str, args: tuple[Any, ...]) -> None:
        what = args
        if name in ("fsync", "write", "write_back") and args:
            what = (os.readlink(f"/proc/self/fd/{args[0]}"),)
        self.calls.append((name, what))


class FailingDisk(SteppedDisk):
    """The n-th call (of those in `only`, if given) fails with an errno, once; n counts from 1."""

    def __init__(self, at: int, number: int, only: tuple[str, ...] = ()) -> None:
        self.at = at
        self.number = number
        self.only = only
        self.count = 0
        self.failed = ""
        self.failed_args: tuple[Any, ...] = ()
        self._lock = threading.Lock()

    def step(self, name: str, args: tuple[Any, ...]) -> None:
        if self.only and name not in self.only:
            return
        with self._lock:
            self.count += 1
            if self.count != self.at:
                return
            self.failed = name
            self.failed_args = args
        raise OSError(self.number, os.strerror(self.number))


class ShortDisk(Disk):
    """Takes and gives a few bytes at a time."""

    def __init__(self, most: int) -> None:
        self.most = most

    def write(self, fd: int, data: Any) -> int:
        return os.write(fd, memoryview(data)[: self.most])

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, min(size, self.most))

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, min(size, self.most), offset)


class PausingDisk(SteppedDisk):
    """The n-th call waits until it is let go."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self._lock = threading.Lock()

    def step(self, name: str, args: tuple[Any, ...]) -> None:
        with self._lock:
            self.count += 1
            mine = self.count == self.at
        if mine:
            self.reached.set()
            assert self.go_on.wait(10.0)


class KillingDisk(SteppedDisk):
    """The n-th call is the last thing this process begins."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def step(self, name: str, args: tuple[Any, ...]) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
