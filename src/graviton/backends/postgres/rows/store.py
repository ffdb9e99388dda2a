"""`PgMetadataRows`: all metadata of a database as one key-value store, in the rows of docs/formats/metadata.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from graviton.backends.postgres._blocking import Connection
from graviton.backends.postgres.kv import Changes, PgKeyValueStore, PgTransaction
from graviton.backends.postgres.rows._gate import CLOSED_TABLES, GO_PAST, MAY_CLOSE, through_gate
from graviton.backends.postgres.rows._tables import TABLE_OF
from graviton.backends.postgres.rows._transaction import RowsTransaction
from graviton.errors import PermissionDenied
from graviton.metadata.read_only import MetadataStore
from graviton.ports.kv import KeyValueStore, Transaction

__all__ = ["PgMetadataRows"]

_T = TypeVar("_T")


class PgMetadataRows(PgKeyValueStore, MetadataStore):
    """The view for backup, restore, verification and the store marker; see the package for why.

    As a key-value store it differs in four ways: a namespace exists while it has rows; a row of `claims` follows from
    one of `refs` and cannot be written by itself; an owner, block or domain that a row names is made up until its own
    row comes, because rows refer to each other here; and removing an owner or block removes the rows that name it.
    """

    keeps_derived_rows = False

    def _view(self, connection: Connection, changes: Changes | None = None) -> PgTransaction:
        return RowsTransaction(connection, self._namespaces, changes)

    async def namespaces(self) -> list[str]:
        return sorted({*await self._filled(), *await super().namespaces()})

    async def _filled(self) -> list[str]:
        """The namespaces of `TABLES` that hold rows."""
        questions = [f"EXISTS (SELECT FROM {table})" for table in TABLE_OF.values()]
        [row] = await self.database.fetch("kv.namespaces", f"SELECT {', '.join(questions)}")
        return [name for name, is_filled in zip(TABLE_OF, row, strict=True) if is_filled]

    @property
    def past_gate(self) -> KeyValueStore:
        return _PastGate(self.database)

    async def change_gate(self, fn: Callable[[Transaction], _T]) -> _T:
        def run(tx: Transaction) -> _T:
            assert isinstance(tx, RowsTransaction), "made by _view"
            return through_gate(tx.connection, tx, fn)

        return await self._transact("kv.gate", run)

    async def check_gate(self) -> None:
        [(may,)] = await self.database.fetch("kv.gate", MAY_CLOSE, {"tables": list(CLOSED_TABLES)})
        if not may:
            where = self.database.config.where
            raise PermissionDenied(
                f"only the role that owns the tables of {where} may close them for changes",
                operation="kv.gate",
                subject=where,
                hint="Use the user that ran `graviton db migrate` (PG_USERNAME, PG_PASSWORD) for this command.",
            )


class _PastGate(PgMetadataRows):
    """Its transactions say that they may change what is closed."""

    def _view(self, connection: Connection, changes: Changes | None = None) -> PgTransaction:
        if changes is not None:
            connection.execute(GO_PAST)
        return super()._view(connection, changes)
