"""Which table holds which namespace."""

from __future__ import annotations

from graviton.backends.postgres.rows._blob_tables import (
    BLOBS_TABLE,
    DROPPED_TABLE,
    HOLDERS_TABLE,
    PAGES_TABLE,
    TOTALS_TABLE,
)
from graviton.backends.postgres.rows._block_tables import (
    BLOCKS_TABLE,
    CANDIDATES_TABLE,
    CLAIMS_TABLE,
    NOTES_TABLE,
    OWNERS_TABLE,
    REFS_TABLE,
)
from graviton.backends.postgres.rows._other_tables import RANGE_HEADS_TABLE, RANGES_TABLE, REPLICAS_TABLE
from graviton.backends.postgres.rows._table import Table
from graviton.metadata.replica_rows import REPLICAS
from graviton.metadata.rows import (
    BLOBS,
    BLOCKS,
    CANDIDATES,
    CLAIMS,
    DROPPED,
    HOLDERS,
    NOTES,
    OWNERS,
    PAGES,
    RANGE_HEADS,
    RANGES,
    REFS,
    TOTALS,
)
from graviton.ports.block_index import OwnerState

__all__ = ["TABLES", "TABLE_OF", "Table"]

TABLES: dict[str, Table] = {
    OWNERS: OWNERS_TABLE,
    BLOCKS: BLOCKS_TABLE,
    REFS: REFS_TABLE,
    CLAIMS: CLAIMS_TABLE,
    CANDIDATES: CANDIDATES_TABLE,
    NOTES: NOTES_TABLE,
    BLOBS: BLOBS_TABLE,
    PAGES: PAGES_TABLE,
    HOLDERS: HOLDERS_TABLE,
    DROPPED: DROPPED_TABLE,
    TOTALS: TOTALS_TABLE,
    REPLICAS: REPLICAS_TABLE,
    RANGE_HEADS: RANGE_HEADS_TABLE,
    RANGES: RANGES_TABLE,
}
"""All namespaces with tables of their own; every other one lies in `kv`."""

TABLE_OF = {name: name for name in TABLES} | {
    CLAIMS: "refs",
    DROPPED: f"owners WHERE state = {OwnerState.DROPPED.value}",
}
"""The table that has the rows of a namespace, mostly called alike."""
