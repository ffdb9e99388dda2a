"""Numbers of domains: rows of other tables name a domain by its number."""

from __future__ import annotations

from graviton.backends.postgres._scripts import Script, Statement
from graviton.backends.postgres.database import PgDatabase
from graviton.core.names import check_name
from graviton.ports.kv import Durability

__all__ = ["NO_DOMAIN", "Domains"]

NO_DOMAIN = 0
"""Number of a domain that does not exist: no row has it."""

_MAX_KEPT = 10_000
"""Numbers remembered, which never change; 1 MiB."""


class Domains:
    """Numbers by name, remembered."""

    def __init__(self, database: PgDatabase) -> None:
        self._database = database
        self._numbers: dict[str, int] = {}

    async def number(self, name: str) -> int:
        """The number of a domain, `NO_DOMAIN` if nothing was ever stored in it. Raises InvalidInput."""
        check_name(name)
        known = self._numbers.get(name)
        if known is not None:
            return known
        rows = await self._database.fetch("domain", "SELECT id FROM domains WHERE name = %b", [name])
        return self._kept(name, rows[0][0]) if rows else NO_DOMAIN

    async def made(self, name: str) -> int:
        """The number of a domain, which is made if it is new. Raises InvalidInput."""
        number = await self.number(name)
        if number != NO_DOMAIN:
            return number
        return self._kept(name, await self._database.run("domain", lambda: _make(name), Durability.FULL))

    def _kept(self, name: str, number: int) -> int:
        if len(self._numbers) >= _MAX_KEPT:
            self._numbers.clear()
        self._numbers[name] = number
        return number


def _make(name: str) -> Script[int]:
    _, found = yield [
        Statement("INSERT INTO domains (name) VALUES (%b) ON CONFLICT DO NOTHING", [name]),
        Statement("SELECT id FROM domains WHERE name = %b", [name]),
    ]
    number: int = found.rows[0][0]
    return number
