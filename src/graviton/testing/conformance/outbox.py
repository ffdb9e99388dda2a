"""The laws of `Outbox`, over the metadata ports whose changes it tells."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from graviton.errors import Conflict, InvalidInput, NotFound
from graviton.ports.outbox import MAX_READ, MAX_TRIM, Outbox
from graviton.testing.conformance.checks import cancelled_everywhere, raises
from graviton.testing.conformance.contract import needs
from graviton.testing.conformance.metadata_values import (
    Upload,
    block_key,
    block_keys,
    commit_of,
    record_of,
)
from graviton.testing.conformance.outbox_base import (
    COMMITTED,
    DAMAGED,
    DELETED,
    LONG,
    everything,
    facts,
    some_uploads,
)
from graviton.testing.conformance.outbox_following import OutboxFollowingLaws

__all__ = ["OutboxContract"]


class OutboxContract(OutboxFollowingLaws):
    """All laws of `graviton.ports.outbox`. The default kinds of events are switched on, and followers look often
    enough for a test to wait for them."""

    port = Outbox

    # What is told.

    async def test_fresh_outbox_holds_nothing(self) -> None:
        _, outbox = await self.open_both()
        assert await everything(outbox) == []
        assert await everything(outbox, await outbox.latest()) == []
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
        told = [event for _, event in await everything(outbox)]
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
        told = [event for _, event in await everything(outbox)]
        assert [event.data.get("domain") for event in told] == ["ä-domain"] * 3

    async def test_group_is_told_in_its_order_and_merged_ones_are_not(self) -> None:
        metadata, outbox = await self.open_both()
        uploads = some_uploads(5)
        sessions = await metadata.index.open([upload.blocks for upload in [*uploads, uploads[2]]])
        group = [
            commit_of(opened.session, upload) for opened, upload in zip(sessions, [*uploads, uploads[2]], strict=True)
        ]
        await metadata.repo.commit(group)
        assert facts(await everything(outbox)) == [(COMMITTED, upload.key.text) for upload in uploads]

    async def test_repaired_manifest_is_told_again(self) -> None:
        metadata, outbox = await self.open_both()
        old = Upload.of(block_keys(3))
        first, second, third = old.blocks
        new = Upload(old.key, [block_key("joined", first.size + second.size), third])
        await metadata.put(old)
        await metadata.put(new)  # merged: what is there is sound
        await metadata.index.mark_damaged(first, (await record_of(metadata, first)).generation)
        await metadata.put(new)
        told = await everything(outbox)
        assert facts(told) == [(COMMITTED, old.key.text), (DAMAGED, first.text), (COMMITTED, old.key.text)]
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
        assert await everything(outbox) == []

    async def test_cancelled_commit_has_its_event_exactly_if_it_happened(self) -> None:
        metadata, outbox = await self.open_both()
        number = 0

        async def put() -> None:
            await metadata.put(Upload.of(block_keys(1, f"{number}"), f"{number}"))

        async for _ in cancelled_everywhere(put):
            number += 1
        there = {record.key.text for record in await metadata.repo.list(limit=MAX_READ)}
        told = [event.subject for _, event in await everything(outbox)]
        assert len(told) == len(set(told))
        assert set(told) == there

    # Reading and positions.

    async def test_continued_after_every_event_nothing_is_missed_and_nothing_comes_twice(self) -> None:
        metadata, outbox = await self.open_both()
        begin = await outbox.latest()
        await self.put(metadata, *some_uploads(12))
        told = await everything(outbox)
        assert len(told) == 12
        assert await everything(outbox, begin) == told
        for number, (position, _) in enumerate(told, 1):
            assert facts(await everything(outbox, position)) == facts(told[number:])
        for limit in (1, 5, 12):
            assert facts(await everything(outbox, limit=limit)) == facts(told)

    async def test_latest_is_after_everything_and_before_the_rest(self) -> None:
        metadata, outbox = await self.open_both()
        one, two, three = some_uploads(3)
        await self.put(metadata, one, two)
        latest = await outbox.latest()
        assert await everything(outbox, latest) == []
        await self.put(metadata, three)
        assert facts(await everything(outbox, latest)) == [(COMMITTED, three.key.text)]

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
        await self.put(metadata, *some_uploads(1))
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
        await self.put(metadata, *some_uploads(1))
        rest = (await outbox.latest()).partition(":")[2]
        for text in (f"{'ab' * 16}:{rest}", f"{'ab' * 16}:1:2", f"{'ab' * 16}:0:7:"):
            with raises(NotFound) as caught:
                await outbox.read(text)
            assert "without a position" in caught.error.hint
            with raises(NotFound):
                await anext(outbox.follow(text))

    # Other processes, and later ones.

    @needs("persistent")
    async def test_positions_hold_after_reopening(self) -> None:
        metadata, outbox = await self.open_both()
        await self.put(metadata, *some_uploads(3))
        told = await everything(outbox)
        store = await self.reopen(self._opened[-1])
        metadata, outbox = self.make_metadata(store), self.make_outbox(store)
        assert await everything(outbox) == told
        await self.put(metadata, *some_uploads(1, "later"))
        assert len(await everything(outbox, told[1][0])) == 2

    @needs("multi_process")
    async def test_change_made_through_another_opened_store_is_told(self) -> None:
        metadata, outbox = await self.open_both()
        elsewhere, _ = await self.open_both()
        one, two = some_uploads(2)
        await self.put(metadata, one)
        async with asyncio.timeout(LONG), aclosing(outbox.follow()) as events:  # type: ignore[type-var]
            assert (await anext(events))[1].subject == one.key.text
            waiting = asyncio.ensure_future(anext(events))
            await self.put(elsewhere, two)
            assert (await waiting)[1].subject == two.key.text
