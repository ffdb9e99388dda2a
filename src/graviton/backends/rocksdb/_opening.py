"""From a path to an open `Database`: what is there, who has it, and what to do where it cannot be written."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from rocksdict import AccessType, Rdict

from graviton.backends.rocksdb import _claims, _create
from graviton.backends.rocksdb._create import FORMAT_KEY, FORMAT_VERSION, OPERATION
from graviton.backends.rocksdb._database import FAMILY_PREFIX, Database
from graviton.backends.rocksdb._options import Tuning
from graviton.backends.rocksdb.config import RocksConfig
from graviton.backends.rocksdb.errors import damaged, damaged_logs, is_held, translate
from graviton.errors import ConfigError, GravitonError, IntegrityError, NotFound, PermissionDenied, StorageFull
from graviton.metadata.local_files import translate_os

__all__ = ["look", "open_database", "open_for_writing"]

_POLL_SECONDS: Final = 0.05
"""How often the lock of another process is tried again."""
_LOOKS: Final = 5
"""Times a store is looked at that somebody changes meanwhile: files may go between finding and opening them."""
_NOT_LOOKED_AT: Final = frozenset({_claims.LOCK_FILE, "rocksdict-config.json"})


def open_database(config: RocksConfig, check_wanted: Callable[[], None]) -> Database:
    """Open the store for reading and writing, or for reading alone where the configuration or the place says so.
    `check_wanted` raises if nobody waits for it any more. Raises NotFound, ConfigError, IntegrityError, StorageFull,
    Unavailable."""
    try:
        return open_for_writing(config, check_wanted)
    except (PermissionDenied, StorageFull) as error:
        # Reading takes neither room nor rights, and goes on.
        if not os.path.exists(config.path):
            raise
        return look(config, error)


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
    return _wait_for(config, tuning, check_wanted)


def _wait_for(config: RocksConfig, tuning: Tuning, check_wanted: Callable[[], None]) -> Database:
    path = str(config.path)
    claim = _claims.Claim(path)
    deadline = time.monotonic() + config.lock_wait_seconds
    while True:
        by = "another store of this process"
        if claim.take():
            try:
                # Asked before RocksDB is: its attempt puts a new LOG in the place of that of whoever has the store.
                holder = _claims.holder(path)
                if holder is None:
                    return _open(config, tuning, claim)
                by = holder
            except _HeldError:
                by = "another process"  # which came between
            except BaseException:
                claim.give_back()
                raise
            claim.give_back()
        if time.monotonic() >= deadline:
            raise _claims.somebody_has_it(path, by, config.lock_wait_seconds)
        check_wanted()
        time.sleep(_POLL_SECONDS)


class _HeldError(Exception):
    """Somebody else has the store open."""


def _open(config: RocksConfig, tuning: Tuning, claim: _claims.Claim) -> Database:
    path = str(config.path)
    try:
        families = _families(path, tuning)
        if not families:  # new, or somebody else's, which must not be changed by opening it
            look(config, _not_writable(path, is_asked_for=True)).close(patient=True)
        root = Rdict(path, tuning.options, dict.fromkeys(families, tuning.options))
    except GravitonError:
        raise
    except Exception as error:
        if is_held(error):
            raise _HeldError from None
        raise _failed(error, path, path) from error
    return _checked(root, path, families, tuning, claim, config.stall_timeout_seconds, None)


def look(config: RocksConfig, refusal: GravitonError) -> Database:
    """Open the store as it is now for reading alone: no lock is taken, nothing in its folder is touched, and whoever
    has it open goes on. Writing raises `refusal`. Raises IntegrityError, Unavailable."""
    path = str(config.path)
    _claims.begin_use(path)
    tuning = Tuning(RocksConfig(config.path, read_only=True, block_cache_bytes=config.block_cache_bytes))
    for _ in range(_LOOKS - 1):
        with suppress(IntegrityError):
            return _look(path, tuning, refusal)
    return _look(path, tuning, refusal)


def _look(path: str, tuning: Tuning, refusal: GravitonError) -> Database:
    # rocksdict writes into the folder that it opens whatever one asks for, so it gets one of its own, full of links.
    # All files are open when it returns, and what was linked may go.
    try:
        shadow = tempfile.mkdtemp(prefix="graviton-look-")
    except OSError as error:
        raise translate_os(error, tempfile.gettempdir(), OPERATION, "make a folder in") from error
    try:
        for name in os.listdir(path):
            if name not in _NOT_LOOKED_AT and not name.startswith("LOG"):
                os.symlink(os.path.join(path, name), os.path.join(shadow, name))
        families = _families(shadow, tuning)
        root = Rdict(
            shadow, tuning.options, dict.fromkeys(families, tuning.options), access_type=AccessType.read_only(False)
        )
    except OSError as error:
        raise translate_os(error, path, OPERATION, "read") from error
    except GravitonError:
        raise
    except Exception as error:
        raise _failed(error, path, shadow) from error
    finally:
        shutil.rmtree(shadow, ignore_errors=True)
    return _checked(root, path, families, tuning, None, 0.0, refusal)


def _families(path: str, tuning: Tuning) -> Sequence[str]:
    names = [name for name in Rdict.list_cf(path, tuning.options) if name != "default"]
    if not all(name.startswith(FAMILY_PREFIX) for name in names):
        raise _foreign(path)
    return names


def _checked(
    root: Rdict,
    path: str,
    families: Sequence[str],
    tuning: Tuning,
    claim: _claims.Claim | None,
    stall_timeout_seconds: float,
    refusal: GravitonError | None,
) -> Database:
    try:
        _check_identity(root, path)
        return Database(root, path, families, tuning, claim, stall_timeout_seconds, refusal)
    except BaseException:
        root.close()
        raise


def _check_identity(root: Rdict, path: str) -> None:
    try:
        version = root.get(FORMAT_KEY)
    except Exception as error:
        raise translate(error, path, OPERATION) from error
    if version is None:
        raise _foreign(path)
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"{path} has format version {version[:20].decode('ascii', 'replace')}; this program knows version"
            f" {FORMAT_VERSION.decode()}",
            operation=OPERATION,
            subject=path,
            hint="Use the Graviton version that wrote it, or a newer one; nothing of it was changed.",
        )


def _foreign(path: str) -> ConfigError:
    return ConfigError(
        f"{path} is a RocksDB database, but not a Graviton metadata store",
        operation=OPERATION,
        subject=path,
        hint="Name another path; nothing of it was changed.",
    )


def _failed(error: Exception, path: str, opened: str) -> GravitonError:
    """The error of ours for one of an open, of the store itself or of links to its files."""
    found = translate(error, path, OPERATION)
    if isinstance(found, IntegrityError):
        text = str(error)
        return damaged(path, OPERATION, text.replace(opened, path) + damaged_logs(opened, text))
    return found


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
