"""The shim below Python: built once per run, preloaded into the process that forks the cases, armed in each of them."""

from __future__ import annotations

import ctypes
import subprocess
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("shim.c")


class Calls(IntFlag):
    """Classes of file system calls."""

    OPEN = 1
    WRITE = 2
    SYNC = 4
    NAME = 8
    SIZE = 16
    READ = 32
    CHANGES = OPEN | WRITE | SYNC | NAME | SIZE
    SPACE = WRITE | SYNC | SIZE
    ALL = CHANGES | READ


class Act(IntEnum):
    """What happens at the n-th call that counts."""

    COUNT = 0
    FAIL = 1
    FAIL_ON = 2
    """That call and every later one fails."""
    KILL = 3
    """SIGKILL before the call."""
    SHORT = 4
    """A write takes half of its bytes; later calls that need space fail if there is an errno."""
    TORN_KILL = 5
    """Half of the write, then SIGKILL."""


class Arm(NamedTuple):
    """How the shim is set for one case."""

    act: Act = Act.COUNT
    n: int = 0
    errno: int = 0
    calls: Calls = Calls.CHANGES
    log: str = ""
    """A file outside the watched folder that gets every call with its bytes."""


def build(folder: Path) -> Path:
    """Compile the shim into `folder`."""
    target = folder / "shim.so"
    # Without fortification and large-file redirection, so that every name below is the plain symbol.
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-U_FORTIFY_SOURCE"]
    subprocess.run(["gcc", *flags, "-o", str(target), str(SOURCE), "-ldl", "-lpthread"], check=True)
    return target


class Shim:
    """The preloaded shim as seen from inside a process that has it."""

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(None, use_errno=True)
        self._library.shim_seen.restype = ctypes.c_long
        self._library.shim_hits.restype = ctypes.c_long

    def arm(self, folder: str, arm: Arm, log_fd: int) -> None:
        """Watch the calls below `folder`."""
        self._library.shim_arm(
            folder.encode(), int(arm.act), ctypes.c_long(arm.n), arm.errno, int(arm.calls), ctypes.c_int(log_fd)
        )

    def disarm(self) -> tuple[int, int]:
        """Watch nothing any more; calls seen, calls that something was done to."""
        self._library.shim_disarm()
        return self._library.shim_seen(), self._library.shim_hits()

    def note(self, text: str) -> None:
        """Put a line of our own among the logged calls."""
        self._library.shim_note(text.encode())

    def syncfs(self, fd: int) -> None:
        """libc's, which the shim sees; the kernel module's goes past libc."""
        if self._library.syncfs(fd):
            number = ctypes.get_errno()
            raise OSError(number, "syncfs failed")
