"""Sizes of blocks that are plain files, without opening them: what a quick verification compares."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.core.keys import BlockKey
from graviton.errors import PermissionDenied, Unavailable

__all__ = ["FileSizes"]

_THREADS: Final = 4
"""As many looks at once as a verification has streams."""


class FileSizes:
    """Looks at `<folder>/<algo>/<hex>-<size>`, the exact layout of a filesystem store. Its threads end with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.absolute())
        self._pool = WorkerPool(_THREADS, "verify")

    async def __call__(self, keys: Sequence[BlockKey]) -> list[int | None]:
        """Bytes of each block's file; None where there is no regular file. Raises PermissionDenied, Unavailable."""
        return await in_thread(self._pool, self._look, keys)

    def _look(self, keys: Sequence[BlockKey]) -> list[int | None]:
        return [self._size(f"{self._folder}/{key.algo.value}/{key.hex}-{key.size}") for key in keys]

    def _size(self, path: str) -> int | None:
        try:
            found = os.stat(path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise PermissionDenied(f"cannot look at {path}: {error.strerror}", subject=path) from error
        except OSError as error:
            raise Unavailable(f"cannot look at {path}: {error.strerror or error}", subject=path) from error
        return found.st_size if stat.S_ISREG(found.st_mode) else None
