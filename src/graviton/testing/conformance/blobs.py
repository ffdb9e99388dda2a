"""The laws of `BlobStore`: puts. Sources, reads, outputs, and cancellation and reopening: the other blob_*.py."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator

from graviton.core.attribute_values import AttributeValue
from graviton.core.attributes import SIZE, BinaryAttributes, digest_name
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.locators import Locator
from graviton.core.policies import BlobLayout, BlobWritePlan, Compression, Encryption, StorePolicy
from graviton.errors import DigestMismatch, GravitonError, InvalidInput, Unsupported
from graviton.ports.blobs import BlobSource, BlobStore
from graviton.testing.conformance.blob_lifecycle import BlobLifecycleLaws
from graviton.testing.conformance.blob_outputs import BlobOutputLaws
from graviton.testing.conformance.blob_reads import BlobReadLaws
from graviton.testing.conformance.blob_sources import BlobSourceLaws
from graviton.testing.conformance.blob_values import BlobStoreHooks, key_of, noise, read
from graviton.testing.conformance.checks import collect, gather, pieces_of, raises
from graviton.testing.conformance.contract import needs

__all__ = ["BlobStoreContract"]

SHA256 = BlobWritePlan(hash=HashAlgo.SHA256)
BLAKE3 = BlobWritePlan(hash=HashAlgo.BLAKE3)


class Oops(Exception):  # noqa: N818 - no error of ours, on purpose
    """What a law's own source raises."""


