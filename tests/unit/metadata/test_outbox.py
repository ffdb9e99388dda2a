"""The outbox in a key-value store: what it keeps, which positions it takes, and who is woken."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.concurrency.threads import joined
from graviton.errors import IntegrityError, InvalidInput, NotFound, Retired, Unavailable
from graviton.metadata import event_bell, event_rows, outbox
from graviton.metadata.backup import backup_metadata
from graviton.metadata.backup_format import BackupHeader, Encoder, Record, read_backup
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.event_bell import EventBell, bell_of
from graviton.metadata.event_rows import EventHead, encode_event
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.outbox import KvOutbox
from graviton.metadata.pairing import MARKER_KEY
from graviton.metadata.read_only import READ_ONLY_KEY, GuardedKeyValueStore, ReadOnly, ReadOnlyState
from graviton.metadata.restore import restore_metadata
from graviton.metadata.rows import EVENTS, STORE, u64
from graviton.ports.events import Event, EventKind
from graviton.ports.kv import KeyValueStore
from graviton.testing.conformance.checks import collect
from tests.unit.metadata.filled import MARKER, contents, fill, put
from tests.unit.metadata.readers import reader

NEVER = 1000.0
"""Seconds between two looks, where a test must not depend on them."""

SOON = 30.0
"""Seconds after which something that must come is given up."""


@pytest.fixture
def kv() -> InMemoryKeyValueStore:
    return InMemoryKeyValueStore()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Events kept."""
    monkeypatch.setattr(event_rows, "KEPT_EVENTS", 20)
    monkeypatch.setattr(event_rows, "TRIM_EVENTS", 5)
    return 20


def facts(count: int, first: int = 1) -> list[Event]:
    return [Event(EventKind.BLOB_DELETED, number, f"{number}") for number in range(first, first + count)]


async def tell(kv: KeyValueStore, *events: Event) -> None:
    await kv.transact(lambda tx: event_rows.tell(tx, events))


async def head_of(kv: KeyValueStore) -> EventHead:
    return await kv.read(event_rows.load_head)


async def subjects(kv: KeyValueStore, after: str | None = None) -> list[str]:
    return [event.subject for _, event in await KvOutbox(kv).read(after)]


async def position_of(kv: KeyValueStore, number: int) -> str:
    return next(position for position, event in await KvOutbox(kv).read() if event.subject == f"{number}")


# What is kept.


async def test_store_that_was_never_told_anything_is_not_touched_by_looking(kv: InMemoryKeyValueStore) -> None:
    assert await KvOutbox(kv).read() == []
    position = await KvOutbox(kv).latest()
    assert await KvOutbox(kv).trim(2**62) == 0
    assert await kv.namespaces() == []
    await tell(kv, *facts(2))
    assert await subjects(kv, position) == ["1", "2"]


async def test_only_the_newest_are_kept(kv: InMemoryKeyValueStore, few: int) -> None:
    for fact in facts(100):
        await tell(kv, fact)
        head = await head_of(kv)
        rows = [key async for key, _ in kv.scan(EVENTS)]
        assert rows == [u64(0), *map(u64, range(head.first, head.next))]
        assert min(fact.at_ns, few) <= head.next - head.first < few + 5
    assert await subjects(kv) == [fact.subject for fact in facts(head.next - head.first, head.first)]


async def test_position_at_the_edge_of_what_was_removed_lacks_nothing(kv: InMemoryKeyValueStore, few: int) -> None:
    await tell(kv, *facts(24))
    begin = f"{outbox.NO_STREAM}:0:0"
    before, edge, after = [await position_of(kv, number) for number in (4, 5, 6)]
    assert len(await subjects(kv, begin)) == 24
    await tell(kv, *facts(1, 25))
    assert await head_of(kv) == EventHead(6, 26, 5)
    assert (await subjects(kv, edge))[0] == "6"
    assert (await subjects(kv, after))[0] == "7"
    for position in (begin, before):
        with pytest.raises(NotFound, match="removed"):
            await subjects(kv, position)


