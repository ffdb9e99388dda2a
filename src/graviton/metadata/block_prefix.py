"""Under which prefix the blocks of a store lie: the metadata remembers it, so that a wrong setting touches nothing.

The marker lies in the root folder, above every prefix, and cannot tell a wrong one: every block would seem to be
missing, reads would mark them all as damaged, and puts would begin a second tree. So the first writer leaves its prefix
in the namespace `store`, and everybody after it compares. Metadata of older programs remembers none until then: there
a prefix is refused when blocks are known and not even a folder for them is there. docs/formats/store-marker.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from graviton.errors import ConfigError, IntegrityError
from graviton.metadata.rows import BLOCKS, STORE, BlockRow
from graviton.ports.block_index import BlockState
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction

__all__ = ["PREFIX_KEY", "BlockPlace", "adopt_prefix", "check_backup", "check_prefix", "remember_prefix"]

PREFIX_KEY = b"block_prefix"
"""Key in the namespace `store`; the value is the prefix in UTF-8."""

_LOOK_ROWS = 1000
"""Block records looked at for one that was ever stored: a millisecond, once per process and only in old stores."""


class BlockPlace(NamedTuple):
    """Where a process looks for blocks."""

    prefix: str
    """As configured."""
    where: str
    """The whole path or URL, for people."""
    setting: str
    """The setting that says the prefix, for people."""
    exists: Callable[[], Awaitable[bool]]
    """Whether anything was ever stored under the prefix, as far as that can be seen: its folders are there."""


async def check_prefix(kv: KeyValueStore, kv_where: str, place: BlockPlace) -> bool:
    """Whether the prefix is remembered, and the right one; False if none is. Raises ConfigError for a wrong one."""
    kept, knows_blocks = await kv.read(_look)
    if kept is not None:
        _compare(kept, kv_where, place)
        return True
    if knows_blocks and not await place.exists():
        raise ConfigError(
            f"the metadata at {kv_where} knows blocks, and nothing was ever stored at {place.where}",
            operation="store.open",
            subject=place.where,
            hint=f"Check {place.setting} (now {place.prefix!r}), and whether everything is mounted; if the blocks are"
            " lost, run `graviton store adopt` to go on without them.",
        )
    return False


def check_backup(kept: bytes, backup: str, place: BlockPlace) -> None:
    """Raise ConfigError unless the metadata in `backup`, which remembers the prefix `kept`, is of blocks in `place`."""
    if kept != place.prefix.encode():
        old = kept.decode(errors="replace")
        raise ConfigError(
            f"the metadata in {backup} belongs to blocks under the prefix {old!r}, not {place.prefix!r}",
            operation="meta.restore",
            subject=place.where,
            hint=f"Check {place.setting}. If you moved the blocks to the new prefix, restore with the old one and"
            " `--trust`, then run `graviton store adopt` with the new one.",
        )


async def remember_prefix(kv: KeyValueStore, kv_where: str, place: BlockPlace) -> None:
    """Leave the prefix for everybody else, before the first write. Raises ConfigError if somebody was here first with
    another one."""
    # Not forced to the disk by itself: whatever is written under the prefix comes later in the same log.
    _compare(
        await kv.transact(lambda tx: _put_if_absent(tx, place.prefix.encode()), Durability.RELAXED), kv_where, place
    )


async def adopt_prefix(kv: KeyValueStore, place: BlockPlace) -> None:
    """Say that the blocks lie under this prefix from now on."""
    await kv.put(STORE, PREFIX_KEY, place.prefix.encode())


def _look(tx: ReadTransaction) -> tuple[bytes | None, bool]:
    kept = tx.get(STORE, PREFIX_KEY)
    return kept, kept is None and _knows_blocks(tx)


def _knows_blocks(tx: ReadTransaction) -> bool:
    """Whether a block was ever stored; one that is only pending may have left no trace on the other side."""
    try:
        states = [BlockRow.decode(data).state for _, data in tx.scan(BLOCKS, b"", None, _LOOK_ROWS)]
    except IntegrityError:
        return False  # in doubt nothing is refused here: what reads the rows says what is wrong with them
    return BlockState.STORED in states or BlockState.DAMAGED in states


def _put_if_absent(tx: Transaction, prefix: bytes) -> bytes:
    kept = tx.get(STORE, PREFIX_KEY)
    if kept is None:
        tx.put(STORE, PREFIX_KEY, prefix)
    return prefix if kept is None else kept


def _compare(kept: bytes, kv_where: str, place: BlockPlace) -> None:
    if kept != place.prefix.encode():
        told = kept.decode(errors="replace")
        raise ConfigError(
            f"the metadata at {kv_where} belongs to blocks under the prefix {told!r}, not {place.prefix!r}",
            operation="store.open",
            subject=place.where,
            hint=f"Check {place.setting}; if you moved the blocks to the new prefix, run `graviton store adopt`.",
        )
