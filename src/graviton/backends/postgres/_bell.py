"""The bell: what wakes followers of events. It says that there may be something to read, and nothing else.

It is rung after the commit, by itself, and not by a NOTIFY in the transaction: that takes one lock for the whole
server until its commit is on the disk, so that no two transactions would share an fsync
(docs/decisions/0023-postgres-events.md). So a ring may be lost when a process dies in between; followers look from time
to time anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing

from psycopg import AsyncConnection

from graviton.backends.postgres._scripts import Row
from graviton.backends.postgres.errors import FAILURES
from graviton.errors import GravitonError

__all__ = ["Bell", "BellRope"]

_CHANNEL = "graviton_events"

_PAUSE_SECONDS = 0.05
"""Between two rings of a process: what happens meanwhile rings once. Nobody notices the delay, and however much is
written, twenty notifications a second cost nothing."""


class Bell:
    """Rings for events in one schema; best effort. Usable from several event loops."""

    def __init__(
        self, schema: str, connection: Callable[[], AbstractAsyncContextManager[AsyncConnection[Row]]]
    ) -> None:
        """`connection()` lends one outside of any transaction."""
        self._schema = schema
        self._connection = connection
        self._ringing: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        self._again: set[asyncio.AbstractEventLoop] = set()

    def ring(self) -> None:
        """Ring soon, from the running loop."""
        loop = asyncio.get_running_loop()
        if loop in self._ringing:
            self._again.add(loop)
        else:
            self._ringing[loop] = loop.create_task(self._work(loop))

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                self._again.discard(loop)
                async with self._connection() as connection:
                    await connection.execute("SELECT pg_notify(%b, %b)", [_CHANNEL, self._schema])
                await asyncio.sleep(_PAUSE_SECONDS)
                if loop not in self._again:
                    return
        except (*FAILURES, GravitonError):
            return  # whoever is not woken looks by himself, soon
        finally:
            del self._ringing[loop]
            self._again.discard(loop)

    async def aclose(self) -> None:
        """Stop ringing in this loop."""
        task = self._ringing.get(asyncio.get_running_loop())
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


class BellRope:
    """A follower's end: a connection of its own, which listens only while he waits. Somebody who listens and does not
    read would let the server's queue of notifications, which all its databases share, grow without end. Whatever
    happens to the connection, no call raises: without a bell one waits for the time to look anyway."""

    def __init__(self, schema: str, connect: Callable[[], Awaitable[AsyncConnection[Row]]]) -> None:
        self._schema = schema
        self._connect = connect
        self._connection: AsyncConnection[Row] | None = None
        self._listens = False

    async def listen(self) -> bool:
        """Listen from now on; whether that is new, so that something may have happened before."""
        if self._listens:
            return False
        try:
            if self._connection is None:
                self._connection = await self._connect()
            await self._connection.execute(f"LISTEN {_CHANNEL}")
        except FAILURES:
            await self.close()
            return False
        self._listens = True
        return True

    async def wait(self, seconds: float) -> None:
        """Until the bell rings, for `seconds` at most."""
        if self._connection is None or not self._listens:
            await asyncio.sleep(seconds)
            return
        try:
            async with aclosing(self._connection.notifies(timeout=seconds)) as rings:
                async for ring in rings:
                    if ring.payload == self._schema:
                        return
        except FAILURES:
            await self.close()
            await asyncio.sleep(seconds)  # lest one whose connections all break connects without end

    async def quiet(self) -> None:
        """Do not listen for a while."""
        if self._connection is None or not self._listens:
            return
        self._listens = False
        try:
            await self._connection.execute(f"UNLISTEN {_CHANNEL}")
        except FAILURES:
            await self.close()

    async def close(self) -> None:
        """Give the connection back, at once."""
        connection, self._connection, self._listens = self._connection, None, False
        if connection is not None:
            await connection.close()