async def test_group_of_more_than_is_kept_is_bounded_with_the_next(kv: InMemoryKeyValueStore, few: int) -> None:
    await tell(kv, *facts(70))
    await tell(kv, *facts(1, 71))
    await tell(kv, *facts(5, 72))
    head = await head_of(kv)
    assert head.next - head.first < few + 5
    assert await subjects(kv) == [fact.subject for fact in facts(77 - head.first, head.first)]


async def test_trim_stops_at_the_first_that_is_young_whatever_comes_after_it(kv: InMemoryKeyValueStore) -> None:
    """The clock was put back."""
    times = [1, 5, 9, 3, 4]
    await tell(kv, *(Event(EventKind.BLOB_DELETED, at, f"{at}") for at in times))
    assert await KvOutbox(kv).trim(6) == 2
    assert await KvOutbox(kv).trim(6) == 0
    assert await subjects(kv) == ["9", "3", "4"]


# Positions.


async def test_texts_of_positions(kv: InMemoryKeyValueStore) -> None:
    await kv.put(STORE, MARKER_KEY, MARKER.encode())
    await tell(kv, *facts(3))
    stream = MARKER.metadata_id
    assert await KvOutbox(kv).latest() == f"{stream}:3:3"
    assert await subjects(kv, f"{stream}:2:2") == ["3"]
    for rest in ("", "1", "1:", ":1", "01:1", "1:01", "+1:1", "-1:1", "1:1:1", "1:1 ", "1:1\n", "１:1", "x:1"):
        with pytest.raises(InvalidInput):
            await subjects(kv, f"{stream}:{rest}")
    for rest in (f"{10**19}:1", f"1:{2**64}"):
        with pytest.raises(InvalidInput):
            await subjects(kv, f"{stream}:{rest}")
    with pytest.raises(InvalidInput):
        await subjects(kv, f"{stream.upper()}:1:1")


async def test_store_that_was_put_back_to_an_earlier_state_refuses_later_positions(kv: InMemoryKeyValueStore) -> None:
    await tell(kv, *facts(3))
    backup = await contents_of_events(kv)
    await tell(kv, *facts(3, 4))
    position, later = await position_of(kv, 4), await position_of(kv, 6)
    again = InMemoryKeyValueStore()
    await again.transact(lambda tx: tx.put_many(EVENTS, backup))
    for lost in (position, later):
        with pytest.raises(NotFound, match="earlier state"):
            await subjects(again, lost)
    await tell(again, *facts(2, 40))
    for lost in (position, later):
        with pytest.raises(NotFound, match="earlier state"):
            await subjects(again, lost)
    assert await subjects(again, await position_of(kv, 3)) == ["40", "41"]


async def contents_of_events(kv: KeyValueStore) -> list[tuple[bytes, bytes]]:
    return [row async for row in kv.scan(EVENTS)]


async def test_another_metadata_id_is_another_stream(kv: InMemoryKeyValueStore) -> None:
    """As `store adopt --retired`, a restore and a copy give it one."""
    await kv.put(STORE, MARKER_KEY, MARKER.encode())
    await tell(kv, *facts(2))
    position = await KvOutbox(kv).latest()
    await kv.put(STORE, MARKER_KEY, MARKER._replace(metadata_id="c" * 32).encode())
    with pytest.raises(NotFound, match="another stream"):
        await subjects(kv, position)
    assert await subjects(kv) == ["1", "2"]


async def test_events_are_in_no_backup_and_restoring_tells_of_nothing(
    kv: InMemoryKeyValueStore, tmp_path: Path
) -> None:
    await fill(kv)
    position = await KvOutbox(kv).latest()
    await backup_metadata(kv, tmp_path / "file")
    with open(tmp_path / "file", "rb") as file:
        saved = list(read_backup(file.read))
    assert not [one for one in saved if isinstance(one, Record) and one.namespace == EVENTS]
    restored = InMemoryKeyValueStore()
    await restore_metadata(restored, tmp_path / "file", blocks_exist=None)
    assert EVENTS not in await restored.namespaces()
    assert await subjects(restored) == []
    with pytest.raises(NotFound, match="another stream"):
        await subjects(restored, position)
    await put(restored, 77)
    assert len(await subjects(restored)) == 1


