"""What goes on without a request: cutting what waits, finishing what is complete. Owned, bounded, and ended with the
service."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from graviton.errors import GravitonError, NotFound
from graviton.metadata.upload_rows import UploadRow, UploadState
from graviton.ports.kv import ReadTransaction
from graviton.ports.metrics import MetricKeys
from graviton.services.uploads.cutting import Cutting, is_due
from graviton.services.uploads.finishing import Finishing
from graviton.services.uploads.hash_state import HashStates
from graviton.services.uploads.kit import Kit
from graviton.services.uploads.parts import BytesLostError
from graviton.services.uploads.records import Overtaken, receiving
from graviton.services.uploads.turn import StoppedError
from graviton.services.uploads.turns import Turns
from graviton.services.uploads.values import UploadId

__all__ = ["Background", "is_unfinished", "log_failure", "measured"]

_log = logging.getLogger("graviton.uploads")

_AT_ONCE = 8
"""Uploads that are worked on in the background at the same time; each draws its memory from the budget."""


def is_unfinished(row: UploadRow) -> bool:
    """Whether every byte of a blob to be is there, and the blob is not."""
    is_open = row.state in (UploadState.RECEIVING, UploadState.FINISHING)
    return is_open and row.is_complete and not row.wishes.is_partial


class Background:
    """One task at most for each upload."""

    def __init__(self, kit: Kit, turns: Turns, states: HashStates, finishing: Finishing) -> None:
        self._kit, self._turns, self._states, self._finishing = kit, turns, states, finishing
        self._tasks: dict[UploadId, asyncio.Task[None]] = {}
        self._again: set[UploadId] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._is_closed = False

    def of(self, id: UploadId) -> asyncio.Task[None] | None:
        """What is going on with an upload; it raises what became of it."""
        return self._tasks.get(id)

    def look_at(self, id: UploadId, row: UploadRow) -> None:
        """Begin what is due."""
        if is_unfinished(row) or (row.state is UploadState.RECEIVING and is_due(self._kit, row)):
            self.begin(id)

    def begin(self, id: UploadId) -> None:
        """Do what is due, and look again afterwards if it is being done already."""
        if self._is_closed:
            return
        if id in self._tasks:
            self._again.add(id)
            return
        task = self._tasks[id] = asyncio.ensure_future(self._run(id))
        task.add_done_callback(partial(_told, id))

    async def _run(self, id: UploadId) -> None:
        try:
            async with self._slots:
                while True:
                    self._again.discard(id)
                    await self._work(id)
                    if id not in self._again:  # no turn of the loop lies between this and the end
                        return
        finally:
            self._again.discard(id)
            del self._tasks[id]

    async def _work(self, id: UploadId) -> None:
        while not self._is_closed:
            row = await self._kit.load(id)
            if is_unfinished(row):
                await measured(self._kit, "upload.finish", self._finishing.run, id)
                return
            if row.state is not UploadState.RECEIVING or not is_due(self._kit, row) or row.token:
                return  # whoever writes looks again when he ends
            with suppress(_NotDueError):
                await measured(self._kit, "upload.cut", self._cut, id)

    async def _cut(self, id: UploadId) -> None:
        async with self._turns.turn(id, partial(_cutting, id=id, kit=self._kit)) as turn:
            try:
                if turn.lost is not None:
                    raise turn.lost
                turn.refused = await self._kit.reservations.keep(id, turn.row, turn.row.offset)
                await Cutting(self._kit, self._states, turn).run()
                turn.check()
            except BytesLostError as error:
                await self._finishing.fail(turn, error)

    def close(self) -> list[asyncio.Task[None]]:
        """Begin nothing more; what is to be waited for."""
        self._is_closed = True
        return list(self._tasks.values())


class _NotDueError(Exception):
    """Somebody else was there first."""


def _cutting(_: ReadTransaction, row: UploadRow, id: UploadId, kit: Kit) -> dict[str, Any]:
    receiving(row, id)
    if row.token or not is_due(kit, row):
        raise _NotDueError
    return {"reach": row.offset}


async def measured(kit: Kit, operation: str, work: Callable[..., Any], *values: Any) -> Any:
    """Do it, counted as the operations of a store are."""
    began, outcome = time.perf_counter(), "ok"
    try:
        return await work(*values)
    except BaseException as error:
        outcome = error.code if isinstance(error, GravitonError) else type(error).__name__.lower()
        raise
    finally:
        metrics = kit.metrics
        metrics.counter(MetricKeys.BLOB_OPERATIONS, operation=operation, outcome=outcome)
        metrics.histogram(MetricKeys.BLOB_OPERATION_SECONDS, time.perf_counter() - began, operation=operation)


def log_failure(what: str, error: BaseException) -> None:
    """A line for what went wrong where no request may wait for it; what nobody expected with its traceback."""
    if isinstance(error, GravitonError):
        _log.warning("%s: %s: %s", what, error.code, error)
    else:
        _log.error("%s: unexpected %s", what, type(error).__name__, exc_info=error)


def _told(id: UploadId, task: asyncio.Task[None]) -> None:
    """What was raised is counted, and told to whoever waits; nobody may be there."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, (StoppedError, Overtaken, NotFound)):
        log_failure(f"upload {id} cannot go on now", error)
