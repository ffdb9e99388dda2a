"""`PgMetadataRows`: all metadata of a database as one key-value store, in the rows of docs/formats/metadata.md."""

from __future__ import annotations

from graviton.backends.postgres._blocking import Connection
from graviton.backends.postgres.kv import Changes, PgKeyValueStore, PgTransaction
from graviton.backends.postgres.rows._tables import TABLE_OF
from graviton.backends.postgres.rows._transaction import RowsTransaction

__all__ = ["PgMetadataRows"]


class PgMetadataRows(PgKeyValueStore):
    """The view for backup, restore, verification and the store marker; see the package for why.

    As a key-value store it differs in four ways: a namespace exists while it has rows; a row of `claims` follows from
    one of `refs` and cannot be written by itself; an owner, block or domain that a row names is made up until its own
    row comes, because rows refer to each other here; and removing an owner or block removes the rows that name it.
    """

    def _view(self, connection: Connection, changes: Changes | None = None) -> PgTransaction:
        return RowsTransaction(connection, self._namespaces, changes)

    async def namespaces(self) -> list[str]:
        return sorted({*await self._filled(), *await super().namespaces()})

    async def _filled(self) -> list[str]:
        """The namespaces of `TABLES` that hold rows."""
        questions = [f"EXISTS (SELECT FROM {table})" for table in TABLE_OF.values()]
        [row] = await self.database.fetch("kv.namespaces", f"SELECT {', '.join(questions)}")
        return [name for name, is_filled in zip(TABLE_OF, row, strict=True) if is_filled]
