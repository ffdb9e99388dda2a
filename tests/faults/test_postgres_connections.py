"""Connections that break at every message of every operation, and servers that are killed.

What counts: an operation that says it happened has happened, once; one whose reply was lost is told apart; and whatever
breaks, all rows fit together afterwards. The operations themselves look (`harness/pg_operations.py`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from graviton.concurrency.executors import in_own_thread
from graviton.errors import Conflict
from tests.faults.harness.pg_operations import (
    OPERATIONS,
    Operation,
    Place,
    back_up_and_restore,
    change_objects,
    collect,
    migrate_a_schema,
    place,
)
from tests.faults.harness.pg_proxy import BreakingProxy
from tests.postgres_server import PgServer, server

pytestmark = pytest.mark.skipif(bool(os.environ.get("GRAVITON_TEST_PG_URL")), reason="needs a server of its own")

IS_LONG = os.environ.get("FAULTS_REACH") == "long"

ON_OLD = os.environ.get("GRAVITON_TEST_PG_VERSION", "18") != "18"

STEP = 5 if ON_OLD and not IS_LONG else 1
"""Every n-th message: all of them on one version, and some on the oldest."""

FIRST = (0, 1) if IS_LONG or ON_OLD else (0,)
"""Of two messages that are tried, both or the first. Where all would be tried the first is enough: a server that did
not get it, and one that did, have together got any number of messages when the connection breaks."""

SELDOM = {collect: 3, change_objects: 10, back_up_and_restore: 60, migrate_a_schema: 12}
"""Operations of many messages and long ones: every n-th of these, unless it is the long form, and one connection after
the other."""

KILLS = 20 if IS_LONG else 2
"""Of the server, each at other messages of the operations."""

FORGOTTEN = Conflict
"""A server that crashes forgets claims and pages of its last moments, which nobody waited for on the disk. Whoever made
them is told that they are not there, and begins again."""


STEADY = [operation for operation in OPERATIONS if operation not in (back_up_and_restore, migrate_a_schema)]
"""Those that wait for a server that is away; the others make schemas, and begin with a new database."""


async def messages_of(operation: Operation, world: Place, proxy: BreakingProxy) -> int:
    """How many messages the operation sends."""
    before = proxy.messages
    await operation(world)
    return proxy.messages - before


@pytest.mark.postgres
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_connection_cut_at_every_message(operation: Operation, tmp_path: Path) -> None:
    async def cut_all(first: int, step: int, delivered: bool) -> None:
        folder = tmp_path / f"{first}-{delivered}"
        folder.mkdir()
        async with BreakingProxy(server().folder, folder) as proxy, place(folder, server()) as world:
            for message in count(first, step):
                proxy.cut(message, delivered)
                try:
                    await operation(world)
                except BaseException as error:
                    error.add_note(f"cut at message {message}, delivered: {delivered}")
                    raise
                if not proxy.was_cut:
                    break
            assert message >= 10, "the proxy counts messages"
            await world.check()

    step = STEP if IS_LONG else STEP * SELDOM.get(operation, 1)
    ways = [(first, delivered) for first in FIRST for delivered in (False, True)]
    together = 1 if operation in SELDOM else len(ways)
    while ways:
        await asyncio.gather(*(cut_all(first * step, 2 * step, delivered) for first, delivered in ways[:together]))
        del ways[:together]


@pytest.fixture(scope="module")
def own_server() -> AsyncIterator[PgServer]:
    made = PgServer(server().version)
    yield made
    made.remove()


ALONE = [migrate_a_schema]
"""It holds a lock that others want too, who make schemas."""


@pytest.mark.parametrize("alone", [False, True], ids=["all", "alone"])
async def test_server_killed_while_every_operation_is_in_the_middle(
    own_server: PgServer, tmp_path: Path, alone: bool
) -> None:
    """Everybody stops at a message of his own, before the server gets it or after; then it is killed."""
    chosen = [operation for operation in OPERATIONS if (operation in ALONE) is alone]
    async with AsyncExitStack() as stack:
        sides: list[tuple[Operation, Place, BreakingProxy, int]] = []
        for operation in chosen:
            folder = tmp_path / operation.__name__
            folder.mkdir()
            proxy = await stack.enter_async_context(BreakingProxy(own_server.folder, folder))
            world = await stack.enter_async_context(place(folder, own_server))
            sides.append((operation, world, proxy, await messages_of(operation, world, proxy)))
        for number in range(KILLS):
            killed = asyncio.Event()
            for _, _, proxy, total in sides:
                # Not the last quarter: with statements that are prepared by now there are fewer messages.
                proxy.call(total * (2 * number + 1) // (2 * KILLS) * 3 // 4, bool(number % 2), killed.wait)
            tasks = [asyncio.create_task(again_if_forgotten(operation, world)) for operation, world, _, _ in sides]
            try:
                await all_stopped([proxy for _, _, proxy, _ in sides], tasks)
                await in_own_thread(own_server.kill)
                await in_own_thread(own_server.start)
            finally:
                killed.set()
            await asyncio.gather(*tasks)
        for _, world, _, _ in sides:
            await world.check()


async def all_stopped(proxies: Sequence[BreakingProxy], tasks: Sequence[asyncio.Task[None]]) -> None:
    """Until every operation is held up at its message."""
    for proxy, task in zip(proxies, tasks, strict=True):
        async with asyncio.timeout(30):
            while not proxy.was_cut:
                assert not task.done(), f"{proxy.folder.name} ended before its message"
                await asyncio.sleep(0.01)


async def again_if_forgotten(operation: Operation, world: Place) -> None:
    try:
        await operation(world)
    except FORGOTTEN:
        await operation(world)


@pytest.mark.parametrize("way", ["kill", "immediate", "fast"])
async def test_server_that_dies_and_comes_back_during_operations(
    own_server: PgServer, way: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        worlds = [await stack.enter_async_context(place(own_server.folder, own_server)) for _ in STEADY]
        done = asyncio.Event()
        finished = dict.fromkeys(STEADY, 0)

        async def work(world: Place, operation: Operation) -> None:
            while not done.is_set():
                try:
                    await operation(world)
                except FORGOTTEN:
                    if way == "fast":
                        raise
                else:
                    finished[operation] += 1

        tasks = [asyncio.create_task(work(*pair)) for pair in zip(worlds, STEADY, strict=True)]
        for _ in range(3):
            await asyncio.sleep(0.2)
            if way == "kill":
                await in_own_thread(own_server.kill)
                await in_own_thread(own_server.start)
            else:
                await in_own_thread(own_server.restart, way)
        before = dict(finished)
        async with asyncio.timeout(60):
            while not all(finished[operation] > before[operation] for operation in STEADY):
                await asyncio.sleep(0.1)
                for task in tasks:
                    if task.done():
                        task.result()
            done.set()
            await asyncio.gather(*tasks)
        for world in worlds:
            await world.check()