async def test_events_in_a_backup_of_a_program_that_did_not_know_them_are_left_out(tmp_path: Path) -> None:
    encoder = Encoder()
    rows = [
        Record(EVENTS, u64(0), EventHead(1, 2).encode()),
        Record(EVENTS, u64(1), encode_event(facts(1)[0])),
        Record("mine", b"key", b"value"),
        Record(STORE, MARKER_KEY, MARKER.encode()),
    ]
    data = encoder.header(BackupHeader(MARKER.store_id, 99)) + b"".join(encoder.record(row) for row in rows)
    (tmp_path / "file").write_bytes(data + encoder.trailer())
    assert len(list(read_backup(reader(data + encoder.trailer())))) == 5
    restored = InMemoryKeyValueStore()
    result = await restore_metadata(restored, tmp_path / "file", blocks_exist=None)
    assert result.records == 4
    assert await contents(restored) == {
        ("mine", b"key"): b"value",
        (STORE, MARKER_KEY): b"" if result.marker is None else result.marker.encode(),
    }
    assert EVENTS not in await restored.namespaces()


# Damage.


async def test_damaged_head_keeps_nobody_from_putting(kv: InMemoryKeyValueStore) -> None:
    await put(kv, 1)
    outbox_ = KvOutbox(kv)
    begin, latest = f"{outbox.NO_STREAM}:0:0", await outbox_.latest()
    await kv.put(EVENTS, u64(0), b"?")
    with pytest.raises(IntegrityError):
        await outbox_.read(latest)
    with pytest.raises(IntegrityError):
        await outbox_.latest()
    record = await put(kv, 2)
    assert [event.subject for _, event in await outbox_.read()] == [record.key.text]
    for position in (begin, latest):
        with pytest.raises(NotFound, match="removed"):
            await outbox_.read(position)
    again = await put(kv, 3)
    assert [event.subject for _, event in await outbox_.read()] == [record.key.text, again.key.text]
    assert await outbox_.read(await outbox_.latest()) == []


async def test_damaged_or_missing_event_is_never_passed_over(kv: InMemoryKeyValueStore) -> None:
    await tell(kv, *facts(5))
    latest = await KvOutbox(kv).latest()
    for number, value in ((3, b"?"), (3, None), (5, None), (4, b"\x01" + bytes(8) + b"no.such\x00x\x00")):
        whole = await kv.get(EVENTS, u64(number))
        assert whole is not None
        if value is None:
            await kv.delete(EVENTS, u64(number))
        else:
            await kv.put(EVENTS, u64(number), value)
        with pytest.raises(IntegrityError):
            await subjects(kv)
        if number < 5:
            assert await subjects(kv, latest) == []
        await kv.put(EVENTS, u64(number), whole)
    assert len(await subjects(kv)) == 5


async def test_damaged_events_go_with_the_old_ones(kv: InMemoryKeyValueStore, few: int) -> None:
    await tell(kv, *facts(10))
    positions = [await position_of(kv, number) for number in (4, 5, 6)]
    for number in range(1, 6):
        await kv.put(EVENTS, u64(number), b"?")
    with pytest.raises(IntegrityError):
        await KvOutbox(kv).trim(2**62)
    await tell(kv, *facts(15, 11))
    assert (await head_of(kv)).first == 6
    assert (await subjects(kv))[0] == "6"
    assert (await subjects(kv, positions[2]))[0] == "7"
    for position in positions[:2]:
        with pytest.raises(NotFound):
            await subjects(kv, position)


# Following.


