"""The laws of `BlockReclaimer`. It works on a `BlockStore`, whose own laws are in blocks.py."""

from __future__ import annotations

from graviton.errors import IntegrityError, NotFound
from graviton.ports.blocks import BlockStore, CanonicalBlock
from graviton.ports.reclaimer import BlockReclaimer, TrashEntry
from graviton.testing.conformance.block_values import ALWAYS, block, many_blocks
from graviton.testing.conformance.checks import cancelled_everywhere, collect, gather, raises
from graviton.testing.conformance.contract import Contract, needs, optional_hook

__all__ = ["BlockReclaimerContract"]

NOW = 1_700_000_000_123_456_789
"""A moment whose nanoseconds matter: a backend that keeps only microseconds or a float is found out."""


class _ReclaimerHooks(Contract[BlockStore]):
    """`make_store` gives the block store, `make_reclaimer` the reclaimer of the same backend object."""

    def make_reclaimer(self, store: BlockStore) -> BlockReclaimer:
        """The reclaimer of `store`."""
        raise NotImplementedError(f"{type(self).__qualname__} gives no make_reclaimer")

    @optional_hook
    async def raw_write_trash(self, store: BlockStore, entry: TrashEntry, data: bytes) -> None:
        """Back door: replace the bytes of a trash entry."""
        raise NotImplementedError

    async def both(self) -> tuple[BlockStore, BlockReclaimer]:
        """A store and its reclaimer."""
        store = await self.open()
        return store, self.make_reclaimer(store)

    async def trashed(self, one: CanonicalBlock) -> tuple[BlockStore, BlockReclaimer, TrashEntry]:
        """A store in which `one` was put and moved to the trash."""
        store, reclaimer = await self.both()
        await store.put_blocks([one])
        entry = await reclaimer.move_to_trash(one.key, NOW)
        assert entry is not None
        return store, reclaimer, entry


class _MoveLaws(_ReclaimerHooks):
    async def test_moved_block_is_gone_and_readable_in_the_trash(self) -> None:
        store, reclaimer = await self.both()
        one, other = block(b"the bytes"), block(b"another")
        await store.put_blocks([one, other])
        entry = await reclaimer.move_to_trash(one.key, NOW)
        assert entry is not None
        assert (entry.key, entry.moved_at_ns) == (one.key, NOW)
        assert entry.token
        assert set(entry.token) <= set("0123456789abcdef")
        with raises(NotFound):
            await store.get(one.key)
        assert await store.exists(one.key) is False
        assert await collect(store.list()) == [other.key]
        assert await reclaimer.read_trash(entry) == b"the bytes"
        assert await store.get(other.key) == b"another"

    async def test_moving_what_is_not_there_is_none(self) -> None:
        store, reclaimer = await self.both()
        one = block(b"the bytes")
        assert await reclaimer.move_to_trash(one.key, NOW) is None
        await store.put_blocks([one])
        assert await reclaimer.move_to_trash(one.key, NOW) is not None
        assert await reclaimer.move_to_trash(one.key, NOW) is None
        assert len(await collect(reclaimer.trash_entries())) == 1

    async def test_two_moves_never_share_a_name(self) -> None:
        store, reclaimer = await self.both()
        one = block(b"the bytes")
        entries = []
        for _ in range(10):
            await store.put_blocks([one])
            entries.append(await reclaimer.move_to_trash(one.key, NOW))
        assert len(set(entries)) == 10
        assert None not in entries
        assert set(await collect(reclaimer.trash_entries(one.key))) == set(entries)
        for entry in entries:
            assert entry is not None
            assert await reclaimer.read_trash(entry) == b"the bytes"

    async def test_of_concurrent_moves_one_gets_the_block(self) -> None:
        store, reclaimer = await self.both()
        one = block(b"the bytes")
        await store.put_blocks([one])
        entries = await gather(*(reclaimer.move_to_trash(one.key, NOW + n) for n in range(8)))
        assert len([entry for entry in entries if entry is not None]) >= 1
        listed = await collect(reclaimer.trash_entries(one.key))
        assert set(listed) == {entry for entry in entries if entry is not None}
        assert await store.exists(one.key) is False

    async def test_block_written_again_is_apart_from_its_trash(self) -> None:
        one = block(b"the bytes")
        store, reclaimer, entry = await self.trashed(one)
        await store.put_blocks([one])
        assert await store.get(one.key) == b"the bytes"
        assert await reclaimer.read_trash(entry) == b"the bytes"
        assert await reclaimer.purge(entry) is True
        assert await store.get(one.key) == b"the bytes"

    async def test_entries_of_a_key_are_oldest_first(self) -> None:
        store, reclaimer = await self.both()
        one, other = block(b"the bytes"), block(b"another")
        moments = [NOW, NOW + 1, NOW - 10**18, 5, NOW + 10**17, 10**9]
        for moment in moments:
            await store.put_blocks([one, other])
            await reclaimer.move_to_trash(one.key, moment)
        await reclaimer.move_to_trash(other.key, NOW)
        listed = await collect(reclaimer.trash_entries(one.key))
        assert [entry.moved_at_ns for entry in listed] == sorted(moments)
        assert {entry.key for entry in listed} == {one.key}
        everything = await collect(reclaimer.trash_entries())
        assert len(everything) == len(set(everything)) == len(moments) + 1

    async def test_all_entries_of_many_keys_are_listed_once(self) -> None:
        store, reclaimer = await self.both()
        assert await collect(reclaimer.trash_entries()) == []
        assert await collect(reclaimer.trash_entries(block(b"missing").key)) == []
        batch = many_blocks(60)
        await store.put_blocks(batch)
        moved = [await reclaimer.move_to_trash(one.key, NOW + n) for n, one in enumerate(batch)]
        listed = await collect(reclaimer.trash_entries())
        assert len(listed) == 60
        assert set(listed) == set(moved)
        assert await collect(store.list()) == []


