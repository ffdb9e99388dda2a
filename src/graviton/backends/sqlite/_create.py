"""Making a new database file: it appears complete, durable and ours, or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from contextlib import closing, suppress
from typing import Final
from urllib.parse import quote

from graviton.metadata.local_files import make_folder, remove_made, sync_folder

__all__ = ["APPLICATION_ID", "FORMAT_VERSION", "PAGE_BYTES", "beside", "create_file", "uri"]

APPLICATION_ID: Final = 0x47726176
"""`Grav` in ASCII, at offset 68 of the file: `file` and SQLite's tools show it; what lacks it is not ours."""
FORMAT_VERSION: Final = 1
"""`PRAGMA user_version`: how tables and rows look (docs/formats/sqlite-key-value.md)."""
PAGE_BYTES: Final = 4096
"""The page size of the file systems and SSDs underneath: a small commit writes two or three pages to the WAL."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems without hard links answer."""


def uri(path: str, parameters: str) -> str:
    """SQLite's name for the file at `path`, whose bytes need not be text."""
    return f"file:{quote(os.fsencode(path))}?{parameters}"


def beside(path: str, suffix: str) -> str:
    """What belongs to the database at `path`: `-wal` or `-shm`. SQLite follows symbolic links before it names them."""
    return os.path.realpath(path) + suffix


def create_file(path: str) -> None:
    """Create the database at `path` unless somebody else does meanwhile; durable either way.

    It is prepared under a temporary name and linked to its own, which fails if there is a file already: two processes
    that begin at once use the same one, and no crash leaves half a database. Where it cannot be made, folders made for
    it are removed again. Raises OSError and sqlite3.Error.
    """
    folder = os.path.dirname(path)
    made: list[str] = []
    try:
        make_folder(folder, made)
        _make_file(path, folder)
    except BaseException:
        remove_made(made)
        raise
    sync_folder(folder)


def _make_file(path: str, folder: str) -> None:
    temp = os.path.join(folder, f".{os.path.basename(path)}.tmp-{secrets.token_hex(8)}")
    os.close(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        _initialise(temp)
        _sync(temp)
        try:
            os.link(temp, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _claim_and_rename(temp, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temp)


def _claim_and_rename(temp: str, path: str) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    os.rename(temp, path)


def _initialise(temp: str) -> None:
    with closing(sqlite3.connect(uri(temp, "mode=rw"), uri=True, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = MEMORY")  # no file beside it; what has no name yet needs no rollback
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.execute("COMMIT")
        # Last, so that the two numbers are in the file itself and never only in a WAL.
        connection.execute("PRAGMA journal_mode = WAL").fetchone()


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
