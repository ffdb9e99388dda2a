"""`graviton meta backup FILE`: all metadata in one file, online and consistent, but for uploads that go on.

Everything is read inside one snapshot of the store and written as it is read, so memory is bounded and puts go on
meanwhile where the backend can do that. The file appears under its name whole and durable, or not at all.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.core.clock import Clock, SystemClock
from graviton.errors import (
    AlreadyExists,
    ConfigError,
    GravitonError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    StorageFull,
    Unavailable,
)
from graviton.metadata.backup_format import BackupHeader, Encoder, Record
from graviton.metadata.local_files import sync_folder
from graviton.metadata.marker import StoreMarker
from graviton.metadata.pairing import MARKER_KEY, RESTORING_KEY
from graviton.metadata.passing import PassingRows
from graviton.metadata.rows import OWN_NAMESPACES, STORE
from graviton.ports.kv import KeyValueStore, ReadTransaction

__all__ = ["BackupResult", "backup_metadata", "translate_os_error"]

NO_STORE_ID = "0" * 32
"""Store id in the header when the metadata has no marker."""

_PROGRESS_EVERY = 4096
"""Records between two calls of `progress`, and between two looks whether the caller has gone: some milliseconds."""

_BUFFER_BYTES = 1 << 20

Progress = Callable[[int, int], None]
"""Called now and then with the records and bytes written so far, on the thread that reads the store; must be quick."""


class BackupResult(NamedTuple):
    """A finished backup."""

    store_id: str
    records: int
    size: int
    """Bytes of the file."""


class _StoppedError(Exception):
    """The caller was cancelled: ends the reading function early."""


async def backup_metadata(
    kv: KeyValueStore,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> BackupResult:
    """Write all metadata to the new file `path`.

    With `overwrite` a file that is there is replaced, behind a link too; a device or pipe never is.

    Raises AlreadyExists (unless `overwrite`), InvalidInput for a device or pipe, NotFound for a missing folder,
    ConfigError while a restore is unfinished, StorageFull, PermissionDenied, Unavailable, IntegrityError. A failed
    backup leaves no file, unless even its temporary one (`.NAME.*.tmp`) cannot be removed. Neither does a cancelled one
    unless it was just getting its name, which it then has, whole.
    """
    with WorkerPool(1, "meta.backup") as pool:
        target = await in_thread(pool, _target, Path(path), overwrite)
        run = _Run(target, (clock or SystemClock()).now_ns(), progress)
        try:
            await in_thread(pool, run.open)
            while True:
                names = await kv.namespaces()
                result = await kv.read(lambda tx: run.write(tx, names))  # noqa: B023 - awaited before names changes
                if await kv.namespaces() == names:
                    break
                # A namespace was born since the names were listed, perhaps before the snapshot: it would be missing.
            await pool.run(partial(run.publish, overwrite))
        except OSError as error:
            raise translate_os_error(error, "write", target) from error
        finally:
            run.discard()
    return result


def _target(path: Path, overwrite: bool) -> Path:
    """Where the file goes. Raises AlreadyExists, InvalidInput."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = stat.S_IFREG  # not there, or making it says why that cannot be
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InvalidInput(
            f"{path} is a device, pipe or socket, and a backup takes its name as a whole file",
            operation="meta.backup",
            subject=str(path),
            hint="Name a file.",
        )
    if not overwrite and os.path.lexists(path):
        raise _exists(path)
    return Path(os.path.realpath(path)) if overwrite else path


