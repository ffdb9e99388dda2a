"""Opening connections: refuse what is not ours before anything is touched, and set every PRAGMA that matters.

`synchronous` belongs to a connection, not to the file, and cannot be changed inside a transaction. In WAL mode FULL
fsyncs the WAL at each commit; NORMAL leaves it to the system, so a commit survives the end of the process but not of
the power. The WAL is one sequence: the fsync of a later FULL commit makes all earlier ones durable, and after a power
cut SQLite replays it up to the first frame that is missing, so nothing later survives without it.

Never open and close the database file by hand (to look at its header, say): POSIX drops all locks this process has on
a file when *any* descriptor of it is closed (https://sqlite.org/howtocorrupt.html section 2.2). SQLite itself, whose
connections know of each other, reads the header for us.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final, TypeAlias

from graviton.backends.sqlite._create import APPLICATION_ID, FORMAT_VERSION, beside, create_file, uri
from graviton.backends.sqlite._forks import check_not_inherited
from graviton.backends.sqlite.config import SqliteConfig
from graviton.backends.sqlite.errors import FAILURES, Failure, damaged, primary_code, translate
from graviton.errors import ConfigError, NotFound, Unavailable
from graviton.metadata.local_files import sync_folder, translate_os

__all__ = ["Connect", "connect", "open_reader", "open_writer"]

Connect: TypeAlias = Callable[[str, SqliteConfig], sqlite3.Connection]
"""Opens the URI given, for one thread at a time that is not always the same; tests put a connection that fails at
chosen statements here."""

OPERATION: Final = "metadata.open"
_CACHED_STATEMENTS: Final = 128
"""Prepared statements kept per connection: 8 per namespace, and there are about 15 namespaces."""
_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""A WAL that grew beyond this behind a long read is cut back to it by the next checkpoint that completes."""
_EMPTY_WAIT_SECONDS: Final = 0.5
"""Where there are no hard links, a file is empty for the moment in which another process creates it."""


def connect(name: str, config: SqliteConfig) -> sqlite3.Connection:
    """The real `Connect`."""
    connection = sqlite3.connect(
        name,
        uri=True,
        timeout=config.busy_timeout_seconds,
        check_same_thread=False,  # the writer's is used by one thread at a time, but not always the same
        isolation_level=None,  # transactions begin and end only where we say so
        cached_statements=_CACHED_STATEMENTS,
    )
    connection.text_factory = bytes  # a damaged type byte must not become a decoding error
    return connection


def open_writer(config: SqliteConfig, connect: Connect = connect) -> sqlite3.Connection:
    """A connection that may write. Raises NotFound, ConfigError, IntegrityError, PermissionDenied, Unavailable."""
    path = _prepare(config, connect)
    try:
        connection = connect(uri(path, "mode=rw"), config)
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            _set_up(connection, config.writer_cache_bytes)
            connection.execute("PRAGMA wal_autocheckpoint = 0").fetchone()  # it drops errors: the writer does it
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}").fetchone()
            # SQLite does so too at the first sync of a new WAL, and ignores an error: the WAL could lose its name.
            sync_folder(os.path.dirname(os.path.realpath(path)))
        except BaseException:
            connection.close()
            raise
    except FAILURES as error:
        raise translate(error, path, OPERATION) from error
    except OSError as error:
        raise translate_os(error, path, OPERATION, "sync the folder of") from error
    return connection


def open_reader(config: SqliteConfig, connect: Connect = connect) -> sqlite3.Connection:
    """A connection that only reads; also on a read-only mount. Raises as `open_writer`."""
    path = _prepare(config, connect)
    errors: list[Failure] = []
    for parameters in ("mode=rw", "mode=ro", "immutable=1"):
        # `immutable` looks at no lock and no WAL: right only where nobody at all can write and no WAL holds data.
        if parameters == "immutable=1" and not (_is_read_only_mount(path) and _wal_is_empty(path)):
            break
        try:
            return _reader(uri(path, parameters), config, connect)
        except FAILURES as error:
            if primary_code(error) not in (8, 14):  # READONLY, CANTOPEN: no place for the WAL index
                raise translate(error, path, OPERATION) from error
            errors.append(error)
    if _is_read_only_mount(path) and not _wal_is_empty(path):
        raise Unavailable(
            f"{path} lies on a read-only file system and its -wal holds changes that cannot be read there",
            operation=OPERATION,
            subject=path,
            hint="Copy the file together with its -wal to a writable folder, or mount it writable once.",
        ) from errors[-1]
    raise translate(errors[0], path, OPERATION) from errors[0]


def _reader(name: str, config: SqliteConfig, connect: Connect) -> sqlite3.Connection:
    connection = connect(name, config)
    try:
        _set_up(connection, config.reader_cache_bytes)
        connection.execute("PRAGMA query_only = ON").fetchone()
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the WAL: may fail now, not later
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, cache_bytes: int) -> None:
    for setting in (
        "mmap_size = 0",  # an I/O error in mapped memory is a SIGBUS, and mapped pages count as ours
        f"cache_size = -{cache_bytes // 1024}",
        "temp_store = MEMORY",
        "cell_size_check = ON",  # notice damaged pages earlier
        "trusted_schema = OFF",  # whatever a damaged or foreign schema says, run none of it
    ):
        connection.execute(f"PRAGMA {setting}").fetchone()


def _prepare(config: SqliteConfig, connect: Connect) -> str:
    """The path of a database that is there and ours."""
    path = str(config.path)
    check_not_inherited(path)
    try:
        size = _size(path)
        if size is None:
            if not config.create:
                raise NotFound(
                    f"there is no metadata store at {path}",
                    operation=OPERATION,
                    subject=path,
                    hint="Check the path; `graviton store init` creates a new store.",
                )
            create_file(path)
            size = _size(path)
    except OSError as error:
        raise translate_os(error, path, OPERATION, "open or create") from error
    except FAILURES as error:
        raise translate(error, path, OPERATION) from error
    if not size:
        raise damaged(path, OPERATION, "the file is empty")
    _check_identity(path, config, connect)
    return path


def _size(path: str) -> int | None:
    deadline = time.monotonic() + _EMPTY_WAIT_SECONDS
    while True:
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            return None
        if size or time.monotonic() > deadline:
            return size
        time.sleep(0.01)


def _check_identity(path: str, config: SqliteConfig, connect: Connect) -> None:
    try:
        try:
            application, version = _identity(uri(path, "immutable=1"), config, connect)
        except FAILURES as error:
            if primary_code(error) != 11:
                raise
            # CORRUPT: perhaps only a checkpoint of another process in this very moment, which a look without locks
            # cannot tell from damage; so look again with them.
            application, version = _identity(uri(path, "mode=ro"), config, connect)
    except FAILURES as error:
        raise translate(error, path, OPERATION) from error
    if application != APPLICATION_ID:
        raise ConfigError(
            f"{path} is a SQLite file, but not a Graviton metadata store (application id {application:#x})",
            operation=OPERATION,
            subject=path,
            hint="Name another path; the file was not touched.",
        )
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"{path} has format version {version}; this program knows version {FORMAT_VERSION}",
            operation=OPERATION,
            subject=path,
            hint="Use the Graviton version that wrote it, or a newer one; the file was not touched.",
        )


def _identity(name: str, config: SqliteConfig, connect: Connect) -> tuple[int, int]:
    with closing(connect(name, config)) as connection:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    return int(application), int(version)


def _is_read_only_mount(path: str) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _wal_is_empty(path: str) -> bool:
    try:
        return os.stat(beside(path, "-wal")).st_size == 0
    except FileNotFoundError:
        return True
