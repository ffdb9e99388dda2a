"""Whole blobs in a bucket: exact names and contents, what a read costs, and what is noticed and repaired."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from graviton.backends.objectstore.blobs import S3BlobStore
from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.reclaimer import ObjectBlockReclaimer
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.policies import BlobWritePlan, StorePolicy
from graviton.core.ranges import Span
from graviton.errors import ConfigError, IntegrityError, InvalidInput, NotFound, Unavailable
from graviton.ports.blocks import CanonicalBlock
from graviton.testing.fake_clock import FakeClock
from tests.s3_server import moto_server

pytestmark = pytest.mark.s3

MIB = 1024 * 1024
HELLO = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
"""BLAKE3 of `hello`, from b3sum."""


class Place:
    """A bucket of its own; the driver's calls can be counted and made to fail."""

    def __init__(self, **settings: Any) -> None:
        self.config = moto_server().config(moto_server().new_bucket(), **({"retry_seconds": 0} | settings))
        self.store = S3BlobStore(self.config)
        self.api = self.store.api
        self.calls: list[tuple[str, str]] = []
        self.failing = ""
        client = self.api._opened()
        make = client._make_api_call

        def watched(method: str, arguments: dict[str, Any]) -> Any:
            self.calls.append((method, arguments.get("Key", "")))
            if method == self.failing:
                raise ConnectionError("planned")
            return make(method, arguments)

        client._make_api_call = watched

    async def keys(self) -> list[str]:
        return [found.key async for found in self.api.objects("", "all")]

    async def raw(self, key: str) -> bytes:
        return (await self.api.get(key, "raw", Span(0, 64 * MIB))).data

    async def write(self, key: str, data: bytes) -> None:
        await self.api.put(key, "raw", memoryview(data))


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    yield made
    await made.store.aclose()


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def read(store: S3BlobStore, key: BlobKey, span: Span | None = None, domain: str = "") -> bytes:
    async with await store.get(key, span, domain) as reader:
        return await reader.read()


async def test_names_and_contents_are_those_of_the_format() -> None:
    """docs/formats/object-layout.md. Stored data relies on it."""
    place = Place()
    store = S3BlobStore(place.config, clock=FakeClock(1_800_000_000_000_000_000))
    large = noise(9 * MIB)
    digest = HashAlgo.BLAKE3.digest(large).hex
    attributes = BinaryAttributes.EMPTY.advertise({"user.name": "a.txt"}, at_ns=1)
    await store.put(b"hello", BlobWritePlan(attributes=attributes))
    await store.put(b"hello", BlobWritePlan(domain="a/b é", holder="me"))
    await store.put(large)
    tail = f"blake3/{HELLO}-5"
    other = f"@a%2Fb%20%C3%A9/{tail}"
    whole = f"blake3/{digest}-{len(large)}"
    assert await place.keys() == sorted(
        [
            f"cas/blobs/{tail}",
            f"cas/blobs.records/{tail}",
            f"cas/blobs/{other}",
            f"cas/blobs.records/{other}",
            f"cas/blobs/{whole}",
            f"cas/blobs.records/{whole}",
            f"cas/blobs.digests/{whole}",
        ]
    )
    assert await place.raw(f"cas/blobs/{tail}") == b"hello"
    pieces = [large[start : start + 4 * MIB] for start in range(0, len(large), 4 * MIB)]
    assert await place.raw(f"cas/blobs.digests/{whole}") == b"".join(HashAlgo.BLAKE3.digest(one).raw for one in pieces)
    record = json.loads(await place.raw(f"cas/blobs.records/{tail}"))
    stat = await store.stat(BlobKey.parse(f"blake3:{HELLO}:5"))
    assert stat is not None
    assert BinaryAttributes.from_bytes(base64.b64decode(record.pop("attributes"))) == stat.attributes
    assert record == {
        "blocks": 1,
        "created_at_ns": 1_800_000_000_000_000_000,
        "format_version": 1,
        "holders": [""],
        "key": f"blake3:{HELLO}:5",
    }
    await store.aclose()
    await place.store.aclose()


async def test_names_of_blocks_and_trash_are_those_of_the_format() -> None:
    config = moto_server().config(moto_server().new_bucket())
    blocks = S3BlockStore(config)
    key = BlockKey(HashAlgo.BLAKE3.digest(b"hello"), 5)
    await blocks.put_blocks([CanonicalBlock(key, b"hello")])
    assert blocks.path(key) == f"cas/blocks/blake3/{HELLO}-5"
    reclaimer = ObjectBlockReclaimer(blocks)
    entry = await reclaimer.move_to_trash(key, 1_800_000_000_000_000_000)
    assert entry is not None
    folder, _, name = reclaimer.path(entry).rpartition("/")
    assert folder == f"cas/blocks.trash/blake3/{HELLO}-5"
    assert name.startswith("1800000000000000000-")
    await blocks.aclose()


