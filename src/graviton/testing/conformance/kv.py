"""The laws of `KeyValueStore`: keys, values, order, namespaces. Transactions: kv_transactions.py."""

from __future__ import annotations

from functools import partial
from operator import methodcaller

from graviton.concurrency.streams import closing
from graviton.errors import InvalidInput, LimitExceeded
from graviton.ports.kv import (
    MAX_KEY_BYTES,
    SCAN_PAGE,
    Delete,
    DeleteRange,
    KeyValueStore,
    Put,
    ReadTransaction,
    prefix_end,
)
from graviton.testing.conformance.checks import collect, gather, raises
from graviton.testing.conformance.contract import Contract, needs
from graviton.testing.conformance.kv_lifecycle import KeyValueLifecycleLaws
from graviton.testing.conformance.kv_transactions import KeyValueTransactionLaws

__all__ = ["KeyValueStoreContract"]

LARGE_VALUE = 16 * 1024 * 1024 + 1
"""More than the largest block: what a test can afford where a store has no limit of its own."""

BAD_NAMESPACES = ["", "A", "1a", "_a", "a-b", "a b", "a.b", "ä", "a\n", "a\x00", "a" * 32]

ORDERED = [
    b"\x00", b"\x00\x00", b"\x00\xff", b"\x01", b"a", b"a\x00", b"a\x00b", b"aa", b"b",
    b"\x7f", b"\x80", b"\xc3\xa4", b"\xfe\xff", b"\xff", b"\xff\x00", b"\xff\xff", b"\xff\xff\x00",
]  # fmt: skip
"""In the order of unsigned bytes; signed, text or C-string comparison each gets a pair of these wrong."""


def _bounded(contract: type[Contract[KeyValueStore]]) -> str | None:
    limit = contract.declared().max_value_bytes
    return None if limit <= LARGE_VALUE else f"values may have {limit} bytes, more than a test can afford"


def _first(limit: int | None, tx: ReadTransaction) -> list[tuple[bytes, bytes]]:
    return list(tx.scan("a", limit=limit))


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