class _ReturnLaws(_ReclaimerHooks):
    async def test_put_back_makes_the_block_readable_and_removes_the_entry(self) -> None:
        one = block(b"the bytes")
        store, reclaimer, entry = await self.trashed(one)
        assert await reclaimer.put_back(entry) is True
        assert await store.get(one.key) == b"the bytes"
        assert await collect(store.list()) == [one.key]
        assert await collect(reclaimer.trash_entries()) == []
        with raises(NotFound):
            await reclaimer.read_trash(entry)
        assert await reclaimer.put_back(entry) is False
        assert await store.get(one.key) == b"the bytes"

    async def test_put_back_over_a_block_that_lies_there(self) -> None:
        one = block(b"the bytes")
        store, reclaimer, entry = await self.trashed(one)
        await store.put_blocks([one])
        assert await reclaimer.put_back(entry) is True
        assert await store.get(one.key) == b"the bytes"
        assert await collect(reclaimer.trash_entries(one.key)) == []

    @needs("raw_write_trash")
    async def test_put_back_of_a_wrong_entry_keeps_the_block_and_the_entry(self) -> None:
        one = block(b"the bytes")
        store, reclaimer, entry = await self.trashed(one)
        await store.put_blocks([one])
        await self.raw_write_trash(store, entry, b"The bytes")
        with raises(IntegrityError):
            await reclaimer.put_back(entry)
        assert await store.get(one.key) == b"the bytes"
        assert await collect(reclaimer.trash_entries(one.key)) == [entry]

    async def test_put_back_of_what_is_gone_is_false_and_creates_nothing(self) -> None:
        one = block(b"the bytes")
        store, reclaimer, entry = await self.trashed(one)
        assert await reclaimer.purge(entry) is True
        assert await reclaimer.put_back(entry) is False
        assert await reclaimer.put_back(TrashEntry(block(b"never").key, NOW, "00ff")) is False
        assert await collect(store.list()) == []

    async def test_purge_removes_one_entry_and_nothing_else(self) -> None:
        one = block(b"the bytes")
        store, reclaimer, first = await self.trashed(one)
        await store.put_blocks([one])
        second = await reclaimer.move_to_trash(one.key, NOW)
        assert second is not None
        await store.put_blocks([one, block(b"another")])
        assert await reclaimer.purge(first) is True
        assert await reclaimer.purge(first) is False
        with raises(NotFound):
            await reclaimer.read_trash(first)
        assert await reclaimer.read_trash(second) == b"the bytes"
        assert await collect(reclaimer.trash_entries()) == [second]
        assert sorted(await collect(store.list())) == sorted([one.key, block(b"another").key])

    async def test_purge_of_what_never_was_is_false(self) -> None:
        one = block(b"the bytes")
        store, reclaimer, entry = await self.trashed(one)
        await store.put_blocks([one])
        assert await reclaimer.purge(entry._replace(moved_at_ns=NOW + 1)) is False
        assert await reclaimer.purge(entry._replace(token="0" * len(entry.token))) is False
        assert await reclaimer.purge(entry._replace(key=block(b"never").key)) is False
        assert await reclaimer.read_trash(entry) == b"the bytes"
        assert await store.get(one.key) == b"the bytes"

    async def test_missing_entry_is_not_found(self) -> None:
        _, reclaimer = await self.both()
        with raises(NotFound):
            await reclaimer.read_trash(TrashEntry(block(b"never").key, NOW, "00ff"))

    @needs("raw_write_trash")
    async def test_wrong_bytes_in_the_trash_raise_integrity_error(self) -> None:
        store, reclaimer, entry = await self.trashed(block(b"the bytes"))
        for wrong in (b"The bytes", b"", b"the byte", b"the bytes\n"):
            await self.raw_write_trash(store, entry, wrong)
            with raises(IntegrityError):
                await reclaimer.read_trash(entry)
        await self.raw_write_trash(store, entry, b"the bytes")
        assert await reclaimer.read_trash(entry) == b"the bytes"


