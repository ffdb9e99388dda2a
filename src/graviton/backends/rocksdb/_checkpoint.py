"""A copy of the store beside it, made of links to its files."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable

from rocksdict import Checkpoint, Rdict

from graviton.backends.rocksdb.errors import translated
from graviton.errors import AlreadyExists, InvalidInput, NotFound
from graviton.metadata.local_files import sync_folder, translate_os

__all__ = ["make_checkpoint"]

_OPERATION = "kv.checkpoint"


def make_checkpoint(root: Rdict, families: Iterable[Rdict], path: str, folder: str) -> None:
    """Copy the store at `path`, which `root` and `families` have open, to `folder`: `RocksKeyValueStore.checkpoint`.

    It is made under a temporary name, in a folder that nobody else may read: RocksDB makes what all may.
    """
    folder = os.path.abspath(folder)
    try:
        _check_place(path, folder)
        within = f"{os.path.dirname(folder)}/.{os.path.basename(folder)}.tmp-{secrets.token_hex(8)}"
        os.mkdir(within, 0o700)
        try:
            made = os.path.join(within, "made")
            with translated(path, _OPERATION):
                for family in families:
                    family.flush()  # without the GIL, so that little is left to do with it
                root.flush()
                Checkpoint(root).create_checkpoint(made)
            os.chmod(made, 0o700)
            sync_folder(made)
            os.rename(made, folder)
            sync_folder(os.path.dirname(folder))
        finally:
            shutil.rmtree(within, ignore_errors=True)
    except OSError as error:
        raise translate_os(error, folder, _OPERATION, "make a checkpoint in") from error


def _check_place(path: str, folder: str) -> None:
    """Raises AlreadyExists, NotFound, InvalidInput, OSError."""
    if os.path.lexists(folder):
        raise AlreadyExists(f"{folder} is there already", operation=_OPERATION, subject=folder)
    parent = os.path.realpath(os.path.dirname(folder))
    if not os.path.isdir(parent):
        raise NotFound(
            f"there is no folder {parent} to make a checkpoint in",
            operation=_OPERATION,
            subject=folder,
            hint="Make it first, on the file system of the store.",
        )
    store = os.path.realpath(path)
    if os.path.commonpath((parent, store)) == store:
        raise InvalidInput(f"{folder} is within the store {path}", operation=_OPERATION, subject=folder)
    if os.stat(parent).st_dev != os.stat(store).st_dev:
        raise InvalidInput(
            f"{folder} is on another file system than {path}, to which no file can be linked",
            operation=_OPERATION,
            subject=folder,
            hint="Make it beside the store, copy that with `cp -a`, and remove it.",
        )
