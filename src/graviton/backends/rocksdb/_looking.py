"""Looks at a store, which take no lock and touch nothing in its folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rocksdict import AccessType, Rdict

from graviton.backends.rocksdb import _claims
from graviton.backends.rocksdb._create import OPERATION
from graviton.backends.rocksdb._database import Database
from graviton.backends.rocksdb._opened import check_logs_of, checked, failed, families_of
from graviton.backends.rocksdb._options import Tuning
from graviton.backends.rocksdb._shadow import shadow_of
from graviton.backends.rocksdb.config import RocksConfig
from graviton.errors import GravitonError, IntegrityError, Unavailable

__all__ = ["look"]

_LOOK_SECONDS: Final = 5.0
"""How long a store that somebody changes is looked at again: files may go between finding and opening them."""
_PAUSE_SECONDS: Final = (0.01, 0.2)
"""First and longest pause between two looks."""


def look(config: RocksConfig, refusal: GravitonError, check_wanted: Callable[[], None]) -> Database:
    """Open the store as it is now for reading alone: no lock is taken, nothing in its folder is touched, and whoever
    has it open goes on. Writing raises `refusal`; `check_wanted` raises if nobody waits. Raises
    IntegrityError; and Unavailable, also if the store changes so much that no look at it succeeds."""
    path = str(config.path)
    _claims.begin_use(path)
    tuning = Tuning(RocksConfig(config.path, read_only=True, block_cache_bytes=config.block_cache_bytes))
    deadline = time.monotonic() + _LOOK_SECONDS
    pause, longest = _PAUSE_SECONDS
    while True:
        before = _state(path)
        try:
            return _look(path, tuning, refusal)
        except (IntegrityError, Unavailable) as error:
            if _state(path) == before:
                raise
            if time.monotonic() >= deadline:
                raise _too_busy(path) from error
        check_wanted()
        time.sleep(pause)
        pause = min(2 * pause, longest)


def _state(path: str) -> dict[str, int]:
    """What changes when files of the store may go: their names, and the size of the manifest."""
    found = {}
    with suppress(OSError):  # told by the look itself
        for entry in os.scandir(path):
            found[entry.name] = 0
            if entry.name.startswith("MANIFEST"):
                with suppress(OSError):
                    found[entry.name] = entry.stat().st_size
    return found


def _too_busy(path: str) -> Unavailable:
    return Unavailable(
        f"{path} changes while it is looked at: no look in {_LOOK_SECONDS:g} s found all files in their place",
        operation=OPERATION,
        subject=path,
        hint="Try again when less is written to it, or look at a checkpoint.",
    )


def _look(path: str, tuning: Tuning, refusal: GravitonError) -> Database:
    with shadow_of(path) as shadow:
        check_logs_of(shadow, path)
        try:
            families = families_of(shadow, tuning)
            root = Rdict(
                shadow, tuning.options, dict.fromkeys(families, tuning.options), access_type=AccessType.read_only(False)
            )
        except GravitonError:
            raise
        except Exception as error:
            raise failed(error, path, shadow) from error
    return checked(root, path, families, tuning, None, 0.0, refusal)
