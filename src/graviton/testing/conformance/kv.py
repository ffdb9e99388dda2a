"""The laws of `KeyValueStore`: keys, values, namespaces. Their order: kv_order.py; transactions: kv_transactions.py."""

from __future__ import annotations

from operator import methodcaller

from graviton.errors import InvalidInput, LimitExceeded
from graviton.ports.kv import (
    MAX_KEY_BYTES,
    Delete,
    KeyValueStore,
    Put,
)
from graviton.testing.conformance.checks import collect, gather, raises
from graviton.testing.conformance.contract import Contract, needs
from graviton.testing.conformance.kv_lifecycle import KeyValueLifecycleLaws
from graviton.testing.conformance.kv_order import BAD_NAMESPACES, KeyValueOrderLaws
from graviton.testing.conformance.kv_transactions import KeyValueTransactionLaws

__all__ = ["KeyValueStoreContract"]

LARGE_VALUE = 16 * 1024 * 1024 + 1
"""More than the largest block: what a test can afford where a store has no limit of its own."""


def _bounded(contract: type[Contract[KeyValueStore]]) -> str | None:
    limit = contract.declared().max_value_bytes
    return None if limit <= LARGE_VALUE else f"values may have {limit} bytes, more than a test can afford"


class _PairLaws(Contract[KeyValueStore]):
    """One key at a time."""

    async def test_missing_key_is_none(self) -> None:
        store = await self.open()
        assert await store.get("a", b"missing") is None
        await store.put("a", b"key", b"value")
        assert await store.get("a", b"missing") is None
        assert await store.get("a", b"ke") is None
        assert await store.get("a", b"keyy") is None

    async def test_put_value_is_got_back_and_replaced(self) -> None:
        store = await self.open()
        await store.put("a", b"key", b"one")
        assert await store.get("a", b"key") == b"one"
        await store.put("a", b"key", b"the second")
        assert await store.get("a", b"key") == b"the second"
        await store.put("a", b"key", b"the second")
        assert await collect(store.scan("a")) == [(b"key", b"the second")]

    async def test_empty_value_is_a_value(self) -> None:
        store = await self.open()
        await store.put("a", b"key", b"")
        assert await store.get("a", b"key") == b""
        assert await collect(store.scan("a")) == [(b"key", b"")]
        assert await store.read(lambda tx: tx.get_many("a", [b"key", b"no"])) == [b"", None]
        assert await store.delete("a", b"key") is True

    async def test_any_byte_may_be_in_keys_and_values(self) -> None:
        store = await self.open()
        every = bytes(range(256))
        for byte in range(256):
            await store.put("a", bytes((byte,)), every[byte:] + every[:byte])
        pairs = await collect(store.scan("a"))
        assert pairs == [(bytes((byte,)), every[byte:] + every[:byte]) for byte in range(256)]
        assert {type(part) for pair in pairs for part in pair} == {bytes}

    async def test_longest_key_is_accepted(self) -> None:
        store = await self.open()
        longest = b"\xff" * MAX_KEY_BYTES
        await store.put("a", longest, b"long")
        await store.put("a", longest[:-1], b"shorter")
        assert await store.get("a", longest) == b"long"
        assert [key for key, _ in await collect(store.scan("a"))] == [longest[:-1], longest]

    async def test_bad_key_is_refused_and_nothing_is_written(self) -> None:
        store = await self.open()
        for bad in (b"", b"k" * (MAX_KEY_BYTES + 1)):
            with raises(InvalidInput):
                await store.put("a", bad, b"value")
            with raises(InvalidInput):
                await store.get("a", bad)
            with raises(InvalidInput):
                await store.delete("a", bad)
            with raises(InvalidInput):
                await store.read(methodcaller("get_many", "a", [b"good", bad]))
            with raises(InvalidInput):
                await store.batch([Put("a", b"before", b"1"), Put("a", bad, b"2")])
            with raises(InvalidInput):
                await store.transact(methodcaller("put_many", "a", [(b"before", b"1"), (bad, b"2")]))
            with raises(InvalidInput):
                await store.transact(methodcaller("delete_many", "a", [bad]))
        assert await collect(store.scan("a")) == []

    async def test_bad_namespace_is_refused(self) -> None:
        store = await self.open()
        for bad in BAD_NAMESPACES:
            with raises(InvalidInput):
                await store.put(bad, b"key", b"value")
            with raises(InvalidInput):
                await store.get(bad, b"key")
            with raises(InvalidInput):
                await store.delete(bad, b"key")
            with raises(InvalidInput):
                await collect(store.scan(bad))
        assert await store.namespaces() == []

    async def test_longest_namespace_and_all_its_characters_are_accepted(self) -> None:
        store = await self.open()
        names = ["a", "z", "abcdefghijklmnopqrstuvwxyz_0123", "a456789_", "select", "table"]
        for name in names:
            await store.put(name, b"key", name.encode())
        assert [await store.get(name, b"key") for name in names] == [name.encode() for name in names]

    async def test_large_value_is_accepted(self) -> None:
        store = await self.open()
        size = min(LARGE_VALUE, self.declared().max_value_bytes)
        value = (b"0123456789abcde" * (size // 15 + 1))[:size]
        await store.put("a", b"large", value)
        assert await store.get("a", b"large") == value

    @needs(_bounded)
    async def test_larger_than_largest_value_is_refused(self) -> None:
        store = await self.open()
        with raises(LimitExceeded):
            await store.put("a", b"key", b"x" * (self.declared().max_value_bytes + 1))
        assert await store.get("a", b"key") is None

    async def test_delete_says_whether_the_key_was_there(self) -> None:
        store = await self.open()
        assert await store.delete("a", b"key") is False
        for key in (b"ke", b"key", b"keyy"):
            await store.put("a", key, b"value")
        assert await store.delete("a", b"key") is True
        assert await store.delete("a", b"key") is False
        assert await store.get("a", b"key") is None
        assert await collect(store.scan("a")) == [(b"ke", b"value"), (b"keyy", b"value")]

    async def test_namespaces_share_nothing(self) -> None:
        store = await self.open()
        for name in ("b", "a", "ab", "a_b"):
            await store.put(name, b"key", name.encode())
        assert await store.delete("ab", b"key") is True
        assert [await store.get(name, b"key") for name in ("a", "ab", "a_b", "b")] == [b"a", None, b"a_b", b"b"]
        assert await collect(store.scan("a")) == [(b"key", b"a")]

    async def test_namespaces_are_listed_in_order_once_something_was_put(self) -> None:
        store = await self.open()
        assert await store.namespaces() == []
        for name in ("zoo", "b1", "b", "a_"):
            await store.put(name, b"key", b"value")
        assert await store.namespaces() == ["a_", "b", "b1", "zoo"]

    async def test_reading_does_not_create_a_namespace(self) -> None:
        store = await self.open()
        assert await store.get("a", b"key") is None
        assert await collect(store.scan("b")) == []
        assert await store.read(lambda tx: tx.get_many("c", [b"x", b"y"])) == [None, None]
        assert await store.delete("d", b"key") is False
        assert await store.compare_and_set("e", b"key", b"expected", b"value") is False
        await store.transact(lambda tx: tx.delete_many("f", [b"key"]))
        assert await store.namespaces() == []

    async def test_compare_and_set_acts_only_on_the_expected_value(self) -> None:
        store = await self.open()
        assert await store.compare_and_set("a", b"key", b"", b"one") is False
        assert await store.compare_and_set("a", b"key", None, b"one") is True
        assert await store.compare_and_set("a", b"key", None, b"two") is False
        assert await store.compare_and_set("a", b"key", b"two", b"three") is False
        assert await store.get("a", b"key") == b"one"
        assert await store.compare_and_set("a", b"key", b"one", b"") is True
        assert await store.get("a", b"key") == b""
        assert await store.compare_and_set("a", b"key", b"", None) is True
        assert await store.get("a", b"key") is None
        assert await store.compare_and_set("a", b"key", None, None) is True

    async def test_of_concurrent_compare_and_sets_one_wins(self) -> None:
        store = await self.open()
        won = await gather(*(store.compare_and_set("a", b"key", None, bytes((n,))) for n in range(16)))
        assert won.count(True) == 1
        assert await store.get("a", b"key") == bytes((won.index(True),))

    async def test_batch_is_applied_in_order(self) -> None:
        store = await self.open()
        await store.put("a", b"old", b"0")
        await store.batch(
            [
                Put("a", b"key", b"1"),
                Delete("a", b"old"),
                Put("b", b"key", b"2"),
                Delete("a", b"key"),
                Put("a", b"key", b"3"),
                Put("b", b"gone", b"4"),
                Delete("b", b"gone"),
                Delete("c", b"never"),
            ]
        )
        assert await collect(store.scan("a")) == [(b"key", b"3")]
        assert await collect(store.scan("b")) == [(b"key", b"2")]
        await store.batch([])
        assert await collect(store.scan("a")) == [(b"key", b"3")]


class KeyValueStoreContract(KeyValueLifecycleLaws, KeyValueTransactionLaws, KeyValueOrderLaws, _PairLaws):
    """All laws of `graviton.ports.kv`."""

    port = KeyValueStore
