"""Whole blobs in a bucket: exact names and contents, what a read costs, and what is noticed and repaired."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from graviton.backends.objectstore._s3_api import Piece, S3Api
from graviton.backends.objectstore._transfers import part_plan
from graviton.backends.objectstore.blobs import S3BlobStore
from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.reclaimer import ObjectBlockReclaimer
from graviton.constraints.budget import ByteBudget
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.policies import BlobWritePlan, StorePolicy
from graviton.core.ranges import Span
from graviton.errors import ConfigError, IntegrityError, InvalidInput, NotFound, Retry, Unavailable
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
        """A method of the driver."""
        self.spared = ".notes/"
        """What is in keys of which it does not fail."""
        self.passed_seconds = 0
        """By the server's clock, as its answers tell it."""
        client = self.api._opened()
        make = client._make_api_call

        def watched(method: str, arguments: dict[str, Any]) -> Any:
            self.calls.append((method, arguments.get("Key", "")))
            if method == self.failing and not (self.spared and self.spared in arguments.get("Key", "")):
                raise ConnectionError("planned")
            told = make(method, arguments)
            headers = told["ResponseMetadata"]["HTTPHeaders"]
            now = parsedate_to_datetime(headers["date"]) + timedelta(seconds=self.passed_seconds)
            headers["date"] = format_datetime(now, usegmt=True)
            return told

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
    assert [method for method, _ in place.calls] == ["GetObject", "GetObject", "PutObject", "PutObject"]
    place.calls.clear()
    await place.store.put([noise(9 * MIB)])
    copied = [key for method, key in place.calls if method == "CopyObject"]
    assert copied == [f"cas/blobs/blake3/{HashAlgo.BLAKE3.digest(noise(9 * MIB)).hex}-{9 * MIB}"]
    after_parts = [method for method, _ in place.calls][-4:]
    assert after_parts == ["CopyObject", "PutObject", "DeleteObject", "PutObject"], "the record last of all"
    assert not [key for key in await place.keys() if "tmp" in key]


async def test_put_of_what_is_there_only_reads(place: Place) -> None:
    """However much later it is; new attributes cost a note before and its end after."""
    await place.store.put(b"hello")
    place.calls.clear()
    assert not (await place.store.put(b"hello")).created
    assert [method for method, _ in place.calls] == ["GetObject", "GetObject", "HeadObject"]
    place.calls.clear()
    await place.store.put(b"hello", BlobWritePlan(holder="another"))
    assert [method for method, _ in place.calls][3:] == ["PutObject", "PutObject", "DeleteObject"]


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


async def test_put_of_the_same_bytes_replaces_digests_that_are_gone(place: Place) -> None:
    key = (await place.store.put([noise(9 * MIB)])).key
    await place.api.delete(place.store.names.place(key, "").digests, "raw")
    assert (await place.store.put([noise(9 * MIB)])).created is False
    assert await read(place.store, key) == noise(9 * MIB)


async def test_damaged_record_is_no_blob_and_hides_no_other(place: Place) -> None:
    keys = [(await place.store.put(b"%d" % number)).key for number in range(20)]
    sound = await place.raw(place.store.names.place(keys[3], "").record)
    for changed in (
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        sound.replace(b'"format_version": 1', b'"format_version": 2'),
    ):
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
    is_removed = any(name == "DeleteObject" and "tmp" in key for name, key in place.calls)
    assert is_removed is (method != "UploadPart"), "only what may be there"
    place.failing = ""
    assert await place.keys() == []
    assert await place.api.uploads("", "all") == []


class _SlowlyClosed:
    """A source of 9 MiB in whose closing one may wait or fail."""

    def __init__(self, fails: bool) -> None:
        self._pieces = iter([noise(9 * MIB)])
        self._fails = fails
        self.closing = threading.Event()

    def __iter__(self) -> _SlowlyClosed:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        self.closing.set()
        if self._fails:
            raise KeyError("planned")
        time.sleep(0.3)


