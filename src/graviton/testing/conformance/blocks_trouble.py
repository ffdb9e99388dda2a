"""The laws of `BlockStore`: wrong bytes, errors of the backend, cancellation, closing and reopening."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from graviton.errors import GravitonError, IntegrityError, NotFound, PermissionDenied, Unavailable
from graviton.ports.blocks import BlockStatus, BlockStore, BlockWritePlan, CanonicalBlock, WriteMode
from graviton.testing.conformance.block_values import ALWAYS, block, blocks_of, many_blocks
from graviton.testing.conformance.checks import cancelled_everywhere, collect, gather, no_threads_left, raises
from graviton.testing.conformance.contract import Contract, needs, optional_hook

__all__ = ["BlockStoreHooks", "BlockTroubleLaws"]


class BlockStoreHooks(Contract[BlockStore]):
    """Back doors: they reach the place past the code under test, while `store` is open."""

    @optional_hook
    async def raw_write(self, store: BlockStore, one: CanonicalBlock) -> None:
        """Lay the payload where a block of that key is looked for, whatever is there; it need not be right."""
        raise NotImplementedError

    @optional_hook
    async def raw_read(self, store: BlockStore, one: CanonicalBlock) -> bytes | None:
        """The plain bytes that lie where the block of that key belongs, or None."""
        raise NotImplementedError

    @optional_hook
    async def put_foreign_files(self, store: BlockStore) -> None:
        """Lay things beside the blocks that are not blocks: strange names, temporary names, other stored forms."""
        raise NotImplementedError

    @optional_hook
    async def temporary_files(self, store: BlockStore) -> Sequence[str]:
        """Names of unfinished files that lie in the place."""
        raise NotImplementedError

    @optional_hook
    async def break_backend(self, store: BlockStore) -> None:
        """Make every later access fail for a reason that is not absence."""
        raise NotImplementedError

    @optional_hook
    async def make_read_only(self, store: BlockStore) -> None:
        """Let the place be read but not written from now on."""
        raise NotImplementedError


class _WrongBytesLaws(BlockStoreHooks):
    @needs("raw_read")
    async def test_put_leaves_the_plain_bytes_in_their_place(self) -> None:
        store = await self.open()
        batch = many_blocks(5)
        await store.put_blocks(batch)
        for one in batch:
            assert await self.raw_read(store, one) == one.payload

    @needs("raw_write")
    async def test_right_bytes_written_by_others_are_a_block(self) -> None:
        store = await self.open()
        one = block(b"the bytes")
        await self.raw_write(store, one)
        assert await store.get(one.key) == b"the bytes"
        assert await store.exists(one.key) is True
        assert await collect(store.list()) == [one.key]
        result = await store.put_blocks([one])
        assert [stored.status for stored in result.stored] == [BlockStatus.DUPLICATE]

    @needs("raw_write")
    async def test_wrong_bytes_raise_integrity_error(self) -> None:
        store = await self.open()
        right = bytes(range(256)) * 16
        one = block(right)
        flipped = [right[:n] + bytes((right[n] ^ 1,)) + right[n + 1 :] for n in (0, 1, 2_000, len(right) - 1)]
        others = [right[:-1], right + b"\x00", b"", right[:1], b"\x00" * len(right), right[::-1], right * 2]
        await store.put_blocks([one, block(b"another")])
        for wrong in [*flipped, *others]:
            await self.raw_write(store, one._replace(payload=wrong))
            with raises(IntegrityError):
                await store.get(one.key)
            assert await store.exists(one.key) is True, "exists does not read the bytes"
            assert await store.get(block(b"another").key) == b"another"
        await self.raw_write(store, one)
        assert await store.get(one.key) == right

    @needs("raw_write", "raw_read")
    async def test_if_absent_does_not_write_what_is_there(self) -> None:
        store = await self.open()
        one = block(b"the bytes")
        await self.raw_write(store, one._replace(payload=b"different"))
        result = await store.put_blocks([one, block(b"new"), one])
        expected = [BlockStatus.DUPLICATE, BlockStatus.FRESH, BlockStatus.DUPLICATE]
        assert [stored.status for stored in result.stored] == expected
        assert await self.raw_read(store, one) == b"different"

    @needs("raw_write")
    async def test_always_writes_over_whatever_lies_there(self) -> None:
        store = await self.open()
        one = block(b"the bytes")
        for wrong in (b"different", b"", b"much longer than the block was"):
            await self.raw_write(store, one._replace(payload=wrong))
            result = await store.put_blocks([one], ALWAYS)
            assert [stored.status for stored in result.stored] == [BlockStatus.FRESH]
            assert await store.get(one.key) == b"the bytes"
        assert await collect(store.list()) == [one.key]

    @needs("put_foreign_files")
    async def test_foreign_and_temporary_files_are_not_listed(self) -> None:
        store = await self.open()
        await self.put_foreign_files(store)
        assert await collect(store.list()) == []
        batch = many_blocks(5)
        await store.put_blocks(batch)
        await self.put_foreign_files(store)
        assert sorted(await collect(store.list())) == sorted(one.key for one in batch)
        for one in batch:
            assert await store.get(one.key) == one.payload


class _BackendErrorLaws(BlockStoreHooks):
    @needs("break_backend")
    async def test_backend_error_is_not_absence(self) -> None:
        store = await self.open()
        one = block(b"the bytes")
        await store.put_blocks([one])
        await self.break_backend(store)
        with raises(GravitonError) as caught:
            await store.get(one.key)
        assert not isinstance(caught.error, NotFound)
        with raises(GravitonError):
            await store.exists_many([one.key, block(b"missing").key])
        with raises(GravitonError):
            await collect(store.list())
        for mode in WriteMode:
            with raises(GravitonError):
                await store.put_blocks([one, block(b"new")], BlockWritePlan(mode))

    @needs("make_read_only")
    async def test_read_only_place_refuses_puts_and_serves_gets(self) -> None:
        store = await self.open()
        await store.put_blocks(blocks_of(b"one", b"two"))
        await self.make_read_only(store)
        assert await store.get(block(b"one").key) == b"one"
        assert len(await collect(store.list())) == 2
        with raises(PermissionDenied):
            await store.put_blocks([block(b"new")])
        assert await store.exists(block(b"new").key) is False


class _CancellationLaws(BlockStoreHooks):
    async def test_cancelled_put_leaves_only_whole_blocks(self) -> None:
        store = await self.open()
        number = 0

        def batch() -> list[CanonicalBlock]:
            return [*many_blocks(3, b"batch %d" % number), block(b"%d" % number + b"x" * 300_000)]

        async def put(plan: BlockWritePlan) -> None:
            await store.put_blocks(batch(), plan)

        for plan in (BlockWritePlan(), ALWAYS):
            async for attempt in cancelled_everywhere(partial(put, plan)):
                there = await store.exists_many([one.key for one in batch()])
                assert attempt.cancelled or all(there)
                for one, is_there in zip(batch(), there, strict=True):
                    if is_there:
                        assert await store.get(one.key) == one.payload
                await store.put_blocks(batch())
                for one in batch():
                    assert await store.get(one.key) == one.payload
                number += 1

    async def test_put_cancelled_before_it_began_writes_nothing(self) -> None:
        store = await self.open()
        async for attempt in cancelled_everywhere(lambda: store.put_blocks([block(b"the bytes")])):
            if attempt.number == 0:
                assert await store.exists(block(b"the bytes").key) is False
        assert await store.get(block(b"the bytes").key) == b"the bytes"

    @needs("temporary_files")
    async def test_cancelled_put_leaves_no_temporary_files(self) -> None:
        store = await self.open()
        number = 0

        def batch() -> list[CanonicalBlock]:
            return [block(b"%d %d" % (number, n) + b"x" * 200_000) for n in range(4)]

        async for _ in cancelled_everywhere(lambda: store.put_blocks(batch(), BlockWritePlan(session="a-session"))):
            assert list(await self.temporary_files(store)) == []
            number += 1

    @needs("temporary_files")
    async def test_finished_and_refused_puts_leave_no_temporary_files(self) -> None:
        store = await self.open()
        await gather(*(store.put_blocks(many_blocks(20), BlockWritePlan(mode)) for mode in WriteMode for _ in range(5)))
        assert list(await self.temporary_files(store)) == []
        with raises(GravitonError):
            await store.put_blocks([block(b"good"), CanonicalBlock(block(b"bad").key, b"longer")])
        assert list(await self.temporary_files(store)) == []

    async def test_cancelled_reads_leave_the_store_usable(self) -> None:
        store = await self.open()
        one = block(b"x" * 500_000)
        await store.put_blocks([one, *many_blocks(20)])
        async for _ in cancelled_everywhere(lambda: store.get(one.key)):
            assert await store.get(one.key) == one.payload
        async for _ in cancelled_everywhere(lambda: collect(store.list())):
            assert len(await collect(store.list())) == 21


class _ClosingLaws(BlockStoreHooks):
    async def test_capabilities_are_those_the_suite_was_chosen_by(self) -> None:
        store = await self.open()
        assert store.capabilities == self.declared()

    async def test_closed_store_is_unavailable(self) -> None:
        store = await self.open()
        one = block(b"the bytes")
        await store.put_blocks([one])
        await store.aclose()
        await store.aclose()
        with raises(Unavailable):
            await store.get(one.key)
        with raises(Unavailable):
            await store.put_blocks([block(b"new")])
        with raises(Unavailable):
            await store.exists(one.key)
        with raises(Unavailable):
            await collect(store.list())

    async def test_closing_gives_threads_back(self) -> None:
        before = set(threading.enumerate())
        store = await self.open()
        await gather(*(store.put_blocks(many_blocks(5, b"%d" % n)) for n in range(5)))
        await gather(*(store.get(one.key) for one in many_blocks(5, b"1")))
        await store.aclose()
        await no_threads_left(before)

    @needs("persistent")
    async def test_acknowledged_blocks_are_there_after_reopening(self) -> None:
        store = await self.open()
        batch = many_blocks(30)
        await store.put_blocks(batch[:20])
        await store.put_blocks(batch[10:], ALWAYS)
        store = await self.reopen(store)
        assert await store.exists_many([one.key for one in batch]) == [True] * 30
        for one in batch:
            assert await store.get(one.key) == one.payload
        assert sorted(await collect(store.list())) == sorted(one.key for one in batch)
        result = await store.put_blocks(batch)
        assert {stored.status for stored in result.stored} == {BlockStatus.DUPLICATE}

    @needs("multi_process")
    async def test_two_handles_see_each_others_blocks_at_once(self) -> None:
        first, second = await self.open(), await self.open()
        for n in range(10):
            one = block(b"seen %d" % n)
            await first.put_blocks([one])
            assert await second.exists(one.key) is True
            assert await second.get(one.key) == one.payload
            result = await second.put_blocks([one])
            assert [stored.status for stored in result.stored] == [BlockStatus.DUPLICATE]
        await gather(*(store.put_blocks(many_blocks(20), ALWAYS) for store in (first, second) for _ in range(4)))
        assert len(await collect(first.list())) == 30


class BlockTroubleLaws(_ClosingLaws, _CancellationLaws, _BackendErrorLaws, _WrongBytesLaws):
    """Part of `BlockStoreContract`."""
