"""Uploads of stores of every kind: where what waits lies, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import graviton
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.backends.objectstore.config import S3Config
from graviton.core.ranges import Span
from graviton.errors import InvalidInput, Unsupported
from graviton.services.uploads import UploadWishes
from tests.upload_worlds import open_uploads, pieces


async def test_parts_wait_in_a_folder_of_the_store(tmp_path: Path) -> None:
    async with graviton.open(tmp_path / "store") as store:
        uploads = await open_uploads(store)
        assert not (tmp_path / "store/uploads").exists()
        upload = await uploads.create(UploadWishes(100))
        await uploads.put_part(upload.id, Span(50, 60), pieces(bytes(10)))
        [part] = [path for path in (tmp_path / "store/uploads").rglob("*") if path.is_file()]
        assert part.relative_to(tmp_path / "store").parts[:2] == ("uploads", f"+{upload.id}")
        assert part.stat().st_mode & 0o077 == 0
        await uploads.aclose()
    async with graviton.open(tmp_path / "store") as store:
        uploads = await open_uploads(store)
        assert [one.id async for one in uploads.list()] == [upload.id]
        assert await uploads.terminate(upload.id)
        assert list((tmp_path / "store/uploads").iterdir()) == []
        await uploads.aclose()


async def test_a_store_in_memory_keeps_them_as_long_as_it_lives() -> None:
    async with graviton.open("memory://") as store:
        uploads = await open_uploads(store)
        upload = await uploads.create(UploadWishes(100))
        await uploads.append(upload.id, 0, pieces(bytes(60)))
        await uploads.aclose()
        uploads = await open_uploads(store)
        await uploads.append(upload.id, 60, pieces(bytes(40)))
        done = await uploads.finish(upload.id, 30)
        assert done.key == (await store.put(bytes(100))).key
        await uploads.aclose()


def test_in_a_bucket_they_lie_beside_the_blocks(tmp_path: Path) -> None:
    config = S3Config("bucket", "some/blocks", endpoint="http://127.0.0.1:9")
    store = Store(Settings(blob_backend="s3", s3=config, fs_root=tmp_path))
    assert store.sides.part_place is not None
    place = store.sides.part_place()
    assert (place.scheme, place.bucket, place.prefix) == ("s3", "bucket", "some/blocks.uploads/")


async def test_other_clouds_have_no_place_for_them(tmp_path: Path) -> None:
    store = Store(Settings(blob_backend="gs", bucket_url="gs://bucket/blocks", fs_root=tmp_path))
    with pytest.raises(Unsupported, match="folder or an S3 bucket"):
        await open_uploads(store)
    await store.aclose()


async def test_how_long_they_live(tmp_path: Path) -> None:
    async with graviton.open(tmp_path / "store") as store:
        uploads = await open_uploads(store, lifetime_seconds=60)
        upload = await uploads.create(UploadWishes(1))
        assert upload.expires_at_ns - upload.created_at_ns == 60_000_000_000
        await uploads.aclose()
        with pytest.raises(InvalidInput):
            await open_uploads(store, lifetime_seconds=0)
