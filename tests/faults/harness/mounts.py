"""Small real file systems, for root only: a tmpfs or an ext4 in a file, unmounted whatever happens."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def may_mount() -> bool:
    """Whether this process may mount at all; containers often say no to root too. In CI it must: there a skip would
    hide that nobody ever tried, so mounting fails and says why."""
    if os.environ.get("CI"):
        return True
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


@contextmanager
def mounted(folder: Path, kind: str, size: int) -> Iterator[Path]:
    """A file system of `size` bytes, mounted at the path given."""
    target = folder / f"mounted-{kind}"
    target.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(target)]
    else:
        image = folder / "image.ext4"
        image.touch()
        os.truncate(image, size)
        # 4 KiB as on every disk of some size. With the 1 KiB blocks that mke2fs gives so small a one, SQLite dies of
        # SIGBUS on a full disk: it reserves one byte per page of its -shm file, which is only one block of four.
        subprocess.run(["mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-O", "^has_journal", str(image)], check=True)
        command = ["mount", "-o", "loop", str(image), str(target)]
    subprocess.run(command, check=True)
    try:
        yield target
    finally:
        # Lazily: a test that failed may still hold something open there.
        subprocess.run(["umount", "--lazy", str(target)], check=True)


def remount(target: Path, option: str) -> None:
    """Remount with `ro` or `rw`."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(target)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill the file system until `leave` bytes are left; the file that does it."""
    hog = folder / "hog"
    with open(hog, "wb", buffering=0) as file:
        for piece in (1 << 16, 1 << 12, 1 << 10):
            try:
                while True:
                    file.write(bytes(piece))
            except OSError:
                continue
        file.truncate(max(0, file.tell() - leave))
        os.fsync(file.fileno())
    return hog
