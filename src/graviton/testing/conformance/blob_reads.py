"""The laws of `BlobStore`: get, stat, delete, list."""

from __future__ import annotations

import asyncio

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, InvalidInput, NotFound, RangeNotSatisfiable
from graviton.ports.blobs import BlobStore
from graviton.testing.conformance.blob_values import BlobStoreHooks, key_of, noise, read
from graviton.testing.conformance.checks import collect, gather, raises
from graviton.testing.conformance.contract import needs

__all__ = ["BlobReadLaws"]


class _GetLaws(BlobStoreHooks):
    async def test_missing_blob_is_not_found_before_get_returns(self) -> None:
        store = await self.open()
        await store.put(b"another")
        with raises(NotFound):
            await store.get(key_of(b"missing"))
        with raises(NotFound):
            await store.get(key_of(b"missing"), Span(0, 1))
        with raises(NotFound):
            await store.get(BlobKey(HashAlgo.BLAKE3.digest(b"another"), 8))
        assert await store.stat(key_of(b"missing")) is None
        assert await store.delete(key_of(b"missing")) is False

    async def test_reader_tells_what_it_yields(self) -> None:
        store = await self.open()
        key = (await store.put(noise(1_000))).key
        async with await store.get(key) as whole:
            assert (whole.key, whole.span, whole.size) == (key, Span(0, 1_000), 1_000)
        async with await store.get(key, Span(10, 30)) as part:
            assert (part.key, part.span, part.size) == (key, Span(10, 30), 20)
            assert await part.read() == noise(1_000)[10:30]

    async def test_span_is_half_open_and_exact(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        key = (await store.put(data)).key
        end = len(data)
        middle = end // 2
        spans = [(0, 1), (0, end), (1, end - 1), (end - 1, end), (middle, middle + 1), (middle - 70_000, end)]
        spans += [(n * end // 7, min(end, n * end // 7 + 300_000)) for n in range(7)]
        for start, stop in spans:
            assert await read(store, key, Span(start, stop)) == data[start:stop], (start, stop)

    async def test_empty_span_within_the_blob_yields_nothing(self) -> None:
        store = await self.open()
        key = (await store.put(b"the bytes")).key
        empty = (await store.put(b"")).key
        for of, at in ((key, 0), (key, 5), (key, 9), (empty, 0)):
            assert await read(store, of, Span(at, at)) == b""

    async def test_span_past_the_end_is_not_satisfiable_before_get_returns(self) -> None:
        store = await self.open()
        key = (await store.put(b"the bytes")).key
        empty = (await store.put(b"")).key
        beyond = [(key, 0, 10), (key, 9, 10), (key, 8, 10), (key, 10, 10), (key, 0, 2**63 - 1), (empty, 0, 1)]
        for of, start, end in beyond:
            with raises(RangeNotSatisfiable):
                await store.get(of, Span(start, end))

    async def test_pieces_are_never_empty_nor_larger_than_a_block(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        key = (await store.put(data)).key
        await self.is_readable(await store.get(key), data)

    async def test_read_gives_what_is_left(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        key = (await store.put(data)).key
        async with await store.get(key) as reader:
            first = bytes(await anext(reader))
            assert first == data[: len(first)]
            assert await reader.read() == data[len(first) :]
            assert await reader.read() == b""

    async def test_reader_left_early_can_be_closed_again_and_again(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        key = (await store.put(data)).key
        for _ in range(10):
            async with await store.get(key) as reader:
                await anext(reader)
            await reader.aclose()
            unused = await store.get(key)
            await unused.aclose()
        assert await read(store, key) == data

    @needs("leftovers")
    async def test_readers_left_early_leave_nothing(self) -> None:
        store = await self.open()
        key = (await store.put(noise(self.large_bytes))).key
        for _ in range(10):
            async with await store.get(key) as reader:
                await anext(reader)
        assert list(await self.leftovers(store)) == []

    async def test_many_readers_at_once(self) -> None:
        store = await self.open()
        contents = [noise(400_000, seed) for seed in range(5)]
        keys = [(await store.put(data)).key for data in contents]
        got = await gather(*(read(store, key) for key in keys * 6))
        assert got == contents * 6

    async def test_blob_deleted_while_it_is_read_is_whole_or_not_found(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        key = (await store.put(data)).key
        async with await store.get(key) as reader:
            got = [bytes(await anext(reader))]
            assert await store.delete(key) is True
            try:
                async for piece in reader:
                    got.append(bytes(piece))
                    await asyncio.sleep(0)
            except NotFound:
                assert data.startswith(b"".join(got))
            else:
                assert b"".join(got) == data

    @needs("damage")
    async def test_damaged_bytes_raise_integrity_error_and_never_leave(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        key = (await store.put(data)).key
        await self.damage(store, key)
        await self._is_noticed(store, key, data)

    @needs("lose")
    async def test_lost_bytes_raise_integrity_error(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        key = (await store.put(data)).key
        await self.lose(store, key)
        await self._is_noticed(store, key, data)

    async def _is_noticed(self, store: BlobStore, key: BlobKey, data: bytes) -> None:
        got: list[bytes] = []
        with raises(IntegrityError) as caught:
            async with await store.get(key) as reader:
                async for piece in reader:
                    got.append(bytes(piece))  # noqa: PERF401 - what left before the error is what matters
        assert data.startswith(b"".join(got)), "wrong bytes have left"
        assert key.text in f"{caught.error.message} {caught.error.subject}"
        assert "byte" in caught.error.message


class _CatalogueLaws(BlobStoreHooks):
    async def test_stat_tells_what_put_told(self) -> None:
        store = await self.open()
        result = await store.put(noise(1_000))
        stat = await store.stat(result.key)
        assert stat is not None
        assert (stat.key, stat.size, stat.blocks) == (result.key, 1_000, result.stats.blocks)
        assert stat.created_at_ns > 0
        again = await store.put(noise(1_000))
        assert again.created is False
        after = await store.stat(result.key)
        assert after is not None
        assert after.created_at_ns == stat.created_at_ns

    async def test_delete_says_whether_the_holder_held_it(self) -> None:
        store = await self.open()
        for holder in ("", "one", "two", "one"):
            await store.put(b"the bytes", BlobWritePlan(hash=HashAlgo.BLAKE3, holder=holder))
        key = key_of(b"the bytes")
        assert await store.delete(key, "three") is False
        for holder in ("one", ""):
            assert await store.delete(key, holder) is True
            assert await store.delete(key, holder) is False
            assert await read(store, key) == b"the bytes"
        assert await store.delete(key, "two") is True
        assert await store.delete(key, "two") is False
        assert await store.stat(key) is None
        with raises(NotFound):
            await store.get(key)
        assert await collect(store.list()) == []

    async def test_deleted_blob_can_be_put_again(self) -> None:
        store = await self.open()
        key = (await store.put(b"the bytes")).key
        for _ in range(3):
            assert await store.delete(key) is True
            assert (await store.put(b"the bytes")).created is True
            assert await read(store, key) == b"the bytes"

    async def test_delete_leaves_blobs_that_share_its_bytes(self) -> None:
        store = await self.open()
        shared = noise(self.large_bytes)
        one = (await store.put(shared + b"one")).key
        two = (await store.put(shared + b"two")).key
        assert await store.delete(one) is True
        assert await read(store, two) == shared + b"two"

    async def test_domains_share_nothing(self) -> None:
        store = await self.open()
        key = key_of(b"the bytes")

        def plan(domain: str) -> BlobWritePlan:
            return BlobWritePlan(hash=HashAlgo.BLAKE3, domain=domain)

        first = await store.put(b"the bytes", plan("one"))
        for other in ("", "two", "on", "onee"):
            assert await store.stat(key, other) is None
            assert await store.delete(key, domain=other) is False
            assert await collect(store.list(domain=other)) == []
            with raises(NotFound):
                await store.get(key, domain=other)
        second = await store.put(b"the bytes", plan("two"))
        assert (first.created, second.created) == (True, True)
        assert second.stats.fresh_blocks == second.stats.blocks == 1
        assert await store.delete(key, domain="one") is True
        assert await read(store, key, domain="two") == b"the bytes"
        assert [stat.key for stat in await collect(store.list(domain="two"))] == [key]


class _ListLaws(BlobStoreHooks):
    async def _filled(self) -> tuple[BlobStore, list[BlobKey]]:
        store = await self.open()
        keys = [(await store.put(b"%d" % n, BlobWritePlan(hash=algo))).key for n in range(25) for algo in HashAlgo]
        return store, sorted(keys, key=lambda key: key.text)

    async def _keys(
        self, store: BlobStore, prefix: str = "", after: BlobKey | None = None, limit: int | None = None
    ) -> list[BlobKey]:
        return [stat.key for stat in await collect(store.list(prefix, after, limit))]

    async def test_list_is_in_the_order_of_key_texts(self) -> None:
        store, keys = await self._filled()
        assert await self._keys(store) == keys
        for stat in (await collect(store.list()))[:5]:
            assert await store.stat(stat.key) == stat

    async def test_list_is_paged_by_after_and_limit(self) -> None:
        store, keys = await self._filled()
        for limit in (1, 7, 49, 50, 51):
            found: list[BlobKey] = []
            while page := await self._keys(store, "", found[-1] if found else None, limit):
                assert len(page) <= limit
                found += page
            assert found == keys
        assert await self._keys(store, limit=0) == []
        with raises(InvalidInput):
            await self._keys(store, limit=-1)
        absent = key_of(b"absent")
        assert await self._keys(store, after=absent) == [key for key in keys if absent.text < key.text]

    async def test_list_prefix_is_the_beginning_of_the_key_text(self) -> None:
        store, keys = await self._filled()
        text = keys[7].text
        for prefix in ("", "b", "blake3", "blake3:", "sha256:", *(text[:n] for n in range(8, len(text) + 1))):
            expected = [key for key in keys if key.text.startswith(prefix)]
            assert await self._keys(store, prefix) == expected, prefix
            assert await self._keys(store, prefix, keys[7], 5) == [key for key in expected if key > keys[7]][:5]

    async def test_prefix_that_begins_no_key_text_is_refused(self) -> None:
        store, keys = await self._filled()
        for prefix in ("x", "md5:", "blake3:g", "blake3:AB", "blake3::", "blake3:ab:", keys[0].text + ":"):
            with raises(InvalidInput):
                await collect(store.list(prefix))

    async def test_list_beside_changes_shows_what_stays_exactly_once(self) -> None:
        store, keys = await self._filled()
        seen: list[BlobKey] = []
        async for stat in store.list():
            seen.append(stat.key)
            if len(seen) % 5 == 0:
                new = (await store.put(b"new %d" % len(seen))).key
                await store.delete(new)
        assert [key for key in seen if key in set(keys)] == keys


class BlobReadLaws(_ListLaws, _CatalogueLaws, _GetLaws):
    """Part of `BlobStoreContract`."""
