"""What a store says, inside of a transaction, to whoever keeps books about it: what is there, who holds it, how much it
is."""

from __future__ import annotations

from collections.abc import Sequence

from graviton.core.keys import BlobKey
from graviton.core.names import encode_name
from graviton.metadata import totals
from graviton.metadata.rows import HOLDERS, u64
from graviton.metadata.visibility import visible_many
from graviton.ports.kv import ReadTransaction
from graviton.ports.manifests import StoreTotals

__all__ = ["held_many", "there_many", "totals_of_all_domains"]


def held_many(tx: ReadTransaction, domain: str, holder: str, keys: Sequence[BlobKey]) -> list[bool]:
    """Which of the blobs `keys` the holder holds. Raises IntegrityError naming a blob whose row is damaged."""
    prefix = encode_name(domain)
    places = [prefix + key.to_bytes() for key in keys]
    records = visible_many(tx, places, keys).records
    held = {place: u64(record.owner) + holder.encode() for place, record in records.items()}
    rows = dict(zip(held, tx.get_many(HOLDERS, list(held.values())), strict=True))
    return [rows.get(place) is not None for place in places]


def there_many(tx: ReadTransaction, domain: str, keys: Sequence[BlobKey]) -> list[bool]:
    """Which of the blobs `keys` are visible, whoever holds them. Raises as `held_many`."""
    prefix = encode_name(domain)
    places = [prefix + key.to_bytes() for key in keys]
    records = visible_many(tx, places, keys).records
    return [place in records for place in places]


def totals_of_all_domains(tx: ReadTransaction) -> StoreTotals:
    """The kept sums of all domains together. Raises IntegrityError."""
    return totals.read(tx, b"")
