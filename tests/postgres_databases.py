"""A database of its own for one test, and databases that lose replies or remember what they were asked."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from graviton.backends.postgres._blocking import Connection
from graviton.backends.postgres._scripts import Last, Script
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.ports.kv import Durability
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import server

__all__ = ["Watched", "fresh_schema", "opened"]

_T = TypeVar("_T")


class _NotCommittedError(Exception):
    """Takes a transaction back in the place of its COMMIT."""


class Watched(PgDatabase):
    """Remembers the statements of its scripts, and loses the replies to commits when it is told to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.statements: list[str] = []
        self.replies_to_lose = 0
        self.loses_commits = False
        """Whether what was to be committed is lost with the reply."""
        self._number: str | None = None
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
        if not self.replies_to_lose:
            return await super().run(operation, partial(self._watched, script), durability, repeats_lost=repeats_lost)
        self.replies_to_lose -= 1
        lost = LostReply("the reply was lost", operation=operation)
        try:
            await super().run(operation, partial(self._watched, script, self.loses_commits), durability)
        except _NotCommittedError:
            pass
        if self.between is not None:
            await self.between()
        if not repeats_lost:
            lost.transaction = self._number
            raise lost
        return await super().run(operation, partial(self._watched, script), durability)

    def _watched(self, script: Callable[[], Script[_T]], takes_back: bool = False) -> Script[_T]:
        running = script()
        self._number = None
        try:
            batch = next(running)
            while True:
                self.statements += [one.sql for one in (batch.statements if isinstance(batch, Last) else batch)]
                if isinstance(batch, Last):
                    self._number = batch.transaction
                    if takes_back:
                        yield batch.statements
                        raise _NotCommittedError
                results = yield batch
                batch = running.send(results)
        except StopIteration as done:
            if takes_back:
                raise _NotCommittedError from None
            result: _T = done.value
            return result

    async def transact(
        self, operation: str, fn: Callable[[Connection], _T], durability: Durability | None, repeats_lost: bool
    ) -> _T:
        if not self.replies_to_lose or durability is None:
            return await super().transact(operation, fn, durability, repeats_lost)
        self.replies_to_lose -= 1

        def taken_back(connection: Connection) -> _T:
            fn(connection)
            raise _NotCommittedError

        try:
            await super().transact(operation, taken_back if self.loses_commits else fn, durability, repeats_lost)
        except _NotCommittedError:
            pass
        if self.between is not None:
            await self.between()
        if not repeats_lost:
            raise LostReply("the reply was lost", operation=operation)
        return await super().transact(operation, fn, durability, repeats_lost)


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
