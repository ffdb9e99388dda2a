"""Copying metadata while the marker beside the blocks is changed, is gone, or cannot be read or written."""

from __future__ import annotations

from contextlib import suppress

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.core.hashing import HashAlgo
from graviton.errors import (
    ConfigError,
    Conflict,
    GravitonError,
    IntegrityError,
    PermissionDenied,
    StorageFull,
    Unavailable,
)
from graviton.metadata.pairing import MARKER_KEY, adopt
from graviton.metadata.read_only import GuardedKeyValueStore
from graviton.metadata.rows import STORE
from graviton.ports.kv import KeyValueStore
from tests.unit.metadata.copy_faults import Fate, World
from tests.unit.metadata.filled import MARKER, fill

MAX_CHANGES = 200
RESTORED = MARKER._replace(metadata_id="e" * 32)


async def new_world() -> World:
    made = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
    await fill(made.source)
    return made


@pytest.fixture
async def world() -> World:
    return await new_world()


async def undisturbed() -> Fate:
    """What a copy does to which nothing happens."""
    fate = Fate()
    await (await (await new_world()).copy(fate)).run()
    return fate


async def join(kv: KeyValueStore, where: str, world: World) -> None:
    """`graviton store adopt`."""
    await adopt(GuardedKeyValueStore(kv), where, world.markers, HashAlgo.BLAKE3, MARKER.chunker)


async def test_blocks_that_were_given_to_restored_metadata_meanwhile_stay_with_it() -> None:
    """A backup is restored and adopted before each change, and before each look at the marker."""
    usual = await undisturbed()
    moments = [("change", at) for at in range(usual.changes) if at not in usual.marker_changes]
    for kind, at in [*moments, *(("read", at) for at in range(usual.reads))]:
        world = await new_world()
        restored = InMemoryKeyValueStore()
        await fill(restored)
        await restored.put(STORE, MARKER_KEY, RESTORED.encode())

        async def give(number: int, at: int = at, world: World = world, restored: KeyValueStore = restored) -> None:
            if number == at:
                await join(restored, "the restored", world)

        fate = Fate()
        fate.before, fate.before_read = (give, None) if kind == "change" else (None, give)
        copy = await world.copy(fate)
        with suppress(Conflict, ConfigError):
            await copy.run()
        assert await world.markers.read() == RESTORED.encode(), (kind, at)
        assert await world.writable() == []
        if copy.source_row is None:
            assert await world.written_to() == ["source"]  # whoever has it open since before, as without the copy


async def test_blocks_that_are_gone_for_a_while_leave_one_that_is_written_to() -> None:
    """Their folder is unmounted before each change, and before each look at the marker."""
    usual = await undisturbed()
    moments = [("change", at) for at in range(usual.changes) if at not in usual.marker_changes]
    hints = []
    for kind, at in [*moments, *(("read", at) for at in range(usual.reads))]:
        world = await new_world()

        async def unmount(number: int, at: int = at, world: World = world) -> None:
            if number == at:
                world.markers.unmount()

        fate = Fate()
        fate.before, fate.before_read = (unmount, None) if kind == "change" else (None, unmount)
        copy = await world.copy(fate)
        try:
            await copy.run()
        except (Conflict, ConfigError) as error:
            hints.append(error.hint)
        world.markers.mount()
        assert await world.writable() == (["target"] if copy.is_done else ["source"]), (kind, at)
        await (await world.copy()).run()
        assert await world.writable() == ["target"]
    assert all("mounted" in hint for hint in hints)


@pytest.mark.parametrize("error", [Unavailable("the network"), IntegrityError("damaged")])
async def test_a_marker_that_cannot_be_read_leaves_one_in_use_or_says_that_none_is(error: GravitonError) -> None:
    for at in range((await undisturbed()).reads):
        world = await new_world()

        async def fail(number: int, at: int = at) -> None:
            if number == at:
                raise error

        fate = Fate()
        fate.before_read = fail
        copy = await world.copy(fate)
        with pytest.raises(type(error)):
            await copy.run()
        assert (copy.source_row is None) == (await world.writable() == ["source"])
        await (await world.copy()).run()
        assert await world.writable() == ["target"]


async def test_who_may_not_write_the_marker_is_told_before_anything_is_done(world: World) -> None:
    fate = Fate()
    fate.may_not_write = PermissionDenied("the folder is read-only")
    with pytest.raises(PermissionDenied):
        await (await world.copy(fate)).run()
    assert fate.changes == 0


async def test_a_marker_that_cannot_be_written_when_it_is_due_leaves_the_source_in_use(world: World) -> None:
    [at] = (await undisturbed()).marker_changes
    copy = await world.copy(Fate(at, error=StorageFull("no room")))
    with pytest.raises(StorageFull):
        await copy.run()
    assert copy.source_row is None
    assert await world.writable() == ["source"]
    await (await world.copy()).run()
    assert await world.writable() == ["target"]


async def test_a_copy_that_is_complete_and_not_pointed_to_says_how_it_is_used(world: World) -> None:
    await (await world.copy()).run()
    for marker, words in (
        (MARKER, "run `graviton store adopt` with A=target"),  # brought back with a backup of the folder
        (RESTORED, "run `graviton store adopt` with A=target"),
        (None, "is it mounted"),
    ):
        if marker is None:
            world.markers.unmount()
        else:
            await world.markers.replace(marker.encode())
        with pytest.raises(ConfigError) as refused:
            await (await world.copy()).run()
        assert words in refused.value.hint
    world.markers.mount()
    await join(world.target, "the target", world)
    assert await world.writable() == ["target"]
    assert (await (await world.copy()).run()).rows == 0
