"""Copying metadata into another store: nothing is lost, never two are written to, and every crash is gone on from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.core.keys import BlobKey
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.errors import ConfigError, Conflict, IntegrityError, NotFound, Retired, Unavailable
from graviton.metadata.audit import audit
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.copy import MetadataCopy
from graviton.metadata.copy_marks import HalfCopy
from graviton.metadata.copy_plan import Place
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.marker import StoreMarker
from graviton.metadata.outbox import KvOutbox
from graviton.metadata.pairing import MARKER_KEY, RESTORING_KEY
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.read_only import GuardedKeyValueStore, ReadOnly, ReadOnlyState
from graviton.metadata.replica_index import KvReplicaIndex
from graviton.metadata.replica_indexes import REPLICA_INDEXES
from graviton.metadata.restore import restore_metadata
from graviton.metadata.rows import BLOCKS, CLAIMS, EVENTS, HOLDERS, OWNERS, PAGES, REFS, STORE, TOTALS
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import KeyValueStore
from graviton.testing.conformance.checks import collect
from graviton.testing.fake_clock import FakeClock
from tests.unit.metadata.copy_faults import Fate, Gone, World
from tests.unit.metadata.filled import MARKER, blob, block, contents, fill, put

MAX_CHANGES = 200


def memory(_: Path) -> KeyValueStore:
    return InMemoryKeyValueStore()


def sqlite(path: Path) -> KeyValueStore:
    return SqliteKeyValueStore(SqliteConfig(path / "meta.sqlite"))


@pytest.fixture
async def world() -> World:
    made = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
    await fill(made.source)
    return made


async def blobs(kv: KeyValueStore) -> list[str]:
    repo = KvBlobManifestRepo(kv)
    return [f"{domain}{one.key}" for domain in ("", "other") for one in await repo.list(domain=domain)]


@pytest.mark.parametrize("source", [memory, sqlite])
@pytest.mark.parametrize("target", [memory, sqlite])
async def test_everything_is_there_afterwards_and_the_audit_finds_nothing(
    source: Callable[[Path], KeyValueStore], target: Callable[[Path], KeyValueStore], tmp_path: Path
) -> None:
    world = World(source(tmp_path / "a"), target(tmp_path / "b"), MARKER)
    session = await fill(world.source)
    await KvReplicaIndex(world.source).update(block(1), [Locator("s3", "bucket", "one"), Locator("s3", "other", "one")])
    await KvRangeTracker(world.source).merge(Locator("upload", "bucket", "x"), Span(5, 50))
    await world.source.put("mine", b"key", b"value")
    before, there = await contents(world.source), await blobs(world.source)
    position = await KvOutbox(world.source).latest()
    result = await (await world.copy()).run()
    after = await contents(world.target)
    same = {place for place in before if place[0] not in (TOTALS, CLAIMS, OWNERS, STORE)}
    assert {place: after.get(place) for place in same} == {place: before[place] for place in same}
    told = {place for place in after if place[0] not in (TOTALS, CLAIMS, *REPLICA_INDEXES)}
    assert result.rows == len(told - {(STORE, MARKER_KEY)})
    assert await blobs(world.target) == there
    assert [finding async for finding in audit(world.target)] == []
    assert len(await KvOutbox(world.source).read()) == len(there) + 3, "one deleted, a block damaged"
    assert EVENTS not in await world.target.namespaces()
    with pytest.raises(NotFound, match="another stream"):
        await KvOutbox(world.target).read(position)
    owner = await KvBlockIndex(world.target).owner(session)
    assert owner is not None
    assert owner.state is OwnerState.ENDED
    assert [key for key, _ in await collect(world.target.scan(CLAIMS))], "claims by owner"
    with pytest.raises(Conflict):
        await KvBlockIndex(world.target).confirm(session, [block(50)])
    await KvBlockIndex(world.target).end(session)
    assert [found async for found in KvBlockIndex(world.target).references(block(50))] == []
    await world.source.aclose()
    await world.target.aclose()


async def test_the_source_only_reads_and_says_where_its_data_went(world: World) -> None:
    there = await blobs(world.source)
    result = await (await world.copy()).run()
    assert await world.writable() == ["target"]
    marker = StoreMarker.decode(await world.markers.read() or b"", "")
    assert (marker.store_id, marker.metadata_id) == (MARKER.store_id, result.metadata_id)
    closed = GuardedKeyValueStore(world.source)
    with pytest.raises(Retired, match="the target") as refused:
        await KvBlockIndex(closed).open([[block(7)]])
    assert (refused.value.code, refused.value.hint) == ("retired", "Set A=target.")
    for change in (
        closed.put("mine", b"k", b"v"),
        closed.delete("mine", b"k"),
        closed.compare_and_set("a", b"k", None, b""),
    ):
        with pytest.raises(Retired):
            await change
    assert await blobs(closed) == there


async def test_running_it_again_says_so_and_changes_nothing(world: World) -> None:
    first = await (await world.copy()).run()
    before = await contents(world.source), await contents(world.target)
    again = await (await world.copy()).run()
    assert (again.metadata_id, again.rows) == (first.metadata_id, 0)
    assert (await contents(world.source), await contents(world.target)) == before


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_change_it_is_gone_on_from_and_never_two_are_written_to(after: bool) -> None:
    """The process vanishes before or after each change of source, target or marker; then the same command runs."""
    seen = set()
    for at in range(MAX_CHANGES):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        there = await blobs(world.source)
        fate = Fate(at, after=after)
        try:
            await (await world.copy(fate)).run()
        except Gone:
            pass
        writable = await world.writable()
        seen.add(tuple(writable))
        assert await world.written_to() == writable
        assert len(writable) <= 1
        await (await world.copy()).run()
        assert await world.writable() == ["target"]
        assert await blobs(world.target) == there
        if not fate.was_met:
            break
    else:
        raise AssertionError("it never came to its end")
    assert seen == {("source",), (), ("target",)}


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_change_it_can_be_given_up_until_the_target_is_in_use(after: bool) -> None:
    for at in range(MAX_CHANGES):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        fate = Fate(at, after=after)
        try:
            await (await world.copy(fate)).run()
        except Gone:
            pass
        before = await world.writable()
        if before == ["target"]:
            with pytest.raises((ConfigError, Retired)):
                await (await world.copy()).abort()
            assert await world.writable() == ["target"]
        elif before == ["source"]:
            with pytest.raises(ConfigError, match="nothing is being moved"):
                await (await world.copy()).abort()
        else:
            await (await world.copy()).abort()
        assert await world.writable() == (before or ["source"])
        if not fate.was_met:
            return
    raise AssertionError("it never came to its end")


async def test_giving_up_can_be_killed_too(world: World) -> None:
    for at in range(MAX_CHANGES):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        with pytest.raises(Gone):
            await (await world.copy(Fate(await _before_join(), after=False))).run()
        fate = Fate(at)
        try:
            await (await world.copy(fate)).abort()
        except Gone:
            await (await world.copy()).abort()
        assert await world.writable() == ["source"]
        if not fate.was_met:
            return


async def _before_join() -> int:
    """The number of the change that puts the target in use, the last but one; before it comes the marker."""
    world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
    await fill(world.source)
    fate = Fate()
    await (await world.copy(fate)).run()
    return fate.changes - 2


async def test_an_error_at_any_change_leaves_one_in_use_or_says_that_none_is() -> None:
    for at in range(MAX_CHANGES):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        fate = Fate(at, error=Unavailable("the network"))
        copy = await world.copy(fate)
        try:
            await copy.run()
        except Unavailable:
            assert (copy.source_row is None) == (await world.writable() == ["source"])
        await put(GuardedKeyValueStore(world.source), 900) if await world.writable() == ["source"] else None
        there = await blobs(world.source)
        await (await world.copy()).run()
        assert (await world.writable(), await blobs(world.target)) == (["target"], there)
        if not fate.was_met:
            return
    raise AssertionError("it never came to its end")


async def test_what_is_put_meanwhile_is_copied_or_refused(world: World) -> None:
    """A put and a delete between any two changes of the copy, through a store that was opened before."""
    deleted = blob([block(number) for number in (1, 2, 3, 1)])
    for at in range(MAX_CHANGES):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        opened = GuardedKeyValueStore(world.source)
        acknowledged: list[BlobKey] = []

        async def meanwhile(number: int, at: int = at, world: World = world) -> None:
            if number != at:
                return
            try:
                acknowledged.append((await put(opened, 700, 701, 2)).key)  # noqa: B023
                await KvBlobManifestRepo(opened).delete(deleted)  # noqa: B023
            except (Retired, Unavailable):
                pass

        fate = Fate()
        fate.before = meanwhile
        await (await world.copy(fate)).run()
        keys = [one.key for one in await KvBlobManifestRepo(world.target).list()]
        assert all(key in keys for key in acknowledged)
        if acknowledged:
            assert deleted not in keys
        assert [finding async for finding in audit(world.target)] == []
        if fate.changes <= at:
            return
    raise AssertionError("it never came to its end")


async def test_a_frozen_run_is_refused_after_another_one_took_over(world: World) -> None:
    """It stops before each of its changes, the other one comes to its end, and it wakes up."""
    for at in range(MAX_CHANGES):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        there = await blobs(world.source)

        async def overtake(number: int, at: int = at, world: World = world) -> None:
            if number == at:
                await (await world.copy()).run()
                await put(GuardedKeyValueStore(world.target), 800)

        fate = Fate()
        fate.before = overtake
        copy = await world.copy(fate)
        try:
            await copy.run()
        except (Conflict, Retired, ConfigError):
            pass
        assert await world.writable() == ["target"]
        if fate.changes > at:
            assert len(await blobs(world.target)) == len(there) + 1
        else:
            return
    raise AssertionError("it never came to its end")


async def test_a_frozen_run_does_not_open_what_another_one_has_closed(world: World) -> None:
    """It stops before each of its changes, another one takes over and is killed right before it puts the target in use;
    then the first one wakes up, and has failed."""
    for at in range(MAX_CHANGES):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        closed = False

        async def vanish(number: int, world: World = world) -> None:
            if await world.markers.read() != MARKER.encode():
                raise Gone

        async def take_over(number: int, at: int = at, world: World = world) -> None:
            nonlocal closed
            if number == at:
                other = Fate()
                other.before = vanish
                with suppress(Gone):
                    await (await world.copy(other)).run()
                    raise AssertionError("it came to its end")
                closed = other.changes > 0

        fate = Fate()
        fate.before = take_over
        with suppress(Conflict):
            await (await world.copy(fate)).run()
        assert await world.written_to() == ([] if closed else ["target"])
        await (await world.copy()).run()
        assert await world.writable() == ["target"]
        if fate.changes <= at:
            return
    raise AssertionError("it never came to its end")


async def test_a_frozen_run_does_not_undo_that_it_was_given_up(world: World) -> None:
    """It stops before each of its changes, is given up meanwhile, and wakes up: the source stays in use."""
    for at in range(MAX_CHANGES):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        given_up = False

        async def give_up(number: int, at: int = at, world: World = world) -> None:
            nonlocal given_up
            if number == at:
                try:
                    await (await world.copy()).abort()
                    given_up = True
                except (ConfigError, Retired):
                    pass

        fate = Fate()
        fate.before = give_up
        copy = await world.copy(fate)
        try:
            await copy.run()
        except (Conflict, ConfigError):
            assert given_up
            assert copy.source_row is None
        assert await world.written_to() == await world.writable() == (["source"] if given_up else ["target"])
        if fate.changes <= at:
            return
    raise AssertionError("it never came to its end")


async def test_who_was_overtaken_by_a_copy_to_somewhere_else_says_where_the_source_went(world: World) -> None:
    elsewhere = InMemoryKeyValueStore()

    async def overtake(number: int) -> None:
        if number == 3:
            target = Place(GuardedKeyValueStore(elsewhere), "elsewhere", "A=elsewhere")
            await MetadataCopy(Place(GuardedKeyValueStore(world.source), "the source", ""), target, world.markers).run()

    fate = Fate()
    fate.before = overtake
    copy = await world.copy(fate)
    with pytest.raises(Conflict):
        await copy.run()
    assert copy.source_row is not None
    assert (copy.source_row.state, copy.source_row.place) == (ReadOnlyState.MOVED, "elsewhere")


async def test_rows_that_are_gone_since_an_earlier_run_are_gone_in_the_target(world: World) -> None:
    with pytest.raises(Gone):
        await (await world.copy(Fate(await _before_join()))).run()
    await (await world.copy()).abort()
    repo = KvBlobManifestRepo(world.source)
    for domain in ("", "other"):
        for one in await repo.list(domain=domain):
            for holder in ("", "somebody"):
                await repo.delete(one.key, holder=holder, domain=domain)
    await put(world.source, 300)
    await release_everything(world.source)
    there = {place for place in await contents(world.source) if place[0] in (OWNERS, BLOCKS, REFS, PAGES, HOLDERS)}
    await (await world.copy()).run()
    after = {place for place in await contents(world.target) if place[0] in (OWNERS, BLOCKS, REFS, PAGES, HOLDERS)}
    assert after == there
    assert len(await blobs(world.target)) == 1


async def release_everything(kv: KeyValueStore) -> None:
    """Take away what deleted blobs and sessions hold, years later."""
    clock = FakeClock()
    clock.jump(2e9)
    index = KvBlockIndex(kv, clock)
    assert [session async for session in index.end_expired()]
    assert [step async for step in index.release(0.0)]


async def test_claims_by_owner_that_are_wrong_are_made_anew(world: World) -> None:
    with pytest.raises(Gone):
        await (await world.copy(Fate(await _before_join()))).run()
    right = await collect(world.target.scan(CLAIMS))
    await world.target.transact(lambda tx: tx.delete_many(CLAIMS, [right[0][0]]))
    await world.target.put(CLAIMS, right[1][0] + b"more", right[1][1])
    await (await world.copy()).run()
    assert await collect(world.target.scan(CLAIMS)) == right


@pytest.mark.parametrize("namespace", [BLOCKS, REFS, PAGES, OWNERS])
async def test_a_target_that_is_not_what_was_written_is_not_switched_to(world: World, namespace: str) -> None:
    """A row is lost between the last pass and the verification."""

    last_write = await _before_join() - 2

    async def forget(number: int) -> None:
        if number == last_write:
            [key] = [key async for key, _ in world.target.scan(namespace)][:1]
            await world.target.delete(namespace, key)

    fate = Fate()
    fate.then = forget
    copy = await world.copy(fate)
    with pytest.raises(IntegrityError, match=namespace):
        await copy.run()
    assert (await world.writable(), copy.source_row) == (["source"], None)
    await (await world.copy()).run()
    assert await world.writable() == ["target"]
    assert [finding async for finding in audit(world.target)] == []


async def test_a_source_that_is_not_sound_stays_in_use(world: World) -> None:
    [key] = [key async for key, _ in world.source.scan(HOLDERS)][:1]
    await world.source.delete(HOLDERS, key)
    with pytest.raises(IntegrityError, match="nobody holds it"):
        await (await world.copy()).run()
    assert await world.writable() == ["source"]


async def test_wrong_totals_are_put_right(world: World) -> None:
    await world.source.transact(lambda tx: tx.delete_many(TOTALS, [key for key, _ in list(tx.scan(TOTALS))]))
    await (await world.copy()).run()
    assert (await KvBlobManifestRepo(world.target).totals()).blobs == 3


async def test_targets_that_are_not_empty_are_refused_and_not_touched(world: World) -> None:
    other = MARKER._replace(store_id="c" * 32, metadata_id="d" * 32).encode()
    half = HalfCopy("elsewhere", "e" * 32, "f" * 32, "0" * 32, 1).encode()
    for rows, words in (
        ([("mine", b"k", b"v")], "not empty"),
        ([(STORE, MARKER_KEY, other)], "belongs to another store"),
        ([(STORE, MARKER_KEY, MARKER._replace(metadata_id="d" * 32).encode())], "not empty"),
        ([(STORE, MARKER_KEY, MARKER.encode())], "is the source itself"),
        ([(STORE, RESTORING_KEY, half)], "half a copy of that at elsewhere"),
        ([(STORE, RESTORING_KEY, b"r" * 16)], "half restored"),
    ):
        world.target = InMemoryKeyValueStore()
        for namespace, key, value in rows:
            await world.target.put(namespace, key, value)
        for replaces in (False, True):
            if replaces and "half a copy" in words:
                continue
            with pytest.raises(ConfigError, match=words):
                await (await world.copy(replace_target=replaces)).run()
        assert await contents(world.target) == {(name, key): value for name, key, value in rows}
        assert "source" in await world.writable()


async def test_half_a_copy_of_something_else_is_replaced_when_that_is_said(world: World) -> None:
    await put(world.target, 1, 500)
    half = HalfCopy("elsewhere", "e" * 32, "f" * 32, "0" * 32, 1)
    await world.target.put(STORE, RESTORING_KEY, half.encode())
    await (await world.copy(replace_target=True)).run()
    assert await blobs(world.target) == await blobs(world.source)
    assert await world.writable() == ["target"]


async def test_it_goes_back_when_that_is_said_also_killed_at_any_change(world: World) -> None:
    for at in range(MAX_CHANGES):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        since_ever = GuardedKeyValueStore(world.source)
        await (await world.copy()).run()
        await put(GuardedKeyValueStore(world.target), 600)
        there = await blobs(world.target)
        world.source, world.target = world.target, world.source
        with pytest.raises(ConfigError, match="its rows are still there"):
            await (await world.copy()).run()
        fate = Fate(at)
        try:
            await (await world.copy(fate, replace_target=True)).run()
        except Gone:
            if await world.writable() != ["target"]:
                with pytest.raises((Retired, Unavailable)):  # a program that has the retired one open since before
                    await put(since_ever, 601)
            assert len(await world.writable()) <= 1
            await (await world.copy(replace_target=True)).run()
        assert (await world.writable(), await blobs(world.target)) == (["target"], there)
        await put(since_ever, 601)
        if not fate.was_met:
            return
    raise AssertionError("it never came to its end")


async def test_a_copy_to_somewhere_else_is_refused_while_one_is_unfinished(world: World) -> None:
    with pytest.raises(Gone):
        await (await world.copy(Fate(await _before_join()))).run()
    real, world.target = world.target, InMemoryKeyValueStore()
    with pytest.raises(ConfigError, match="is being moved to the target"):
        await (await world.copy()).run()
    with pytest.raises(ConfigError, match="is not there"):  # it may be in use where it is
        await (await world.copy()).abort()
    world.target = real
    await (await world.copy()).run()
    assert await world.writable() == ["target"]
    world.target = InMemoryKeyValueStore()
    with pytest.raises(Retired):
        await (await world.copy()).run()


async def test_a_target_that_is_lost_is_given_up_by_hand(world: World) -> None:
    await (await world.copy()).run()
    lost, world.target = world.target, InMemoryKeyValueStore()
    assert await world.writable() == []
    await world.take_back()
    assert await world.writable() == ["source"]
    world.target = lost
    assert await world.writable() == ["source"], "the lost one turned up"


async def test_a_target_that_is_lost_while_it_is_half_is_given_up_by_hand() -> None:
    """The copy was killed right before each of its last changes; should its target turn up, it is refused."""
    last = await _before_join()
    for at in (last - 2, last - 1, last, last + 1):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        with pytest.raises(Gone):
            await (await world.copy(Fate(at))).run()
        lost, world.target = world.target, InMemoryKeyValueStore()
        with pytest.raises(ConfigError, match="is not there") as refused:
            await (await world.copy()).abort()
        assert "adopt --retired" in refused.value.hint
        assert await world.written_to() == []
        await world.take_back()
        world.target = lost
        assert await world.written_to() == await world.writable() == ["source"]
        with pytest.raises(ConfigError):
            await (await world.copy()).run()
        if at <= last:  # else it is whole, and may be what somebody needs
            await (await world.copy(replace_target=True)).run()
            assert await world.writable() == ["target"]


async def test_taking_back_can_be_killed_too() -> None:
    for at in range(MAX_CHANGES):
        world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
        await fill(world.source)
        await (await world.copy()).run()
        fate = Fate(at)
        with suppress(Gone):
            await world.take_back(fate)
        assert len(await world.written_to()) <= 1
        await world.take_back()
        assert await world.written_to() == await world.writable() == ["source"]
        if not fate.was_met:
            return
    raise AssertionError("it never came to its end")


async def test_a_restore_does_not_take_half_a_copy(world: World, tmp_path: Path) -> None:
    from graviton.metadata.backup import backup_metadata

    await backup_metadata(world.source, tmp_path / "backup")
    with pytest.raises(Gone):
        await (await world.copy(Fate(await _before_join()))).run()
    with pytest.raises(ConfigError, match="half a copy"):
        await restore_metadata(world.target, tmp_path / "backup", blocks_exist=None)
    await backup_metadata(world.source, tmp_path / "closed")
    fresh = InMemoryKeyValueStore()
    await restore_metadata(fresh, tmp_path / "closed", blocks_exist=None)
    await GuardedKeyValueStore(fresh).put("mine", b"k", b"v")


def test_the_rows_are_what_they_say() -> None:
    row = ReadOnly(ReadOnlyState.MOVED, "a place", "X=1", "a" * 32, "b" * 32, 5)
    assert ReadOnly.decode(row.encode()) == row
    half = HalfCopy("a place", "a" * 32, "b" * 32, "c" * 32, 5)
    assert HalfCopy.decode(half.encode()) == half
    assert HalfCopy.decode(b"{" * 16) is None
    for damaged in (b"", b"{}", b"[1]", b'{"state": "moved"}', b'{"state": "x"}' * 2):
        with pytest.raises(IntegrityError):
            ReadOnly.decode(damaged)
    for damaged in (half.encode()[:-1], b'{"source": "a place"}'):
        with pytest.raises(IntegrityError):
            HalfCopy.decode(damaged)
