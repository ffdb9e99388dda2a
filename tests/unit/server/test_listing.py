from __future__ import annotations

from typing import cast

import msgspec
import pytest

from graviton.core.attributes import FILE_NAME, BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.ports.blobs import BlobStat
from graviton.server.http import listing
from graviton.server.http.listing import Filter, find
from graviton.server.http.models import blob_info
from graviton.stores.cas import CasBlobStore
from graviton.stores.results import ListedStats
from graviton.testing.fake_clock import FakeClock


class FakeStore:
    """A listing of many blobs, of which some cannot be read; it counts what was looked at."""

    def __init__(self, count: int, clock: FakeClock, seconds: float = 0.0) -> None:
        keys = sorted(BlobKey(HashAlgo.SHA256.digest(b"%d" % number), number) for number in range(count))
        self.stats = [
            BlobStat(key, 1, "", key.size, BinaryAttributes.EMPTY.advertise({FILE_NAME: f"n{key.size}"}, at_ns=0))
            for key in keys
        ]
        self.looked = 0
        self._clock, self._seconds = clock, seconds

    async def list_page(self, prefix: str, after: BlobKey | None, limit: int, *_: str) -> ListedStats:
        self._clock.advance(self._seconds)
        found = [stat for stat in self.stats if after is None or after < stat.key][:limit]
        self.looked += len(found)
        return ListedStats(found, ["damaged"] if after is None else [])


async def every(store: FakeStore, wanted: Filter, limit: int, clock: FakeClock) -> tuple[list[BlobStat], int]:
    found: list[BlobStat] = []
    pages, after = 0, None
    while True:
        page = await find(cast(CasBlobStore, store), "", after, limit, wanted, clock)
        found += page.stats
        pages += 1
        if page.next is None:
            return found, pages
        after = BlobKey.parse(page.next)


@pytest.mark.parametrize("limit", [1, 3, 10, 11, 1000])
@pytest.mark.parametrize("wanted", [Filter(), Filter(min_size=5), Filter(name="N3"), Filter(name="none")])
async def test_pages_together_hold_all_that_matches(limit: int, wanted: Filter) -> None:
    clock = FakeClock()
    store = FakeStore(10, clock)
    found, _ = await every(store, wanted, limit, clock)
    assert found == [stat for stat in store.stats if wanted.matches(stat)]


async def test_a_filter_that_matches_nothing_looks_at_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_SCANNED", 20)
    monkeypatch.setattr(listing, "_BATCH", 7)
    clock = FakeClock()
    store = FakeStore(100, clock)
    page = await find(cast(CasBlobStore, store), "", None, 5, Filter(name="nothing"), clock)
    assert page.stats == []
    assert page.next == store.stats[20].key.text
    assert page.unreadable == ["damaged"]
    assert store.looked == 21
    found, pages = await every(store, Filter(name="nothing"), 5, clock)
    assert (found, pages) == ([], 5)


async def test_a_page_of_blobs_with_much_to_say_about_them_is_short() -> None:
    """A thousand of these would be a hundred megabytes of JSON, which nobody else is answered during."""
    clock = FakeClock()
    store = FakeStore(300, clock)
    fat = BinaryAttributes.EMPTY.advertise({f"user.{number}": "v" * 1000 for number in range(60)}, at_ns=0)
    store.stats = [stat._replace(attributes=fat) for stat in store.stats]
    page = await find(cast(CasBlobStore, store), "", None, 1000, Filter(), clock)
    size = len(msgspec.json.encode([blob_info(stat) for stat in page.stats]))
    assert listing.MAX_CHARS / 2 < size < 2 * listing.MAX_CHARS
    found, pages = await every(store, Filter(), 1000, clock)
    assert found == store.stats
    assert pages > 10


async def test_usual_blobs_fill_a_page_of_a_thousand() -> None:
    clock = FakeClock()
    store = FakeStore(1500, clock)
    page = await find(cast(CasBlobStore, store), "", None, 1000, Filter(), clock)
    assert len(page.stats) == 1000


async def test_a_slow_store_gives_what_there_is() -> None:
    clock = FakeClock()
    store = FakeStore(5000, clock, seconds=1.5)
    page = await find(cast(CasBlobStore, store), "", None, 5, Filter(name="nothing"), clock)
    assert store.looked == 500
    assert page.next is not None
