"""Transactions beside each other: the part of the laws of `KeyValueStore` that needs several at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from operator import methodcaller

from graviton.concurrency.executors import in_own_thread
from graviton.errors import Unavailable, Unsupported
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction
from graviton.testing.conformance.checks import collect, gather, in_place, raises
from graviton.testing.conformance.contract import Contract, needs

__all__ = ["KeyValueConcurrencyLaws", "Oops"]


class Oops(Exception):  # noqa: N818 - no error of ours, on purpose
    """What a law's own function raises."""


def _number(tx: ReadTransaction, key: bytes) -> int:
    return int(tx.get("n", key) or b"0")


def _increment(tx: Transaction) -> int:
    value = _number(tx, b"counter") + 1
    tx.put("n", b"counter", b"%d" % value)
    return value


class KeyValueConcurrencyLaws(Contract[KeyValueStore]):
    """Part of `KeyValueStoreContract`."""

    @needs("runs_in_place")
    async def test_transactions_run_in_place_where_that_may_block(self) -> None:
        store = await self.open()
        await store.put("a", b"count", b"\x00")

        def add(tx: Transaction) -> bytes:
            before = tx.get("a", b"count")
            assert before is not None
            value = bytes((before[0] + 1,))
            tx.put("a", b"count", value)
            return value

        async def beside() -> None:
            for _ in range(40):
                await store.transact(add, Durability.RELAXED)

        adding = asyncio.ensure_future(beside())
        for durability in (*Durability, *Durability):
            await in_own_thread(in_place, lambda durability=durability: store.transact(add, durability))
        await adding
        assert await store.get("a", b"count") == b"\x2c"

        def fail(tx: Transaction) -> None:
            tx.put("a", b"count", b"")
            raise Oops

        with raises(Oops):
            in_place(lambda: store.transact(fail))
        assert await store.get("a", b"count") == b"\x2c"

    @needs("runs_in_place")
    async def test_reads_run_in_place_where_that_may_block(self) -> None:
        store = await self.open()
        assert in_place(lambda: store.get("a", b"none")) is None
        await store.put("a", b"key", b"value")

        async def beside() -> None:
            for number in range(40):
                await store.put("b", b"%d" % number, b"")
                assert await store.get("a", b"key") == b"value"

        going_on = asyncio.ensure_future(beside())
        for _ in range(20):
            assert await in_own_thread(in_place, lambda: store.get("a", b"key")) == b"value"
        await going_on
        assert in_place(lambda: store.get("b", b"39")) == b"", "what was acknowledged is seen"

        def fail(tx: ReadTransaction) -> None:
            tx.get("a", b"key")
            raise Oops

        with raises(Oops):
            in_place(lambda: store.read(fail))
        with raises(Unsupported):
            in_place(lambda: store.read(lambda tx: tx.put("a", b"key", b"")))  # type: ignore[attr-defined]  # misuse
        assert in_place(lambda: store.get("a", b"key")) == b"value"
        await store.aclose()
        with raises(Unavailable):
            in_place(lambda: store.get("a", b"key"))

    async def handles(self) -> list[KeyValueStore]:
        """Two handles on the place where several processes may use it, else one twice."""
        first = await self.open()
        return [first, await self.open() if self.declared().multi_process else first]

    async def test_concurrent_increments_are_all_counted(self) -> None:
        stores = await self.handles()
        values = await gather(*(stores[n % 2].transact(_increment) for n in range(60)))
        assert sorted(values) == list(range(1, 61))
        assert await stores[0].get("n", b"counter") == b"60"

    async def test_failing_transactions_take_nothing_of_others_along(self) -> None:
        stores = await self.handles()

        def failing(tx: Transaction) -> int:
            _increment(tx)
            raise Oops

        async def fail(store: KeyValueStore) -> int:
            with raises(Oops):
                await store.transact(failing)
            return 0

        calls = [stores[n % 2].transact(_increment) if n % 3 else fail(stores[n % 2]) for n in range(60)]
        assert sorted(await gather(*calls)) == [0] * 20 + list(range(1, 41))
        assert await stores[1].get("n", b"counter") == b"40"

    async def test_transactions_are_serialisable_against_write_skew(self) -> None:
        stores = await self.handles()

        def leave(mine: bytes, others: bytes) -> Callable[[Transaction], bool]:
            def fn(tx: Transaction) -> bool:
                if tx.get("n", others) != b"on duty":
                    return False
                time.sleep(0.001)  # room for the other transaction to read too
                tx.put("n", mine, b"home")
                return True

            return fn

        for _ in range(10):
            await stores[0].transact(lambda tx: tx.put_many("n", [(b"x", b"on duty"), (b"y", b"on duty")]))
            left = await gather(stores[0].transact(leave(b"x", b"y")), stores[1].transact(leave(b"y", b"x")))
            assert left.count(True) == 1, "both left: each had read the other one's old state"

    async def test_no_reader_sees_half_a_transaction(self) -> None:
        stores = await self.handles()

        def write(value: bytes) -> Callable[[Transaction], None]:
            def fn(tx: Transaction) -> None:
                tx.put("a", b"left", value)
                time.sleep(0.001)
                tx.put("b", b"right", value)

            return fn

        def look(tx: ReadTransaction) -> tuple[bytes | None, bytes | None]:
            left = tx.get("a", b"left")
            time.sleep(0.001)
            return left, tx.get("b", b"right")

        async def writer() -> None:
            for n in range(30):
                await stores[0].transact(write(b"%d" % n))

        async def reader() -> None:
            for _ in range(30):
                left, right = await stores[1].read(look)
                assert left == right
                left, right = await stores[1].transact(look)
                assert left == right

        await gather(writer(), reader())

    async def test_a_read_sees_one_snapshot(self) -> None:
        stores = await self.handles()
        await stores[0].transact(lambda tx: tx.put_many("a", [(bytes((n,)), b"old") for n in range(9)]))

        def look_twice(tx: ReadTransaction) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
            first = list(tx.scan("a"))
            time.sleep(0.03)  # the writer below is at work meanwhile
            return first, list(tx.scan("a"))

        async def write() -> None:
            for n in range(9):
                await stores[0].delete("a", bytes((n,)))
                await stores[0].put("a", bytes((100 + n,)), b"new")

        async def read() -> None:
            for _ in range(3):
                first, second = await stores[1].read(look_twice)
                assert first == second

        await gather(read(), write())

    async def test_relaxed_change_is_visible_at_once(self) -> None:
        stores = await self.handles()
        for n in range(20):
            await stores[0].transact(methodcaller("put", "a", b"key", b"%d" % n), Durability.RELAXED)
            assert await stores[1].get("a", b"key") == b"%d" % n

    async def test_full_change_is_visible_at_once(self) -> None:
        stores = await self.handles()
        for n in range(20):
            await stores[n % 2].put("a", b"key", b"%d" % n)
            assert await stores[1 - n % 2].get("a", b"key") == b"%d" % n
        assert await stores[1].delete("a", b"key") is True
        assert await stores[0].get("a", b"key") is None

    async def test_concurrent_equal_puts_are_one(self) -> None:
        stores = await self.handles()
        await gather(*(stores[n % 2].put("a", b"key", b"same") for n in range(30)))
        assert await collect(stores[0].scan("a")) == [(b"key", b"same")]