async def first_of(kv: KeyValueStore, after: str | None, poll_seconds: float = NEVER) -> str:
    async with asyncio.timeout(SOON), aclosing(KvOutbox(kv, poll_seconds).follow(after)) as events:  # type: ignore[type-var]
        _, event = await anext(events)
        return str(event.subject)


async def waits(kv: KeyValueStore, count: int = 1) -> None:
    """Until so many wait for the bell."""
    bell = bell_of(kv)
    while len(bell._listening) < count:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)


async def test_change_of_each_kind_wakes_who_follows_in_this_process(kv: InMemoryKeyValueStore) -> None:
    record = await put(kv, 1, 2)
    repo, index = KvBlobManifestRepo(kv), KvBlockIndex(kv)
    block_record = (await collect(index.list()))[0]
    changes = (
        lambda: put(kv, 7),
        lambda: repo.delete(record.key),
        lambda: repo.undelete(record.key),
        lambda: index.mark_damaged(block_record.key, block_record.generation),
    )
    for change in changes:
        following = asyncio.ensure_future(first_of(kv, await KvOutbox(kv).latest()))
        await waits(kv)
        await change()
        await following


async def test_without_the_bell_a_follower_looks_anyway(kv: InMemoryKeyValueStore) -> None:
    """Another object over the same pairs, as another process has it."""
    elsewhere = GuardedKeyValueStore(kv)
    following = asyncio.ensure_future(first_of(elsewhere, None, poll_seconds=0.01))
    await waits(elsewhere)
    record = await put(kv, 1)
    assert await following == record.key.text


async def test_event_between_the_look_and_the_wait_is_not_waited_for(
    kv: InMemoryKeyValueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looks = outbox._look, 0

    def look_and_ring(tx, after, limit):  # type: ignore[no-untyped-def]
        nonlocal looks
        looks += 1
        seen = look(tx, after, limit)
        if looks == 1:
            asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(put(kv, 1)))
        return seen

    monkeypatch.setattr(outbox, "_look", look_and_ring)
    await first_of(kv, None)
    assert looks == 2


async def test_bell_is_heard_in_every_loop(kv: InMemoryKeyValueStore) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(first_of(kv, None)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(bell_of(kv)._listening) < 3:
        await asyncio.sleep(0.001)
    record = await put(kv, 1)
    await joined(threads)
    assert found == [record.key.text] * 3
    assert not bell_of(kv)._listening


def test_bell_rings_for_a_loop_that_is_closed() -> None:
    bell = EventBell()

    async def listen() -> None:
        listening = bell.listen()
        listening.__enter__()
        kept.append(listening)

    kept: list[object] = []
    asyncio.run(listen())
    bell.ring()


async def test_a_store_has_one_bell_and_it_goes_with_it() -> None:
    one, two = InMemoryKeyValueStore(), InMemoryKeyValueStore()
    assert bell_of(one) is bell_of(one)
    assert bell_of(one) is not bell_of(two)
    there = len(event_bell._bells)
    del one
    assert len(event_bell._bells) == there - 1


async def test_follower_of_moved_metadata_is_given_the_rest_and_then_told(kv: InMemoryKeyValueStore) -> None:
    await kv.put(STORE, MARKER_KEY, MARKER.encode())
    await tell(kv, *facts(2))
    row = ReadOnly(ReadOnlyState.MOVING, "elsewhere", "A=b", "e" * 32, "f" * 32, 1)
    await kv.put(STORE, READ_ONLY_KEY, row.encode())
    async with asyncio.timeout(SOON), aclosing(KvOutbox(kv, 0.001).follow()) as events:  # type: ignore[type-var]
        assert [(await anext(events))[1].subject for _ in range(2)] == ["1", "2"]
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.01)
        assert not waiting.done(), "it may be given back"
        await kv.put(STORE, READ_ONLY_KEY, row._replace(state=ReadOnlyState.MOVED).encode())
        with pytest.raises(Retired, match="elsewhere"):
            await waiting


