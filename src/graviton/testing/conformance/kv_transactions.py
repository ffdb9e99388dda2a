"""The laws of `KeyValueStore`: transactions, snapshots, concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from graviton.errors import GravitonError, InvalidInput, LimitExceeded, Unsupported
from graviton.ports.kv import KeyValueStore, Put, ReadTransaction, Transaction
from graviton.testing.conformance.checks import collect, gather, raises
from graviton.testing.conformance.contract import Contract, needs
from graviton.testing.conformance.kv_concurrency import KeyValueConcurrencyLaws, Oops

__all__ = ["KeyValueTransactionLaws"]

MANY = 5_000
"""More than any driver binds in one statement, or a fetch of one page."""

LARGEST_AFFORDABLE_TRANSACTION = 64 * 1024 * 1024


class Stop(BaseException):
    """What no `except Exception` sees."""


HANG_SECONDS = 20.0
"""A call that has not ended after this long never will."""


def _bounded(contract: type[Contract[KeyValueStore]]) -> str | None:
    limit = contract.declared().max_transaction_bytes
    return None if limit <= LARGEST_AFFORDABLE_TRANSACTION else f"transactions may have {limit} bytes"


def _change_everything(tx: Transaction) -> None:
    """Touches keys that exist and new ones, in namespaces that exist and new ones, in every way there is."""
    tx.put("a", b"kept", b"changed")
    tx.put("a", b"new", b"1")
    tx.put("fresh", b"new", b"2")
    assert tx.delete("a", b"other") is True
    tx.put_many("a", [(b"kept", b"again"), (b"m1", b""), (b"other", b"back")])
    tx.delete_many("b", [b"kept", b"missing"])
    assert list(tx.scan("b")) == []
    tx.put("c", b"gone", b"")
    tx.delete_range("c", b"")


class _AtomicLaws(Contract[KeyValueStore]):
    async def test_transaction_gives_the_result_of_its_function(self) -> None:
        store = await self.open()
        marker = object()
        assert await store.transact(lambda tx: marker) is marker
        assert await store.read(lambda tx: marker) is marker

    async def test_transaction_reads_its_own_writes(self) -> None:
        store = await self.open()
        await store.put("a", b"b", b"old")
        await store.put("a", b"d", b"old")

        def fn(tx: Transaction) -> None:
            tx.put("a", b"a", b"1")
            tx.put_many("a", [(b"b", b"2"), (b"c", b"3")])
            assert tx.delete("a", b"d") is True
            assert tx.delete("a", b"d") is False
            assert tx.get("a", b"b") == b"2"
            assert tx.get("a", b"d") is None
            assert tx.get_many("a", [b"d", b"c", b"a"]) == [None, b"3", b"1"]
            assert list(tx.scan("a")) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
            tx.delete_many("a", [b"a", b"c", b"never"])
            assert list(tx.scan("a")) == [(b"b", b"2")]
            tx.put("a", b"a", b"4")

        await store.transact(fn)
        assert await collect(store.scan("a")) == [(b"a", b"4"), (b"b", b"2")]

    async def test_transaction_sees_that_a_range_is_gone_and_what_it_put_there_since(self) -> None:
        store = await self.open()
        await store.transact(lambda tx: tx.put_many("a", [(bytes((n,)), b"old") for n in range(9)]))

        def fn(tx: Transaction) -> None:
            tx.put("a", b"\x03", b"soon gone")
            tx.put("a", b"\x03\x03", b"soon gone")
            tx.delete_range("a", b"\x02", b"\x06")
            assert tx.delete("a", b"\x05") is False
            tx.put("a", b"\x04", b"new")
            assert tx.get_many("a", [bytes((n,)) for n in (1, 2, 3, 4, 6)]) == [b"old", None, None, b"new", b"old"]
            tx.delete_range("a", b"\x07")
            assert [key[0] for key, _ in tx.scan("a")] == [0, 1, 4, 6]
            assert [key[0] for key, _ in tx.scan("a", after=b"\x00", limit=2)] == [1, 4]

        await store.transact(fn)
        assert await collect(store.scan("a")) == [
            (b"\x00", b"old"), (b"\x01", b"old"), (b"\x04", b"new"), (b"\x06", b"old")
        ]  # fmt: skip

    async def test_exception_undoes_everything_and_comes_back(self) -> None:
        store = await self.open()
        before = {"a": [(b"kept", b"0"), (b"other", b"9")], "b": [(b"kept", b"")], "c": [(b"a", b"1"), (b"b", b"2")]}
        for namespace, pairs in before.items():
            await store.batch([Put(namespace, key, value) for key, value in pairs])
        error = Oops("planned")

        def fn(tx: Transaction) -> None:
            _change_everything(tx)
            raise error

        with raises(Oops) as caught:
            await store.transact(fn)
        assert caught.error is error
        for namespace, pairs in before.items():
            assert await collect(store.scan(namespace)) == pairs
        assert await collect(store.scan("fresh")) == []
        await store.transact(_change_everything)
        after = [(b"kept", b"again"), (b"m1", b""), (b"new", b"1"), (b"other", b"back")]
        assert await collect(store.scan("a")) == after
        assert await collect(store.scan("b")) == []
        assert await collect(store.scan("c")) == []
        assert await collect(store.scan("fresh")) == [(b"new", b"2")]

    async def test_large_transaction_is_undone_as_a_whole(self) -> None:
        store = await self.open()
        await store.transact(lambda tx: tx.put_many("a", [(b"%06d" % n, b"old") for n in range(0, MANY, 2)]))

        def fn(tx: Transaction) -> None:
            tx.put_many("a", [(b"%06d" % n, b"new") for n in range(MANY)])
            tx.delete_many("a", [b"%06d" % n for n in range(0, MANY, 3)])
            raise Oops

        with raises(Oops):
            await store.transact(fn)
        assert await collect(store.scan("a")) == [(b"%06d" % n, b"old") for n in range(0, MANY, 2)]

    async def test_refused_write_that_is_caught_does_not_spoil_the_transaction(self) -> None:
        store = await self.open()

        def fn(tx: Transaction) -> None:
            tx.put("a", b"before", b"1")
            with raises(InvalidInput):
                tx.put("a", b"", b"2")
            with raises(InvalidInput):
                tx.put("No", b"key", b"3")
            tx.put("a", b"after", b"4")

        await store.transact(fn)
        assert await collect(store.scan("a")) == [(b"after", b"4"), (b"before", b"1")]

    async def test_exception_of_a_read_comes_back(self) -> None:
        store = await self.open()
        error = Oops("planned")

        def fn(tx: ReadTransaction) -> None:
            raise error

        with raises(Oops) as caught:
            await store.read(fn)
        assert caught.error is error

    async def test_every_kind_of_exception_ends_the_call(self) -> None:
        """It comes back, or an error of ours in the place of one that is no Exception; of StopIteration, which cannot
        leave a coroutine, a RuntimeError with it as the cause, as everywhere in Python. Never a hang."""
        store = await self.open()
        for planned in (
            StopIteration(3),
            StopAsyncIteration(),
            TimeoutError(),
            ExceptionGroup("two", [Oops()]),
            Stop(),
        ):
            await self._every_call_ends(store, planned)
        await store.put("a", b"after", b"1")
        assert await collect(store.scan("a")) == [(b"after", b"1")]

    async def _every_call_ends(self, store: KeyValueStore, planned: BaseException) -> None:
        def write(tx: Transaction) -> None:
            tx.put("a", b"never", b"")
            raise planned

        def read(tx: ReadTransaction) -> None:
            raise planned

        async def outcome(call: Awaitable[object]) -> object:
            try:
                return await asyncio.wait_for(call, HANG_SECONDS)
            except BaseException as error:  # noqa: BLE001 - judged below
                return error

        # Alone, several at once (a backend may do them together), and as a read.
        calls: list[Coroutine[object, object, object]] = [store.transact(write) for _ in range(3)]
        for caught in [await outcome(store.transact(write)), *await gather(*map(outcome, [*calls, store.read(read)]))]:
            if isinstance(planned, StopIteration):
                assert isinstance(caught, RuntimeError), repr(caught)
                assert caught.__cause__ is planned
            elif not isinstance(planned, Exception):
                assert caught is planned or isinstance(caught, GravitonError), repr(caught)
            else:
                assert caught is planned, repr(caught)

    async def test_writes_in_a_read_are_unsupported(self) -> None:
        store = await self.open()
        await store.put("a", b"key", b"value")
        writes: list[Callable[[Transaction], object]] = [
            lambda tx: tx.put("a", b"key", b"changed"),
            lambda tx: tx.put("new", b"key", b"changed"),
            lambda tx: tx.put_many("a", [(b"key", b"changed")]),
            lambda tx: tx.delete("a", b"key"),
            lambda tx: tx.delete("a", b"missing"),
            lambda tx: tx.delete_many("a", [b"key"]),
            lambda tx: tx.delete_range("a", b"key"),
        ]
        for write in writes:
            with raises(Unsupported):
                await store.read(write)  # type: ignore[arg-type]  # misuse
        assert await collect(store.scan("a")) == [(b"key", b"value")]
        assert await store.namespaces() == ["a"]

    async def test_many_keys_at_once(self) -> None:
        store = await self.open()
        keys = [b"%06d" % n for n in range(MANY)]
        await store.transact(lambda tx: tx.put_many("a", [(key, key[::-1]) for key in keys]))
        wanted = [*reversed(keys), b"missing", keys[7], keys[7]]
        found = await store.read(lambda tx: tx.get_many("a", wanted))
        assert found == [None if key == b"missing" else key[::-1] for key in wanted]
        assert await store.transact(lambda tx: tx.get_many("a", wanted)) == found
        await store.transact(lambda tx: tx.delete_many("a", [*keys[1:], b"missing", keys[1]]))
        assert await collect(store.scan("a")) == [(keys[0], keys[0][::-1])]

    async def test_no_keys_at_once_is_nothing(self) -> None:
        store = await self.open()
        await store.put("a", b"key", b"value")
        await store.transact(lambda tx: tx.put_many("a", []))
        await store.transact(lambda tx: tx.delete_many("a", []))
        assert await store.read(lambda tx: tx.get_many("a", [])) == []
        assert await collect(store.scan("a")) == [(b"key", b"value")]

    async def test_of_repeated_keys_in_put_many_the_last_wins(self) -> None:
        store = await self.open()
        await store.transact(lambda tx: tx.put_many("a", [(b"k", b"1"), (b"l", b"2"), (b"k", b"3")]))
        assert await collect(store.scan("a")) == [(b"k", b"3"), (b"l", b"2")]

    async def test_dropped_scan_does_not_hinder_writes(self) -> None:
        store = await self.open()
        await store.transact(lambda tx: tx.put_many("a", [(bytes((n,)), b"") for n in range(9)]))

        def fn(tx: Transaction) -> None:
            for key, _ in tx.scan("a"):
                assert key == b"\x00"
                break
            tx.delete_many("a", [bytes((n,)) for n in range(8)])

        await store.transact(fn)
        assert await collect(store.scan("a")) == [(b"\x08", b"")]

    @needs(_bounded)
    async def test_too_large_transaction_is_refused_as_a_whole(self) -> None:
        store = await self.open()
        piece = min(1024 * 1024, self.declared().max_value_bytes)
        count = self.declared().max_transaction_bytes // piece + 1
        with raises(LimitExceeded):
            await store.transact(lambda tx: tx.put_many("a", [(b"%d" % n, b"x" * piece) for n in range(count)]))
        assert await collect(store.scan("a")) == []


class KeyValueTransactionLaws(KeyValueConcurrencyLaws, _AtomicLaws):
    """Part of `KeyValueStoreContract`."""
