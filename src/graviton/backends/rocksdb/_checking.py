"""Reading a whole store from the disk, past what is damaged, and saying where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from rocksdict import Rdict

from graviton.backends.rocksdb._cursor import Cursor
from graviton.backends.rocksdb._database import Database
from graviton.backends.rocksdb._looking import look
from graviton.backends.rocksdb._options import whole_files
from graviton.backends.rocksdb.config import RocksConfig
from graviton.errors import IntegrityError, Unsupported

__all__ = ["check_files"]

_TABLE: Final = re.compile(r"\d{6,}\.sst")
_MAX_FOUND: Final = 100
"""After so many damages the store as a whole is what is wrong."""
_CACHE_BYTES: Final = 1 << 20


def check_files(config: RocksConfig, check_wanted: Callable[[], None]) -> list[str]:
    """What is wrong with the files of the store, a sentence for each that is damaged. Opening reads the manifest and
    the logs, the rest are the tables. `check_wanted` raises if nobody waits any more."""
    looking = RocksConfig(config.path, read_only=True, block_cache_bytes=_CACHE_BYTES)
    try:
        database = look(looking, Unsupported("a check writes nothing"), check_wanted)
    except IntegrityError as error:
        return [error.message]
    try:
        found: list[str] = []
        for problem in _problems(database, check_wanted):
            found.append(problem)
            if len(found) == _MAX_FOUND:
                break
        return found
    finally:
        database.close(patient=True)


def _problems(database: Database, check_wanted: Callable[[], None]) -> Iterator[str]:
    root, families = database.roots()
    last_keys = {str(file["name"]).lstrip("/"): file["end_key"] for file in root.live_files()}
    yield from _family_problems(database.path, root, last_keys, check_wanted)
    for _, family in sorted(families.items()):
        yield from _family_problems(database.path, family.data, last_keys, check_wanted)


def _family_problems(
    path: str, family: Rdict, last_keys: dict[str, bytes], check_wanted: Callable[[], None]
) -> Iterator[str]:
    """Each damaged table once: after one, it goes on behind the last key of it."""
    cursor = Cursor(family, path, "kv.check", whole_files())
    position: bytes | None = None
    try:
        while True:
            try:
                for page in cursor.scan(b"", position, None):
                    position = page[-1][0]
                    check_wanted()
                return
            except IntegrityError as error:
                yield error.message
                table = _TABLE.search(error.message)
                behind = last_keys.get(table[0]) if table is not None else None
                if behind is None or (position is not None and behind <= position):
                    return
                position = behind
    finally:
        cursor.close()
