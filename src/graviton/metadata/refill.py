"""What a restore and a copy both do with a metadata store that is theirs until they are done.

`check` is called in each transaction and raises when it is theirs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from graviton.metadata import totals
from graviton.metadata.audit_totals import count, domains
from graviton.metadata.pairing import RESTORING_KEY
from graviton.metadata.read_only import READ_ONLY_KEY
from graviton.metadata.rows import STORE
from graviton.ports.kv import Durability, KeyValueStore, Transaction
from graviton.ports.manifests import StoreTotals

__all__ = ["clear", "count_totals"]

_ROWS = 1000
"""Rows removed per transaction."""

_KEPT = frozenset((RESTORING_KEY, READ_ONLY_KEY))

Check = Callable[[Transaction], None]


async def clear(kv: KeyValueStore, names: Iterable[str], check: Check) -> None:
    """Remove all rows of some namespaces, but not those that say whose the store is."""
    for name in names:
        while await kv.transact(partial(_clear_some, name, check), Durability.RELAXED):
            pass


def _clear_some(name: str, check: Check, tx: Transaction) -> bool:
    check(tx)
    keys = [key for key, _ in tx.scan(name, limit=_ROWS)]
    tx.delete_many(name, [key for key in keys if name != STORE or key not in _KEPT])
    return len(keys) == _ROWS


async def count_totals(kv: KeyValueStore, check: Check) -> None:
    """Write the totals of what is there; there are none yet."""
    async for domain in domains(kv):
        counted = await kv.read(partial(count, domain=domain, findings=[]))
        await kv.transact(partial(_put_totals, domain, counted, check), Durability.RELAXED)


def _put_totals(domain: bytes, counted: StoreTotals, check: Check, tx: Transaction) -> None:
    check(tx)
    totals.put_sum(tx, domain, counted)
