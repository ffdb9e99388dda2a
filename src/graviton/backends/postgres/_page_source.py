"""Where the pages of a blob's manifest are read from (`metadata/page_reads.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from graviton.backends.postgres._scripts import Statement
from graviton.backends.postgres._soundness import PAGES_AFTER
from graviton.backends.postgres.database import PgDatabase
from graviton.core.manifests import page_end_bytes
from graviton.metadata.page_reads import READ_PAGES
from graviton.metadata.row_walk import Row
from graviton.ports.block_index import OwnerState
from graviton.ports.manifests import BlobRecord

__all__ = ["PgPageSource"]

_IS_VISIBLE = f"""
SELECT FROM owners WHERE id = %(owner)b AND domain_id = %(domain)b AND state = {OwnerState.COMMITTED.value}
"""


class PgPageSource:
    """Pages of one blob, a few per statement: nothing stays open between two of them, however slowly they are read."""

    def __init__(self, database: PgDatabase, domain_id: int, record: BlobRecord) -> None:
        self._database = database
        self._owner = record.owner
        self._domain_id = domain_id

    async def first(self, start: int, end: int) -> Sequence[Row] | None:
        """See `PageSource`."""
        statements = [Statement(_IS_VISIBLE, {"owner": self._owner, "domain": self._domain_id})]
        if start < end:
            statements.append(self._after(start))
        visible, *pages = await self._database.fetch_all("manifests.pages", statements)
        return [_page_row(row) for rows in pages for row in rows] if visible else None

    async def following(self, position: int) -> Sequence[Row]:
        """See `PageSource`."""
        rows = await self._database.fetch("manifests.pages", *self._after(position))
        return [_page_row(row) for row in rows]

    def _after(self, position: int) -> Statement:
        return Statement(PAGES_AFTER, {"owner": self._owner, "after": position, "limit": READ_PAGES})


def _page_row(row: tuple[int, bytes]) -> Row:
    end, data = row
    return Row(page_end_bytes(end), data)