async def test_follower_that_is_overtaken_while_it_waits_its_turn_is_told(kv: InMemoryKeyValueStore, few: int) -> None:
    await tell(kv, *facts(3))
    async with aclosing(KvOutbox(kv).follow()) as events:  # type: ignore[type-var]
        assert [(await anext(events))[1].subject for _ in range(3)] == ["1", "2", "3"]
        await tell(kv, *facts(60, 4))
        with pytest.raises(NotFound, match="removed"):
            await anext(events)


async def test_follower_of_an_empty_outbox_is_told_if_events_come_and_go_unseen(
    kv: InMemoryKeyValueStore, few: int
) -> None:
    async with asyncio.timeout(SOON), aclosing(KvOutbox(kv, 0.05).follow()) as events:  # type: ignore[type-var]
        waiting = asyncio.ensure_future(anext(events))
        await waits(kv)
        await tell(kv, *facts(60))
        with pytest.raises(NotFound, match="removed"):
            await waiting


async def test_follower_ends_with_its_store(tmp_path: Path) -> None:
    kv = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta"))
    await put(kv, 1)
    async with asyncio.timeout(SOON), aclosing(KvOutbox(kv, 0.01).follow()) as events:  # type: ignore[type-var]
        await anext(events)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.05)
        await kv.aclose()
        with pytest.raises(Unavailable):
            await waiting


def test_looking_every_no_seconds_is_refused(kv: InMemoryKeyValueStore) -> None:
    with pytest.raises(InvalidInput):
        KvOutbox(kv, 0)


async def test_followers_at_the_same_place_share_their_looks(
    kv: InMemoryKeyValueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred of them, each looking for himself whenever somebody puts, would make puts ten times as slow."""
    looks = 0
    look = outbox._look

    def counted(*args: Any, **more: Any) -> Any:
        nonlocal looks
        looks += 1
        return look(*args, **more)

    monkeypatch.setattr(outbox, "_look", counted)
    everybody = KvOutbox(kv, NEVER)
    async with asyncio.timeout(SOON), AsyncExitStack() as stack:
        followers = [
            await stack.enter_async_context(aclosing(everybody.follow()))  # type: ignore[type-var]
            for _ in range(200)
        ]
        waiting = [asyncio.ensure_future(anext(one)) for one in followers]
        await waits(kv, 200)
        looks = 0
        await tell(kv, *facts(1))
        bell_of(kv).ring()
        found = await asyncio.gather(*waiting)
        assert {event.subject for _, event in found} == {"1"}
        assert looks <= 3


async def test_what_one_look_fails_of_is_told_to_everybody(kv: InMemoryKeyValueStore) -> None:
    await tell(kv, *facts(3))
    shared = KvOutbox(kv, NEVER)
    good, bad = shared.follow(), [shared.follow("nonsense") for _ in range(3)]
    found = await asyncio.gather(*(anext(one) for one in (good, *bad)), return_exceptions=True)
    assert isinstance(found[0], tuple)
    errors = found[1:]
    assert all(isinstance(error, InvalidInput) for error in errors)
    assert len({id(error) for error in errors}) == 3
    await good.aclose()  # type: ignore[attr-defined]


async def test_a_follower_that_leaves_in_the_middle_of_a_look_stops_nobody(kv: InMemoryKeyValueStore) -> None:
    shared = KvOutbox(kv, 0.01)
    await tell(kv, *facts(1))
    async with asyncio.timeout(SOON):
        for _ in range(20):
            leaving, staying = shared.follow(), shared.follow()
            gone, here = asyncio.ensure_future(anext(leaving)), asyncio.ensure_future(anext(staying))
            await asyncio.sleep(0)
            gone.cancel()
            assert (await here)[1].subject == "1"
            await asyncio.wait([gone])
            await leaving.aclose()  # type: ignore[attr-defined]
            await staying.aclose()  # type: ignore[attr-defined]
