"""Scratch space: inputs, fresh folders, and the state of the page cache before a measurement."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from blake3 import blake3

__all__ = ["NoSpaceError", "Space", "same_bytes", "write_random"]

MIB = 1024 * 1024
GIB = 1024 * MIB
PIECE_BYTES = 4 * MIB
SPARE_BYTES = 2 * GIB
"""Left free on the disk whatever a measurement asks for: other people work there too."""


class NoSpaceError(Exception):
    """A measurement would fill the disk."""


class Space:
    """One folder under benchmarks/work for one run; everything in it is removed at the end."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self.root = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
        _spread_folders(self.root)
        self._inputs: dict[int, Path] = {}
        self._made = 0

    def __enter__(self) -> Space:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def need(self, size: int) -> None:
        """Raise NoSpaceError unless `size` bytes can be written and something is left."""
        free = shutil.disk_usage(self.root).free
        if free < size + SPARE_BYTES:
            raise NoSpaceError(
                f"needs {size / GIB:.0f} GiB of disk beside a reserve of 2 GiB; {free / GIB:.0f} GiB are free"
            )

    def random_file(self, size: int) -> Path:
        """A file of random bytes, the same in every run; made once."""
        if size not in self._inputs:
            self.need(size)
            path = self.root / f"random-{size}.bin"
            write_random(path, size)
            self._inputs[size] = path
        return self._inputs[size]

    def forget(self, size: int) -> None:
        """Remove an input."""
        self._inputs.pop(size).unlink()

    def fresh(self, name: str) -> Path:
        """A new, empty folder; its name begins with `name` and was never used before (see `_spread_folders`)."""
        self._made += 1
        folder = self.root / f"{name}-{self._made}"
        folder.mkdir()
        return folder

    def drop(self, folder: Path) -> None:
        """Remove a folder with all that is in it."""
        shutil.rmtree(folder)

    def settle(self, *inputs: Path) -> None:
        """What a run must not pay for: write-back that earlier ones left, and reading its input from the disk."""
        os.sync()
        for path in inputs:
            with path.open("rb", buffering=0) as file:
                while file.read(PIECE_BYTES):
                    pass


def _spread_folders(folder: Path) -> None:
    """On ext4, let each folder made in `folder` begin in another part of the disk.

    ext4 does not use an inode again for one to five minutes after it was deleted, and finds that out anew for each file
    it creates nearby (fs/ext4/ialloc.c, recently_deleted): where a store of 10,000 files was removed, creating a file
    takes 500 us instead of 40. Without this a tool would pay for the clean-up after the one before it. Where a folder
    begins depends on its name, so names are not used twice.
    """
    if shutil.which("chattr"):
        subprocess.run(["chattr", "+T", str(folder)], capture_output=True, check=False)


def write_random(path: Path, size: int, seed: bytes = b"graviton benchmarks") -> None:
    """Incompressible bytes without repetition: the extendable output of BLAKE3."""
    stream = blake3(seed)
    with path.open("wb", buffering=0) as file:
        for at in range(0, size, PIECE_BYTES):
            file.write(stream.digest(min(PIECE_BYTES, size - at), seek=at))


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb", buffering=0) as left, other.open("rb", buffering=0) as right:
        while piece := left.read(PIECE_BYTES):
            if piece != right.read(len(piece)):
                return False
    return True
