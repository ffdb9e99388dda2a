"""From a path to an open `Database`: what is there, who has it, and what to do where it cannot be written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from rocksdict import Rdict

from graviton.backends.rocksdb import _claims, _create
from graviton.backends.rocksdb._create import OPERATION
from graviton.backends.rocksdb._database import Database
from graviton.backends.rocksdb._looking import look
from graviton.backends.rocksdb._opened import check_logs_of, checked, failed, families_of
from graviton.backends.rocksdb._options import Tuning
from graviton.backends.rocksdb.config import RocksConfig
from graviton.backends.rocksdb.errors import is_held
from graviton.errors import GravitonError, NotFound, PermissionDenied, StorageFull
from graviton.metadata.local_files import sync_folder, translate_os

__all__ = ["HeldError", "open_database", "open_for_writing"]


class HeldError(Exception):
    """Somebody else, whom `by` names, has the store open."""

    def __init__(self, by: str) -> None:
        super().__init__(by)
        self.by = by


def open_database(config: RocksConfig, check_wanted: Callable[[], None]) -> Database:
    """Open the store for reading and writing, or for reading alone where the configuration or the place says so.
    `check_wanted` raises if nobody waits for it any more. Raises HeldError, NotFound, ConfigError, IntegrityError,
    StorageFull, Unavailable."""
    try:
        return open_for_writing(config, check_wanted)
    except (PermissionDenied, StorageFull) as error:
        # Reading takes neither room nor rights, and goes on.
        if not os.path.exists(config.path):
            raise
        return look(config, error, check_wanted)


def open_for_writing(config: RocksConfig, check_wanted: Callable[[], None]) -> Database:
    """The same, or PermissionDenied and StorageFull where it cannot be written."""
    path = str(config.path)
    _claims.begin_use(path)
    tuning = Tuning(config)
    try:
        if not _create.is_there(path):
            if not config.create:
                raise NotFound(
                    f"there is no metadata store at {path}",
                    operation=OPERATION,
                    subject=path,
                    hint="Check the path; `graviton store init` creates a new store.",
                )
            _create.create_store(path, tuning.options)
    except OSError as error:
        raise translate_os(error, path, OPERATION, "open or create") from error
    if config.read_only or not os.access(path, os.W_OK):
        raise _not_writable(path, config.read_only)
    return _try_to_open(config, tuning, check_wanted)


def _try_to_open(config: RocksConfig, tuning: Tuning, check_wanted: Callable[[], None]) -> Database:
    path = str(config.path)
    claim = _claims.Claim(path)
    if not claim.take():
        raise HeldError("another store of this process")
    try:
        with _claims.opening(path) as is_alone:
            # Asked before RocksDB is: its attempt puts a new LOG in the place of that of whoever has the store.
            by = _claims.holder(path) if is_alone else "another process"
            if by is not None:
                raise HeldError(by)
            _make_name_durable(path)
            return _open(config, tuning, claim, check_wanted)
    except OSError as error:
        claim.give_back()
        raise translate_os(error, path, OPERATION, "open") from error
    except BaseException:
        claim.give_back()
        raise


def _make_name_durable(path: str) -> None:
    """Nothing is acknowledged in a store that the power may take back as a whole: who made it may have ended between
    renaming it and this."""
    with suppress(PermissionError):  # a folder that may not be read is none in which it was made
        sync_folder(os.path.dirname(os.path.realpath(path)))


def _open(config: RocksConfig, tuning: Tuning, claim: _claims.Claim, check_wanted: Callable[[], None]) -> Database:
    path = str(config.path)
    try:
        check_logs_of(path, path)  # first of all: RocksDB removes what it has read
        families = families_of(path, tuning)
        if not families:  # new, or somebody else's, which must not be changed by opening it
            look(config, _not_writable(path, is_asked_for=True), check_wanted).close(patient=True)
        root = Rdict(path, tuning.options, dict.fromkeys(families, tuning.options))
    except GravitonError:
        raise
    except Exception as error:
        if is_held(error):
            raise HeldError("another process") from None  # a file system without `flock`
        raise failed(error, path, path) from error
    return checked(root, path, families, tuning, claim, config.stall_timeout_seconds, None)


def _not_writable(path: str, is_asked_for: bool) -> PermissionDenied:
    why = "was opened for reading only" if is_asked_for else "cannot be written by this user, or is mounted read-only"
    return PermissionDenied(
        f"{path} {why}",
        operation="kv.transact",
        subject=path,
        hint="Open it without read_only."
        if is_asked_for
        else "Check the owner and mode of the folder, and how it is mounted.",
    )
