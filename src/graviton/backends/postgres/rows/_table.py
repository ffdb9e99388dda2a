"""How the rows of a namespace are read and written in tables, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from graviton.backends.postgres.rows._layout import KeyLayout, Part
from graviton.ports.block_index import BlockState, OwnerState

__all__ = ["BLOCK_KEY", "KEY_NAMES", "MAKE_BLOCKS", "MAKE_OWNERS", "SAME_KEY", "Row", "Table", "upsert"]

Row = Sequence[Any]

BLOCK_KEY = (Part.TAG, Part.DIGEST, Part.SIZE)

KEY_NAMES = ("algo", "digest", "size")


class Table(NamedTuple):
    """One namespace. `new` in a statement stands for rows to write, `gone` for keys to remove, both with the columns
    `names`; the parameter `domain` is the number of their domain."""

    layout: KeyLayout
    """Of the key after the domain."""
    key: tuple[str, ...]
    """The key's columns in `select`."""
    select: str
    """Columns after those of the key, FROM and WHERE."""
    encode: Callable[[Row], bytes]
    """The value, from all that `select` finds."""
    names: tuple[str, ...]
    """Columns of rows to write, the key's first."""
    types: tuple[str, ...] = ()
    """Types of those after the key's."""
    decode: Callable[[Row, bytes], Row] = lambda key, value: ()
    """Columns after the key's, from the key's and the value."""
    put: tuple[str, ...] = ()
    """Statements that write rows; none: they follow from rows of another namespace."""
    delete: tuple[str, ...] = ()
    """Statements that remove rows, the last of them those of the namespace, and whatever refers to them before."""
    has_domain: bool = False
    """The key begins with a domain."""
    leading: int = 0
    """So many columns of the key are of the first table, whose index finds where to begin; 0: all."""


# Rows come in any order. What a row refers to is made up if it is not there yet, and put right by its own row.

MAKE_OWNERS = (
    "INSERT INTO owners (id, domain_id, state, unconfirmed, changed_at, expires_at, lifetime)"
    f" SELECT DISTINCT owner_id, {{domain}}, {OwnerState.ENDED.value}, 0, 0, 0, 0 FROM new ON CONFLICT DO NOTHING"
)

MAKE_BLOCKS = (
    "INSERT INTO blocks (domain_id, algo, digest, size, state, generation)"
    f" SELECT DISTINCT %(domain_id)s::int, algo, digest, size, {BlockState.PENDING.value}, 1 FROM new"
    " ON CONFLICT DO NOTHING"
)

SAME_KEY = "b.domain_id = %(domain_id)s AND b.algo = {0}.algo AND b.digest = {0}.digest AND b.size = {0}.size"


def upsert(table: str, key: str, columns: str) -> str:
    """The end of an INSERT that writes over a row with the same key."""
    names = [name.strip() for name in columns.split(",")]
    return f" ON CONFLICT ({key}) DO UPDATE SET {', '.join(f'{name} = EXCLUDED.{name}' for name in names)}"
