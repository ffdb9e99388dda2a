"""The laws of `ReplicaIndex`."""

from __future__ import annotations

from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.ports.replicas import Replica, ReplicaIndex, ReplicaState
from graviton.testing.conformance.backed import BackedContract
from graviton.testing.conformance.checks import cancelled_everywhere, collect, gather
from graviton.testing.conformance.contract import needs
from graviton.testing.conformance.metadata_values import block_key, block_keys

__all__ = ["ReplicaIndexContract"]

PRESENT, MISSING, CORRUPT = ReplicaState.PRESENT, ReplicaState.MISSING, ReplicaState.CORRUPT


def _at(sector: str, key: BlockKey) -> Locator:
    return Locator("s3", sector, f"cas/{key.hex}")


class _KeyLaws(BackedContract[ReplicaIndex]):
    async def test_unknown_key_has_no_replicas(self) -> None:
        index = await self.open_port()
        key = block_key("a")
        assert await index.replicas(key) == set()
        assert await index.details(key) == []
        assert await index.mark(key, _at("a", key), MISSING, 5) is False
        assert await index.replicas(key) == set()
        assert await collect(index.short_of(9)) == []
        assert await collect(index.oldest_verified()) == []

    async def test_update_replaces_the_whole_set(self) -> None:
        index = await self.open_port()
        key, other = block_keys(2)
        await index.update(other, [_at("a", other)])
        for sectors in ("ab", "bc", "bc", "d", "abcde"):
            await index.update(key, [_at(sector, key) for sector in sectors])
            assert await index.replicas(key) == {_at(sector, key) for sector in sectors}
        assert await index.replicas(other) == {_at("a", other)}

    async def test_empty_set_forgets_the_key(self) -> None:
        index = await self.open_port()
        key = block_key("a")
        await index.update(key, [_at("a", key)])
        await index.mark(key, _at("a", key), CORRUPT, 7)
        await index.update(key, [])
        assert await index.replicas(key) == set()
        assert await collect(index.short_of(9)) == []
        assert await collect(index.in_sector("a")) == []
        await index.update(key, [_at("a", key)])
        assert await index.details(key) == [Replica(key, _at("a", key), PRESENT, 0)]

    async def test_repeated_locators_are_one_copy(self) -> None:
        index = await self.open_port()
        key = block_key("a")
        await index.update(key, iter([_at("a", key), _at("a", key)]))
        assert len(await index.details(key)) == 1
        assert await collect(index.short_of(2)) == [(key, 1)]

    async def test_new_locators_begin_present_and_never_verified_and_old_ones_keep_their_state(self) -> None:
        index = await self.open_port()
        key = block_key("a")
        await index.update(key, [_at("a", key), _at("b", key)])
        assert await index.mark(key, _at("a", key), CORRUPT, 123) is True
        await index.update(key, [_at("c", key), _at("a", key)])
        expected = [Replica(key, _at("a", key), CORRUPT, 123), Replica(key, _at("c", key), PRESENT, 0)]
        assert await index.details(key) == expected

    async def test_mark_sets_state_and_time_of_one_copy(self) -> None:
        index = await self.open_port()
        key = block_key("a")
        await index.update(key, [_at("a", key), _at("b", key)])
        for state in ReplicaState:
            assert await index.mark(key, _at("a", key), state) is True
            assert [replica.state for replica in await index.details(key)] == [state, PRESENT]
        assert await index.mark(key, _at("a", key), MISSING, 2**62 + 1) is True
        assert await index.mark(key, _at("a", key), PRESENT) is True
        expected = [Replica(key, _at("a", key), PRESENT, 2**62 + 1), Replica(key, _at("b", key), PRESENT, 0)]
        assert await index.details(key) == expected
        assert await index.mark(key, _at("c", key), PRESENT, 1) is False
        assert await index.mark(block_key("b"), _at("a", key), PRESENT, 1) is False
        assert await index.details(key) == expected

    async def test_details_are_in_the_order_of_locator_texts(self) -> None:
        index = await self.open_port()
        key = block_key("a")
        places = [("s3", "b"), ("s3", "a"), ("file", "b")]
        locators = [Locator(scheme, bucket, path) for scheme, bucket in places for path in ("z", "é/y", "a/z")]
        await index.update(key, locators)
        assert [replica.locator for replica in await index.details(key)] == sorted(locators, key=lambda one: one.text)

    async def test_long_locators_are_kept_whole(self) -> None:
        index = await self.open_port()
        key = block_key("a")
        locators = {Locator("s3", "b" * 256, "p" * 2_047 + end) for end in "xyz"}
        await index.update(key, locators)
        assert await index.replicas(key) == locators
        assert len(await collect(index.in_sector("b" * 256))) == 3

    async def test_concurrent_updates_of_different_keys_are_all_kept(self) -> None:
        index = await self.open_port()
        keys = block_keys(40)
        await gather(*(index.update(key, [_at("a", key), _at("b", key)]) for key in keys))
        await gather(*(index.mark(key, _at("a", key), MISSING) for key in keys[::2]))
        assert await collect(index.short_of(2)) == [(key, 1) for key in sorted(keys[::2])]

    async def test_cancelled_update_has_happened_or_not(self) -> None:
        index = await self.open_port()
        key = block_key("a")
        old, new = {_at("a", key)}, {_at("b", key), _at("c", key)}
        await index.update(key, old)
        async for attempt in cancelled_everywhere(lambda: index.update(key, new)):
            found = await index.replicas(key)
            assert found in ((old, new) if attempt.cancelled else (new,))
            assert len(await collect(index.in_sector("a"))) == (found == old)
            await index.update(key, old)

    @needs("persistent")
    async def test_copies_are_there_after_reopening(self) -> None:
        index = await self.open_port()
        key = block_key("a")
        await index.update(key, [_at("a", key), _at("b", key)])
        await index.mark(key, _at("b", key), CORRUPT, 99)
        before = await index.details(key)
        index = await self.reopened()
        assert await index.details(key) == before
        assert await collect(index.short_of(2)) == [(key, 1)]


