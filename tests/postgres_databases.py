"""A database of its own for one test, and databases that lose replies or remember what they were asked."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from graviton.backends.postgres._scripts import Last, Script
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.ports.kv import Durability
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import server

__all__ = ["Watched", "fresh_schema", "opened"]

_T = TypeVar("_T")


class Watched(PgDatabase):
    """Remembers the statements of its scripts, and loses the replies to commits when it is told to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.statements: list[str] = []
        self.replies_to_lose = 0
        self.between: Callable[[], Any] | None = None
        """Called after a reply was lost: what somebody else does before we try again."""

    async def run(
        self,
        operation: str,
        script: Callable[[], Script[_T]],
        durability: Durability = Durability.FULL,
        *,
        repeats_lost: bool = True,
    ) -> _T:
        def watched() -> Script[_T]:
            running = script()
            batch = next(running)
            try:
                while True:
                    self.statements += [one.sql for one in (batch.statements if isinstance(batch, Last) else batch)]
                    results = yield batch
                    batch = running.send(results)
            except StopIteration as done:
                result: _T = done.value
                return result

        if self.replies_to_lose:
            self.replies_to_lose -= 1
            await super().run(operation, watched, durability)
            if self.between is not None:
                await self.between()
            if not repeats_lost:
                raise LostReply("the reply was lost", operation=operation)
        return await super().run(operation, watched, durability, repeats_lost=repeats_lost)


@asynccontextmanager
async def fresh_schema() -> AsyncIterator[str]:
    """A schema with all tables, removed afterwards."""
    schema = f"unit_{secrets.token_hex(8)}"
    await make_schema(server(), schema)
    try:
        yield schema
    finally:
        await drop_schema(server(), schema)


@asynccontextmanager
async def opened(schema: str, count: int = 1, **settings: int | float) -> AsyncIterator[list[Watched]]:
    """Databases with connections of their own, as several processes have."""
    databases = [Watched(server().config(schema, **settings)) for _ in range(count)]
    try:
        yield databases
    finally:
        for database in databases:
            await database.aclose()
