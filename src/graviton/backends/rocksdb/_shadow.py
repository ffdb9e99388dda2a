"""A folder that RocksDB may open in the place of that of a store: it has the same files, and nobody else's lock.

rocksdict writes into the folder that it opens, whatever one asks for. And somebody may change the store meanwhile, so
what has to fit together is taken at one moment: the logs are opened, which keeps them though their names go, and the
manifest is copied. RocksDB removes a file only after the manifest says that it is not needed; so if the manifest has
not grown meanwhile, no log that it needs is missing. A table that is missing is missed when RocksDB opens it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from graviton.backends.rocksdb._claims import LOCK_FILE
from graviton.backends.rocksdb._create import OPERATION
from graviton.backends.rocksdb._log_check import log_names
from graviton.errors import Unavailable
from graviton.metadata.local_files import translate_os

__all__ = ["shadow_of"]

_LEFT_OUT: Final = frozenset({LOCK_FILE, "CURRENT", "rocksdict-config.json"})
_OPEN_FILES: Final = "/proc/self/fd"
"""Where Linux has names for what is open. Elsewhere links lead to the names in the store."""
_MAX_HELD: Final = 128
"""Files held open, logs first: RocksDB opens each once more, and a process often may 1,024."""


@contextmanager
def shadow_of(path: str) -> Iterator[str]:
    """Such a folder; gone at the end, by when RocksDB has opened all files. Raises Unavailable, PermissionDenied,
    StorageFull."""
    shadow = _made()
    held: list[int] = []
    try:
        try:
            _fill(path, shadow, held)
        except OSError as error:
            raise translate_os(error, path, OPERATION, "read") from error
        yield shadow
    finally:
        for fd in held:
            os.close(fd)
        shutil.rmtree(shadow, ignore_errors=True)


def _made() -> str:
    try:
        return tempfile.mkdtemp(prefix="graviton-look-")
    except OSError as error:  # also where no folder was found that could be written
        raise Unavailable(
            f"no folder for temporary files: {error.strerror or error}",
            operation=OPERATION,
            hint="Set TMPDIR to a folder that can be written: a store is looked at through links in one.",
        ) from error


def _fill(path: str, shadow: str, held: list[int]) -> None:
    before = _manifests(path)
    names = log_names(path)
    _link(path, shadow, reversed(names), held)  # the newest first: what is older is not written any more
    for name in ("CURRENT", *before):
        with suppress(FileNotFoundError):  # the look itself says what is missing
            shutil.copyfile(os.path.join(path, name), os.path.join(shadow, name))
    if _manifests(path) != before:
        raise Unavailable(f"{path} changed while its files were opened", operation=OPERATION, subject=path)
    others = {*os.listdir(path)} - {*before, *_LEFT_OUT}
    _link(path, shadow, [name for name in others if not name.endswith(".log") and not name.startswith("LOG")], held)


def _link(path: str, shadow: str, names: Iterable[str], held: list[int]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            os.symlink(_held(os.path.join(path, name), held), os.path.join(shadow, name))


def _held(target: str, held: list[int]) -> str:
    """A name for the file that stays while it is open."""
    if len(held) >= _MAX_HELD or not os.path.isdir(_OPEN_FILES):
        return target
    try:
        held.append(os.open(target, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        raise
    except OSError:
        return target  # not to be read, or too many are open: RocksDB says it better
    return f"{_OPEN_FILES}/{held[-1]}"


def _manifests(path: str) -> dict[str, int]:
    found = {}
    for name in os.listdir(path):
        if name.startswith("MANIFEST-"):
            with suppress(FileNotFoundError):
                found[name] = os.stat(os.path.join(path, name)).st_size
    return found
