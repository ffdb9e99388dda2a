"""The laws of `Outbox`: following, and what becomes of followers when the oldest events go."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing

from graviton.errors import NotFound
from graviton.testing.conformance.checks import gather, raises
from graviton.testing.conformance.metadata_values import Upload, block_keys
from graviton.testing.conformance.outbox_base import (
    COMMITTED,
    DELETED,
    LONG,
    OutboxLaws,
    everything,
    facts,
    some_uploads,
)

__all__ = ["OutboxFollowingLaws"]


class OutboxFollowingLaws(OutboxLaws):
    """Followers and trims."""

    # Following.

    async def test_follower_is_given_what_is_there_and_what_comes(self) -> None:
        metadata, outbox = await self.open_both()
        uploads = some_uploads(6)
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
        assert facts(found) == [(COMMITTED, upload.key.text) for upload in uploads]
        assert facts(await everything(outbox, found[2][0])) == facts(found[3:])

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
        kinds = [event.kind for _, event in await everything(outbox)]
        assert kinds[0] is COMMITTED
        assert all(one is not two for one, two in itertools.pairwise(kinds)), "there, gone, there, gone"
        assert kinds[-1] is (COMMITTED if await metadata.repo.list() else DELETED)

    async def test_many_writers_and_a_follower_that_begins_again_all_the_time(self) -> None:
        metadata, outbox = await self.open_both()
        writers, each = 5, 8

        async def write(number: int) -> None:
            for upload in some_uploads(each, f"{number}/"):
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
            mine = [upload.key.text for upload in some_uploads(each, f"{number}/")]
            assert [subject for subject in found if subject in mine] == mine
        assert len(set(found)) == writers * each

    async def test_cancelled_follower_leaves_nothing_behind(self) -> None:
        metadata, outbox = await self.open_both()
        await self.put(metadata, *some_uploads(1))
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
        await self.put(metadata, *some_uploads(9))
        told = await everything(outbox)
        await self.trimmed(outbox, told[7][1].at_ns, 7, limit=3)
        assert await outbox.trim(told[7][1].at_ns) == 0
        assert facts(await everything(outbox)) == facts(told[7:])
        await self.trimmed(outbox, 2**62, 2)
        assert await everything(outbox) == []

    async def test_trimmed_positions_are_refused_and_others_are_not(self) -> None:
        metadata, outbox = await self.open_both()
        begin = await outbox.latest()
        await self.put(metadata, *some_uploads(6))
        told = await everything(outbox)
        await self.trimmed(outbox, told[4][1].at_ns, 4)
        for position in (begin, *(position for position, _ in told[:3])):
            with raises(NotFound) as caught:
                await outbox.read(position)
            assert "removed" in str(caught.error)
            with raises(NotFound):
                await anext(outbox.follow(position))
        for number in (4, 5, 6):
            position = told[number - 1][0]
            assert facts(await everything(outbox, position)) == facts(told[number:])

    async def test_follower_at_the_end_is_not_bothered_by_trims(self) -> None:
        metadata, outbox = await self.open_both()
        latest = await outbox.latest()
        for upload in some_uploads(4):
            await self.put(metadata, upload)
            latest = await outbox.latest()
            await self.trimmed(outbox, 2**62, 1)
            for position in (latest, await outbox.latest()):
                assert await everything(outbox, position) == []
        await self.put(metadata, *some_uploads(1, "more"))
        assert len(await everything(outbox, latest)) == 1

    async def test_follower_that_is_overtaken_by_a_trim_is_told_so(self) -> None:
        metadata, outbox = await self.open_both()
        await self.put(metadata, *some_uploads(3))
        async with aclosing(outbox.follow()) as events:  # type: ignore[type-var]
            position, _ = await anext(events)
            await self.trimmed(outbox, 2**62, 3)
            with raises(NotFound):
                await outbox.read(position)