async def test_put_whose_source_fails_in_being_closed_leaves_nothing(place: Place) -> None:
    with pytest.raises(KeyError, match="planned"):
        await place.store.put(_SlowlyClosed(True))
    assert await place.keys() == []
    assert await place.api.uploads("", "all") == []


async def test_put_that_is_cancelled_while_its_source_is_closed_leaves_nothing(place: Place) -> None:
    source = _SlowlyClosed(False)
    job = asyncio.ensure_future(place.store.put(source))
    while not source.closing.is_set():
        await asyncio.sleep(0.01)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert await place.keys() == []
    assert await place.api.uploads("", "all") == []


@pytest.mark.parametrize("step", ["CompleteMultipartUpload", "CopyObject", "DeleteObject", "PutObject"])
async def test_store_that_is_closed_during_a_put_leaves_nothing(place: Place, step: str) -> None:
    look = S3Api.of(place.config)
    job = asyncio.ensure_future(place.store.put([noise(9 * MIB)]))
    while not any(method == step for method, _ in place.calls):
        await asyncio.sleep(0)
    await place.store.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await job
    assert [found.key async for found in look.objects("", "all")] == []
    await look.aclose()


async def test_rest_of_a_delete_that_failed_half_way_goes_with_the_next(place: Place) -> None:
    key = (await place.store.put([noise(9 * MIB)])).key
    names = place.store.names.place(key, "")
    await place.api.delete(names.record, "raw")
    assert await place.store.delete(key) is False
    assert await place.keys() == []
    place.calls.clear()
    assert await place.store.delete(key) is False
    assert "DeleteObject" not in {method for method, _ in place.calls}, "it could arrive late"


async def test_blob_that_is_deleted_and_put_again_while_it_is_read_comes_back(place: Place) -> None:
    data = noise(9 * MIB)
    key = (await place.store.put([data])).key
    reader = await place.store.get(key)
    names = place.store.names.place(key, "")
    get = place.api.get

    async def between(where: str, *arguments: Any) -> Piece:
        if where != names.bytes:
            return await get(where, *arguments)
        place.api.get = get  # type: ignore[method-assign]
        await place.store.delete(key)
        try:
            return await get(where, *arguments)
        finally:
            await place.store.put([data])

    place.api.get = between  # type: ignore[method-assign]
    async with reader:
        assert await reader.read() == data


async def test_digests_that_changed_on_their_way_are_read_again(place: Place) -> None:
    data = noise(9 * MIB)
    key = (await place.store.put([data])).key
    names = place.store.names.place(key, "")
    get = place.api.get
    changed = 0

    async def changing(where: str, *arguments: Any) -> Piece:
        nonlocal changed
        piece = await get(where, *arguments)
        if where != names.digests or changed:
            return piece
        changed += 1
        return piece._replace(data=bytes((piece.data[0] ^ 1,)) + piece.data[1:])

    place.api.get = changing  # type: ignore[method-assign]
    async with await place.store.get(key) as reader:
        assert await reader.read() == data
    assert changed


async def test_large_record_that_is_replaced_while_it_is_read_is_read_again(place: Place) -> None:
    key = (await place.store.put(b"hello")).key
    names = place.store.names.place(key, "")
    record = await place.store._records.get(names, key)
    assert record is not None
    many = record._replace(holders=frozenset(f"holder-{number:06}" for number in range(5000)))
    await place.write(names.record, many.to_bytes())
    get, replaced = place.api.get, 0

    async def between(where: str, *arguments: Any) -> Piece:
        nonlocal replaced
        piece = await get(where, *arguments)
        if replaced < 3:
            replaced += 1
            holders = frozenset(f"{number}" for number in range(20_000 + replaced))
            await place.write(names.record, record._replace(holders=holders).to_bytes())
        return piece

    place.api.get = between  # type: ignore[method-assign]
    assert await place.store.stat(key) is not None
    assert replaced == 3


