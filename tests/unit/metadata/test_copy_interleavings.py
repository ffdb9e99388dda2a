"""Two commands on the same source and target at once: each is frozen at every step of the other. Never two are written
to, and afterwards one is, or the next command sees to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.errors import ConfigError, Conflict, Retired
from tests.unit.metadata.copy_faults import Fate, Gone, World
from tests.unit.metadata.filled import MARKER, fill

Command = Callable[[World, Fate], Awaitable[object]]


async def copy(world: World, fate: Fate) -> object:
    return await (await world.copy(fate)).run()


async def abort(world: World, fate: Fate) -> object:
    return await (await world.copy(fate)).abort()


async def take_back(world: World, fate: Fate) -> object:
    return await world.take_back(fate)


class Actor:
    """A command that stops before one of its steps: a change, or a look at the blocks' marker."""

    def __init__(self, world: World, command: Command, stops_at: int) -> None:
        self._world, self._command, self._stops_at = world, command, stops_at
        self.steps = 0
        self.error: Exception | None = None
        self._go, self._stopped = asyncio.Event(), asyncio.Event()
        self._fate = Fate()
        self._fate.before = self._fate.before_read = self._step
        self._fate.then = self._look
        self._task = asyncio.ensure_future(self._run())

    async def to_its_stop(self) -> None:
        """Returns when it has stopped, or is at its end."""
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait([stopped, self._task], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()

    def stop_again(self, step: int) -> None:
        """Go on, and stop before another step."""
        self._stops_at = step
        self._go.set()
        self._go, self._stopped = asyncio.Event(), asyncio.Event()

    async def to_its_end(self) -> None:
        self._go.set()
        await self._task

    async def _run(self) -> None:
        try:
            await self._command(self._world, self._fate)
        except (ConfigError, Conflict, Retired) as error:
            self.error = error

    async def _step(self, _: int) -> None:
        step, self.steps = self.steps, self.steps + 1
        if step == self._stops_at:
            self._stopped.set()
            await self._go.wait()

    async def _look(self, _: int) -> None:
        assert len(await self._world.written_to()) <= 1


async def new_world(closed: bool) -> World:
    """With a copy that was killed before its switch or, if the source is not to be `closed`, none."""
    world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
    await fill(world.source)
    if closed:
        usual = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(usual.source)
        fate = Fate()
        await (await usual.copy(fate)).run()
        with suppress(Gone):
            await (await world.copy(Fate(fate.changes - 3))).run()
    return world


async def steps(command: Command, closed: bool) -> int:
    actor = Actor(await new_world(closed), command, -1)
    await actor.to_its_end()
    return actor.steps


def stops(first: int, second: int) -> Iterator[tuple[int, int]]:
    return ((one, other) for one in range(first) for other in range(second + 1))


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("command", [copy, abort, take_back])
async def test_a_copy_and_another_command_never_leave_two_that_are_written_to(command: Command, closed: bool) -> None:
    """The copy stops; the other command goes to its own stop; the copy goes to its end, then the other."""
    for one, other in stops(await steps(copy, closed), await steps(command, True)):
        world = await new_world(closed)
        first = Actor(world, copy, one)
        await first.to_its_stop()
        second = Actor(world, command, other)
        await second.to_its_stop()
        await first.to_its_end()
        await second.to_its_end()
        assert len(await world.written_to()) <= 1, (one, other)
        if not await world.writable():
            with suppress(ConfigError, Conflict):
                await (await world.copy()).run()
        if not await world.writable():  # who adopts, or is frozen right before he writes the marker, has the last word
            await world.take_back()
        assert len(await world.written_to()) == len(await world.writable()) == 1, (one, other)


async def test_giving_up_opens_the_source_to_everybody_also_if_the_switch_has_begun_meanwhile() -> None:
    """The copy stops before each of its steps, giving up stops right after its first look, and lets the copy go on for
    one step."""
    for at in range(await steps(copy, False)):
        world = await new_world(False)
        first = Actor(world, copy, at)
        await first.to_its_stop()
        second = Actor(world, abort, 1)
        await second.to_its_stop()
        first.stop_again(at + 1)
        await first.to_its_stop()
        await second.to_its_end()
        given_up = second.error is None
        await first.to_its_end()
        assert await world.written_to() == await world.writable() == (["source"] if given_up else ["target"]), at
