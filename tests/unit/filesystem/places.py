"""Places with a trouble that is real: read-only, full. What needs root says so when it cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def can_mount() -> bool:
    """Whether this process may mount; everything that needs it is skipped with a reason otherwise, but not in CI, where
    a skip would hide that nobody ever tried."""
    return bool(os.environ.get("CI")) or (os.geteuid() == 0 and shutil.which("mount") is not None)


def make_read_only(folder: Path) -> None:
    """From now on nobody, not even root, can write below `folder`. Undo with `make_writable`."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        return
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)


def make_writable(folder: Path) -> None:
    """Undo `make_read_only`; harmless if it was not done."""
    if os.geteuid() == 0:
        while f" {folder.resolve()} " in Path("/proc/self/mountinfo").read_text():  # ismount() misses bind mounts
            subprocess.run(["umount", str(folder)], check=True)
        return
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


@contextmanager
def small_disk(folder: Path, size_bytes: int, options: str = "") -> Iterator[Path]:
    """A file system of its own of that size, gone afterwards. Needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    more = f",{options}" if options else ""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700{more}", "tmpfs", str(folder)]
    subprocess.run(command, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
