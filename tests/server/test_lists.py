"""Listings: pages, cursors and filters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import graviton.sync
from graviton import BinaryAttributes, BlobWritePlan
from graviton.core.attributes import FILE_NAME, MIME
from tests.server.serving import Served, block_of

TYPES = ["image/png", "image/jpeg; q=1", "text/plain", None]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with 60 blobs, which another process put."""
    root: Path = tmp_path_factory.mktemp("listed") / "store"
    with graviton.sync.open(root) as store:
        for number in range(60):
            values: dict[str, Any] = {FILE_NAME: f"File {number}.bin"}
            kind = TYPES[number % 4]
            if kind is not None:
                values[MIME] = kind
            attributes = BinaryAttributes.EMPTY.advertise(values, at_ns=0)
            store.put(bytes([number]) * number, BlobWritePlan(attributes))
    with Served(root) as served:
        yield served


def page(server: Served, **query: object) -> Any:
    answer = server.request("GET", "/api/blobs?" + urlencode(query))
    assert answer.status == 200, answer
    return answer.json


def every(server: Served, **query: object) -> list[Any]:
    found, after = [], None
    while True:
        one = page(server, **query, **({} if after is None else {"after": after}))
        found += one["blobs"]
        after = one["next"]
        if after is None:
            return found


def test_pages_follow_each_other(listed: Served) -> None:
    whole = [one["id"] for one in every(listed)]
    assert len(whole) == 60
    assert whole == sorted(whole)
    for limit in (1, 7, 60, 1000):
        assert [one["id"] for one in every(listed, limit=limit)] == whole
    assert page(listed, after=whole[-1]) == {"blobs": [], "next": None, "unreadable": []}


def test_prefixes(listed: Served) -> None:
    whole = [one["id"] for one in every(listed)]
    for prefix in ("b", "blake3:", whole[5][:10], whole[5]):
        assert [one["id"] for one in every(listed, prefix=prefix, limit=2)] == [
            one for one in whole if one.startswith(prefix)
        ]


def test_filters(listed: Served) -> None:
    assert {one["size"] for one in every(listed, min_size=10, max_size=12)} == {10, 11, 12}
    assert len(every(listed, mime="image/png")) == 15
    assert len(every(listed, mime="IMAGE/*")) == 30
    assert len(every(listed, mime="image/jpeg")) == 15
    assert [one["name"] for one in every(listed, name="file 7.")] == ["File 7.bin"]
    assert every(listed, name="nothing has this name") == []
    times = sorted(one["created"] for one in every(listed))
    assert len(every(listed, created_after=times[0], created_before=times[-1])) == len(
        [one for one in times if times[0] < one < times[-1]]
    )
    assert [one["size"] for one in every(listed, mime="text/plain", min_size=50)] != []


def test_an_entry_says_what_stat_says(listed: Served) -> None:
    [one] = page(listed, limit=1)["blobs"]
    assert listed.request("GET", f"/api/blobs/{one['id']}/stat").json == one
    assert not block_of(listed.root, one["id"]).name.startswith(".")
