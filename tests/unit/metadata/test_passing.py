"""Uploads that go on are in no backup and in no copy; whoever looks at all rows does not mind them."""

from __future__ import annotations

from pathlib import Path

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span
from graviton.metadata.audit import audit
from graviton.metadata.backup import backup_metadata
from graviton.metadata.passing import count_unfinished
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.restore import restore_metadata
from graviton.metadata.rows import RANGE_HEADS, RANGES
from graviton.metadata.upload_rows import (
    UPLOAD_NAMESPACES,
    UPLOAD_PAGES,
    UPLOAD_PARTS,
    UPLOADS,
    PartRow,
    UploadRow,
    UploadState,
    WishesRow,
    part_key,
)
from graviton.ports.kv import KeyValueStore
from tests.unit.metadata.copy_faults import World
from tests.unit.metadata.filled import MARKER, contents, fill


async def with_uploads(kv: KeyValueStore) -> None:
    """One in each state, and a row that cannot be read."""
    tracker = KvRangeTracker(kv)
    for number, state in enumerate(UploadState):
        id = bytes((number,)) * 16
        row = UploadRow(WishesRow("blake3", "fixed-v1:1024"), 1, 2, 3, 4, state)
        await kv.put(UPLOADS, id, row.encode())
        await kv.put(UPLOAD_PARTS, part_key(id, 9), PartRow(Span(4, 9), b"n" * 16, 5, b"d" * 32).encode())
        await kv.put(UPLOAD_PAGES, part_key(id, 4), b"page")
        await tracker.merge_many(Locator("upload", "default", id.hex()), [Span(4, 9), Span(20, 30)])
    await kv.put(UPLOADS, b"\xff" * 16, b"nonsense")
    await tracker.merge(Locator("file", "default", "kept"), Span(1, 2))
    await tracker.merge(Locator("upload", "other", "kept"), Span(3, 4))


async def nothing_of_uploads(kv: KeyValueStore) -> bool:
    rows = await contents(kv)
    ranges = [name for name, _ in rows if name in (RANGES, RANGE_HEADS)]
    return ranges == [RANGE_HEADS] * 2 + [RANGES] * 2 and not UPLOAD_NAMESPACES.intersection(name for name, _ in rows)


async def test_backups_leave_them_out(tmp_path: Path) -> None:
    kv, restored = InMemoryKeyValueStore(), InMemoryKeyValueStore()
    await fill(kv)
    before = await backup_metadata(kv, tmp_path / "before")
    await with_uploads(kv)
    after = await backup_metadata(kv, tmp_path / "after")
    assert after.records == before.records + 4
    await restore_metadata(restored, tmp_path / "after", blocks_exist=None)
    assert await nothing_of_uploads(restored)
    tracker = KvRangeTracker(restored)
    assert await tracker.current(Locator("file", "default", "kept")) == RangeSet([Span(1, 2)])


async def test_copies_leave_them_out_and_say_how_many() -> None:
    world = World(InMemoryKeyValueStore(), InMemoryKeyValueStore(), MARKER)
    await fill(world.source)
    await with_uploads(world.source)
    assert await count_unfinished(world.source) == 2
    result = await (await world.copy()).run()
    assert result.unfinished_uploads == 2
    assert await nothing_of_uploads(world.target)


async def test_the_audit_reads_them_and_finds_nothing() -> None:
    kv = InMemoryKeyValueStore()
    await fill(kv)
    await with_uploads(kv)
    assert [finding async for finding in audit(kv)] == []
