"""The laws of `BlobStore`: what a blob can be made from."""

from __future__ import annotations

import asyncio
import io
import os
from array import array
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from graviton.core.buffers import Buffer
from graviton.core.hashing import HashAlgo
from graviton.core.policies import BlobWritePlan
from graviton.errors import InvalidInput, NotFound
from graviton.ports.blobs import BlobSource
from graviton.testing.conformance.blob_values import BlobStoreHooks, key_of, noise, read
from graviton.testing.conformance.checks import collect, gather, pieces_of, raises

__all__ = ["BlobSourceLaws"]

SHA256 = BlobWritePlan(hash=HashAlgo.SHA256)
BLAKE3 = BlobWritePlan(hash=HashAlgo.BLAKE3)

HANG_SECONDS = 20.0
"""A put of nothing that has not ended after this long never will."""


class BlobSourceLaws(BlobStoreHooks):
    """Part of `BlobStoreContract`."""

    async def test_every_kind_of_source_gives_the_same_blob(self) -> None:
        store = await self.open()
        data = noise(300_000)
        path = self.scratch / "source"
        path.write_bytes(data)
        parts: list[Buffer] = [data[:1], b"", data[1:100_000], bytearray(data[100_000:100_001])]
        parts.append(memoryview(data)[100_001:])
        padded = b"--" + data + b"--"
        with path.open("rb") as file, path.open("rb", buffering=0) as raw:
            sources: list[BlobSource] = [
                data, bytearray(data), memoryview(padded)[2:-2], path, file, raw, io.BytesIO(data),
                parts, iter(parts), pieces_of(parts), (piece for piece in parts),
            ]  # fmt: skip
            for number, source in enumerate(sources):
                result = await store.put(source, BLAKE3)
                assert result.key == key_of(data), number
                assert result.created is (number == 0)
                assert await read(store, result.key) == data
            assert not file.closed
            assert not raw.closed
        assert len(await collect(store.list())) == 1

    async def test_file_object_is_read_from_its_position(self) -> None:
        store = await self.open()
        file = io.BytesIO(b"skipped, the rest")
        file.seek(9)
        assert (await store.put(file, BLAKE3)).key == key_of(b"the rest")
        assert (await store.put(file, BLAKE3)).key == key_of(b""), "it was read to its end"

    async def test_buffer_used_again_for_the_next_piece_is_stored_as_it_was_read(self) -> None:
        store = await self.open()

        def again() -> Iterator[bytearray]:
            buffer = bytearray(70_000)
            for n in range(1, 6):
                buffer[:] = bytes((n,)) * 70_000
                yield buffer
            buffer[:] = b"\xff" * 70_000

        async def slowly() -> AsyncIterator[bytearray]:
            async for piece in pieces_of(again()):
                yield piece

        expected = b"".join(bytes((n,)) * 70_000 for n in range(1, 6))
        for source in (again(), slowly()):
            result = await store.put(source, BLAKE3)
            assert result.key == key_of(expected)
            assert await read(store, result.key) == expected

    async def test_buffer_changed_after_put_does_not_change_the_blob(self) -> None:
        store = await self.open()
        array = bytearray(noise(200_000))
        result = await store.put(array, BLAKE3)
        array[:] = bytes(len(array))
        assert await read(store, result.key) == noise(200_000)

    async def test_what_is_not_bytes_is_refused(self) -> None:
        store = await self.open()
        wrong: list[object] = ["text", 5, None, ["text"], [b"good", 7], iter([1, 2]), io.StringIO("text"), object()]
        for source in wrong:
            with raises(InvalidInput):
                await store.put(source)  # type: ignore[arg-type]  # misuse
        assert await collect(store.list()) == []

    async def test_file_object_whose_read_stops_like_an_iterator_ends_the_put(self) -> None:
        """StopIteration fits into no future and out of no coroutine: the put must fail with Python's RuntimeError for
        it, not wait for ever."""
        store = await self.open()

        class Careless(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise StopIteration

            readinto = readall = read  # type: ignore[assignment]  # neither gives anything

        with raises(RuntimeError) as caught:
            await asyncio.wait_for(store.put(Careless()), HANG_SECONDS)
        assert isinstance(caught.error.__cause__, StopIteration)
        assert await collect(store.list()) == []

    async def test_memory_of_any_kind_is_its_bytes(self) -> None:
        store = await self.open()
        numbers = array("I", range(1000))
        views = [numbers, memoryview(numbers), memoryview(numbers).cast("B").cast("B", (50, 80)), bytearray(numbers)]
        for source in views:
            result = await store.put(source)  # type: ignore[arg-type]  # memory that has no common type
            async with await store.get(result.key) as reader:
                assert await reader.read() == numbers.tobytes()
        with raises(InvalidInput):
            await store.put(memoryview(b"abcdef")[::2])
        with raises(InvalidInput):
            await store.put(iter([memoryview(b"abcdef")[::2]]))
        released = memoryview(b"x")
        released.release()
        with raises(InvalidInput):
            await store.put(released)

    async def test_path_that_is_no_regular_file_is_refused(self) -> None:
        store = await self.open()
        with raises(NotFound):
            await store.put(self.scratch / "missing")
        with raises(InvalidInput):
            await store.put(self.scratch)
        os.mkfifo(self.scratch / "fifo")
        with raises(InvalidInput):
            await store.put(self.scratch / "fifo")
        assert await collect(store.list()) == []

    async def test_file_that_is_written_meanwhile_gets_the_key_of_what_was_read(self) -> None:
        store = await self.open()
        path = self.scratch / "growing"
        path.write_bytes(noise(400_000))

        async def grow() -> None:
            with path.open("r+b", buffering=0) as file:
                for n in range(20):
                    file.seek(n * 20_000)
                    file.write(bytes((n,)) * 1_000)
                    file.seek(0, io.SEEK_END)
                    file.write(noise(10_000, n + 1))
                    async for _ in pieces_of(b"1234567890"):
                        pass

        async def put(path: Path) -> None:
            for _ in range(5):
                result = await store.put(path, BLAKE3)
                assert key_of(await read(store, result.key)) == result.key

        await gather(grow(), put(path))

    async def test_blob_can_be_put_from_a_reader_of_the_same_store(self) -> None:
        store = await self.open()
        data = noise(self.large_bytes)
        first = await store.put(data, BLAKE3)
        async with await store.get(first.key) as reader:
            copy = await store.put(reader, SHA256)
        assert copy.key == key_of(data, HashAlgo.SHA256)
        assert await read(store, copy.key) == data
