"""Steps actors through the statements of their transactions on a real PostgreSQL, in every order.

Each actor has a connection of its own and runs the scripts that production runs, one statement at a time; it stops
before each, and before COMMIT. The scheduler lets one of them go on and waits until everybody has stopped again or
waits for a lock, which the server tells. Who waits comes in by itself when the other has let go; the others go on
meanwhile. A transaction that the server ends (a deadlock), or that raced, begins again, as in production.

`stepping.explore` enumerates the orders. To let another one go on while the current one could is a switch; a scenario
says how many of them a schedule has at most, and with as many as there are statements that is every order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from psycopg import AsyncConnection, Error

from graviton.backends.postgres._arrays import register_arrays
from graviton.backends.postgres._scripts import Last, Result, Script, Statement, roll_back, send
from graviton.backends.postgres.errors import RacedError, can_pass
from tests.postgres_server import PgServer

__all__ = ["Actor", "Program", "Scheduler", "connect"]

Program: TypeAlias = "Generator[Callable[[], Script[Any]], Any, None]"
"""What an actor does: yields scripts, is sent their results, and is thrown what they raise."""

PATIENCE_SECONDS = 20.0
"""Nothing here takes a tenth of a second; a test that waits longer has found a hole in itself."""

_POLL_SECONDS = 0.002
"""Longer than most statements take; then the server is asked whether they wait for a lock."""

_DEADLOCK_MS = 10
"""The server looks for a cycle of waiting after that time."""

_MAX_RETRIES = 20

_BLOCKED = "SELECT pid FROM unnest(%b::int[]) AS a(pid) WHERE cardinality(pg_blocking_pids(pid)) > 0"

STOPPED, RUNNING, DONE = "stopped", "running", "done"


async def connect(server: PgServer, schema: str) -> AsyncConnection[Any]:
    """A connection to the schema of a test."""
    connection = await AsyncConnection.connect(server.config(schema).conninfo(), autocommit=True)
    register_arrays(connection.adapters)
    await connection.execute(f"SET deadlock_timeout TO {_DEADLOCK_MS}")
    return connection


class Actor:
    """One process: its connection, and a program that stops before every statement."""

    def __init__(
        self,
        name: str,
        connection: AsyncConnection[Any],
        changed: asyncio.Event,
        committed: Callable[[], Awaitable[None]],
    ) -> None:
        self.name = name
        self.connection = connection
        self.where = RUNNING
        self.log: list[str] = []
        """The statements so far, for people."""
        self._committed = committed
        """Called after every COMMIT, before anybody goes on."""
        self._go = asyncio.Event()
        self._changed = changed

    async def run(self, program: Program) -> None:
        """Run the program to its end."""
        try:
            script = next(program)
            while True:
                try:
                    result = await self._again_and_again(script)
                except (Error, AssertionError):
                    raise
                except Exception as error:  # noqa: BLE001 - the program knows what it must be told
                    script = program.throw(error)
                else:
                    script = program.send(result)
        except StopIteration:
            pass
        finally:
            self._stop(DONE)

    async def _again_and_again(self, make: Callable[[], Script[Any]]) -> Any:
        for _ in range(_MAX_RETRIES):
            try:
                return await self._transaction(make())
            except (Error, RacedError) as error:
                await roll_back(self.connection)
                if not can_pass(error):
                    raise
                self.log.append(type(error).__name__)
            except BaseException:
                await roll_back(self.connection)
                raise
        raise AssertionError(f"{self.name} never comes through")

    async def _transaction(self, script: Script[Any]) -> Any:
        await self.connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        batch: Any = None
        is_last = False
        try:
            batch = next(script)
            while True:
                is_last = isinstance(batch, Last)
                statements: Sequence[Statement] = batch.statements if isinstance(batch, Last) else batch
                results = [await self._step(statement) for statement in statements]
                if is_last:
                    await self._commit()
                batch = script.send(results)
        except StopIteration as done:
            if not is_last:
                await self._commit()
            return done.value

    async def _commit(self) -> None:
        await self._step(Statement("COMMIT"))
        await self._committed()

    async def _step(self, statement: Statement) -> Result:
        self._stop(STOPPED)
        await self._go.wait()
        self._go.clear()
        self.log.append(" ".join(statement.sql.split())[:60])
        return (await send(self.connection, [statement]))[0]

    def _stop(self, where: str) -> None:
        self.where = where
        self._changed.set()

    def resume(self) -> None:
        """Called by the scheduler: go on."""
        self.where = RUNNING
        self._go.set()


class Scheduler:
    """Lets actors run to their ends. At the n-th decision it takes option `prefix[n]`, later the first."""

    def __init__(
        self,
        actors: Sequence[Actor],
        changed: asyncio.Event,
        monitor: AsyncConnection[Any],
        prefix: Sequence[int],
        switches: int,
    ) -> None:
        self._actors = actors
        self._changed = changed
        """Set whenever an actor stops."""
        self._monitor = monitor
        self._prefix = prefix
        self._switches = switches
        self._current = actors[0]
        self.decisions: list[tuple[int, int]] = []
        """For every decision the option taken and how many there were."""
        self.story: list[str] = []
        """Who went on, in order."""

    async def run(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Until everybody is done. Raises what an actor raises."""
        await self._settle(tasks)
        while options := self._options():
            chosen = options[self._decide(len(options))]
            if chosen is not self._current and self._current.where == STOPPED:
                self._switches -= 1
            self._current = chosen
            chosen.resume()
            await self._settle(tasks)
            self.story.append(f"{chosen.name}: {chosen.log[-1] if chosen.log else ''}")

    def _options(self) -> list[Actor]:
        """Who may go on, the one that went on last first."""
        able = [actor for actor in self._actors if actor.where == STOPPED]
        if self._current in able:
            able.remove(self._current)
            return [self._current, *able] if self._switches > 0 else [self._current]
        return able

    def _decide(self, options: int) -> int:
        if options == 1:
            return 0
        place = len(self.decisions)
        choice = self._prefix[place] if place < len(self._prefix) else 0
        assert choice < options, "the scripts did not do the same as in the run before"
        self.decisions.append((choice, options))
        return choice

    async def _settle(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait until everybody has stopped, is done, or waits for a lock of somebody who has stopped."""
        blocked_since: float | None = None
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(PATIENCE_SECONDS):
            while running := [actor for actor in self._actors if actor.where == RUNNING]:
                self._changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _POLL_SECONDS)
                for task in tasks:
                    if task.done():
                        task.result()
                if self._changed.is_set() or not await self._all_blocked(running):
                    blocked_since = None
                    continue
                if len(running) == 1:
                    return
                # Some of them may wait for each other, which the server ends soon.
                blocked_since = blocked_since or clock()
                if len(running) < len(self._actors) and clock() - blocked_since > 3 * _DEADLOCK_MS / 1000:
                    return

    async def _all_blocked(self, running: Sequence[Actor]) -> bool:
        pids = [actor.connection.info.backend_pid for actor in running]
        cursor = await self._monitor.execute(_BLOCKED, [pids])
        return len(await cursor.fetchall()) == len(running)
