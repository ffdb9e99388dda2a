"""The store marker as a file in the root folder of a filesystem store.

Structurally a `graviton.metadata.marker.MarkerStore`; knows nothing of what the bytes mean.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from graviton.concurrency.executors import in_own_thread
from graviton.errors import AlreadyExists, ConfigError, GravitonError, PermissionDenied, StorageFull, Unavailable
from graviton.metadata.local_files import sync_folder

__all__ = ["FsMarkerStore"]

_FILE_NAME = "graviton-store.json"
_MAX_READ_BYTES = 64 * 1024
"""More than any marker has; a huge file under its name must not be read into memory to learn that it is not one."""

_MARKER_BYTES = 512
"""Somewhat more than a marker has: the room that a new one needs."""

_NO_LINKS = frozenset((errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK))
"""What file systems without hard links answer (FAT, some network and FUSE file systems)."""


class FsMarkerStore:
    """The file `<root>/graviton-store.json`. Calls run on threads of their own; safe for many processes at once."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root)
        self._path = self._root / _FILE_NAME

    @property
    def where(self) -> str:
        """The root folder, which people know; not the file in it."""
        return str(self._root)

    @property
    def path(self) -> str:
        """The path of the file."""
        return str(self._path)

    async def read(self) -> bytes | None:
        """The bytes of the file; None if it, or the root folder, is not there. Raises ConfigError, PermissionDenied,
        Unavailable."""
        return await in_own_thread(self._read)

    async def write_new(self, data: bytes) -> None:
        """Make the file (and the root folder) durably and whole, or raise AlreadyExists and leave what is there."""
        await in_own_thread(self._write, data, False)

    async def replace(self, data: bytes) -> None:
        """Put `data` in the place of the file, durably and at once."""
        await in_own_thread(self._write, data, True)

    async def check_replace(self) -> None:
        """Write a file beside it, and remove that. Raises PermissionDenied, StorageFull, Unavailable."""
        await in_own_thread(self._check_replace)

    def _check_replace(self) -> None:
        with self._translated("write the store marker"):
            temporary = self._temporary()
            _write_synced(temporary, b" " * _MARKER_BYTES)
            os.unlink(temporary)

    def _temporary(self) -> Path:
        """Hidden and random: no reader takes it for the marker, and two writers never share it."""
        return self._root / f".{_FILE_NAME}.{secrets.token_hex(8)}.tmp"

    def _read(self) -> bytes | None:
        with self._translated("read the store marker"):
            try:
                with open(self._path, "rb") as file:
                    return file.read(_MAX_READ_BYTES)
            except FileNotFoundError:
                return None

    def _write(self, data: bytes, over: bool) -> None:
        with self._translated("write the store marker"):
            if not over:  # what is replaced lies in a folder: if that is gone it is unmounted, and not to be made
                _make_folder(self._root)
            temporary = self._temporary()
            try:
                _write_synced(temporary, data)
                if over:
                    os.replace(temporary, self._path)
                else:
                    _name_once(temporary, self._path, data)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
            sync_folder(str(self._root))

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _translate(error, action, str(self._path)) from error


def _make_folder(folder: Path) -> None:
    """Make the root folder and whatever lies above it, each durable before the next."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(str(folder.parent))


def _name_once(temporary: Path, path: Path, data: bytes) -> None:
    """Give the finished file its name unless the name is taken: a link never overwrites, a rename would."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without links only the creation is exclusive: a crash now leaves a short file, which is then refused as
        # damaged by everybody and can be removed by hand, because the store is still empty.
        _write_synced(path, data)


def _write_synced(path: Path, data: bytes) -> None:
    """Make a new file, durable when this returns and gone when it raises."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


_HINTS: dict[type[GravitonError], str] = {
    StorageFull: "Free space (or raise the quota) on the file system of the store, then try again.",
    PermissionDenied: "Check the owner and mode of the store's folder, and whether it is mounted read-only.",
    ConfigError: "Check --root or GRAVITON_FS_ROOT: a store lives in a folder.",
}


def _translate(error: OSError, action: str, path: str) -> GravitonError:
    reason = error.strerror or str(error)
    if isinstance(error, FileExistsError):
        return AlreadyExists(f"there is a store marker at {path} already", operation="store.init", subject=path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        kind: type[GravitonError] = StorageFull
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        kind = PermissionDenied
    elif error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG):
        kind = ConfigError
    else:
        kind = Unavailable
    hint = _HINTS.get(kind, "Look at the system log and the health of the disk; then try again.")
    return kind(f"cannot {action} {path}: {reason}", operation="store.open", subject=path, hint=hint)
