"""Keys as columns: the arrays in which many go to the server at once, in the one order in which rows are locked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from graviton.backends.postgres._arrays import Bigints, Byteas, Smallints
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey, Key

__all__ = [
    "KEY_ARRAYS",
    "KEY_ORDER",
    "blob_key",
    "block_key",
    "block_of",
    "claim_of",
    "columns",
    "in_order",
    "key_columns",
]

_K = TypeVar("_K", bound=Key)

KEY_ARRAYS = "unnest(%(algos)b::smallint[], %(digests)b::bytea[], %(sizes)b::bigint[])"
"""The keys of `columns` as rows (algo, digest, size)."""

KEY_ORDER = "b.domain_id, b.algo, b.digest, b.size"
"""The order of binary keys: every transaction that locks several rows of `blocks` or `blobs` locks them in it."""


def block_of(domain: str) -> str:
    """The record of the key (algo, digest, size) in a row `k`, of the domain that `domain` gives in SQL.

    Lateral and limited, because that leaves the planner one way only: the unique index, with all its columns. While a
    table is small and not analyzed yet it would choose another, keep the plan, and be a thousand times slower when the
    table has grown.
    """
    return (
        f"LATERAL (SELECT * FROM blocks WHERE domain_id = {domain} AND algo = k.algo AND digest = k.digest"
        " AND size = k.size::int LIMIT 1)"
    )


def claim_of(owner: str) -> str:
    """The claim of `owner`, as SQL gives it, on a row `b` of `blocks`; or none, or another row, which `r.owner_id` and
    `r.block_id` tell apart.

    The first row from a pair on is the pair's, if that is there. Said this way only the index by owner will do, in
    which an owner's claims lie together; the one by block has them in as many places as there are claims.
    """
    return (
        f"LATERAL (SELECT owner_id, block_id, kind FROM refs WHERE (owner_id, block_id) >= ({owner}, b.id)"
        " ORDER BY owner_id, block_id LIMIT 1)"
    )


_ALGOS = {algo.tag: algo for algo in HashAlgo}


def in_order(keys: Iterable[_K]) -> list[_K]:
    """Distinct keys in the order of locking."""
    return sorted(set(keys), key=lambda key: key.to_bytes())


def columns(keys: Sequence[Key]) -> dict[str, Any]:
    """The parameters that `KEY_ARRAYS` reads."""
    return {
        "algos": Smallints(key.algo.tag for key in keys),
        "digests": Byteas(key.digest.raw for key in keys),
        "sizes": Bigints(key.size for key in keys),
    }


def key_columns(key: Key) -> dict[str, Any]:
    """Parameters `algo`, `digest` and `size` of one key."""
    return {"algo": key.algo.tag, "digest": key.digest.raw, "size": key.size}


def block_key(algo: int, digest: bytes, size: int) -> BlockKey:
    """The key that a row tells."""
    return BlockKey(Digest(_ALGOS[algo], digest), size)


def blob_key(algo: int, digest: bytes, size: int) -> BlobKey:
    """The key that a row tells."""
    return BlobKey(Digest(_ALGOS[algo], digest), size)
