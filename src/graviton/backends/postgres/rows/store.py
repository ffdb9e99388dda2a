"""`PgMetadataRows`: all metadata of a database as one key-value store, in the rows of docs/formats/metadata.md."""

from __future__ import annotations

from typing import TypeVar

from graviton.backends.postgres._blocking import Connection
from graviton.backends.postgres.kv import PgKeyValueStore, PgTransaction
from graviton.backends.postgres.rows._tables import TABLES
from graviton.backends.postgres.rows._transaction import RowsTransaction

__all__ = ["PgMetadataRows"]

_T = TypeVar("_T")


class PgMetadataRows(PgKeyValueStore):
    """The view for backup, restore, verification and the store marker; see the package for why.

    As a key-value store it differs in three ways: a row of `claims` follows from one of `refs` and cannot be written by
    itself; an owner, block or domain that a row names is made up until its own row comes, because rows refer to each
    other here; and removing an owner or block removes the rows that name it.
    """

    def _view(self, connection: Connection, made: set[str] | None = None) -> PgTransaction:
        return RowsTransaction(connection, self._namespaces, made)

    async def namespaces(self) -> list[str]:
        return sorted({*TABLES, *await super().namespaces()})
