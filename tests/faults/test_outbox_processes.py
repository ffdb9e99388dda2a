"""Followers of what other processes do: nothing is missed and nothing comes twice, whoever is killed in between."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

import graviton
from graviton.errors import NotFound
from graviton.ports.events import Event, EventKind
from graviton.ports.outbox import Outbox
from tests.faults.harness.bench import Reach
from tests.integration.command_runs import graviton as command

LONG = 60.0
"""Seconds after which something that must come is given up."""

WRITER = """
import asyncio, itertools, random, sys
import graviton

async def main(root, metadata, seed):
    order = random.Random(int(seed))
    there = []
    async with graviton.open(root, metadata=metadata or None) as store:
        for number in itertools.count():
            result = await store.put(f"{seed} {number}".encode())
            there.append(result.key)
            print("put", result.id, flush=True)
            if order.random() < 0.3:
                gone = there.pop(order.randrange(len(there)))
                await store.delete(gone)
                print("rm", gone, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""
"""Puts and removes blobs of its own until it is killed, and says what it was told."""

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"}
ROCKSDB = "rocksdb://"

Fact = tuple[str, str]
VERBS = {EventKind.BLOB_COMMITTED: "put", EventKind.BLOB_DELETED: "rm"}


class Writer:
    """A process that writes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[Fact] = []

    async def says(self, count: int) -> None:
        """Until it has said so much more."""
        for _ in range(count):
            assert await self._hear(), f"it ended after {self.said}"

    async def _hear(self) -> bool:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            return False
        verb, subject = line.decode().split()
        self.said.append((verb, subject))
        return True

    async def kill(self) -> None:
        """kill -9; what it had said before counts."""
        self._process.kill()
        while await self._hear():
            pass
        assert await self._process.wait() == -signal.SIGKILL


@asynccontextmanager
async def writing(root: Path, metadata: str, seed: int) -> AsyncIterator[Writer]:
    arguments = ("-c", WRITER, str(root), metadata, str(seed))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Writer(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def fact(event: Event) -> Fact:
    return VERBS[event.kind], event.subject


def check(told: list[Fact], said: list[Fact], there: set[str]) -> None:
    """`said` was acknowledged by a writer that was killed before its next words."""
    assert len(set(told)) == len(told), "nothing comes twice"
    mine = {subject for _, subject in told}
    assert {subject for _, subject in said} <= mine, "an acknowledged change was missed"
    assert told[: len(said)] == said, "in the order in which they happened"
    assert len(told) - len(said) <= 1, "more than the change that was under way"
    gone = {subject for verb, subject in told if verb == "rm"}
    assert there & mine == mine - gone


async def rest(outbox: Outbox, position: str | None) -> tuple[list[Fact], str | None]:
    found: list[Fact] = []
    while events := await outbox.read(position):
        position = events[-1][0]
        found += [fact(event) for _, event in events]
    return found, position


async def test_put_and_removal_by_the_command_line_are_seen(tmp_path: Path) -> None:
    root, file = tmp_path / "store", tmp_path / "file"
    file.write_bytes(b"from elsewhere")
    async with graviton.open(root) as store, asyncio.timeout(LONG):
        await store.init()
        async with aclosing((await store.outbox()).follow()) as events:  # type: ignore[type-var]
            waiting = asyncio.ensure_future(anext(events))
            ran = await asyncio.get_running_loop().run_in_executor(None, lambda: command(root, "put", file))
            position, event = await waiting
            assert event.subject in ran.out
            assert event.kind is EventKind.BLOB_COMMITTED
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.get_running_loop().run_in_executor(None, lambda: command(root, "rm", event.subject))
            assert fact((await waiting)[1]) == ("rm", event.subject)
        assert len(await (await store.outbox()).read(position)) == 1


async def test_follower_that_begins_again_and_again_beside_writers_that_are_killed(
    tmp_path: Path, reach: Reach
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    order = random.Random(seed)
    position: str | None = None
    async with graviton.open(tmp_path) as store, asyncio.timeout(LONG):
        await store.init()
        for crash in range(reach.times(3, 50)):
            told: list[Fact] = []
            async with writing(tmp_path, "", seed + crash) as writer:
                for _ in range(4):
                    await writer.says(order.randrange(1, 12))
                    async with aclosing((await store.outbox()).follow(position)) as events:  # type: ignore[type-var]
                        for _ in range(len(writer.said) - len(told)):
                            position, event = await anext(events)
                            told.append(fact(event))
                await writer.kill()
            more, position = await rest(await store.outbox(), position)
            there = {stat.key.text async for stat in store.list()}
            check(told + more, writer.said, there)


async def test_position_goes_on_after_a_kill_where_one_process_has_the_store(tmp_path: Path, reach: Reach) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    order = random.Random(seed)
    position: str | None = None
    for crash in range(reach.times(2, 50)):
        async with asyncio.timeout(LONG), writing(tmp_path, ROCKSDB, seed + crash) as writer:
            await writer.says(order.randrange(5, 60))
            await writer.kill()
        async with graviton.open(tmp_path, metadata=ROCKSDB) as store:
            told, position = await rest(await store.outbox(), position)
            check(told, writer.said, {stat.key.text async for stat in store.list()})


async def test_trimmed_positions_and_those_of_another_store_are_refused(tmp_path: Path) -> None:
    async with graviton.open(tmp_path / "one") as store, graviton.open(tmp_path / "two") as other:
        for number in range(4):
            await store.put(b"%d" % number)
        await other.put(b"of another")
        outbox = await store.outbox()
        positions = [position for position, _ in await outbox.read()]
        assert await outbox.trim(2**62, 3) == 3
        assert len(await outbox.read(positions[2])) == 1
        for position in (positions[0], positions[1], await (await other.outbox()).latest()):
            with pytest.raises(NotFound):
                await outbox.read(position)
