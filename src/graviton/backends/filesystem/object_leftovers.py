"""What killed puts leave below an object store: temporary files and empty folders, which no listing shows."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from graviton.backends.filesystem._object_names import FOLDER
from graviton.backends.filesystem.errors import mapped
from graviton.concurrency.executors import in_own_thread

__all__ = ["FsObjectLeftovers"]


class FsObjectLeftovers:
    """The first folders of paths below an object store's root, each belonging to somebody who may be gone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def owners(self) -> list[str]:
        """The first segments of paths that have a folder, whatever is in it."""
        return await in_own_thread(self._owners)

    def _owners(self) -> list[str]:
        with mapped("objects.list", str(self._root)), suppress(FileNotFoundError):
            names = os.listdir(os.fsencode(self._root))
            return [os.fsdecode(name[len(FOLDER) :]) for name in names if name.startswith(FOLDER)]
        return []

    async def remove(self, owner: str) -> None:
        """Remove such a folder with everything in it; a put into it that is going on fails."""
        await in_own_thread(self._remove, owner)

    def _remove(self, owner: str) -> None:
        path = os.path.join(os.fsencode(self._root), FOLDER + os.fsencode(owner))
        with mapped("objects.delete", os.fsdecode(path)), suppress(FileNotFoundError):
            shutil.rmtree(path)
