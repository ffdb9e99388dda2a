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


_LAST_RING_SECONDS = 1.0
"""How long a process that ends waits until it has rung."""


class _Ringing:
    """Work of one event loop."""

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.is_wanted = False
        """To be rung (again)."""
        self.hurry: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when there is no time for pauses."""


class Bell:
    """Rings for events in one schema; best effort. Usable from several event loops."""

    def __init__(
        self, schema: str, connection: Callable[[], AbstractAsyncContextManager[AsyncConnection[Row]]]
    ) -> None:
        """`connection()` lends one outside of any transaction."""
        self._schema = schema
        self._connection = connection
        self._ringing: dict[asyncio.AbstractEventLoop, _Ringing] = {}

    def ring(self) -> None:
        """Ring soon, from the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._ringing:
            ringing = self._ringing[loop] = _Ringing()
            ringing.task = loop.create_task(self._work(loop, ringing))
        self._ringing[loop].is_wanted = True

    async def _work(self, loop: asyncio.AbstractEventLoop, ringing: _Ringing) -> None:
        try:
            while ringing.is_wanted:
                ringing.is_wanted = False
                async with self._connection() as connection:
                    await connection.execute("SELECT pg_notify(%b, %b)", [_CHANNEL, self._schema])
                await asyncio.wait([ringing.hurry], timeout=_PAUSE_SECONDS)
        except (*FAILURES, GravitonError):
            return  # whoever is not woken looks by himself, soon
        finally:
            del self._ringing[loop]

    async def aclose(self) -> None:
        """Ring at once what is to be rung in this loop, if that can be."""
        ringing = self._ringing.get(asyncio.get_running_loop())
        if ringing is None:
            return
        if not ringing.hurry.done():
            ringing.hurry.set_result(None)
        await asyncio.wait([ringing.task], timeout=_LAST_RING_SECONDS)
        ringing.task.cancel()


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