class _PutLaws(BlobStoreHooks):
    async def test_key_is_the_plain_hash_of_the_bytes(self) -> None:
        store = await self.open()
        for plan, algo in ((SHA256, HashAlgo.SHA256), (BLAKE3, HashAlgo.BLAKE3)):
            result = await store.put(b"hello", plan)
            assert result.key == BlobKey(algo.digest(b"hello"), 5)
            assert result.id == f"{algo.value}:{algo.digest(b'hello').hex}:5"
            assert await read(store, result.key) == b"hello"
        default = await store.put(b"hello")
        assert default.key in {key_of(b"hello", algo) for algo in HashAlgo}
        assert default.created is False

    async def test_blobs_of_many_sizes_come_back(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        sizes = [1, 2, 63, 64, 65, 4_095, 4_096, 4_097, 65_536, 262_143, 262_144, 262_145, 1_048_577, len(data)]
        for size in sizes:
            result = await store.put(data[:size], BLAKE3)
            assert result.key == key_of(data[:size])
            assert await read(store, result.key) == data[:size], size

    async def test_empty_blob_is_a_blob(self) -> None:
        store = await self.open()
        sources: list[BlobSource] = [b"", [], pieces_of([b"", b""]), io.BytesIO()]
        for source in sources:
            result = await store.put(source, BLAKE3)
            assert result.key == key_of(b"")
            assert (result.stats.size, result.stats.blocks, result.stats.fresh_blocks) == (0, 0, 0)
            assert result.stats.dedup_ratio == 0.0
        reader = await store.get(key_of(b""))
        assert reader.size == 0
        await self.is_readable(reader, b"")
        stat = await store.stat(key_of(b""))
        assert stat is not None
        assert (stat.size, stat.blocks) == (0, 0)
        assert await store.delete(key_of(b"")) is True
        assert await store.stat(key_of(b"")) is None

    async def test_same_bytes_again_are_the_same_blob_and_store_nothing(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        first = await store.put(data, BLAKE3)
        assert first.created is True
        assert first.stats.size == len(data)
        assert 0 < first.stats.fresh_blocks <= first.stats.blocks
        assert first.stats.fresh_bytes == len(data)
        again = await store.put([data[:100], data[100:]], BLAKE3)
        assert (again.key, again.created, again.locator) == (first.key, False, first.locator)
        assert (again.stats.fresh_blocks, again.stats.fresh_bytes) == (0, 0)
        assert again.stats.blocks == first.stats.blocks
        assert again.stats.dedup_ratio == 1.0
        assert len(await collect(store.list())) == 1

    async def test_size_and_block_count_are_confirmed(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        result = await store.put(data)
        assert (result.attributes.size, result.attributes.chunk_count) == (len(data), result.stats.blocks)
        assert {"graviton.size", "graviton.chunk-count"} <= set(result.attributes.confirmed)
        stat = await store.stat(result.key)
        assert stat is not None
        assert (stat.attributes, stat.blocks, stat.chunker) == (result.attributes, result.stats.blocks, result.chunker)
        async with await store.get(result.key) as reader:
            assert reader.attributes == result.attributes

    async def test_advertised_attributes_are_kept_and_merged(self) -> None:
        store = await self.open()
        first = BinaryAttributes.EMPTY.advertise({"user.name": "a.txt", "graviton.mime": "text/plain"}, at_ns=1)
        second = BinaryAttributes.EMPTY.advertise({"user.name": "b.txt", "user.x": ""}, at_ns=2)
        await store.put(b"the bytes", BlobWritePlan(attributes=first))
        result = await store.put(b"the bytes", BlobWritePlan(attributes=second))
        assert result.attributes.custom == {"user.name": "b.txt", "user.x": ""}
        assert result.attributes.mime == "text/plain"
        stat = await store.stat(result.key)
        assert stat is not None
        assert stat.attributes == result.attributes
        assert result.attributes.advertised["user.name"].at_ns == 2

    async def test_claims_that_the_bytes_meet_are_accepted(self) -> None:
        store = await self.open()
        digest = HashAlgo.BLAKE3.digest(b"the bytes")
        claims = BinaryAttributes.EMPTY.advertise({SIZE: 9, digest_name(HashAlgo.BLAKE3): digest}, at_ns=1)
        result = await store.put(b"the bytes", BlobWritePlan(attributes=claims, hash=HashAlgo.BLAKE3))
        assert result.created is True

    async def test_claims_that_the_bytes_do_not_meet_leave_nothing(self) -> None:
        store = await self.open()
        other = HashAlgo.BLAKE3.digest(b"other bytes")
        wrong: list[dict[str, AttributeValue]] = [
            {SIZE: 8},
            {SIZE: 10},
            {SIZE: 0},
            {digest_name(HashAlgo.BLAKE3): other},
        ]
        for claim in wrong:
            attributes = BinaryAttributes.EMPTY.advertise(claim, at_ns=1)
            with raises(DigestMismatch):
                await store.put(b"the bytes", BlobWritePlan(attributes=attributes, hash=HashAlgo.BLAKE3))
            assert await store.stat(key_of(b"the bytes")) is None
        of_sha256 = BinaryAttributes.EMPTY.advertise(
            {digest_name(HashAlgo.SHA256): HashAlgo.SHA256.digest(b"other bytes")}, at_ns=1
        )
        with raises(GravitonError) as caught:  # found to be wrong, or refused because it cannot be compared
            await store.put(b"the bytes", BlobWritePlan(attributes=of_sha256, hash=HashAlgo.BLAKE3))
        assert isinstance(caught.error, DigestMismatch | InvalidInput)
        assert await collect(store.list()) == []

    async def test_locator_hint_wins(self) -> None:
        store = await self.open()
        own = await store.put(b"one")
        assert own.locator.scheme
        hint = Locator("s3", "elsewhere", "a/b")
        assert (await store.put(b"two", BlobWritePlan(locator_hint=hint))).locator == hint

    async def test_policy_is_followed_or_refused(self) -> None:
        store = await self.open()
        policies = [
            StorePolicy(layout=BlobLayout.FRAMED),
            StorePolicy(compression=Compression.zstd(3)),
            StorePolicy(encryption=Encryption.NONE),
        ]
        for number, policy in enumerate(policies):
            data = b"policy %d" % number
            try:
                await store.put(data, BlobWritePlan(policy=policy, hash=HashAlgo.BLAKE3))
            except Unsupported:
                assert await store.stat(key_of(data)) is None
            else:
                assert await read(store, key_of(data)) == data

    async def test_failing_source_leaves_nothing_and_its_error_comes_back(self) -> None:
        store = await self.open()
        data = noise(400_000)
        error = Oops("planned")

        def failing(at: int) -> Iterator[bytes]:
            for start in range(0, at, 50_000):
                yield data[start : start + 50_000]
            raise error

        async def failing_slowly(at: int) -> AsyncIterator[bytes]:
            for piece in (data[start : start + 50_000] for start in range(0, at, 50_000)):
                yield piece
            raise error

        makes: list[Callable[[int], BlobSource]] = [failing, failing_slowly]
        for make in makes:
            for at in (0, 50_000, 400_000):
                with raises(Oops) as caught:
                    await store.put(make(at))
                assert caught.error is error
        assert await collect(store.list()) == []
        assert (await store.put(data, BLAKE3)).created is True

    async def test_blob_is_invisible_until_put_returns(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        looks = 0

        async def source() -> AsyncIterator[bytes]:
            nonlocal looks
            for start in range(0, len(data), 500_000):
                yield data[start : start + 500_000]
                looks += 1
                assert await store.stat(key_of(data)) is None
                assert await collect(store.list()) == []

        await store.put(source(), BLAKE3)
        assert looks == -(-len(data) // 500_000)
        assert await store.stat(key_of(data)) is not None

    async def test_concurrent_equal_puts_create_one_blob(self) -> None:
        store = await self.open()
        data = noise(400_000)
        sources: list[BlobSource] = [data, [data[:9], data[9:]], data]
        sources += [pieces_of([data[:cut], data[cut:]]) for cut in (7, 77, 777)]
        results = await gather(*(store.put(source, BLAKE3) for source in sources))
        assert {result.key for result in results} == {key_of(data)}
        assert [result.created for result in results].count(True) == 1
        assert await read(store, key_of(data)) == data
        assert len(await collect(store.list())) == 1

    async def test_concurrent_different_puts_all_succeed(self) -> None:
        store = await self.open()
        contents = [noise(150_000, seed) for seed in range(12)]
        await gather(*(store.put(data, BLAKE3) for data in contents))
        got = await gather(*(read(store, key_of(data)) for data in contents))
        assert got == contents

    @needs("leftovers")
    async def test_failed_puts_leave_no_traces(self) -> None:
        store = await self.open()
        attributes = BinaryAttributes.EMPTY.advertise({SIZE: 1}, at_ns=1)
        with raises(DigestMismatch):
            await store.put(noise(self.large_bytes), BlobWritePlan(attributes=attributes))

        def failing() -> Iterator[bytes]:
            yield noise(self.large_bytes)
            raise Oops

        with raises(Oops):
            await store.put(failing())
        assert list(await self.leftovers(store)) == []


class BlobStoreContract(BlobLifecycleLaws, BlobOutputLaws, BlobReadLaws, _PutLaws, BlobSourceLaws):
    """All laws of `graviton.ports.blobs`."""

    port = BlobStore
