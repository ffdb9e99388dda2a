"""What every open of a store checks, whether it writes or looks."""

from __future__ import annotations

from collections.abc import Sequence

from rocksdict import Rdict

from graviton.backends.rocksdb import _claims
from graviton.backends.rocksdb._create import FORMAT_KEY, FORMAT_VERSION, OPERATION
from graviton.backends.rocksdb._database import FAMILY_PREFIX, Database
from graviton.backends.rocksdb._log_check import check_logs
from graviton.backends.rocksdb._options import Tuning
from graviton.backends.rocksdb.errors import damaged, damaged_logs, translate
from graviton.errors import ConfigError, GravitonError, IntegrityError
from graviton.metadata.local_files import translate_os

__all__ = ["check_logs_of", "checked", "failed", "families_of"]


def check_logs_of(folder: str, path: str) -> None:
    """Raise IntegrityError where the logs of the store at `path`, which are found in `folder`, lack changes."""
    try:
        check_logs(folder, path)
    except OSError as error:
        raise translate_os(error, path, OPERATION, "read the logs of") from error


def families_of(path: str, tuning: Tuning) -> Sequence[str]:
    """The column families in the folder `path`. Raises ConfigError if they are not ours, and what RocksDB raises."""
    names = [name for name in Rdict.list_cf(path, tuning.options) if name != "default"]
    if not all(name.startswith(FAMILY_PREFIX) for name in names):
        raise _foreign(path)
    return names


def checked(
    root: Rdict,
    path: str,
    families: Sequence[str],
    tuning: Tuning,
    claim: _claims.Claim | None,
    stall_timeout_seconds: float,
    refusal: GravitonError | None,
) -> Database:
    """What was opened, as a `Database`, if it is a store of ours; else it is closed."""
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


def failed(error: Exception, path: str, opened: str) -> GravitonError:
    """The error of ours for one of an open, of the store itself or of links to its files."""
    found = translate(error, path, OPERATION)
    if isinstance(found, IntegrityError):
        text = str(error)
        return damaged(path, OPERATION, text.replace(opened, path) + damaged_logs(opened, text))
    return found