class _Run:
    """One backup: the temporary file and what goes into it. `write` may still be running on another thread when
    `discard` is called; closing the file takes its lock and ends it."""

    def __init__(self, target: Path, now_ns: int, progress: Progress | None) -> None:
        self._target = target
        self._temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
        self._now_ns = now_ns
        self._progress = progress
        self._file: BinaryIO | None = None
        self._stopped = False

    def open(self) -> None:
        """Make the temporary file, for this user only: metadata tells what is stored."""
        fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(fd, "wb", _BUFFER_BYTES)

    def write(self, tx: ReadTransaction, names: Sequence[str]) -> BackupResult:
        """Write everything there is in `names`; may be run again."""
        file = self._file
        if file is None or self._stopped:
            raise _StoppedError
        file.seek(0)
        file.truncate()
        encoder, store_id, passing = Encoder(), _store_id(tx), PassingRows()
        size = file.write(encoder.header(BackupHeader(store_id, self._now_ns)))
        for name in sorted(set(names) - OWN_NAMESPACES):
            for key, value in tx.scan(name):
                if passing.has(name, key, value):
                    continue
                size += file.write(encoder.record(Record(name, key, value)))
                if encoder.records % _PROGRESS_EVERY == 0:
                    self._report(encoder.records, size)
        size += file.write(encoder.trailer())
        file.flush()
        self._report(encoder.records, size)
        return BackupResult(store_id, encoder.records, size)

    def _report(self, records: int, size: int) -> None:
        if self._stopped:
            raise _StoppedError
        if self._progress is not None:
            self._progress(records, size)

    def publish(self, overwrite: bool, flag: CancelFlag) -> None:
        """Make the file durable and give it its name, if that is still wanted by then."""
        assert self._file is not None, "published before it was opened"
        os.fsync(self._file.fileno())
        flag.check()
        if overwrite:
            os.replace(self._temporary, self._target)
        else:
            _name_once(self._temporary, self._target)
        sync_folder(str(self._target.parent))

    def discard(self) -> None:
        """Close and remove what is left of the temporary file. Idempotent."""
        self._stopped = True
        file = self._file
        if file is not None:
            with suppress(OSError):  # the bytes left in the buffer do not matter: published ones were flushed
                file.close()
        # Best effort: by now there is a backup, an error or a cancellation to be told, and the name says what is left.
        with suppress(OSError):
            os.unlink(self._temporary)


def _store_id(tx: ReadTransaction) -> str:
    if tx.get(STORE, RESTORING_KEY) is not None:
        raise ConfigError(
            "the metadata is only half restored, so it cannot be backed up",
            operation="meta.backup",
            hint="Run `graviton meta restore FILE` again; it starts over.",
        )
    data = tx.get(STORE, MARKER_KEY)
    return NO_STORE_ID if data is None else StoreMarker.decode(data, "the metadata").store_id


def _name_once(temporary: Path, target: Path) -> None:
    """Give the finished file its name unless the name is taken."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if os.path.lexists(target):  # no hard links there (a USB stick): not atomic, but nothing else is possible
            raise _exists(target) from None
        os.replace(temporary, target)


def _exists(path: Path) -> AlreadyExists:
    return AlreadyExists(
        f"{path} is there already",
        operation="meta.backup",
        subject=str(path),
        hint="Choose another name, or replace it with --force (in a program: overwrite=True).",
    )


def translate_os_error(error: OSError, action: str, path: Path) -> GravitonError:
    """What the operating system said about a backup file, as one of our errors."""
    kinds: dict[int | None, type[GravitonError]] = {
        errno.ENOSPC: StorageFull,
        errno.EDQUOT: StorageFull,
        errno.EFBIG: StorageFull,
        errno.EACCES: PermissionDenied,
        errno.EPERM: PermissionDenied,
        errno.EROFS: PermissionDenied,
        errno.ENOENT: NotFound,
        errno.ENOTDIR: NotFound,
        errno.EISDIR: AlreadyExists,
    }
    kind = kinds.get(error.errno, Unavailable)
    hints: dict[type[GravitonError], str] = {
        StorageFull: "Free space there or choose another place for the backup.",
        PermissionDenied: "Check the owner and mode of the folder, or choose another place for the backup.",
        NotFound: "Check the path; its folder must be there.",
        AlreadyExists: "That is a folder: name a file in it.",
    }
    hint = hints.get(kind, "Look at the system log and the health of the disk; then try again.")
    return kind(f"cannot {action} {path}: {error.strerror or error}", operation="meta", subject=str(path), hint=hint)
