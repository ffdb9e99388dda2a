"""The laws of a `KeyValueStore`'s order: scans, and ranges that are removed."""

from __future__ import annotations

from functools import partial

from graviton.concurrency.streams import closing
from graviton.errors import InvalidInput
from graviton.ports.kv import MAX_KEY_BYTES, SCAN_PAGE, DeleteRange, KeyValueStore, Put, ReadTransaction, prefix_end
from graviton.testing.conformance.checks import collect, raises
from graviton.testing.conformance.contract import Contract

__all__ = ["BAD_NAMESPACES", "KeyValueOrderLaws"]

BAD_NAMESPACES = ["", "A", "1a", "_a", "a-b", "a b", "a.b", "ä", "a\n", "a\x00", "a" * 32]

ORDERED = [
    b"\x00", b"\x00\x00", b"\x00\xff", b"\x01", b"a", b"a\x00", b"a\x00b", b"aa", b"b",
    b"\x7f", b"\x80", b"\xc3\xa4", b"\xfe\xff", b"\xff", b"\xff\x00", b"\xff\xff", b"\xff\xff\x00",
]  # fmt: skip
"""In the order of unsigned bytes; signed, text or C-string comparison each gets a pair of these wrong."""


def _first(limit: int | None, tx: ReadTransaction) -> list[tuple[bytes, bytes]]:
    return list(tx.scan("a", limit=limit))


class KeyValueOrderLaws(Contract[KeyValueStore]):
    """Part of `KeyValueStoreContract`."""

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
