"""The laws of `MutableObjectStore`: those of the reading half, and what puts, deletes and copies do."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import ClassVar

from graviton.core.ranges import Span
from graviton.errors import GravitonError, InvalidInput, NotFound, PermissionDenied
from graviton.ports.objects import ImmutableObjectStore, MutableObjectStore
from graviton.testing.conformance.checks import cancelled_everywhere, collect, gather, pieces_of, raises
from graviton.testing.conformance.contract import needs, optional_hook
from graviton.testing.conformance.objects import ImmutableObjectStoreContract, content

__all__ = ["MutableObjectStoreContract"]

LARGE_BYTES = 64 * 1024 * 1024
MEMORY_BYTES = 40 * 1024 * 1024
"""What a put of LARGE_BYTES may hold at once: several parts of the size S3 wants, far less than the object."""


class Oops(Exception):  # noqa: N818 - no error of ours, on purpose
    """What a law's own source raises."""


def _failing(pieces: Sequence[bytes]) -> Iterator[bytes]:
    yield from pieces
    raise Oops


async def _failing_slowly(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces_of(pieces):
        yield piece
    raise Oops


class _MutableHooks(ImmutableObjectStoreContract):
    port = MutableObjectStore
    put_time_error_ns: ClassVar[int] = 0
    """How far the time that a put tells may be from what a look tells afterwards."""

    async def fill(self, store: ImmutableObjectStore, objects: Mapping[str, bytes]) -> None:
        assert isinstance(store, MutableObjectStore)
        for path, data in objects.items():
            await store.put(self.locator(path), data)

    async def mutable(self, objects: Mapping[str, bytes] | None = None) -> MutableObjectStore:
        """A store with these objects."""
        store = await self.filled(objects or {})
        assert isinstance(store, MutableObjectStore)
        return store

    @optional_hook
    async def temporary_files(self, store: MutableObjectStore) -> Sequence[str]:
        """Names of unfinished files, uploads or parts that lie in the place."""
        raise NotImplementedError

    @optional_hook
    async def make_read_only(self, store: MutableObjectStore) -> None:
        """Let the place be read but not written from now on."""
        raise NotImplementedError


class _PutLaws(_MutableHooks):
    async def test_put_takes_bytes_and_pieces_of_any_kind(self) -> None:
        store = await self.mutable()
        large = [bytes((n,)) * 700_000 for n in range(12)]
        sources = {
            "bytes": (b"the object", b"the object"),
            "bytearray": (bytearray(b"the object"), b"the object"),
            "memoryview": (memoryview(b"-the object-")[1:11], b"the object"),
            "list": ([b"the ", b"", bytearray(b"obj"), memoryview(b"ect")], b"the object"),
            "iterator": (iter([b"the ", b"object"]), b"the object"),
            "async": (pieces_of([b"the ", b"", b"object"]), b"the object"),
            "large": (pieces_of(large), b"".join(large)),
            "no pieces": ([], b""),
            "no async pieces": (pieces_of([]), b""),
            "empty": (b"", b""),
            "empty pieces": ([b"", b""], b""),
        }
        for name, (source, expected) in sources.items():
            locator = self.locator(name.replace(" ", "-"))
            stat = await store.put(locator, source)  # type: ignore[arg-type]  # sources of every kind
            assert (stat.locator, stat.size) == (locator, len(expected)), name
            assert await content(store, locator) == expected, name
            found = await store.head(locator)
            assert found is not None, name
            assert abs(found.modified_ns - stat.modified_ns) <= self.put_time_error_ns, name
            assert found == stat._replace(modified_ns=found.modified_ns), name

    async def test_put_replaces_the_object_as_a_whole(self) -> None:
        store = await self.mutable()
        locator = self.locator("c/x")
        for data in (b"a long first object", b"short", b"", b"x" * 100_000, b"x" * 100_000, b"last"):
            await store.put(locator, data)
            assert await content(store, locator) == data
            assert len(await collect(store.list())) == 1

    async def test_buffer_changed_after_put_does_not_change_the_object(self) -> None:
        store = await self.mutable()
        array = bytearray(b"the object")
        await store.put(self.locator("c"), array)
        array[:] = b"different!"
        assert await content(store, self.locator("c")) == b"the object"

    async def test_failed_put_leaves_the_old_object_and_no_trace(self) -> None:
        store = await self.mutable({"old": b"the old object"})
        pieces = [b"x" * 300_000] * 40
        for path in ("old", "new", "deep/er/new"):
            for source in (_failing(pieces), _failing_slowly(pieces), _failing([])):
                with raises(Oops):
                    await store.put(self.locator(path), source)
        assert [stat.locator.path for stat in await collect(store.list())] == ["old"]
        assert await content(store, self.locator("old")) == b"the old object"
        assert await store.head(self.locator("new")) is None

    async def test_cancelled_put_leaves_the_old_object_or_the_new_one(self) -> None:
        store = await self.mutable({"old": b"the old object"})
        pieces = [b"the ", b"new ", b"object " + b"x" * 200_000]
        new = b"".join(pieces)
        async for attempt in cancelled_everywhere(lambda: store.put(self.locator("old"), pieces_of(pieces))):
            found = await content(store, self.locator("old"))
            assert found == new if not attempt.cancelled else found in (b"the old object", new)
            assert attempt.number > 0 or found == b"the old object"
            assert [stat.locator.path for stat in await collect(store.list())] == ["old"]
            await store.put(self.locator("old"), b"the old object")

    @needs("temporary_files")
    async def test_failed_and_cancelled_puts_leave_no_temporary_files(self) -> None:
        store = await self.mutable()
        with raises(Oops):
            await store.put(self.locator("deep/new"), _failing_slowly([b"x" * 6_000_000] * 3))
        assert list(await self.temporary_files(store)) == []
        pieces = [b"x" * 100_000] * 3
        async for _ in cancelled_everywhere(lambda: store.put(self.locator("deep/new"), pieces_of(pieces))):
            assert list(await self.temporary_files(store)) == []

    async def test_unfinished_put_is_invisible(self) -> None:
        store = await self.mutable({"old": b"the old object"})
        looks = 0

        async def source() -> AsyncIterator[bytes]:
            nonlocal looks
            for _ in range(4):
                yield b"x" * 2_000_000
                looks += 1
                assert await content(store, self.locator("old")) == b"the old object"
                assert await store.head(self.locator("new")) is None
                assert [stat.locator.path for stat in await collect(store.list())] == ["old"]

        await store.put(self.locator("old"), source())
        assert looks == 4
        await store.put(self.locator("old"), b"the old object")
        await store.put(self.locator("new"), source_of_ends(8_000_000))
        assert await content(store, self.locator("new")) == b"x" * 8_000_000

    async def test_reader_of_a_replaced_object_gets_the_old_one_or_an_error(self) -> None:
        old, new = b"o" * 3_000_000, b"n" * 3_000_000
        for change in ("put", "delete"):
            store = await self.mutable({"c": old})
            pieces = await store.get(self.locator("c"))
            got = [await anext(pieces)]
            if change == "put":
                await store.put(self.locator("c"), new)
            else:
                await store.delete(self.locator("c"))
            try:
                got.extend(await collect(pieces))
            except GravitonError:
                continue
            assert b"".join(got) == old

    async def test_concurrent_puts_leave_one_of_them_whole(self) -> None:
        store = await self.mutable()
        contents = [bytes((n,)) * 500_000 for n in range(8)]
        await gather(*(store.put(self.locator("c"), pieces_of([data, data])) for data in contents))
        assert await content(store, self.locator("c")) in [data * 2 for data in contents]
        assert len(await collect(store.list())) == 1

    async def test_long_paths_are_places_or_refused(self) -> None:
        store = await self.mutable()
        for path in ("p" * 2_048, "/".join(["p" * 200] * 10), "s" * 255, "ä" * 200):
            try:
                await store.put(self.locator(path), b"data")
            except InvalidInput:
                assert path not in [stat.locator.path for stat in await collect(store.list())]
            else:
                assert await content(store, self.locator(path)) == b"data"
                assert path in [stat.locator.path for stat in await collect(store.list())]

    @needs("persistent")
    async def test_put_of_a_large_object_holds_little_memory(self) -> None:
        store = await self.mutable()
        piece = b"x" * 1_048_576
        tracemalloc.start()
        try:
            await store.put(self.locator("large"), pieces_of([piece] * (LARGE_BYTES // len(piece))))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MEMORY_BYTES
        stat = await store.head(self.locator("large"))
        assert stat is not None
        assert stat.size == LARGE_BYTES


async def source_of_ends(size: int) -> AsyncIterator[bytes]:
    """`size` bytes in two pieces."""
    yield b"x" * (size // 2)
    yield b"x" * (size - size // 2)


class _ChangeLaws(_MutableHooks):
    async def test_delete_says_whether_there_was_an_object(self) -> None:
        store = await self.mutable(self.some)
        assert await store.delete(self.locator("c")) is True
        assert await store.delete(self.locator("c")) is False
        assert await store.delete(self.locator("d")) is False
        assert await store.head(self.locator("c")) is None
        with raises(NotFound):
            await store.get(self.locator("c"))
        assert [stat.locator.path for stat in await collect(store.list())] == ["c/x", "cc", "cc/y", "d/e/f"]
        await store.put(self.locator("c"), b"again")
        assert await content(store, self.locator("c")) == b"again"

    async def test_path_may_take_the_place_of_a_folder_and_back(self) -> None:
        store = await self.mutable({"a/b": b"1"})
        await store.delete(self.locator("a/b"))
        await store.put(self.locator("a"), b"2")
        assert [stat.locator.path for stat in await collect(store.list())] == ["a"]
        await store.delete(self.locator("a"))
        await store.put(self.locator("a/b/c"), b"3")
        assert await content(store, self.locator("a/b/c")) == b"3"

    async def test_copy_makes_the_target_equal_and_independent(self) -> None:
        store = await self.mutable({"c": b"the object", "d": b"another"})
        for target in ("new", "deep/er/new", "d"):
            stat = await store.copy(self.locator("c"), self.locator(target))
            assert (stat.locator, stat.size) == (self.locator(target), 10)
            assert await content(store, self.locator(target)) == b"the object"
        await store.put(self.locator("c"), b"changed")
        assert await content(store, self.locator("new")) == b"the object"
        await store.delete(self.locator("c"))
        assert await content(store, self.locator("d")) == b"the object"

    async def test_copy_without_a_source_is_not_found_and_leaves_the_target(self) -> None:
        store = await self.mutable({"d": b"another"})
        for target in ("d", "new", "missing"):
            with raises(NotFound):
                await store.copy(self.locator("missing"), self.locator(target))
        assert [stat.locator.path for stat in await collect(store.list())] == ["d"]
        assert await content(store, self.locator("d")) == b"another"

    async def test_copy_onto_itself_is_nothing(self) -> None:
        store = await self.mutable({"c": b"the object", "empty": b""})
        before = await store.head(self.locator("c"))
        assert await store.copy(self.locator("c"), self.locator("c")) == before
        assert await store.head(self.locator("c")) == before
        assert await content(store, self.locator("c")) == b"the object"
        assert (await store.copy(self.locator("empty"), self.locator("e2"))).size == 0

    async def test_changes_elsewhere_are_refused(self) -> None:
        store = await self.mutable({"c": b"the object"})
        for locator in self.elsewhere():
            with raises(InvalidInput):
                await store.put(locator, b"data")
            with raises(InvalidInput):
                await store.delete(locator)
            with raises(InvalidInput):
                await store.copy(locator, self.locator("d"))
            with raises(InvalidInput):
                await store.copy(self.locator("c"), locator)
        assert [stat.locator.path for stat in await collect(store.list())] == ["c"]

    @needs("make_read_only")
    async def test_read_only_place_refuses_changes_and_serves_reads(self) -> None:
        store = await self.mutable({"c": b"the object"})
        await self.make_read_only(store)
        assert await content(store, self.locator("c"), Span(4, 10)) == b"object"
        with raises(PermissionDenied):
            await store.put(self.locator("d"), b"data")
        with raises(PermissionDenied):
            await store.delete(self.locator("c"))
        assert await content(store, self.locator("c")) == b"the object"

    @needs("persistent")
    async def test_acknowledged_changes_are_there_after_reopening(self) -> None:
        store = await self.mutable(self.some)
        await store.delete(self.locator("c/x"))
        await store.copy(self.locator("d/e/f"), self.locator("copy"))
        before = await collect(store.list())
        reopened = await self.reopen(store)
        assert await collect(reopened.list()) == before
        assert await content(reopened, self.locator("copy")) == self.some["d/e/f"]
        assert await content(reopened, self.locator("cc")) == b""


class MutableObjectStoreContract(_ChangeLaws, _PutLaws):
    """All laws of `graviton.ports.objects`."""
