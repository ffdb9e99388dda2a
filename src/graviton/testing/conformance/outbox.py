"""The laws of `Outbox`, over the metadata ports whose changes it tells."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from graviton.errors import Conflict, InvalidInput, NotFound
from graviton.ports.events import Event, EventKind
from graviton.ports.outbox import MAX_READ, MAX_TRIM, READ_EVENTS, Outbox
from graviton.testing.conformance.checks import cancelled_everywhere, gather, raises
from graviton.testing.conformance.contract import needs
from graviton.testing.conformance.metadata_values import (
    Metadata,
    MetadataContract,
    Upload,
    block_key,
    block_keys,
    commit_of,
    record_of,
)

__all__ = ["OutboxContract"]

COMMITTED, DELETED, DAMAGED = EventKind.BLOB_COMMITTED, EventKind.BLOB_DELETED, EventKind.BLOCK_DAMAGED

LONG = 60.0
"""Seconds after which something that must come is given up."""

_Told = list[tuple[str, Event]]


def _facts(told: Sequence[tuple[str, Event]]) -> list[tuple[EventKind, str]]:
    return [(event.kind, event.subject) for _, event in told]


def _uploads(count: int, stem: str = "") -> list[Upload]:
    return [Upload.of(block_keys(1, f"{stem}{number}"), f"{stem}{number}") for number in range(count)]


async def _all(outbox: Outbox, after: str | None = None, limit: int = READ_EVENTS) -> _Told:
    """Everything that there is now."""
    found: _Told = []
    while page := await outbox.read(found[-1][0] if found else after, limit):
        assert len(page) <= limit
        found += page
    return found


class OutboxContract(MetadataContract):
    """All laws of `graviton.ports.outbox`. The default kinds of events are switched on, and followers look often
    enough for a test to wait for them."""

    port = Outbox

    def make_outbox(self, store: Any) -> Outbox:
        """The outbox of the open backend `store`."""
        raise NotImplementedError(f"{type(self).__qualname__} gives no make_outbox")

    async def open_both(self) -> tuple[Metadata, Outbox]:
        """The ports over a backend that is closed when the law ends, and its outbox."""
        store = await self.open()
        return self.make_metadata(store), self.make_outbox(store)

    async def put(self, metadata: Metadata, *uploads: Upload) -> None:
        """One after the other, each a second after the one before."""
        for upload in uploads:
            self.clock.advance(1)
            await metadata.put(upload)

    async def trimmed(self, outbox: Outbox, before_ns: int, count: int, limit: int = MAX_TRIM) -> None:
        """Trim until so many are gone: somebody's transaction may keep them for a while."""
        done = 0
        async with asyncio.timeout(LONG):
            while done < count:
                done += (removed := await outbox.trim(before_ns, limit))
                assert removed <= limit
        assert done == count

    # What is told.

    async def test_fresh_outbox_holds_nothing(self) -> None:
        _, outbox = await self.open_both()
        assert await _all(outbox) == []
        assert await _all(outbox, await outbox.latest()) == []
        assert await outbox.trim(2**62) == 0

    async def test_every_change_has_its_event_and_nothing_else_has(self) -> None:
        metadata, outbox = await self.open_both()
        upload, other = Upload.of(block_keys(2, "a"), "a"), Upload.of(block_keys(2, "a"), "b")
        await metadata.put(upload, holder="one")
        await metadata.put(upload, holder="two")  # merged
        await metadata.put(other, domain="elsewhere")
        await metadata.repo.delete(upload.key, "one")  # another holder keeps it
        self.clock.advance(5)
        await metadata.repo.delete(upload.key, "two")
        deleted_ns = self.clock.now_ns()
        await metadata.repo.delete(upload.key, "two")
        await metadata.repo.undelete(upload.key, "two")
        await metadata.repo.undelete(upload.key, "two")
        await metadata.repo.delete(upload.key, "two")
        await metadata.put(upload)
        generation = (await record_of(metadata, upload.blocks[0])).generation
        assert await metadata.index.mark_damaged(upload.blocks[0], generation) is True
        assert await metadata.index.mark_damaged(upload.blocks[0], generation) is False
        key, block = upload.key.text, upload.blocks[0].text
        told = [event for _, event in await _all(outbox)]
        assert [(event.kind, event.subject, dict(event.data)) for event in told] == [
            (COMMITTED, key, {"blocks": 2}),
            (COMMITTED, other.key.text, {"blocks": 2, "domain": "elsewhere"}),
            (DELETED, key, {}),
            (COMMITTED, key, {"blocks": 2}),
            (DELETED, key, {}),
            (COMMITTED, key, {"blocks": 2}),
            (DAMAGED, block, {}),
        ]
        assert told[0].at_ns < told[2].at_ns == deleted_ns

    async def test_events_of_other_domains_name_them(self) -> None:
        metadata, outbox = await self.open_both()
        upload = Upload.of(block_keys(1), "ä")
        await metadata.put(upload, domain="ä-domain")
        await metadata.repo.delete(upload.key, domain="ä-domain")
        (record,) = await metadata.index.records(upload.blocks, "ä-domain")
        assert record is not None
        await metadata.index.mark_damaged(upload.blocks[0], record.generation, "ä-domain")
        told = [event for _, event in await _all(outbox)]
        assert [event.data.get("domain") for event in told] == ["ä-domain"] * 3

    async def test_group_is_told_in_its_order_and_merged_ones_are_not(self) -> None:
        metadata, outbox = await self.open_both()
        uploads = _uploads(5)
        sessions = await metadata.index.open([upload.blocks for upload in [*uploads, uploads[2]]])
        group = [
            commit_of(opened.session, upload) for opened, upload in zip(sessions, [*uploads, uploads[2]], strict=True)
        ]
        await metadata.repo.commit(group)
        assert _facts(await _all(outbox)) == [(COMMITTED, upload.key.text) for upload in uploads]

    async def test_repaired_manifest_is_told_again(self) -> None:
        metadata, outbox = await self.open_both()
        old = Upload.of(block_keys(3))
        first, second, third = old.blocks
        new = Upload(old.key, [block_key("joined", first.size + second.size), third])
        await metadata.put(old)
        await metadata.put(new)  # merged: what is there is sound
        await metadata.index.mark_damaged(first, (await record_of(metadata, first)).generation)
        await metadata.put(new)
        told = await _all(outbox)
        assert _facts(told) == [(COMMITTED, old.key.text), (DAMAGED, first.text), (COMMITTED, old.key.text)]
        assert [event.data.get("blocks") for _, event in told] == [3, None, 2]

    async def test_change_that_fails_leaves_no_event(self) -> None:
        metadata, outbox = await self.open_both()
        good, upload = Upload.of(block_keys(1, "good"), "good"), Upload.of(block_keys(2), "a")
        sessions = [await metadata.session(one.blocks) for one in (good, upload)]
        with raises(Conflict):
            await metadata.repo.commit(
                [commit_of(sessions[0], good), commit_of(sessions[1], upload, confirm=upload.blocks[:1])]
            )
        assert await metadata.repo.delete(upload.key) is False
        assert await metadata.repo.undelete(upload.key) is False
        assert await _all(outbox) == []

    async def test_cancelled_commit_has_its_event_exactly_if_it_happened(self) -> None:
        metadata, outbox = await self.open_both()
        number = 0

        async def put() -> None:
            await metadata.put(Upload.of(block_keys(1, f"{number}"), f"{number}"))

        async for _ in cancelled_everywhere(put):
            number += 1
        there = {record.key.text for record in await metadata.repo.list(limit=MAX_READ)}
        told = [event.subject for _, event in await _all(outbox)]
        assert len(told) == len(set(told))
        assert set(told) == there

    # Reading and positions.

    async def test_continued_after_every_event_nothing_is_missed_and_nothing_comes_twice(self) -> None:
        metadata, outbox = await self.open_both()
        begin = await outbox.latest()
        await self.put(metadata, *_uploads(12))
        everything = await _all(outbox)
        assert len(everything) == 12
        assert await _all(outbox, begin) == everything
        for number, (position, _) in enumerate(everything, 1):
            assert _facts(await _all(outbox, position)) == _facts(everything[number:])
        for limit in (1, 5, 12):
            assert _facts(await _all(outbox, limit=limit)) == _facts(everything)

    async def test_latest_is_after_everything_and_before_the_rest(self) -> None:
        metadata, outbox = await self.open_both()
        one, two, three = _uploads(3)
        await self.put(metadata, one, two)
        latest = await outbox.latest()
        assert await _all(outbox, latest) == []
        await self.put(metadata, three)
        assert _facts(await _all(outbox, latest)) == [(COMMITTED, three.key.text)]

    async def test_limits_of_reads_and_trims(self) -> None:
        _, outbox = await self.open_both()
        for limit in (0, -1, MAX_READ + 1):
            with raises(InvalidInput):
                await outbox.read(limit=limit)
        for limit in (0, -1, MAX_TRIM + 1):
            with raises(InvalidInput):
                await outbox.trim(0, limit)

    async def test_texts_that_are_no_positions_are_refused(self) -> None:
        metadata, outbox = await self.open_both()
        await self.put(metadata, *_uploads(1))
        latest = await outbox.latest()
        assert latest.isascii()
        assert latest.isprintable()
        assert " " not in latest
        stream = latest.split(":")[0]
        for text in ("", "x", "-1", stream, f"{stream}:", f"{stream}:x", latest + ":", latest + "\n", " " + latest):
            with raises(InvalidInput):
                await outbox.read(text)
            with raises(InvalidInput):
                await anext(outbox.follow(text))

    async def test_position_of_another_stream_is_not_found(self) -> None:
        metadata, outbox = await self.open_both()
        await self.put(metadata, *_uploads(1))
        rest = (await outbox.latest()).partition(":")[2]
        for text in (f"{'ab' * 16}:{rest}", f"{'ab' * 16}:1:2", f"{'ab' * 16}:0:7:"):
            with raises(NotFound) as caught:
                await outbox.read(text)
            assert "without a position" in caught.error.hint
            with raises(NotFound):
                await anext(outbox.follow(text))

    # Following.

    async def test_follower_is_given_what_is_there_and_what_comes(self) -> None:
        metadata, outbox = await self.open_both()
        uploads = _uploads(6)
        await self.put(metadata, *uploads[:3])
        found = []
        async with asyncio.timeout(LONG), aclosing(outbox.follow()) as events:  # type: ignore[type-var]
            for number, upload in enumerate(uploads):
                if number >= 3:
                    waiting = asyncio.ensure_future(anext(events))
                    await asyncio.sleep(0.001 * number)
                    await self.put(metadata, upload)
                    found.append(await waiting)
                else:
                    found.append(await anext(events))
        assert _facts(found) == [(COMMITTED, upload.key.text) for upload in uploads]
        assert _facts(await _all(outbox, found[2][0])) == _facts(found[3:])

    async def test_changes_of_one_blob_come_in_their_order_whoever_makes_them(self) -> None:
        metadata, outbox = await self.open_both()
        upload = Upload.of(block_keys(2))

        async def puts() -> None:
            for _ in range(10):
                await metadata.put(upload)

        async def deletes() -> None:
            for _ in range(10):
                await metadata.repo.delete(upload.key)

        await gather(puts(), puts(), deletes(), deletes(), deletes())
        kinds = [event.kind for _, event in await _all(outbox)]
        assert kinds[0] is COMMITTED
        assert all(one is not two for one, two in itertools.pairwise(kinds)), "there, gone, there, gone"
        assert kinds[-1] is (COMMITTED if await metadata.repo.list() else DELETED)

    async def test_many_writers_and_a_follower_that_begins_again_all_the_time(self) -> None:
        metadata, outbox = await self.open_both()
        writers, each = 5, 8

        async def write(number: int) -> None:
            for upload in _uploads(each, f"{number}/"):
                await metadata.put(upload)

        async def follow() -> list[str]:
            found: list[str] = []
            position = None
            while len(found) < writers * each:
                async with aclosing(outbox.follow(position)) as events:  # type: ignore[type-var]
                    for _ in range(min(1 + len(found) % 7, writers * each - len(found))):
                        position, event = await anext(events)
                        found.append(event.subject)
            return found

        async with asyncio.timeout(LONG):
            found, *_ = await gather(follow(), *map(write, range(writers)))
        assert found is not None
        for number in range(writers):
            mine = [upload.key.text for upload in _uploads(each, f"{number}/")]
            assert [subject for subject in found if subject in mine] == mine
        assert len(set(found)) == writers * each

    async def test_cancelled_follower_leaves_nothing_behind(self) -> None:
        metadata, outbox = await self.open_both()
        await self.put(metadata, *_uploads(1))
        latest = await outbox.latest()
        for steps in range(0, 30, 3):
            events = outbox.follow(latest)
            task = asyncio.ensure_future(anext(events))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with raises(asyncio.CancelledError):
                await task
            await events.aclose()  # type: ignore[attr-defined]

    # Trimming.

    async def test_trim_removes_the_oldest_in_bounded_steps(self) -> None:
        metadata, outbox = await self.open_both()
        await self.put(metadata, *_uploads(9))
        everything = await _all(outbox)
        await self.trimmed(outbox, everything[7][1].at_ns, 7, limit=3)
        assert await outbox.trim(everything[7][1].at_ns) == 0
        assert _facts(await _all(outbox)) == _facts(everything[7:])
        await self.trimmed(outbox, 2**62, 2)
        assert await _all(outbox) == []

    async def test_trimmed_positions_are_refused_and_others_are_not(self) -> None:
        metadata, outbox = await self.open_both()
        begin = await outbox.latest()
        await self.put(metadata, *_uploads(6))
        everything = await _all(outbox)
        await self.trimmed(outbox, everything[4][1].at_ns, 4)
        for position in (begin, *(position for position, _ in everything[:3])):
            with raises(NotFound) as caught:
                await outbox.read(position)
            assert "removed" in str(caught.error)
            with raises(NotFound):
                await anext(outbox.follow(position))
        for number in (4, 5, 6):
            position = everything[number - 1][0]
            assert _facts(await _all(outbox, position)) == _facts(everything[number:])

    async def test_follower_at_the_end_is_not_bothered_by_trims(self) -> None:
        metadata, outbox = await self.open_both()
        latest = await outbox.latest()
        for upload in _uploads(4):
            await self.put(metadata, upload)
            latest = await outbox.latest()
            await self.trimmed(outbox, 2**62, 1)
            for position in (latest, await outbox.latest()):
                assert await _all(outbox, position) == []
        await self.put(metadata, *_uploads(1, "more"))
        assert len(await _all(outbox, latest)) == 1

    async def test_follower_that_is_overtaken_by_a_trim_is_told_so(self) -> None:
        metadata, outbox = await self.open_both()
        await self.put(metadata, *_uploads(3))
        async with aclosing(outbox.follow()) as events:  # type: ignore[type-var]
            position, _ = await anext(events)
            await self.trimmed(outbox, 2**62, 3)
            with raises(NotFound):
                await outbox.read(position)

    # Other processes, and later ones.

    @needs("persistent")
    async def test_positions_hold_after_reopening(self) -> None:
        metadata, outbox = await self.open_both()
        await self.put(metadata, *_uploads(3))
        everything = await _all(outbox)
        store = await self.reopen(self._opened[-1])
        metadata, outbox = self.make_metadata(store), self.make_outbox(store)
        assert await _all(outbox) == everything
        await self.put(metadata, *_uploads(1, "later"))
        assert len(await _all(outbox, everything[1][0])) == 2

    @needs("multi_process")
    async def test_change_made_through_another_opened_store_is_told(self) -> None:
        metadata, outbox = await self.open_both()
        elsewhere, _ = await self.open_both()
        one, two = _uploads(2)
        await self.put(metadata, one)
        async with asyncio.timeout(LONG), aclosing(outbox.follow()) as events:  # type: ignore[type-var]
            assert (await anext(events))[1].subject == one.key.text
            waiting = asyncio.ensure_future(anext(events))
            await self.put(elsewhere, two)
            assert (await waiting)[1].subject == two.key.text