class _OrderLaws(Contract[KeyValueStore]):
    """Scans."""

    async def test_scan_is_in_order_of_unsigned_bytes(self) -> None:
        store = await self.open()
        await store.batch([Put("a", key, key) for key in reversed(ORDERED)])
        expected = [(key, key) for key in sorted(ORDERED)]
        assert await collect(store.scan("a")) == expected
        assert await store.read(lambda tx: list(tx.scan("a"))) == expected

    async def test_prefix_is_bytes_not_a_folder(self) -> None:
        store = await self.open()
        keys = [b"b", b"c", b"c/x", b"cc", b"cc/y", b"d"]
        await store.batch([Put("a", key, b"v") for key in keys])

        async def found(prefix: bytes) -> list[bytes]:
            return [key for key, _ in await collect(store.scan("a", prefix))]

        assert await found(b"c") == [b"c", b"c/x", b"cc", b"cc/y"]
        assert await found(b"c/") == [b"c/x"]
        assert await found(b"cc") == [b"cc", b"cc/y"]
        assert await found(b"ccc") == []
        assert await found(b"") == keys
        assert await found(b"e") == []
        assert await found(b"x" * (MAX_KEY_BYTES + 1)) == []

    async def test_every_prefix_and_after_gives_what_the_definition_says(self) -> None:
        store = await self.open()
        await store.batch([Put("a", key, b"v" + key) for key in ORDERED])
        await store.put("b", b"a", b"of another namespace")
        probes = [*ORDERED, b"", b"\x00\x00\x00", b"aaa", b"\xff\xff\xff", b"c"]
        for prefix in probes:
            for after in [None, *probes]:
                expected = [
                    (key, b"v" + key)
                    for key in sorted(ORDERED)
                    if key.startswith(prefix) and (after is None or key > after)
                ]
                assert await collect(store.scan("a", prefix, after)) == expected, (prefix, after)

    async def test_limit_cuts_a_scan_short(self) -> None:
        store = await self.open()
        await store.batch([Put("a", bytes((n,)), b"") for n in range(10)])
        for limit in (0, 1, 9, 10, 11, None):
            pairs = await store.read(partial(_first, limit))
            assert [key[0] for key, _ in pairs] == list(range(10))[:limit], limit
        tail = await store.read(lambda tx: list(tx.scan("a", after=b"\x04", limit=3)))
        assert [key[0] for key, _ in tail] == [5, 6, 7]

    async def test_scan_crosses_pages(self) -> None:
        store = await self.open()
        count = 2 * SCAN_PAGE + 1
        keys = [b"k" + n.to_bytes(4, "big") for n in range(count)]
        await store.transact(lambda tx: tx.put_many("a", [(key, key[1:]) for key in keys]))
        assert [key for key, _ in await collect(store.scan("a"))] == keys
        assert [key for key, _ in await collect(store.scan("a", b"k", keys[SCAN_PAGE]))] == keys[SCAN_PAGE + 1 :]
        await store.transact(lambda tx: tx.delete_many("a", keys[SCAN_PAGE:]))
        assert [key for key, _ in await collect(store.scan("a"))] == keys[:SCAN_PAGE]

    async def test_scan_beside_a_writer_shows_what_stays_exactly_once(self) -> None:
        store = await self.open()
        stay = [b"s" + n.to_bytes(4, "big") for n in range(2 * SCAN_PAGE)]
        await store.transact(lambda tx: tx.put_many("a", [(key, b"") for key in stay]))
        seen: list[bytes] = []
        async with closing(store.scan("a")) as pairs:
            async for key, _ in pairs:
                if len(seen) % 100 == 0:
                    await store.put("a", b"a" + key, b"before")
                    await store.put("a", key + b"-", b"soon")
                    await store.delete("a", b"a" + key)
                seen.append(key)
        assert [key for key in seen if key in set(stay)] == stay
        assert seen == sorted(set(seen))

    async def test_every_range_removes_what_the_definition_says(self) -> None:
        store = await self.open()
        bounds = [b"", *ORDERED[::3], b"aaa", b"\xff\xff\xff", b"\xff" * (MAX_KEY_BYTES + 1)]
        everything = [Put("a", key, b"v" + key) for key in ORDERED]
        for start in bounds:
            for end in [None, *bounds]:
                await store.batch(everything)
                await store.delete_range("a", start, end)
                left = [(key, b"v" + key) for key in ORDERED if key < start or (end is not None and key >= end)]
                assert await collect(store.scan("a")) == left, (start, end)

    async def test_range_is_removed_in_the_order_of_its_batch(self) -> None:
        store = await self.open()
        await store.batch([Put("a", b"aa", b"1"), Put("b", b"aa", b"1")])
        await store.batch([
            Put("a", b"ab", b"2"), DeleteRange("a", b"a", prefix_end(b"a")), Put("a", b"ac", b"3"), Put("a", b"b", b"4")
        ])  # fmt: skip
        assert await collect(store.scan("a")) == [(b"ac", b"3"), (b"b", b"4")]
        assert await collect(store.scan("b")) == [(b"aa", b"1")]

    async def test_range_of_a_namespace_that_is_not_there_makes_none(self) -> None:
        store = await self.open()
        await store.delete_range("a", b"")
        assert await store.namespaces() == []
        for bad in BAD_NAMESPACES:
            with raises(InvalidInput):
                await store.delete_range(bad, b"")

    async def test_abandoned_scan_leaves_the_store_usable(self) -> None:
        store = await self.open()
        await store.transact(lambda tx: tx.put_many("a", [(bytes((n,)), b"") for n in range(9)]))
        async with closing(store.scan("a")) as pairs:
            async for key, _ in pairs:
                assert key == b"\x00"
                break
        assert await store.delete("a", b"\x00") is True
        assert len(await collect(store.scan("a"))) == 8


class KeyValueStoreContract(KeyValueLifecycleLaws, KeyValueTransactionLaws, _OrderLaws, _PairLaws):
    """All laws of `graviton.ports.kv`."""

    port = KeyValueStore