async def test_small_blob_goes_up_at_once_and_a_large_one_by_a_temporary_object(place: Place) -> None:
    await place.store.put(b"hello")
    assert [method for method, _ in place.calls] == ["GetObject", "PutObject", "PutObject"]
    place.calls.clear()
    await place.store.put([noise(9 * MIB)])
    copied = [key for method, key in place.calls if method == "CopyObject"]
    assert copied == [f"cas/blobs/blake3/{HashAlgo.BLAKE3.digest(noise(9 * MIB)).hex}-{9 * MIB}"]
    assert place.calls[-1][0] == "DeleteObject"
    assert not [key for key in await place.keys() if "tmp" in key]


async def test_policy_says_how_large_parts_are(place: Place) -> None:
    data = noise(13 * MIB)
    for size, parts in ((5 * MIB, 3), (6 * MIB, 3), (7 * MIB, 2)):
        place.calls.clear()
        await place.store.put([data], BlobWritePlan(policy=StorePolicy(min_part_size=size)))
        assert [method for method, _ in place.calls].count("UploadPart") == parts


async def test_read_costs_the_pieces_that_its_span_touches(place: Place) -> None:
    data = noise(13 * MIB)
    key = (await place.store.put([data])).key
    for span, pieces in ((Span(0, 1), 1), (Span(4 * MIB - 1, 4 * MIB + 1), 2), (Span(5 * MIB, 6 * MIB), 1)):
        place.calls.clear()
        assert await read(place.store, key, span) == data[span.start : span.end]
        fetched = [where for method, where in place.calls if method == "GetObject" and where.startswith("cas/blobs/")]
        assert len(fetched) == pieces


_PIECES = r"bytes (0-4194303|4194304-8388607|8388608-9437183) of blob"


async def test_every_damage_is_noticed_where_it_is(place: Place) -> None:
    data = noise(9 * MIB)
    key = (await place.store.put([data])).key
    names = place.store.names.place(key, "")
    for name in (names.bytes, names.digests):
        sound = await place.raw(name)
        for changed in (bytes((sound[0] ^ 1,)) + sound[1:], sound[: len(sound) // 2], b""):
            await place.write(name, changed)
            with pytest.raises(IntegrityError, match=_PIECES):
                await read(place.store, key)
        await place.api.delete(name, "raw")
        with pytest.raises(IntegrityError, match="missing"):
            await read(place.store, key)
        await place.write(name, sound)
    assert await read(place.store, key) == data


async def test_put_of_the_same_bytes_replaces_those_that_are_gone(place: Place) -> None:
    key = (await place.store.put(b"hello")).key
    await place.api.delete(place.store.names.place(key, "").bytes, "raw")
    again = await place.store.put(b"hello")
    assert (again.created, again.stats.fresh_blocks, again.stats.repaired_blocks) == (False, 1, 1)
    assert await read(place.store, key) == b"hello"


async def test_damaged_record_is_no_blob_and_hides_no_other(place: Place) -> None:
    keys = [(await place.store.put(b"%d" % number)).key for number in range(20)]
    sound = await place.raw(place.store.names.place(keys[3], "").record)
    for changed in (b"", b"{}", b"[]", b"\xff", sound.replace(b'"format_version": 1', b'"format_version": 2')):
        await place.write(place.store.names.place(keys[3], "").record, changed)
        with pytest.raises(IntegrityError):
            await place.store.stat(keys[3])
    found = []
    with pytest.raises(IntegrityError, match="1 blobs"):
        async for stat in place.store.list():
            found.append(stat.key)  # noqa: PERF401 - what came before the error
    assert found == sorted(set(keys) - {keys[3]})


@pytest.mark.parametrize("method", ["CopyObject", "CompleteMultipartUpload", "UploadPart", "PutObject"])
async def test_failed_put_leaves_nothing(place: Place, method: str) -> None:
    place.failing = method
    with pytest.raises(Unavailable):
        await place.store.put([noise(9 * MIB)])
    place.failing = ""
    assert await place.keys() == []
    assert await place.api.uploads("", "all") == []


async def test_failed_delete_leaves_no_blob_without_its_bytes(place: Place) -> None:
    key = (await place.store.put(b"hello")).key
    place.failing = "DeleteObject"
    with pytest.raises(Unavailable):
        await place.store.delete(key)
    place.failing = ""
    assert await read(place.store, key) == b"hello"
    assert await place.store.delete(key) is True
    with pytest.raises(NotFound):
        await place.store.get(key)
    assert await place.keys() == []


async def test_domain_that_is_too_long_for_a_key_is_refused(place: Place) -> None:
    with pytest.raises(InvalidInput, match="domain"):
        await S3BlobStore(place.config, prefix="p" * 900).put(b"hello", BlobWritePlan(domain="é" * 50))
    with pytest.raises(ConfigError):
        S3BlobStore(place.config, prefix="/cas")