class _LifecycleLaws(_ReclaimerHooks):
    async def test_cancelled_move_and_return_never_lose_the_block(self) -> None:
        store, reclaimer = await self.both()
        one = block(b"the bytes")

        async def there_and_back() -> None:
            entry = await reclaimer.move_to_trash(one.key, NOW)
            if entry is not None:
                await reclaimer.put_back(entry)

        await store.put_blocks([one])
        async for _ in cancelled_everywhere(there_and_back):
            entries = await collect(reclaimer.trash_entries(one.key))
            assert await store.exists(one.key) or entries
            for entry in entries:
                assert await reclaimer.read_trash(entry) == b"the bytes"
                assert await reclaimer.put_back(entry) is True
            assert await store.get(one.key) == b"the bytes"

    @needs("persistent")
    async def test_trash_is_there_after_reopening(self) -> None:
        one = block(b"the bytes")
        store, _, entry = await self.trashed(one)
        store = await self.reopen(store)
        reclaimer = self.make_reclaimer(store)
        assert await collect(reclaimer.trash_entries()) == [entry]
        assert await reclaimer.read_trash(entry) == b"the bytes"
        assert await store.exists(one.key) is False
        assert await reclaimer.put_back(entry) is True
        store = await self.reopen(store)
        assert await store.get(one.key) == b"the bytes"
        assert await collect(self.make_reclaimer(store).trash_entries()) == []

    async def test_writers_beside_a_collector_lose_nothing(self) -> None:
        store, reclaimer = await self.both()
        one = block(b"the bytes")

        async def write() -> None:
            for _ in range(10):
                await store.put_blocks([one], ALWAYS)

        async def collector(first_ns: int) -> None:
            for n in range(10):
                entry = await reclaimer.move_to_trash(one.key, first_ns + n)
                if entry is not None and n % 2:
                    await reclaimer.put_back(entry)

        await gather(write(), collector(NOW), collector(NOW * 2), write())
        await store.put_blocks([one], ALWAYS)
        assert await store.get(one.key) == b"the bytes"
        for entry in await collect(reclaimer.trash_entries()):
            assert await reclaimer.read_trash(entry) == b"the bytes"


class BlockReclaimerContract(_LifecycleLaws, _ReturnLaws, _MoveLaws):
    """All laws of `graviton.ports.reclaimer`."""

    port = BlockReclaimer
