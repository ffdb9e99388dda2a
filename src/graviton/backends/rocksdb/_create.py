"""Making a new store: its folder appears complete, durable and ours, or not at all; and telling what a folder is."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from contextlib import suppress
from typing import Final

from rocksdict import Options, Rdict, WriteOptions

from graviton.backends.rocksdb.errors import damaged, translated
from graviton.errors import ConfigError
from graviton.metadata.local_files import make_folder, remove_made, sync_folder

__all__ = ["FORMAT_KEY", "FORMAT_VERSION", "create_store", "is_there"]

OPERATION: Final = "metadata.open"
FORMAT_KEY: Final = b"graviton-key-value"
"""Key of the default column family that makes a RocksDB database one of ours (docs/formats/rocksdb-key-value.md)."""
FORMAT_VERSION: Final = b"1"

_OF_ROCKSDB: Final = re.compile(r"MANIFEST-\d+|\d{6,}\.(sst|log|blob)|IDENTITY|OPTIONS-\d+|LOCK")


def is_there(path: str) -> bool:
    """Whether there is a store at `path`: an empty folder is none. Raises ConfigError if something else is there,
    IntegrityError if it is a store without its beginning, and OSError."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise ConfigError(
            f"{path} is a file, and a RocksDB store is a folder",
            operation=OPERATION,
            subject=path,
            hint="Name another path (GRAVITON_META_PATH); the file was not touched.",
        ) from None
    if "CURRENT" in names:
        return True
    if any(_OF_ROCKSDB.fullmatch(name) for name in names):
        # Never to be taken for a new one: RocksDB would begin anew and remove the files that are left.
        raise damaged(path, OPERATION, "its file CURRENT is missing, without which no other is found")
    if names:
        raise ConfigError(
            f"{path} holds other files, so it is no place for a metadata store",
            operation=OPERATION,
            subject=path,
            hint="Name another path (GRAVITON_META_PATH), of an empty folder or of none; nothing was touched.",
        )
    return False


def create_store(path: str, options: Options) -> None:
    """Make the store at `path` unless somebody else does meanwhile. All of it is durable but its name, which whoever
    opens it for writing makes so.

    It is prepared under a temporary name and renamed, which fails if there is a store already: two processes that begin
    at once use the same one, and no crash leaves half of one. Raises OSError and errors of ours.
    """
    path = os.path.realpath(path)  # RocksDB follows links, renaming does not
    folder = os.path.dirname(path)
    made: list[str] = []
    try:
        make_folder(folder, made)
        _make(path, folder, options)
    except BaseException:
        remove_made(made)
        raise


def _make(path: str, folder: str, options: Options) -> None:
    temp = os.path.join(folder, f".{os.path.basename(path)}.tmp-{secrets.token_hex(8)}")
    os.mkdir(temp, 0o700)
    try:
        with translated(path, OPERATION):
            _initialise(temp, options)
        try:
            os.rename(temp, path)  # a folder that is there is replaced only if it is empty
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(temp)


def _initialise(temp: str, options: Options) -> None:
    options.create_if_missing(True)
    try:
        store = Rdict(temp, options, {})
    finally:
        options.create_if_missing(False)
    try:
        durably = WriteOptions()
        durably.sync = True
        store.put(FORMAT_KEY, FORMAT_VERSION, durably)
    finally:
        store.close()
    sync_folder(temp)