class _QueryLaws(BackedContract[ReplicaIndex]):
    async def test_short_of_counts_live_copies_in_key_order(self) -> None:
        index = await self.open_port()
        keys = sorted(block_keys(600))
        live: dict[BlockKey, int] = {}
        for number, key in enumerate(keys):
            sectors = "abc"[: 1 + number % 3]
            await index.update(key, [_at(sector, key) for sector in sectors])
            live[key] = len(sectors)
            if number % 5 == 0:
                await index.mark(key, _at("a", key), list(ReplicaState)[1 + number % 3])
                live[key] -= 1
        for copies in (0, 1, 2, 3, 4, 100):
            expected = [(key, live[key]) for key in keys if live[key] < copies]
            assert await collect(index.short_of(copies)) == expected, copies

    async def test_in_sector_yields_every_copy_of_that_bucket_in_key_order(self) -> None:
        index = await self.open_port()
        keys = sorted(block_keys(300))
        for number, key in enumerate(keys):
            await index.update(key, [_at(sector, key) for sector in ("s", "ss", "t")[: 1 + number % 3]])
        await index.mark(keys[1], _at("ss", keys[1]), CORRUPT, 5)
        found = await collect(index.in_sector("ss"))
        assert [replica.key for replica in found] == [key for number, key in enumerate(keys) if number % 3 >= 1]
        assert {replica.locator.bucket for replica in found} == {"ss"}
        assert found[0] == Replica(keys[1], _at("ss", keys[1]), CORRUPT, 5)
        assert len(await collect(index.in_sector("s"))) == 300
        assert await collect(index.in_sector("nowhere")) == []

    async def test_oldest_verified_are_live_copies_never_verified_first(self) -> None:
        index = await self.open_port()
        keys = block_keys(300)
        times = {key: (number * 7_919) % 300 for number, key in enumerate(keys)}
        for key in keys:
            await index.update(key, [_at("a", key), _at("b", key)])
            await index.mark(key, _at("a", key), PRESENT, times[key] * 10**15)
            await index.mark(key, _at("b", key), MISSING, 1)
        found = await collect(index.oldest_verified())
        assert sorted(replica.key for replica in found) == sorted(keys)
        assert {replica.locator.bucket for replica in found} == {"a"}
        assert [replica.verified_at_ns for replica in found] == sorted(time * 10**15 for time in times.values())
        assert found[0].verified_at_ns == 0

    async def test_queries_follow_every_change(self) -> None:
        index = await self.open_port()
        key = block_key("a")
        await index.update(key, [_at("a", key)])
        for state, live in ((CORRUPT, 0), (PRESENT, 1), (MISSING, 0), (PRESENT, 1)):
            await index.mark(key, _at("a", key), state, 5)
            assert await collect(index.short_of(2)) == [(key, live)]
            assert len(await collect(index.oldest_verified())) == live
        await index.update(key, [_at("b", key)])
        assert await collect(index.in_sector("a")) == []
        assert [replica.verified_at_ns for replica in await collect(index.oldest_verified())] == [0]


class ReplicaIndexContract(_QueryLaws, _KeyLaws):
    """All laws of `graviton.ports.replicas`."""

    port = ReplicaIndex
