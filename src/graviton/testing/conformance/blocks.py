"""The laws of `BlockStore`: what puts and gets do. Corruption, cancellation and reopening: blocks_trouble.py."""

from __future__ import annotations

from functools import partial

from graviton.concurrency.streams import closing
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.core.manifests import BlockManifest
from graviton.errors import GravitonError, InvalidInput, NotFound
from graviton.ports.blocks import BlockStatus, BlockStore, BlockWritePlan, CanonicalBlock, WriteMode
from graviton.testing.conformance.block_values import ALWAYS, block, blocks_of, many_blocks, name_of
from graviton.testing.conformance.blocks_trouble import BlockTroubleLaws
from graviton.testing.conformance.checks import collect, gather, in_place, raises
from graviton.testing.conformance.contract import Contract, needs

__all__ = ["BlockStoreContract"]

FRESH, DUPLICATE = BlockStatus.FRESH, BlockStatus.DUPLICATE


class _PutLaws(Contract[BlockStore]):
    async def test_put_block_is_got_back(self) -> None:
        store = await self.open()
        for algo in HashAlgo:
            one = block(b"the bytes", algo)
            result = await store.put_blocks([one])
            assert [(stored.key, stored.status) for stored in result.stored] == [(one.key, FRESH)]
            data = await store.get(one.key)
            assert data == b"the bytes"
            assert type(data) is bytes
            assert await store.exists(one.key) is True

    @needs("runs_in_place")
    async def test_calls_run_in_place_where_that_may_block(self) -> None:
        store = await self.open()
        blocks = many_blocks(5)
        result = in_place(lambda: store.put_blocks(blocks))
        assert [stored.status for stored in result.stored] == [FRESH] * 5
        for one in blocks:
            assert await store.get(one.key) == one.payload
            assert in_place(partial(store.get, one.key)) == one.payload
        with raises(NotFound):
            in_place(lambda: store.get(block(b"missing").key))

    async def test_missing_block_is_not_found(self) -> None:
        store = await self.open()
        missing = block(b"missing").key
        with raises(NotFound):
            await store.get(missing)
        assert await store.exists(missing) is False
        await store.put_blocks([block(b"another")])
        with raises(NotFound):
            await store.get(missing)
        assert await store.exists(missing) is False

    async def test_key_of_another_size_or_algorithm_is_another_block(self) -> None:
        store = await self.open()
        one = block(b"the bytes")
        await store.put_blocks([one])
        others = [BlockKey(one.key.digest, 8), block(b"the bytes", HashAlgo.SHA256).key]
        assert await store.exists_many(others) == [False, False]
        for other in others:
            with raises(NotFound):
                await store.get(other)

    async def test_put_again_is_a_duplicate(self) -> None:
        store = await self.open()
        first = await store.put_blocks([block(b"same")])
        again = await store.put_blocks([block(b"same")])
        assert [stored.status for stored in first.stored + again.stored] == [FRESH, DUPLICATE]
        assert (first.fresh_bytes, again.fresh_bytes) == (4, 0)
        assert await store.get(block(b"same").key) == b"same"
        assert await collect(store.list()) == [block(b"same").key]

    async def test_result_keeps_the_order_given_with_repeats(self) -> None:
        store = await self.open()
        await store.put_blocks([block(b"old")])
        batch = blocks_of(b"one", b"old", b"three", b"one", b"old", b"one")
        result = await store.put_blocks(batch)
        assert [stored.key for stored in result.stored] == [one.key for one in batch]
        expected = [FRESH, DUPLICATE, FRESH, DUPLICATE, DUPLICATE, DUPLICATE]
        assert [stored.status for stored in result.stored] == expected
        assert result.fresh_bytes == len(b"one") + len(b"three")
        assert result.manifest == BlockManifest.of([one.key for one in batch])
        assert result.manifest.size == 3 + 3 + 5 + 3 + 3 + 3
        assert sorted(await collect(store.list())) == sorted({one.key for one in batch})

    async def test_always_writes_every_distinct_block(self) -> None:
        store = await self.open()
        await store.put_blocks([block(b"old")])
        result = await store.put_blocks(blocks_of(b"old", b"new", b"old"), ALWAYS)
        assert [stored.status for stored in result.stored] == [FRESH, FRESH, DUPLICATE]
        assert result.fresh_bytes == 6
        assert await store.get(block(b"old").key) == b"old"
        assert await store.get(block(b"new").key) == b"new"

    async def test_empty_batch_is_nothing(self) -> None:
        store = await self.open()
        for plan in (BlockWritePlan(), ALWAYS, BlockWritePlan(frames=True)):
            result = await store.put_blocks([], plan)
            assert (result.manifest.size, result.stored, result.frames) == (0, (), ())
        assert await collect(store.list()) == []

    async def test_smallest_and_largest_block(self) -> None:
        store = await self.open()
        largest = (b"\x00\x01\x02\xff" * (MAX_BLOCK_BYTES // 4 + 1))[:MAX_BLOCK_BYTES]
        await store.put_blocks(blocks_of(b"\x00", largest))
        assert await store.get(block(b"\x00").key) == b"\x00"
        assert await store.get(block(largest).key) == largest

    async def test_payload_of_another_length_is_refused_before_anything_is_written(self) -> None:
        store = await self.open()
        good, key = block(b"good"), block(b"the bytes").key
        for payload in (b"", b"the byte", b"the bytes!", memoryview(b"the bytes and more")):
            for mode in WriteMode:
                with raises(InvalidInput):
                    await store.put_blocks([good, CanonicalBlock(key, payload)], BlockWritePlan(mode))
        assert await store.exists_many([good.key, key]) == [False, False]
        assert await collect(store.list()) == []

    async def test_session_tag_is_letters_digits_and_dashes(self) -> None:
        store = await self.open()
        for tag in ("", "0aZ-9", "f" * 32):
            await store.put_blocks([block(tag.encode() + b"x")], BlockWritePlan(session=tag))
            assert await store.get(block(tag.encode() + b"x").key) == tag.encode() + b"x"
        for tag in ("../up", "a/b", "a b", "a\x00", "a\n", "ä", "."):
            with raises(InvalidInput):
                await store.put_blocks([block(b"refused")], BlockWritePlan(session=tag))
        assert await store.exists(block(b"refused").key) is False

    async def test_any_buffer_is_stored_as_it_was_during_the_call(self) -> None:
        store = await self.open()
        key = block(b"the bytes").key
        for plan in (ALWAYS, BlockWritePlan()):
            array = bytearray(b"-- the bytes --")
            wide = memoryview(bytearray(b"the bytes")).cast("b")
            for owner, payload in ((array, memoryview(array)[3:12]), (wide, wide), (b"", b"the bytes")):
                await store.put_blocks([CanonicalBlock(key, payload)], plan)
                assert await store.get(key) == b"the bytes"
                if not isinstance(owner, bytes):
                    owner[:] = owner[::-1]
                assert await store.get(key) == b"the bytes"
        array = bytearray(b"the bytes, an array")
        one = CanonicalBlock(block(bytes(array)).key, array)
        await store.put_blocks([one])
        array[:] = bytes(len(array))
        assert await store.get(one.key) == b"the bytes, an array"

    async def test_store_keeps_no_reference_to_the_buffer(self) -> None:
        store = await self.open()
        array = bytearray(b"the bytes")
        await store.put_blocks([CanonicalBlock(block(b"the bytes").key, memoryview(array))])
        array.clear()  # raises BufferError while anybody holds a view
        assert await store.get(block(b"the bytes").key) == b"the bytes"

    async def test_frames_are_made_when_the_plan_asks(self) -> None:
        store = await self.open()
        batch = blocks_of(b"one", b"two", b"one")
        result = await store.put_blocks(batch, BlockWritePlan(frames=True))
        framed = [(frame.index, frame.key, frame.payload_length) for frame in result.frames]
        assert framed == [(0, batch[0].key, 3), (1, batch[1].key, 3), (2, batch[0].key, 3)]
        assert (await store.put_blocks(batch)).frames == ()

    async def test_lying_digest_never_reaches_a_reader(self) -> None:
        store = await self.open()
        key = block(b"the truth").key
        try:
            await store.put_blocks([CanonicalBlock(key, b"a lie....")])
        except GravitonError:
            assert await store.exists(key) is False
        else:
            with raises(GravitonError):
                await store.get(key)

    async def test_many_blocks_in_one_batch(self) -> None:
        store = await self.open()
        batch = many_blocks(700)
        result = await store.put_blocks(batch)
        assert {stored.status for stored in result.stored} == {FRESH}
        assert await store.exists_many([one.key for one in batch]) == [True] * 700
        for one in batch[::50]:
            assert await store.get(one.key) == one.payload
        again = await store.put_blocks([*batch, block(b"new")])
        assert [stored.status for stored in again.stored] == [DUPLICATE] * 700 + [FRESH]

    async def test_concurrent_equal_puts_all_succeed(self) -> None:
        store = await self.open()
        batch = many_blocks(20)
        for mode in WriteMode:
            results = await gather(*(store.put_blocks(batch, BlockWritePlan(mode)) for _ in range(12)))
            assert all(result.manifest == results[0].manifest for result in results)
            for one in batch:
                assert await store.get(one.key) == one.payload
            assert sorted(await collect(store.list())) == sorted(one.key for one in batch)

    async def test_concurrent_different_puts_all_succeed(self) -> None:
        store = await self.open()
        batches = [many_blocks(10, b"batch %d" % n) for n in range(12)]
        await gather(*(store.put_blocks(batch) for batch in batches))
        got = await gather(*(store.get(one.key) for batch in batches for one in batch))
        assert got == [one.payload for batch in batches for one in batch]


class _LookLaws(Contract[BlockStore]):
    async def test_exists_many_answers_in_the_order_given(self) -> None:
        store = await self.open()
        there, missing = many_blocks(5), many_blocks(5, b"missing")
        await store.put_blocks(there)
        asked = [key for pair in zip(there, missing, strict=True) for key in (pair[0].key, pair[1].key, pair[0].key)]
        assert await store.exists_many(asked) == [True, False, True] * 5
        assert await store.exists_many([]) == []

    async def test_list_yields_every_key_once(self) -> None:
        store = await self.open()
        assert await collect(store.list()) == []
        batch = many_blocks(1_100)  # more than a page of any backend
        await store.put_blocks([*batch, block(b"other", HashAlgo.SHA256)])
        await store.put_blocks(batch[:10])
        keys = await collect(store.list())
        assert sorted(keys) == sorted([*(one.key for one in batch), block(b"other", HashAlgo.SHA256).key])

    async def test_list_prefix_is_the_beginning_of_the_path_name(self) -> None:
        store = await self.open()
        batch = [block(b"%d" % n, algo) for n in range(150) for algo in HashAlgo]
        await store.put_blocks(batch)
        name = name_of(batch[0].key)
        algo, _, rest = name.partition("/")
        prefixes = [
            "", algo, algo + "/", algo[:3], "sha256", "sha256/0", name, name[:-1], name + "0", name + "/",
            *(f"{algo}/{rest[:n]}" for n in (1, 2, 3, 4, 10, 64, 65)), "/", "x", "blake3/zz", "blake3x", rest[:2],
        ]  # fmt: skip
        for prefix in prefixes:
            expected = sorted(one.key for one in batch if name_of(one.key).startswith(prefix))
            assert sorted(await collect(store.list(prefix))) == expected, prefix

    async def test_list_tells_keys_apart_that_share_a_digest_prefix(self) -> None:
        store = await self.open()
        found: dict[str, list[CanonicalBlock]] = {}
        for one in many_blocks(200):
            found.setdefault(one.key.hex[:1], []).append(one)
        siblings = max(found.values(), key=len)
        await store.put_blocks([one for group in found.values() for one in group])
        listed = await collect(store.list(f"blake3/{siblings[0].key.hex[:1]}"))
        assert sorted(listed) == sorted(one.key for one in siblings)
        assert await collect(store.list(name_of(siblings[0].key))) == [siblings[0].key]

    async def test_list_beside_a_writer_shows_what_stays_exactly_once(self) -> None:
        store = await self.open()
        stay = {one.key for one in many_blocks(100)}
        await store.put_blocks(many_blocks(100))
        seen: list[BlockKey] = []
        async with closing(store.list()) as keys:
            async for key in keys:
                await store.put_blocks([block(b"new %d" % len(seen))])
                seen.append(key)
                if len(seen) > 1_000:
                    break
        assert sorted(key for key in seen if key in stay) == sorted(stay)

    async def test_abandoned_list_leaves_the_store_usable(self) -> None:
        store = await self.open()
        await store.put_blocks(many_blocks(50))
        async with closing(store.list()) as keys:
            async for _ in keys:
                break
        assert len(await collect(store.list())) == 50
        await store.put_blocks([block(b"new")])
        assert await store.exists(block(b"new").key) is True

    async def test_zero_digest_is_a_key_like_any_other(self) -> None:
        store = await self.open()
        for byte in (0x00, 0xFF):
            key = BlockKey(Digest(HashAlgo.BLAKE3, bytes((byte,)) * 32), 1)
            assert await store.exists(key) is False
            with raises(NotFound):
                await store.get(key)


class BlockStoreContract(BlockTroubleLaws, _LookLaws, _PutLaws):
    """All laws of `graviton.ports.blocks`."""

    port = BlockStore
