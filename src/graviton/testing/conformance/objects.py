"""The laws of `ImmutableObjectStore`; those of `MutableObjectStore`, which adds what changes objects, are in
mutable_objects.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.errors import GravitonError, InvalidInput, NotFound, RangeNotSatisfiable, Unavailable
from graviton.ports.objects import ImmutableObjectStore
from graviton.testing.conformance.checks import cancelled_everywhere, collect, gather, raises
from graviton.testing.conformance.contract import Contract, needs, optional_hook

__all__ = ["SOME", "ImmutableObjectStoreContract", "content"]

SOME = {"c": b"c", "c/x": b"the object", "cc": b"", "cc/y": b"y" * 5_000, "d/e/f": bytes(range(256))}
"""Sibling prefixes, an empty object, a path that continues another."""

IN_ORDER = ["A", "a", "a!", "a-b", "a/b", "a/b/c", "a0", "aa", "b", "ä", "ﾪ", "😀", "😀/x"]
"""In the order of UTF-8 bytes. Folder by folder, `a/b` would come before `a!`; by UTF-16, `😀` before `ﾪ`."""


async def content(store: ImmutableObjectStore, locator: Locator, span: Span | None = None) -> bytes:
    """All that `get` yields."""
    return b"".join(await collect(await store.get(locator, span)))


class _ObjectHooks(Contract[ImmutableObjectStore]):
    some: ClassVar[Mapping[str, bytes]] = SOME
    in_order: ClassVar[Sequence[str]] = IN_ORDER
    """What the laws lay there. Replace them only for a foreign server that keeps objects as files, where `c` and `c/x`
    cannot both be: laws that need both are known gaps there."""

    def locator(self, path: str) -> Locator:
        """The locator of `path` in the scheme and bucket that the store serves."""
        raise NotImplementedError(f"{type(self).__qualname__} gives no locator")

    async def fill(self, store: ImmutableObjectStore, objects: Mapping[str, bytes]) -> None:
        """Lay objects where `store` reads them."""
        raise NotImplementedError(f"{type(self).__qualname__} gives no fill")

    @optional_hook
    async def break_backend(self, store: ImmutableObjectStore) -> None:
        """Make every later access fail for a reason that is not absence."""
        raise NotImplementedError

    async def filled(self, objects: Mapping[str, bytes] | None = None) -> ImmutableObjectStore:
        """A store with these objects, by default `some`."""
        store = await self.open()
        await self.fill(store, self.some if objects is None else objects)
        return store

    def elsewhere(self) -> list[Locator]:
        """Locators that the store does not serve."""
        mine = self.locator("c")
        return [Locator("elsewhere", mine.bucket, "c"), Locator(mine.scheme, mine.bucket + "x", "c")]


class _ReadLaws(_ObjectHooks):
    async def test_head_tells_the_size_of_what_is_there(self) -> None:
        store = await self.filled()
        for path, data in self.some.items():
            stat = await store.head(self.locator(path))
            assert stat is not None
            assert (stat.locator, stat.size) == (self.locator(path), len(data))
            assert stat.modified_ns > 0

    async def test_head_of_what_is_not_there_is_none(self) -> None:
        store = await self.filled()
        for path in ("missing", "c/x/z", "d", "d/e", "d/e/f/g", "C"):
            assert await store.head(self.locator(path)) is None, path

    async def test_get_yields_the_bytes(self) -> None:
        store = await self.filled()
        for path, data in self.some.items():
            assert await content(store, self.locator(path)) == data
        assert await content(store, self.locator("c/x"), Span(0, 10)) == b"the object"

    async def test_missing_object_is_not_found_before_get_returns(self) -> None:
        store = await self.filled()
        for path in ("missing", "d", "d/e", "c/x/z"):
            with raises(NotFound):
                await store.get(self.locator(path))
            with raises(NotFound):
                await store.get(self.locator(path), Span(0, 1))

    async def test_span_is_half_open_and_exact(self) -> None:
        store = await self.filled()
        data = self.some["d/e/f"]
        spans = [(0, 1), (255, 256), (0, 256), (1, 255), (100, 101), (0, 0), (128, 128), (256, 256)]
        for start, end in spans:
            assert await content(store, self.locator("d/e/f"), Span(start, end)) == data[start:end], (start, end)
        assert await content(store, self.locator("cc"), Span(0, 0)) == b""

    async def test_span_past_the_end_is_not_satisfiable_before_get_returns(self) -> None:
        store = await self.filled()
        for start, end in [(0, 257), (255, 257), (256, 257), (257, 257), (1_000, 2_000), (0, 2**63 - 1)]:
            with raises(RangeNotSatisfiable):
                await store.get(self.locator("d/e/f"), Span(start, end))
        with raises(RangeNotSatisfiable):
            await store.get(self.locator("cc"), Span(0, 1))

    async def test_large_object_comes_in_pieces(self) -> None:
        data = b"".join(n.to_bytes(4, "big") for n in range(2_500_000))
        store = await self.filled({"large": data})
        pieces = await collect(await store.get(self.locator("large")))
        assert b"".join(pieces) == data
        assert len(pieces) > 1
        assert min(map(len, pieces)) > 0
        assert {type(piece) for piece in pieces} == {bytes}
        assert await content(store, self.locator("large"), Span(3_000_001, 9_000_002)) == data[3_000_001:9_000_002]

    async def test_locator_of_another_scheme_or_bucket_is_refused(self) -> None:
        store = await self.filled()
        for locator in self.elsewhere():
            with raises(InvalidInput):
                await store.head(locator)
            with raises(InvalidInput):
                await store.get(locator)

    async def test_longest_path_is_served_or_refused(self) -> None:
        store = await self.filled()
        for path in ("p" * 2_048, "/".join(["p" * 200] * 10), "s" * 255):
            try:
                assert await store.head(self.locator(path)) is None
            except InvalidInput:
                continue

    @needs("break_backend")
    async def test_backend_error_is_not_absence(self) -> None:
        store = await self.filled()
        await self.break_backend(store)
        with raises(GravitonError):
            await store.head(self.locator("missing"))
        with raises(GravitonError) as caught:
            await content(store, self.locator("missing"))
        assert not isinstance(caught.error, NotFound)
        with raises(GravitonError):
            await collect(store.list())


class _ListLaws(_ObjectHooks):
    async def test_list_gives_the_stat_of_every_object_in_order(self) -> None:
        store = await self.filled()
        listed = await collect(store.list())
        assert [(stat.locator, stat.size) for stat in listed] == [
            (self.locator(path), len(self.some[path])) for path in sorted(self.some)
        ]
        for stat in listed:
            assert await store.head(stat.locator) == stat

    async def test_list_of_an_empty_store_is_empty(self) -> None:
        store = await self.filled({})
        assert await collect(store.list()) == []
        assert await collect(store.list("c")) == []

    async def test_list_is_in_the_order_of_utf8_bytes(self) -> None:
        store = await self.filled(dict.fromkeys(reversed(self.in_order), b""))
        assert [stat.locator.path for stat in await collect(store.list())] == sorted(self.in_order, key=str.encode)
        assert [stat.locator.path for stat in await collect(store.list("a"))] == [
            p for p in self.in_order if p[0] == "a"
        ]

    async def test_list_prefix_is_text_not_a_folder(self) -> None:
        store = await self.filled()
        for prefix in ("c", "c/", "cc", "cc/", "c/x", "c/xx", "d", "d/", "d/e", "d/e/f", "x", "/", "..", "C", "d/e/f/"):
            found = [stat.locator.path for stat in await collect(store.list(prefix))]
            assert found == [path for path in sorted(self.some) if path.startswith(prefix)], prefix

    async def test_list_crosses_pages(self) -> None:
        paths = [f"p/{n % 7}/{n:05d}" for n in range(1_050)]  # S3 lists 1,000 at a time
        store = await self.filled(dict.fromkeys(paths, b""))
        assert [stat.locator.path for stat in await collect(store.list("p/"))] == sorted(paths)

    async def test_abandoned_iterators_leave_the_store_usable(self) -> None:
        store = await self.filled({**self.some, "large": b"x" * 5_000_000})
        for _ in range(20):
            async for _ in store.list():
                break
            async for _ in await store.get(self.locator("large")):
                break
            await store.get(self.locator("c/x"))  # never iterated
        assert await content(store, self.locator("c/x")) == b"the object"

    async def test_many_readers_at_once(self) -> None:
        store = await self.filled()
        got = await gather(*(content(store, self.locator(path)) for _ in range(5) for path in self.some))
        assert got == list(self.some.values()) * 5

    async def test_cancelled_reads_leave_the_store_usable(self) -> None:
        store = await self.filled()
        async for _ in cancelled_everywhere(lambda: content(store, self.locator("cc/y"))):
            assert await content(store, self.locator("cc/y")) == self.some["cc/y"]
        async for _ in cancelled_everywhere(lambda: collect(store.list())):
            assert len(await collect(store.list())) == len(self.some)


class ImmutableObjectStoreContract(_ListLaws, _ReadLaws):
    """All laws of `ImmutableObjectStore`."""

    port = ImmutableObjectStore

    async def test_capabilities_are_those_the_suite_was_chosen_by(self) -> None:
        store = await self.open()
        assert store.capabilities == self.declared()

    async def test_closing_twice_is_closing_once_and_ends_the_use(self) -> None:
        store = await self.filled()
        await store.aclose()
        await store.aclose()
        with raises(Unavailable):
            await store.head(self.locator("c/x"))