async def test_parts_that_grow_stay_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graviton.backends.objectstore._transfers._GROWTH", 2)
    place = Place()
    object.__setattr__(place.config, "part_bytes", 64 * 1024)
    budget = ByteBudget(MIB)
    store = S3BlobStore(place.config, budget=budget)
    sent: list[tuple[int, int]] = []

    def told(request: Any, **_: object) -> None:
        sent.append((int(request.headers["Content-Length"]), budget.used))

    store.api._opened().meta.events.register("before-send.s3.UploadPart", told)
    data = noise(1_500_000)
    result = await store.put([data])
    assert await read(place.store, result.key) == data
    assert max(size for size, _ in sent) > 4 * 64 * 1024
    assert all(size <= used <= budget.for_puts for size, used in sent)
    assert budget.used == 0
    await store.aclose()
    await place.store.aclose()


async def test_file_whose_size_is_known_goes_up_in_equal_parts(tmp_path: Path) -> None:
    place = Place()
    object.__setattr__(place.config, "part_bytes", 64 * 1024)
    plan = part_plan(place.api, 64 * 1024, None, 1 << 34)
    assert plan.next_bytes(1 << 34) == plan.part_bytes == -(-(1 << 34) // 8750)
    (tmp_path / "file").write_bytes(noise(MIB))
    result = await place.store.put(tmp_path / "file")
    assert await read(place.store, result.key) == noise(MIB)
    await place.store.aclose()


async def test_two_stores_of_one_place_take_turns(place: Place) -> None:
    """In one process; several have to be kept apart by who runs them."""
    other = S3BlobStore(place.config)
    assert other._turns is place.store._turns
    assert S3BlobStore(place.config, prefix="elsewhere")._turns is not other._turns
    for _ in range(10):
        await asyncio.gather(
            place.store.put(b"hello", BlobWritePlan(holder="a")), other.put(b"hello", BlobWritePlan(holder="b"))
        )
        key = BlobKey.parse(f"blake3:{HELLO}:5")
        assert await place.store.delete(key, "a")
        assert await other.delete(key, "b")
    await other.aclose()


async def test_failed_delete_leaves_no_blob_without_its_bytes(place: Place) -> None:
    key = (await place.store.put(b"hello")).key
    place.failing = "DeleteObject"
    with pytest.raises(Unavailable):
        await place.store.delete(key)
    place.failing = ""
    assert await read(place.store, key) == b"hello"
    assert await place.store.delete(key) is True, "what may arrive removes what is to be removed"
    with pytest.raises(NotFound):
        await place.store.get(key)
    names = place.store.names.place(key, "")
    assert await place.keys() == [names.note], "what was sent first may still arrive"
    assert json.loads(await place.raw(names.note)) == {
        "format_version": 1,
        "key": f"blake3:{HELLO}:5",
        "removes": True,
        "under_way": False,
    }
    with pytest.raises(Unavailable, match="may still arrive") as told:
        await place.store.put(b"hello")
    assert (told.value.retry, told.value.hint[:24]) == (Retry.TEMPORARY, "Try again in 35 minutes:")
    place.passed_seconds = 35 * 60
    assert (await place.store.put(b"hello")).created
    assert await place.store.delete(key) is True
    assert await place.keys() == []


async def test_put_whose_rest_cannot_be_noted_leaves_it_to_the_next(place: Place) -> None:
    """Nothing is deleted of which no note tells; bytes without a record are no blob."""
    place.failing, place.spared = "PutObject", ""
    with pytest.raises(Unavailable):
        await place.store.put([noise(9 * MIB)])
    place.failing = ""
    key = BlobKey(HashAlgo.BLAKE3.digest(noise(9 * MIB)), 9 * MIB)
    assert await place.store.stat(key) is None
    assert await place.keys() == [place.store.names.place(key, "").bytes]
    assert await place.store.delete(key) is False
    assert await place.keys() == []


async def test_domain_that_is_too_long_for_a_key_is_refused(place: Place) -> None:
    with pytest.raises(InvalidInput, match="domain"):
        await S3BlobStore(place.config, prefix="p" * 900).put(b"hello", BlobWritePlan(domain="é" * 50))
    with pytest.raises(ConfigError):
        S3BlobStore(place.config, prefix="/cas")
